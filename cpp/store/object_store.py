"""The run folder in a bucket (`s3://`, `gs://`): the layout of `cpp.store.local` on storage that cannot rename.

A file is finished on a local disk and then uploaded: an object appears whole or not at all. A folder is done when the
list of its files exists, which is uploaded last. Stable names are copies within the store.
"""

from __future__ import annotations

import contextlib
import functools
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cpp.files import scratch
from cpp.store.bucket_folder import BucketObjects, Infos, basename
from cpp.store.hard_links import files_of
from cpp.store.lease import Lease
from cpp.store.local import Store
from cpp.store.results import WHOLE, Product, Result, shard_of

SAVE = 30.0  # seconds between uploads of the logs; longer if an upload takes more than 1/20 of it
LOGS = ("run.json", "run.log", "events.jsonl")
LEASE = "cache/lease"
CHECKSUMS = ("md5Hash", "crc32c", "ETag")  # in the entries of listings, in order of preference
FILES = ".files"  # suffix of the prefix below which the files of a folder are

Copies = dict[str, tuple[str, Mapping[str, Any]]]  # stable name -> path and entry of the object to copy there


class Bucket(Store):
    """Results under the address `root`. The driver writes its logs to a local folder, which `save` uploads."""

    def __init__(self, root: str) -> None:
        self.address = root.rstrip("/")
        self._objects = BucketObjects(self.address, "run folder", "set `root` to")
        self._lease: Lease | None = None
        self._saved: dict[str, tuple[int, int]] = {}  # size and time of change of each log at its last upload
        self._saving = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.address,)

    @functools.cached_property
    def root(self) -> Path:  # type: ignore[override]  # created on first access, since workers do not need it
        return Path(tempfile.mkdtemp(dir=scratch.folder(), prefix="run-"))

    def listing(self, product: Product) -> set[str]:
        with self._objects.explain_errors():
            return set(self._objects.infos(f"cache/{product.name}"))

    def results(self, product: Product) -> dict[str, Result]:
        """The finished results by file name; a stable name shows a result if listings report equal content."""
        with self._objects.explain_errors():
            results = self._objects.infos(f"cache/{product.name}")
            if not product.suffix:
                return {name: self._folder(product, name) for name in results}
            shown = self._file_copies(product, {})[0] if results else {}
            return {
                name: Result(info["size"], _same_content(info, shown.get(_stable_name(product, shard_of(name)))))
                for name, info in results.items()
            }

    def _folder(self, product: Product, name: str) -> Result:
        existing, files = self._folder_copies(product, {WHOLE: f"{self.address}/cache/{product.name}/{name}"})
        shown = bool(files) and all(_same_content(info, existing.get(path)) for path, (_, info) in files.items())
        return Result(sum(info["size"] for _, info in files.values()), shown)

    def remove(self, product: Product, names: Iterable[str]) -> None:
        with self._objects.explain_errors():
            self._check()
            paths = [f"cache/{product.name}/{name}" for name in names]
            self._objects.remove(paths)
            if not product.suffix:  # without the list of its files the folder no longer counts
                files = [file for path in paths for file in self._objects.below(f"{path}{FILES}")]
                self._objects.remove(files)

    def scratch(self) -> Path:
        return scratch.folder()

    @contextmanager
    def local_files(self, files: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        with ExitStack() as stack:
            yield {
                kind: stack.enter_context(scratch.local_copy(file))
                if isinstance(file, str) and file.startswith(f"{self.address}/")
                else file
                for kind, file in files.items()
            }

    def _move(self, written: Mapping[str, Path]) -> None:
        with self._objects.explain_errors():
            for target, path in written.items():
                if path.is_dir():
                    files = {str(part.relative_to(path)): part for part in files_of(path)}
                    self._objects.each(lambda name: self._objects.put(files[name], f"{target}{FILES}/{name}"), files)  # noqa: B023 (called before the next iteration)
                    self._objects.write(json.dumps(sorted(files)).encode(), target)
                else:
                    self._objects.put(path, target)

    def publish(self, product: Product, paths: Iterable[tuple[str, str]]) -> None:
        with self._objects.explain_errors():
            self._check()
            find_copies = self._file_copies if product.suffix else self._folder_copies
            existing, copies = find_copies(product, dict(paths))
            outdated = [name for name, (_, info) in copies.items() if not _same_content(info, existing.get(name))]
            self._objects.remove(existing.keys() - copies.keys())
            self._objects.each(lambda name: self._objects.copy(copies[name][0], name), outdated)

    def _file_copies(self, product: Product, paths: Mapping[str, str]) -> tuple[Infos, Copies]:
        """The existing stable names of a product and the required copies, by path from the root."""
        results = self._objects.infos(f"cache/{product.name}")
        ours = {_stable_name(product, shard_of(name)) for name in results}  # others are the user's own
        objects = self._objects.infos("")
        objects |= {f"{product.name}/{name}": info for name, info in self._objects.infos(product.name).items()}
        existing = {name: info for name, info in objects.items() if name in ours}
        return existing, {
            _stable_name(product, shard): (path, results[basename(path)]) for shard, path in paths.items()
        }

    def _folder_copies(self, product: Product, paths: Mapping[str, str]) -> tuple[Infos, Copies]:
        results = self._objects.below(f"cache/{product.name}")
        ours = {f"{product.name}{name.partition(FILES)[2]}" for name in results}  # others are the user's own
        existing = {name: info for name, info in self._objects.below(product.name).items() if name in ours}
        folder = f"{paths.get(WHOLE, '')}{FILES}".removeprefix(f"{self.address}/")
        files = {name: info for name, info in results.items() if paths and name.startswith(f"{folder}/")}
        return existing, {f"{product.name}{name.removeprefix(folder)}": (name, info) for name, info in files.items()}

    @contextmanager
    def lock(self, report: Callable[[str], None] = print) -> Iterator[None]:
        end = threading.Event()
        saver = threading.Thread(target=self._save_often, args=(end,), daemon=True)
        with self._objects.writing(LEASE, report) as lease:
            self._lease = lease
            try:
                self._fetch_logs()
                saver.start()
                yield
                end.set()
                self.save()
            finally:
                end.set()
                if not lease.lost:
                    with contextlib.suppress(Exception):  # the first error is the one to report
                        self.save()
                self._lease = None

    def holder(self) -> str | None:
        with self._objects.explain_errors():
            return self._objects.lease(LEASE).holder()

    def save(self) -> None:
        """Upload logs in `root` that have changed, and delete tracebacks that no longer exist here."""
        with self._saving, self._objects.explain_errors():
            self._check()
            changed = {}
            for path in self._logs():
                stat = path.stat()
                name, state = str(path.relative_to(self.root)), (stat.st_size, stat.st_mtime_ns)
                if self._saved.get(name) != state:
                    changed[name] = state
            self._objects.each(lambda name: self._objects.put(self.root / name, name), changed)
            self._saved |= changed
            removed = self._saved.keys() - {str(path.relative_to(self.root)) for path in self._logs()}
            self._objects.remove(removed)
            for name in removed:
                del self._saved[name]

    def log(self, name: str) -> Path:
        with self._objects.explain_errors(), contextlib.suppress(FileNotFoundError):
            self._fetch(name)
        return self.root / name

    def _check(self) -> None:
        if self._lease is not None:
            self._lease.check()

    def _logs(self) -> list[Path]:
        return [path for path in files_of(self.root) if path.suffix != ".new"]

    def _fetch_logs(self) -> None:
        """Download the logs of earlier runs, which this run continues."""
        for name in (*(name for name in LOGS if name in self._objects.infos("")), *self._objects.below("failed")):
            self._fetch(name)
            stat = (self.root / name).stat()
            self._saved[name] = stat.st_size, stat.st_mtime_ns

    def _fetch(self, name: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        self._objects.fetch(name, self.root / name)

    def _save_often(self, end: threading.Event) -> None:
        wait = SAVE
        while not end.wait(wait):
            start = time.monotonic()
            with contextlib.suppress(Exception):  # the upload at the end of the run reports errors
                self.save()
            wait = max(SAVE, 20 * (time.monotonic() - start))


def _stable_name(product: Product, shard: str) -> str:
    return f"{product.name}{'' if shard == WHOLE else f'/{shard}'}{product.suffix}"


def _same_content(info: Mapping[str, Any], other: Mapping[str, Any] | None) -> bool:
    """Whether size and checksum of two objects are equal in listings; False without a checksum."""
    if other is None or info["size"] != other["size"]:
        return False
    key = next((key for key in CHECKSUMS if info.get(key)), None)
    return key is not None and info[key] == other.get(key)
