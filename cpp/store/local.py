"""The folder of a run on a local disk: fingerprints, files that appear atomically, stable names, one writer at a time.

A result lies at `cache/PRODUCT/SHARD-FINGERPRINT.SUFFIX` and is done when that file is there: nothing else is recorded.
What a person opens (`PRODUCT/SHARD.SUFFIX`, or `PRODUCT.SUFFIX` of a step that runs once) is a hard link to it.
`cpp.store.object_store` is the same on an object store. Knows nothing of what is in the files or which step makes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from cpp.store.hard_links import files_of, list_names, show_file, show_files, show_folder
from cpp.store.lease import LockedError
from cpp.store.results import WHOLE, Product, Result


class Store:
    """Results under the folder `root`, which is made when first written to. `address` is what a person calls it."""

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def path(self, product: Product, shard: str, key: str) -> str:
        return f"{self.address}/cache/{product.name}/{shard}-{key}{product.suffix}"

    def listing(self, product: Product) -> Iterable[str]:
        """Names of the finished files of a product: one look at one folder, however many shards there are."""
        return list_names(self.root / "cache" / product.name)

    def results(self, product: Product) -> dict[str, Result]:
        """The finished files of a product by name. A stable name shows one where it is the same file."""
        stable = (self.root / f"{product.name}{product.suffix}", *(self.root / product.name).rglob("*"))
        links = {(stat.st_dev, stat.st_ino) for stat in (path.stat() for path in stable if path.is_file())}
        found = {}
        for name in self.listing(product):
            stats = [path.stat() for path in files_of(self.root / "cache" / product.name / name)]
            shown = any((stat.st_dev, stat.st_ino) in links for stat in stats)
            found[name] = Result(sum(stat.st_size for stat in stats), shown)
        return found

    def remove(self, product: Product, names: Iterable[str]) -> None:
        """Remove finished files, or folders, of a product: each is there whole or not at all."""
        for name in names:
            path = self.root / "cache" / product.name / name
            if path.is_dir():
                going = self.scratch() / f"{product.name}-{name}"
                os.replace(path, going)
                shutil.rmtree(going)
            else:
                path.unlink()

    def scratch(self) -> Path:
        """The folder for what is not finished, on a local disk."""
        folder = self.root / "cache" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def local_files(self, files: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The files of a task, those that steps have made at local paths, for the time of the block."""
        yield files

    def version_digest(self, paths: Iterable[str]) -> str | None:
        """What is another when one of these files is made anew, changed or cut off; None where the store cannot say."""
        found = hashlib.sha256()
        try:
            for path in paths:
                stat = os.stat(path)
                found.update(f"{os.path.basename(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        except FileNotFoundError:
            return None
        return found.hexdigest()

    @contextmanager
    def commit(self, targets: Mapping[str, str]) -> Iterator[dict[str, Path]]:
        """Temporary paths to write to, by the keys of `targets`; on success each appears at its target, whole.

        Leaves nothing behind when the body raises. A body that did not write one of the files is a RuntimeError.
        """
        folder = Path(tempfile.mkdtemp(dir=self.scratch()))
        try:
            written = {name: folder / f"{name}{Path(target).suffix}" for name, target in targets.items()}
            yield written
            for name, path in written.items():
                if not path.exists():
                    raise RuntimeError(f"the stage did not write its product {name!r}")
            self._appear({targets[name]: path for name, path in written.items()})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _appear(self, written: Mapping[str, Path]) -> None:
        """Finished files at their targets, each whole."""
        for path in written.values():
            for part in files_of(path):
                part.chmod(0o444)  # a stable name is a hard link: writing through it would change the cache
                with part.open("rb") as file:
                    os.fsync(file.fileno())
        for target, path in written.items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            os.replace(path, target)

    def publish(self, product: Product, paths: Iterable[tuple[str, str]]) -> None:
        """Make the stable names of a product show exactly the results `paths` (shard, path).

        Files beside them that have no result of their name are somebody's own, and stay.
        """
        cache = self.root / "cache" / product.name
        source = iter(paths)
        first = next(source, None)
        whole = first[1] if first and first[0] == WHOLE else None
        if not product.suffix:
            show_folder(self.root / product.name, cache, whole)
            return
        show_file(self.root / f"{product.name}{product.suffix}", cache, whole)
        shards = chain([first], source) if first and whole is None else ()
        show_files(self.root / product.name, product.suffix, cache, shards)

    @contextmanager
    def lock(self, tell: Callable[[str], None] = print) -> Iterator[None]:
        """Be the only writer of the folder until the end of the block or of the process, however it ends.

        `tell` is told what is waited for. LockedError, naming the other run, where there is one; PermissionError where
        the folder cannot be written.
        """
        try:
            (self.root / "cache").mkdir(parents=True, exist_ok=True)
            file = (self.root / "cache" / "lock").open("a+")
        except OSError as error:
            raise PermissionError(
                f"cannot write to the run folder {self.root} ({error.strerror}): set `root` to one that can be written"
            ) from error
        with file:
            while not _locked(file, fcntl.LOCK_EX):
                if holder := self.holder():
                    raise LockedError(f"another run is writing to {self.root} ({holder}): wait for it, or stop it")
                time.sleep(0.01)  # somebody asked for the holder, and had the lock for that moment
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            shutil.rmtree(self.root / "cache" / "tmp", ignore_errors=True)  # what a killed run left half-written
            yield

    def save(self) -> None:
        """See to it that others see what this process has written to `root`: on a local disk they do."""

    def log(self, name: str) -> Path:
        """A file that runs write to `root`, which may not exist, as it is now."""
        return self.root / name

    def holder(self) -> str | None:
        """Who is writing to the folder now ("process 12 on host"), None where nobody is."""
        try:
            with (self.root / "cache" / "lock").open() as file:
                if not _locked(file, fcntl.LOCK_SH):
                    return file.read() or "an unnamed process"
        except (FileNotFoundError, NotADirectoryError):
            pass
        return None


def _locked(file: IO[str], how: int) -> bool:
    """Whether a lock is had now, without waiting for it."""
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
