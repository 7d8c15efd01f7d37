"""The run folder on a local disk: results by fingerprint, atomic commits, stable names, one writer at a time.

A result is the file `cache/PRODUCT/SHARD-FINGERPRINT.SUFFIX`. It is done when that file exists; nothing else is
recorded. Its stable name (`PRODUCT/SHARD.SUFFIX`, or `PRODUCT.SUFFIX` for a step that runs once) is a hard link to it.
`cpp.store.object_store` has the same layout in a bucket. Does not know what is in the files or which step writes them.
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
    """Results under the folder `root`, which is created by the first write; `address` names it in messages."""

    def __init__(self, root: Path) -> None:
        self.root, self.address = root, str(root)

    def path(self, product: Product, shard: str, fingerprint: str) -> str:
        """Where the result of a shard is, once it is done."""
        return f"{self.address}/cache/{product.name}/{shard}-{fingerprint}{product.suffix}"

    def listing(self, product: Product) -> Iterable[str]:
        """The file names of the finished results of a product, from one listing."""
        return list_names(self.root / "cache" / product.name)

    def results(self, product: Product) -> dict[str, Result]:
        """The finished results of a product by file name."""
        stable = (self.root / f"{product.name}{product.suffix}", *(self.root / product.name).rglob("*"))
        links = {(stat.st_dev, stat.st_ino) for stat in (path.stat() for path in stable if path.is_file())}
        results = {}
        for name in self.listing(product):
            stats = [path.stat() for path in files_of(self.root / "cache" / product.name / name)]
            shown = any((stat.st_dev, stat.st_ino) in links for stat in stats)
            results[name] = Result(sum(stat.st_size for stat in stats), shown)
        return results

    def remove(self, product: Product, names: Iterable[str]) -> None:
        """Remove finished files or folders of a product, each atomically."""
        for name in names:
            path = self.root / "cache" / product.name / name
            if path.is_dir():
                removed = self.scratch() / f"{product.name}-{name}"
                os.replace(path, removed)
                shutil.rmtree(removed)
            else:
                path.unlink()

    def scratch(self) -> Path:
        """The local folder for unfinished files."""
        folder = self.root / "cache" / "tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def local_files(self, files: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The input files of a task, with results of other steps at local paths until the end of the block."""
        yield files

    def version_digest(self, paths: Iterable[str]) -> str | None:
        """A digest that changes with the name, size or time of change of any file; None if the store cannot tell."""
        digest = hashlib.sha256()
        try:
            for path in paths:
                stat = os.stat(path)
                digest.update(f"{os.path.basename(path)} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        except FileNotFoundError:
            return None
        return digest.hexdigest()

    @contextmanager
    def commit(self, targets: Mapping[str, str]) -> Iterator[dict[str, Path]]:
        """Temporary paths to write to, by the keys of `targets`; after the block each file is moved to its target.

        Nothing is left behind if the block raises. RuntimeError if the block did not write one of the files.
        """
        folder = Path(tempfile.mkdtemp(dir=self.scratch()))
        try:
            written = {name: folder / f"{name}{Path(target).suffix}" for name, target in targets.items()}
            yield written
            for name, path in written.items():
                if not path.exists():
                    raise RuntimeError(f"the stage did not write its product {name!r}")
            self._move({targets[name]: path for name, path in written.items()})
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _move(self, written: Mapping[str, Path]) -> None:
        """Move finished files to their targets, each atomically."""
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

        The user's own files beside them, which have no result of their name, stay.
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
    def lock(self, report: Callable[[str], None] = print) -> Iterator[None]:
        """Be the only writer of the folder until the end of the block or of the process.

        `report` gets a line for people if there is something to wait for. LockedError, naming the other run, if another
        run is writing; PermissionError if the folder cannot be written.
        """
        try:
            (self.root / "cache").mkdir(parents=True, exist_ok=True)
            file = (self.root / "cache" / "lock").open("a+")
        except OSError as error:
            raise PermissionError(
                f"cannot write to the run folder {self.root} ({error.strerror}): set `root` to one that can be written"
            ) from error
        with file:
            while not _try_lock(file, fcntl.LOCK_EX):
                if holder := self.holder():
                    raise LockedError(f"another run is writing to {self.root} ({holder}): wait for it, or stop it")
                time.sleep(0.01)  # `holder` in another process had the lock for a moment
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            shutil.rmtree(self.root / "cache" / "tmp", ignore_errors=True)  # unfinished files of a killed run
            yield

    def save(self) -> None:
        """Copy the logs that this process writes to where others read them; nothing to do on a local disk."""

    def log(self, name: str) -> Path:
        """The current local path of a log, which may not exist."""
        return self.root / name

    def holder(self) -> str | None:
        """The process that is writing to the folder ("process 12 on host"), or None."""
        try:
            with (self.root / "cache" / "lock").open() as file:
                if not _try_lock(file, fcntl.LOCK_SH):
                    return file.read() or "an unnamed process"
        except (FileNotFoundError, NotADirectoryError):
            pass
        return None


def _try_lock(file: IO[str], operation: int) -> bool:
    """Take a lock if it is free now; whether it was."""
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
