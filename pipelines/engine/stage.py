"""The base class of stages: settings, inputs, products and one method. Knows no Ray, no resume and no final names."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, dataclass_transform

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from cpp.files import scratch
from cpp.files.tables import Counts
from cpp.store.results import File, Product
from pipelines.config.sections import Resources
from pipelines.engine.shard_index import FilePaths

Inputs = Mapping[str, Any]  # the file of a shard for each name in `each`
Outputs = Mapping[str, Path]  # the file to write for each product
WORKER_MEMORY = 1.5e9  # bytes of a worker with shards of 10,000 rows, at most (tests/bench/RESULTS.md, "Size")
Work = Callable[[Inputs, Outputs], Counts]  # reads a shard's files, writes its products, counts its rows


@dataclass(frozen=True)
class Context:
    """The inputs that every worker of a stage reads whole, and how it works: threads, device, batch sizes.

    `whole` maps the names in the stage's `whole` to their files in shard order; an optional input may be absent. The
    files may be on an object store: `file` and `files` return local copies, `tables.batches` reads them remotely.
    A stage that `overlaps` gives up its shards soon after `interrupted` is set.
    """

    whole: Mapping[str, Sequence[str]]
    threads: int
    device: str
    batch: int
    image_batch: int
    prefetch: int
    cache: Path | None = None  # folder for intermediate files that save work in later runs; changes no result
    interrupted: threading.Event | None = None  # set when this process ends early; None in workers, which are killed

    @classmethod
    def create(
        cls,
        kinds: Iterable[str],
        files: Mapping[str, Mapping[str, File]],
        resources: Resources,
        *,
        gpu: bool = False,
        threads: int | None = None,
        cache: Path | None = None,
    ) -> Context:
        """Read these kinds of `files` whole, as far as they exist. `threads` is by default that of one worker."""
        r = resources
        whole = {kind: FilePaths(files[kind]) for kind in kinds if files.get(kind)}
        device = "cuda" if gpu and r.gpus else "cpu"
        return cls(whole, threads or r.cpus, device, r.batch, r.image_batch, r.prefetch, cache)

    def file(self, kind: str) -> str:
        """A local copy of the only file of an input."""
        (path,) = self.whole[kind]
        return scratch.cached_copy(path)

    def value(self, kind: str) -> Any:
        """An input that is no file but a value, of which the plan keeps the fingerprint, such as decisions."""
        (value,) = self.whole[kind]
        return value

    def files(self, kind: str) -> Iterator[str]:
        """Yield local copies of the files of an input. Each exists until the next one is requested."""
        for path in self.whole.get(kind, ()):
            with scratch.local_copy(path) as local:
                yield local


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Stage:
    """Settings of a step, and how it processes a shard. Every subclass is a frozen dataclass of its settings.

    Its module imports torch, FAISS and what needs them in the methods that compute, so that a plan loads neither.
    Increase `version` when a change of the code changes the results. `each` names the inputs that are read shard by
    shard (if empty, the stage runs once), `whole` those that every worker reads whole. `gpu` is true if the stage
    computes on `context.device`; only such stages get GPUs. A stage defines `work`, or `open` if it loads something.
    `reads_again` is true if another reading of a shard may accept rows that were rejected (`is_outdated`).
    `also` names products of later steps that the stage can write in the same pass: it does so for those in `out`.
    If the stage `overlaps`, a worker processes two shards at a time, each in a thread, so that it can read the next one
    while it writes the last.
    """

    version: ClassVar[int]
    products: ClassVar[tuple[Product, ...]]
    each: ClassVar[tuple[str, ...]] = ()
    whole: ClassVar[tuple[str, ...]] = ()
    gpu: ClassVar[bool] = False
    reads_again: ClassVar[bool] = False
    also: ClassVar[tuple[str, ...]] = ()
    overlaps: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)

    def open(self, context: Context) -> Work:
        """Load models and inputs, once for each worker, and return the function that processes a shard."""
        return functools.partial(self.work, context)

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        """Process a shard, with nothing loaded before."""
        raise NotImplementedError

    def memory(self, image_batch: int) -> float:
        """Bytes of main memory that a worker of the stage needs at most, without those of a GPU's driver."""
        return WORKER_MEMORY

    def on_gpu(self, resources: Resources) -> bool:
        """Whether the stage runs on workers with GPUs."""
        return self.gpu and resources.gpus > 0

    def is_outdated(self, reasons: Collection[str]) -> bool:
        """Whether rows that were rejected for one of the reasons could be accepted on this machine now."""
        return False

    def settings(self) -> dict[str, Any]:
        """The settings as JSON values. They are part of the fingerprint, and `plan` prints them."""
        flat: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, field.name)
            plain = to_jsonable_python(value)
            flat |= plain if isinstance(value, BaseModel) else {field.name: plain}
        return flat


def worker_memory(stages: Iterable[Stage], resources: Resources, gpu: bool) -> float:
    """Bytes of main memory that a worker with or without a GPU needs for the largest of the stages that run on it."""
    needs = (stage.memory(resources.image_batch) for stage in stages if stage.on_gpu(resources) == gpu)
    return max(needs, default=WORKER_MEMORY)


def all_products() -> dict[str, Product]:
    """The products of all stages that have been imported, by name."""
    return {product.name: product for stage in Stage.__subclasses__() for product in stage.products}
