"""What a stage is: settings and one method. It knows no Ray, no resume and no final names."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from cpp.files import scratch
from cpp.files.tables import Counts
from cpp.store.results import Product

Work = Callable[[Mapping[str, Any], Mapping[str, Path]], Counts]
"""`work(files, out)`: read the shard's files (by the names in `each`), write its products (by name), count the rows."""


@dataclass(frozen=True)
class Given:
    """What a worker has before its first shard: the inputs it takes whole, and how it is to work.

    `whole` maps the names in the stage's `whole` to their files in shard order; an optional input may be absent. They
    may be on an object store: `file` and `files` give local copies, `tables.batches` reads them where they are.
    """

    whole: Mapping[str, Sequence[str]]
    threads: int
    device: str
    batch: int
    image_batch: int
    prefetch: int
    cache: Path | None = None  # folder for what saves work the next time and changes no result; None: there is none

    def file(self, kind: str) -> str:
        """The one file of an input that a step made which runs once."""
        (path,) = self.whole[kind]
        return scratch.kept(path)

    def files(self, kind: str) -> Iterator[str]:
        """The files of an input one after the other: each is at hand until the next is asked for."""
        for path in self.whole.get(kind, ()):
            with scratch.borrowed(path) as local:
                yield local


class Stage(ABC):
    """A frozen dataclass of settings. A change of its code that changes its results raises `version`.

    `each` names the inputs that are taken shard by shard (empty: the stage runs once), `whole` those taken whole.
    `gpu` says that it works on `given.device`: where a run has GPUs, its workers have them in such stages only.
    """

    version: ClassVar[int]
    products: ClassVar[tuple[Product, ...]]
    each: ClassVar[tuple[str, ...]]
    whole: ClassVar[tuple[str, ...]]
    gpu: ClassVar[bool] = False

    @abstractmethod
    def open(self, given: Given) -> Work:
        """Load what is expensive, once for each worker, and return what works on a shard."""

    def settings(self) -> dict[str, Any]:
        """The settings as JSON can say them: what a result is keyed by, and what `plan` shows."""
        flat: dict[str, Any] = {}
        for field in fields(self):  # type: ignore[arg-type]  # every stage is a dataclass, which the base is not
            value = getattr(self, field.name)
            said = to_jsonable_python(value)
            flat |= said if isinstance(value, BaseModel) else {field.name: said}
        return flat
