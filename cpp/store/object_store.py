"""The run folder on an object store (`s3://`, `gs://`): the layout of `cpp.store.local`, where nothing can be renamed.

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
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from cpp.files import scratch
from cpp.store.bucket_folder import BucketObjects, Infos, basename
from cpp.store.hard_links import files_of
from cpp.store.lease import Lease
from cpp.store.local import Store
from cpp.store.results import WHOLE, Product, Result, shard_of

SAVE = 30.0  # seconds between two savings of the logs, or more: they take a twentieth of the time at most
LOGS = ("run.json", "run.log", "events.jsonl")
LEASE = "cache/lease"
CONTENT = ("md5Hash", "crc32c", "ETag")  # what listings say of the content, the first that one has

FILES = ".files"  # what the folder's name has behind it where its files are

Wanted = dict[str, tuple[str, Mapping[str, Any]]]  # by name: which object is to be copied there


class Bucket(Store):
    """Results under the address `root`. What the driver writes itself lies in a local folder, which `save` copies."""

    def __init__(self, root: str) -> None:
        self.address = root.rstrip("/")
        self._objects = BucketObjects(self.address, "run folder", "set `root` to")
        self._lease: Lease | None = None
        self._saved: dict[str, tuple[int, int]] = {}  # size and time of change of a file when it was saved
        self._saving = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return Bucket, (self.address,)

    @functools.cached_property
    def root(self) -> Path:  # type: ignore[override]  # made when it is needed: workers write nothing there
        return Path(tempfile.mkdtemp(dir=scratch.folder(), prefix="run-"))

    def listing(self, product: Product) -> set[str]:
        with self._objects.explain_errors():
            return set(self._objects.infos(f"cache/{product.name}"))

    def results(self, product: Product) -> dict[str, Result]:
        """The same; here stable names are copies, and show what has the same content by the store's listings."""
        with self._objects.explain_errors():
            made = self._objects.infos(f"cache/{product.name}")
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
        with self._objects.explain_errors():
            self._check()
            paths = [f"cache/{product.name}/{name}" for name in names]
            self._objects.remove(paths)
            if not product.suffix:  # the list of its files is gone: so is the folder, for whoever looks
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

    def _appear(self, written: Mapping[str, Path]) -> None:
        with self._objects.explain_errors():
            for target, path in written.items():
                if path.is_dir():
                    files = {str(part.relative_to(path)): part for part in files_of(path)}
                    self._objects.each(lambda name: self._objects.put(files[name], f"{target}{FILES}/{name}"), files)  # noqa: B023 (done at once)
                    self._objects.write(json.dumps(sorted(files)).encode(), target)
                else:
                    self._objects.put(path, target)

    def publish(self, product: Product, paths: Iterable[tuple[str, str]]) -> None:
        with self._objects.explain_errors():
            self._check()
            there, wanted = (self._of_files if product.suffix else self._of_folder)(product, dict(paths))
            old = [name for name, (_, info) in wanted.items() if not _same(info, there.get(name))]
            self._objects.remove(there.keys() - wanted.keys())
            self._objects.each(lambda name: self._objects.copy(wanted[name][0], name), old)

    def _of_files(self, product: Product, paths: Mapping[str, str]) -> tuple[Infos, Wanted]:
        """What a product shows, and what it is to show, by the paths from the root."""
        made = self._objects.infos(f"cache/{product.name}")
        ours = {_stable(product, shard_of(name)) for name in made}  # others are somebody's own
        there = {name: info for name, info in self._objects.infos("").items() if name in ours}
        folder = {f"{product.name}/{name}": info for name, info in self._objects.infos(product.name).items()}
        there |= {name: info for name, info in folder.items() if name in ours}
        return there, {_stable(product, shard): (path, made[basename(path)]) for shard, path in paths.items()}

    def _of_folder(self, product: Product, paths: Mapping[str, str]) -> tuple[Infos, Wanted]:
        made = self._objects.below(f"cache/{product.name}")
        ours = {f"{product.name}{name.partition(FILES)[2]}" for name in made}  # others are somebody's own
        there = {name: info for name, info in self._objects.below(product.name).items() if name in ours}
        folder = f"{paths.get(WHOLE, '')}{FILES}".removeprefix(f"{self.address}/")
        files = {name: info for name, info in made.items() if paths and name.startswith(f"{folder}/")}
        return there, {f"{product.name}{name.removeprefix(folder)}": (name, info) for name, info in files.items()}

    @contextmanager
    def lock(self, tell: Callable[[str], None] = print) -> Iterator[None]:
        end = threading.Event()
        saver = threading.Thread(target=self._save_often, args=(end,), daemon=True)
        with self._objects.writing(LEASE, tell) as lease:
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
                    with contextlib.suppress(Exception):  # what went wrong first is what counts
                        self.save()
                self._lease = None

    def holder(self) -> str | None:
        with self._objects.explain_errors():
            return self._objects.lease(LEASE).holder()

    def save(self) -> None:
        """Copy what has changed in `root` to the bucket, and remove what is gone of the tracebacks there."""
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
            gone = self._saved.keys() - {str(path.relative_to(self.root)) for path in self._logs()}
            self._objects.remove(gone)
            for name in gone:
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
        """What runs before this one have written: it goes on from there."""
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
            with contextlib.suppress(Exception):  # the last time, at the end of the run, says what is wrong
                self.save()
            wait = max(SAVE, 20 * (time.monotonic() - start))


def _stable(product: Product, shard: str) -> str:
    return f"{product.name}{'' if shard == WHOLE else f'/{shard}'}{product.suffix}"


def _same(made: Mapping[str, Any], shown: Mapping[str, Any] | None) -> bool:
    """Whether listings say that two objects have the same content. Where they say nothing of it they have not."""
    if shown is None or made["size"] != shown["size"]:
        return False
    key = next((key for key in CONTENT if made.get(key)), None)
    return key is not None and made[key] == shown.get(key)
