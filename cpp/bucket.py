"""The run folder on an object store (`s3://`, `gs://`): the layout of `cpp.store`, where nothing can be renamed.

A file is finished on a local disk and put into the bucket at once: an object is there whole or not at all. A folder is
there when the list of its files is, which is put last. Stable names are copies that the store makes on its side.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cpp import remote, scratch
from cpp.lease import Lease, LockedError
from cpp.store import WHOLE, Product, Result, Store, files_of, shard_of

SCHEMES = ("s3", "gs", "memory")  # the last is this process's memory, for tests
REQUESTS = 16  # at a time
SAVE = 30.0  # seconds between two savings of the logs, or more: they take a twentieth of the time at most
LOGS = ("run.json", "run.log", "events.jsonl")
CONTENT = ("md5Hash", "crc32c", "ETag")  # what listings say of the content, the first that one has

FILES = ".files"  # what the folder's name has behind it where its files are

Infos = dict[str, Mapping[str, Any]]  # objects of a folder by name
Wanted = dict[str, tuple[str, Mapping[str, Any]]]  # by name: which object is to be copied there


class Bucket(Store):
    """Results under the address `root`. What the driver writes itself lies in a local folder, which `save` copies."""

    def __init__(self, root: str) -> None:
        self.address = root.rstrip("/")
        self._lease: Lease | None = None
        self._saved: dict[str, tuple[int, int]] = {}  # size and time of change of a file when it was saved
        self._saving = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.address,)

    @functools.cached_property
    def root(self) -> Path:  # type: ignore[override]  # made when it is needed: workers write nothing there
        return Path(tempfile.mkdtemp(dir=scratch.folder(), prefix="run-"))

    def listing(self, product: Product) -> set[str]:
        with self._explained():
            return set(self._infos(f"cache/{product.name}"))

    def results(self, product: Product) -> dict[str, Result]:
        """The same; here stable names are copies, and show what has the same content by the store's listings."""
        with self._explained():
            made = self._infos(f"cache/{product.name}")
            if not product.suffix:
                return {name: self._folder(product, name) for name in made}
            there = self._of_files(product, {})[0] if made else {}
            return {
                name: Result(info["size"], _same(info, there.get(_stable(product, shard_of(name)))))
                for name, info in made.items()
            }

    def _folder(self, product: Product, name: str) -> Result:
        there, files = self._of_folder(product, {WHOLE: f"{self.address}/cache/{product.name}/{name}"})
        shown = bool(files) and all(_same(info, there.get(path)) for path, (_, info) in files.items())
        return Result(sum(info["size"] for _, info in files.values()), shown)

    def remove(self, product: Product, names: Iterable[str]) -> None:
        with self._explained():
            self._check()
            paths = [f"cache/{product.name}/{name}" for name in names]
            self._each(lambda path: self._fs.rm_file(self._name(path)), paths)
            if not product.suffix:  # the list of its files is gone: so is the folder, for whoever looks
                files = [file for path in paths for file in self._below(f"{path}{FILES}")]
                self._each(lambda path: self._fs.rm_file(self._name(path)), files)

    def scratch(self) -> Path:
        return scratch.folder()

    @contextmanager
    def brought(self, files: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:
            yield {
                kind: stack.enter_context(scratch.borrowed(file))
                if isinstance(file, str) and file.startswith(f"{self.address}/")
                else file
                for kind, file in files.items()
            }

    def _appear(self, written: Mapping[str, Path]) -> None:
        with self._explained():
            for target, path in written.items():
                if path.is_dir():
                    files = {str(part.relative_to(path)): part for part in files_of(path)}
                    self._each(lambda name: self._put(files[name], f"{target}{FILES}/{name}"), files)  # noqa: B023 (done at once)
                    self._fs.pipe_file(self._name(target), json.dumps(sorted(files)).encode())
                else:
                    self._put(path, target)

    def publish(self, product: Product, paths: Mapping[str, str]) -> None:
        with self._explained():
            self._check()
            there, wanted = (self._of_files if product.suffix else self._of_folder)(product, paths)
            old = [name for name, (_, info) in wanted.items() if not _same(info, there.get(name))]
            self._each(lambda name: self._fs.rm_file(self._name(name)), there.keys() - wanted.keys())
            self._each(lambda name: self._fs.cp_file(self._name(wanted[name][0]), self._name(name)), old)

    def _of_files(self, product: Product, paths: Mapping[str, str]) -> tuple[Infos, Wanted]:
        """What a product shows, and what it is to show, by the paths from the root."""
        single = _stable(product, WHOLE)
        there = {name: info for name, info in self._infos("").items() if name == single}
        there |= {f"{product.name}/{name}": info for name, info in self._infos(product.name).items()}
        made = self._infos(f"cache/{product.name}")
        return there, {_stable(product, shard): (path, made[_last(path)]) for shard, path in paths.items()}

    def _of_folder(self, product: Product, paths: Mapping[str, str]) -> tuple[Infos, Wanted]:
        there, folder = self._below(product.name), f"{paths.get(WHOLE, '')}{FILES}".removeprefix(f"{self.address}/")
        files = self._below(folder) if paths else {}
        return there, {f"{product.name}{name.removeprefix(folder)}": (name, info) for name, info in files.items()}

    @contextmanager
    def lock(self, tell: Callable[[str], None] = print) -> Iterator[None]:
        self._lease = lease = self._new_lease()
        with self._explained():
            lease.take(tell)
        lease.keep()
        end = threading.Event()
        saver = threading.Thread(target=self._save_often, args=(end,), daemon=True)
        try:
            self._fetch_logs()
            saver.start()
            yield
            end.set()
            self.save()
        except KeyboardInterrupt:
            lease.check()  # it was the lease that interrupted
            raise
        finally:
            end.set()
            if not lease.lost:
                with contextlib.suppress(Exception):  # what went wrong first is what counts
                    self.save()
            with self._explained():
                lease.release()
            self._lease = None

    def holder(self) -> str | None:
        with self._explained():
            return self._new_lease().holder()

    def save(self) -> None:
        """Copy what has changed in `root` to the bucket, and remove what is gone of the tracebacks there."""
        with self._saving, self._explained():
            self._check()
            changed = {}
            for path in self._logs():
                stat = path.stat()
                name, state = str(path.relative_to(self.root)), (stat.st_size, stat.st_mtime_ns)
                if self._saved.get(name) != state:
                    changed[name] = state
            self._each(lambda name: self._put(self.root / name, name), changed)
            self._saved |= changed
            gone = self._saved.keys() - {str(path.relative_to(self.root)) for path in self._logs()}
            for name in gone:
                self._fs.rm_file(self._name(name))
                del self._saved[name]

    def log(self, name: str) -> Path:
        with self._explained(), contextlib.suppress(FileNotFoundError):
            self._fetch(name)
        return self.root / name

    def _logs(self) -> list[Path]:
        return [path for path in files_of(self.root) if path.suffix != ".new"]

    def _fetch_logs(self) -> None:
        """What runs before this one have written: it goes on from there."""
        for name in (*(name for name in LOGS if name in self._infos("")), *self._below("failed")):
            self._fetch(name)
            stat = (self.root / name).stat()
            self._saved[name] = stat.st_size, stat.st_mtime_ns

    def _fetch(self, name: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        self._fs.get_file(self._name(name), str(self.root / name))

    def _save_often(self, end: threading.Event) -> None:
        wait = SAVE
        while not end.wait(wait):
            start = time.monotonic()
            with contextlib.suppress(Exception):  # the last time, at the end of the run, says what is wrong
                self.save()
            wait = max(SAVE, 20 * (time.monotonic() - start))

    @property
    def _fs(self) -> Any:
        return remote.connect(self.address)[0]

    def _name(self, path: str) -> str:
        """What the file system calls an address, or a path relative to the root."""
        return remote.connect(path if remote.is_remote(path) else f"{self.address}/{path}")[1]

    def _put(self, path: Path, target: str) -> None:
        self._fs.put_file(str(path), self._name(target))

    def _new_lease(self) -> Lease:
        return Lease(self._fs, self._name("cache/lease"), self.address)

    def _check(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _infos(self, folder: str) -> Infos:
        """The objects of a folder, without those below it: one listing."""
        try:
            entries = self._fs.ls(self._name(folder).rstrip("/"), detail=True)
        except FileNotFoundError:
            return {}
        return {_last(e["name"]): e for e in entries if e["type"] == "file"}

    def _below(self, folder: str) -> Infos:
        """All objects below a folder, by their path from the root."""
        start = len(self._name(""))
        return {path[start:].lstrip("/"): e for path, e in self._fs.find(self._name(folder), detail=True).items()}

    def _each(self, work: Callable[[str], None], names: Any) -> None:
        with ThreadPoolExecutor(REQUESTS) as pool:
            list(pool.map(work, names))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Errors of the store with the address and what to do."""
        try:
            yield
        except (LockedError, FileExistsError):
            raise
        except Exception as error:
            if not remote.is_failure(error):
                raise
            said = remote.redacted(f"{type(error).__name__}: {error}")
            if remote.is_refusal(error):
                raise PermissionError(
                    f"cannot use the run folder {self.address} ({said}): set `root` to a bucket that is there, and "
                    "credentials that may list, read, write and delete in it (AWS_*, GOOGLE_APPLICATION_CREDENTIALS)"
                ) from error
            raise ConnectionError(
                f"the run folder {self.address} did not answer after {remote.ATTEMPTS} attempts ({said}): what is done "
                "stays; run the same command again to go on"
            ) from error


def _stable(product: Product, shard: str) -> str:
    return f"{product.name}{'' if shard == WHOLE else f'/{shard}'}{product.suffix}"


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _same(made: Mapping[str, Any], shown: Mapping[str, Any] | None) -> bool:
    """Whether listings say that two objects have the same content. Where they say nothing of it they have not."""
    if shown is None or made["size"] != shown["size"]:
        return False
    key = next((key for key in CONTENT if made.get(key)), None)
    return key is not None and made[key] == shown.get(key)
