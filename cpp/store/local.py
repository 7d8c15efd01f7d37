"""The run folder on a local disk: results by fingerprint, atomic commits, stable names, one writer at a time.

A result is the file `cache/PRODUCT/SHARD-FINGERPRINT.SUFFIX`. It is done when that file exists; nothing else is
recorded. Its stable name (`PRODUCT/SHARD.SUFFIX`, or `PRODUCT.SUFFIX` for a step that runs once) is a hard link to it,
or a copy if the disk has no hard links. `cpp.store.object_store` has the same layout in a bucket. Does not know what is
in the files or which step writes them.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from cpp.files import scratch
from cpp.store.lease import LockedError
from cpp.store.results import Product, StoredResult, stable_name

UNKNOWN_INODE = 0xFFFFFFFF  # FUSE lists files with this number if it does not know theirs

Entries = dict[str, Any]  # path of a file -> what tells its content in a listing: on a disk the inode number


class Store:
    """Results under the folder `root`, which is created by the first write; `address` names it in messages.

    `PRIVATE` begins the paths of the lock and of unfinished files. Errors call the folder `KIND`, and `REMEDY` begins
    the sentence on how to name another.
    """

    PRIVATE, KIND, REMEDY = "cache/", "run folder", "set `root` to"
    READ_ONLY = True  # a stable name is a hard link: writing through it would change the cache

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self.address = str(self.root)

    def path(self, product: Product, shard: str, fingerprint: str) -> str:
        """Where the result of a shard is, once it is done."""
        return f"{self.address}/cache/{product.name}/{shard}-{fingerprint}{product.suffix}"

    def listing(self, product: Product) -> set[str]:
        """The file names of the finished results of a product, from one listing."""
        try:
            return set(os.listdir(self.root / "cache" / product.name))
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def results(self, product: Product) -> dict[str, StoredResult]:
        """The finished results of a product by file name."""
        hidden, sizes = set[str](), Counter[str]()
        with self._access():
            files, shown = self._result_files(product), self._shown_files(product)
            for file, entry in files.items():
                result = file.partition("/")[0]
                sizes[result] += self._size(product, file, entry)
                if not self._same(entry, shown.get(stable_name(product, file))):
                    hidden.add(result)
        return {name: StoredResult(sizes[name], name in sizes and name not in hidden) for name in self.listing(product)}

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
        folder = self.root / f"{self.PRIVATE}tmp"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    @contextmanager
    def local_files(self, files: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The input files of a task, with results of other steps at local paths until the end of the block."""
        with ExitStack() as stack:
            yield {
                kind: stack.enter_context(scratch.local_copy(file))
                if isinstance(file, str) and file.startswith(f"{self.address}/")
                else file
                for kind, file in files.items()
            }

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
        """Move finished files to their targets, each file atomically; a folder that exists is removed first."""
        for path in written.values():
            for part in files_of(path):
                if self.READ_ONLY:
                    part.chmod(0o444)
                with part.open("rb") as file:
                    os.fsync(file.fileno())
        for target, path in written.items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.rmtree(target, ignore_errors=True)
            os.replace(path, target)

    def publish(self, product: Product, paths: Iterable[tuple[str, str]]) -> None:
        """Make the stable names of a product show exactly the results `paths` (shard, path).

        The user's own files beside them, which have no result of their name, stay. Folders are listed once, however
        many shards there are.
        """
        with self._access():
            files, shown = self._result_files(product), self._shown_files(product)

            def outdated() -> Iterator[tuple[str, str]]:
                for _, path in paths:
                    result = os.path.basename(path)
                    for file in [result] if product.suffix else [f for f in files if f.startswith(f"{result}/")]:
                        name = stable_name(product, file)
                        if not self._same(files.get(file), shown.pop(name, None)):
                            yield file, name

            self._show(product, files, outdated())
            self._hide(shown.keys() & {stable_name(product, file) for file in files} if shown else ())

    @contextmanager
    def _access(self) -> Iterator[None]:
        """Explain errors of the storage within the block."""
        yield

    def _files(self, folder: str) -> Entries:
        """All files below a folder, by path from there."""
        entries, folders = Entries(), [""]
        for parent in folders:  # which grows meanwhile
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.root / folder / parent) as listing:
                for entry in listing:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(f"{parent}{entry.name}/")
                    else:
                        number = entry.inode()
                        unknown = number == UNKNOWN_INODE
                        entries[f"{parent}{entry.name}"] = entry.stat().st_ino if unknown else number
        return entries

    def _result_files(self, product: Product) -> Entries:
        """The files of all results of a product: `RESULT`, or `RESULT/FILE` for a product that is a folder."""
        return self._files(f"cache/{product.name}")

    def _shown_files(self, product: Product) -> Entries:
        """The files that have the place of stable names, by path from the root."""
        entries = {f"{product.name}/{name}": entry for name, entry in self._files(product.name).items()}
        if product.suffix and (entry := self._root_entry(name := f"{product.name}{product.suffix}")):
            entries[name] = entry
        return entries

    def _root_entry(self, name: str) -> Any:
        path = self.root / name
        return path.stat().st_ino if path.exists() else None

    def _size(self, product: Product, file: str, entry: Any) -> int:
        return (self.root / "cache" / product.name / file).stat().st_size

    def _same(self, entry: Any, shown: Any) -> bool:
        """Whether a stable name shows a file of a result, by their entries in listings."""
        return entry is not None and entry == shown

    def _show(self, product: Product, files: Entries, names: Iterable[tuple[str, str]]) -> None:
        """Give files of results their stable names (file, name), each atomically."""
        for file, name in names:
            source, target = self.root / "cache" / product.name / file, self.root / name
            scratch = target.with_name(f".{target.name}.new")
            target.parent.mkdir(parents=True, exist_ok=True)
            scratch.unlink(missing_ok=True)
            try:
                os.link(source, scratch)
            except OSError:  # a file system without hard links
                shutil.copyfile(source, scratch)
            os.replace(scratch, target)

    def _hide(self, names: Iterable[str]) -> None:
        """Remove stable names, and folders that are empty then."""
        for name in names:
            path = self.root / name
            path.unlink()
            with suppress(OSError):  # not empty
                os.removedirs(path.parent)

    @contextmanager
    def lock(self, report: Callable[[str], None] = print) -> Iterator[None]:
        """Be the only writer of the folder until the end of the block or of the process.

        `report` gets a line for people if there is something to wait for. LockedError, naming the other run, if another
        run is writing; PermissionError if the folder cannot be written.
        """
        path = self.root / f"{self.PRIVATE}lock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("a+")
        except OSError as error:
            raise PermissionError(
                f"cannot write to the {self.KIND} {self.root} ({error.strerror}): {self.REMEDY} one that can be written"
            ) from error
        with file:
            while not _try_lock(file, fcntl.LOCK_EX):
                if holder := self.holder():
                    raise LockedError(f"another run is writing to {self.root} ({holder}): wait for it, or stop it")
                time.sleep(0.01)  # `holder` in another process had the lock for a moment
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            unfinished = self.root / f"{self.PRIVATE}tmp"
            shutil.rmtree(unfinished, ignore_errors=True)  # those of a killed run
            yield
            shutil.rmtree(unfinished, ignore_errors=True)

    def save(self) -> None:
        """Copy the logs that this process writes to where others read them; nothing to do on a local disk."""

    def log(self, name: str) -> Path:
        """The current local path of a log, which may not exist."""
        return self.root / name

    def holder(self) -> str | None:
        """The process that is writing to the folder ("process 12 on host"), or None."""
        try:
            with (self.root / f"{self.PRIVATE}lock").open() as file:
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


def files_of(path: Path) -> list[Path]:
    """The file itself, or all files below a folder."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
