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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cpp.files import filesystem, scratch
from cpp.store.bucket_folder import BucketObjects
from cpp.store.lease import Lease
from cpp.store.local import Entries, Store, files_of
from cpp.store.results import Product

SAVE = 30.0  # seconds between uploads of the logs; longer if an upload takes more than 1/20 of it
LOGS = ("run.json", "run.log", "events.jsonl")
LEASE = "cache/lease"
CHECKSUMS = ("md5Hash", "crc32c", "ETag")  # in the entries of listings, in order of preference
FILES = ".files"  # suffix of the prefix below which the files of a folder are


class Bucket(Store):
    """Results under the address `root`. The driver writes its logs to a local folder, which `save` uploads."""

    def __init__(self, root: str) -> None:
        self.address = root.rstrip("/")
        self._objects = BucketObjects(self.address, self.KIND, self.REMEDY)
        self._lease: Lease | None = None
        self._saved: dict[str, tuple[int, int]] = {}  # size and time of change of each log at its last upload
        self._saving = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.address,)

    @functools.cached_property
    def root(self) -> Path:  # type: ignore[override]  # created on first access, since workers do not need it
        return Path(tempfile.mkdtemp(dir=scratch.folder(), prefix="run-"))

    @contextmanager
    def _access(self) -> Iterator[None]:
        with self._objects.explain_errors():
            if self._lease is not None:
                self._lease.check()
            yield

    def listing(self, product: Product) -> set[str]:
        with self._access():
            entries = self._objects.entries(f"cache/{product.name}")
        return {name for name, entry in entries.items() if entry["type"] == "file"}

    def _files(self, folder: str) -> Entries:
        return dict(self._objects.below(folder))

    def _result_files(self, product: Product) -> Entries:
        entries = self._files(f"cache/{product.name}")
        if product.suffix:
            return entries
        return {path.replace(f"{FILES}/", "/", 1): e for path, e in entries.items() if f"{FILES}/" in path}

    def _root_entry(self, name: str) -> Any:
        return self._objects.entries("").get(name)

    def _size(self, product: Product, file: str, entry: Any) -> int:
        return int(entry["size"])

    def _same(self, entry: Any, shown: Any) -> bool:
        """Whether size and checksum of two objects are equal in listings; False without a checksum."""
        if entry is None or shown is None or entry["size"] != shown["size"]:
            return False
        key = next((key for key in CHECKSUMS if entry.get(key)), None)
        return key is not None and entry[key] == shown.get(key)

    def _show(self, product: Product, files: Entries, names: Iterable[tuple[str, str]]) -> None:
        fs, name = self._objects.fs, self._objects.name
        self._objects.each(lambda pair: fs.cp_file(files[pair[0]]["name"], name(pair[1])), names)

    def _hide(self, names: Iterable[str]) -> None:
        self._objects.remove(names)

    def remove(self, product: Product, names: Iterable[str]) -> None:
        with self._access():
            paths = [f"cache/{product.name}/{name}" for name in names]
            self._objects.remove(paths)
            if not product.suffix:  # without the list of its files the folder no longer counts
                folders = [f"{path}{FILES}" for path in paths]
                self._objects.remove(f"{folder}/{file}" for folder in folders for file in self._objects.below(folder))

    def scratch(self) -> Path:
        return scratch.folder()

    def _move(self, written: Mapping[str, Path]) -> None:
        with self._objects.explain_errors():
            for target, path in written.items():
                if path.is_dir():
                    files = {str(part.relative_to(path)): part for part in files_of(path)}
                    self._objects.each(lambda name: self._objects.put(files[name], f"{target}{FILES}/{name}"), files)  # noqa: B023 (called before the next iteration)
                    self._objects.write(json.dumps(sorted(files)).encode(), target)
                else:
                    self._objects.put(path, target)

    @contextmanager
    def lock(self, report: Callable[[str], None] = print) -> Iterator[None]:
        end = threading.Event()
        with self._objects.writing(LEASE, report) as lease:
            self._lease = lease
            try:
                self._fetch_logs()
                threading.Thread(target=self._save_often, args=(end,), daemon=True).start()
                yield
                end.set()
                self.save()
            except BaseException:
                end.set()
                with contextlib.suppress(Exception):  # the first error is the one to report
                    self.save()
                raise
            finally:
                self._lease = None

    def holder(self) -> str | None:
        with self._objects.explain_errors():
            return self._objects.lease(LEASE).holder()

    def save(self) -> None:
        """Upload logs in `root` that have changed, and delete tracebacks that no longer exist here."""
        with self._saving, self._access():
            states = self._log_states()
            changed = [name for name, state in states.items() if self._saved.get(name) != state]
            self._objects.each(lambda name: self._objects.put(self.root / name, name), changed)
            self._objects.remove(self._saved.keys() - states.keys())
            self._saved = states

    def log(self, name: str) -> Path:
        with self._objects.explain_errors(), contextlib.suppress(FileNotFoundError):
            self._fetch(name)
        return self.root / name

    def _log_states(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of each log in `root`."""
        logs = [path for path in files_of(self.root) if path.suffix != ".new"]
        stats = {str(path.relative_to(self.root)): path.stat() for path in logs}
        return {name: (stat.st_size, stat.st_mtime_ns) for name, stat in stats.items()}

    def _fetch_logs(self) -> None:
        """Download the logs of earlier runs, which this run continues."""
        names = [name for name in LOGS if name in self._objects.entries("")]
        for name in [*names, *(f"failed/{file}" for file in self._objects.below("failed"))]:
            self._fetch(name)
        self._saved = self._log_states()

    def _fetch(self, name: str) -> None:
        (self.root / name).parent.mkdir(exist_ok=True)
        self._objects.fs.get_file(self._objects.name(name), str(self.root / name))

    def _save_often(self, end: threading.Event) -> None:
        wait = SAVE
        while not end.wait(wait):
            start = time.monotonic()
            with contextlib.suppress(Exception):  # the upload at the end of the run reports errors
                self.save()
            wait = max(SAVE, 20 * (time.monotonic() - start))


def open_store(root: str) -> Store:
    """The store at a path of a local disk, or at the address of a folder in a bucket."""
    return Bucket(root) if filesystem.is_remote(root) else Store(Path(root))
