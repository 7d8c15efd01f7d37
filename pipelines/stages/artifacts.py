"""What stages share: the files that one stage writes and others read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open

from cpp.clustering.choose_k import PARTS
from cpp.files import tables
from cpp.sources import vectors
from pipelines.config import sections
from pipelines.engine.stage import Context

if TYPE_CHECKING:
    from cpp.encoding.encoder import Encoder

from dataclasses import fields

import torch
from safetensors.numpy import load_file
from scipy import sparse

from cpp.clustering import layers
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import Likeness, Votes
from cpp.rate_reduction.coding_rate import Moments

SHARD = 40  # bits of the place of a row below the number of its shard


FACTS = ("score", "pixels", "caption")


def number_of(path: str, context: Context) -> int:
    """Which of the shards a file of rows by cluster is of."""
    return [Path(other).name for other in context.whole["scattered"]].index(Path(path).name)


class Model(sections.Encoder):
    """Settings of an encoder and the SHA-256 of its weights."""

    weights: str

    def open(self, device: str) -> Encoder:
        """The encoder on a device. WeightsError where its weights cannot be had."""
        from cpp.encoding import encoder

        if self.configs:
            encoder.register(self.configs)
        return encoder.Encoder(self.model, self.pretrained, device, self.precision, self.compile)


@dataclass(frozen=True)
class TreeFile:
    """What `Layers` wrote: `clusters[K]` is the cluster of each fine group in that layer, the coarsest first."""

    about: Mapping[str, Any]
    bits: NDArray[np.float64]
    draws: NDArray[np.float64]
    clusters: Mapping[int, NDArray[np.int64]]

    @property
    def main(self) -> int:
        return int(self.about["main"])

    @property
    def finest(self) -> int:
        return max(self.clusters)

    def column(self, n_clusters: int) -> str:
        """The column of ASSIGNMENTS that holds a layer."""
        return "cluster" if n_clusters == self.main else f"cluster_{n_clusters}"


def read_tree(context: Context) -> TreeFile:
    path = context.file("tree")
    arrays, about = load_file(path), _metadata(path, "tree")
    clusters = dict(zip(about["layers"], arrays["clusters"], strict=True))
    return TreeFile(about, arrays["bits"], arrays["draws"], clusters)


def read_fine(context: Context) -> layers.Fine:
    """What `Partition` wrote."""
    read: dict[str, Any] = load_file(context.file("groups"))
    return layers.Fine(**read, **read_how(context))


def read_how(context: Context) -> dict[str, Any]:
    """How the sample was partitioned."""
    return _metadata(context.file("groups"), "partition")


def read_parts(context: Context) -> Moments:
    """Moments over all data of the fine groups, each in `PARTS` parts."""
    arrays = load_file(context.file("moments"))
    return Moments(*(torch.from_numpy(arrays[name]) for name in ("count", "sum", "gram")))


def read_moments(context: Context, cluster: NDArray[np.int64]) -> Moments:
    """Moments over all data of clusters, by the cluster of each fine group."""
    return read_parts(context).merge(torch.from_numpy(cluster).repeat_interleave(PARTS), int(cluster.max()) + 1)


def _metadata(path: str, key: str) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        found: dict[str, Any] = json.loads(file.metadata()[key])
    return found


WAITING = 1 << 20  # votes of shards in memory until they are added up


def read_said(context: Context, tree: TreeFile) -> tuple[Vocabulary, Votes, Likeness]:
    """The words, and what all images say of them, by cluster of the finest layer."""
    vocabulary, columns = read_vocabulary(context), [f.name for f in fields(Votes)]
    parts, waiting = [Votes.total([])], 0
    for batch in tables.batches(context.whole["votes"], columns, context.prefetch):
        parts.append(Votes(*(batch[column].to_numpy() for column in columns)))
        waiting += len(batch)
        if waiting > WAITING:
            parts, waiting = [Votes.total(parts)], 0
    likeness = Likeness.none(tree.finest, vocabulary.vectors.shape[1], len(vocabulary))
    for path in context.files("likeness"):
        part = load_file(path)
        present = part.pop("present")
        likeness.add_(present, Likeness(**part))
    return vocabulary, Votes.total(parts), likeness


def read_vocabulary(context: Context) -> Vocabulary:
    """One vocabulary from folders of words with vectors and from encoded words, without those that are excluded."""
    parts = {folder: vectors.read_words(folder) for folder in context.whole.get("vocabulary", [])}
    for path in context.files("words"):
        table = tables.read(path)
        parts["the encoder of this run"] = table["word"].to_pylist(), tables.matrix(table["embedding"])
    dims = {place: X.shape[1] for place, (_, X) in parts.items()}
    if len(set(dims.values())) > 1:
        raise ValueError(f"label.vocabulary: the dimensions differ, {dims}; all must come from one text tower")
    words = [word for some, _ in parts.values() for word in some]
    return Vocabulary.of(words, np.concatenate([X for _, X in parts.values()]), context.whole.get("exclude", []))


def read_captions(context: Context, n_clusters: int) -> tuple[list[str], sparse.csr_array]:
    """The mined phrases and the images of all shards that have them, `[n_clusters, n_phrases]`, of the finest layer."""
    words = tables.read(context.file("mined"), columns=["phrase"])["phrase"].to_pylist()
    shape = (n_clusters, len(words))
    counts = sparse.csr_array(shape, dtype=np.int64)
    for batch in tables.batches(context.whole["captions"], ["cluster", "phrase", "images"], context.prefetch):
        row, column, images = (values.to_numpy() for values in batch.columns)
        counts += sparse.csr_array((images, (row, column)), shape)
    return words, counts


def captions_of(path: str, column: str, setting: str = "label.captions") -> Iterator[list[str]]:
    """The captions of every image of a shard, none for images without. ValueError where the column is no text."""
    footer = pq.read_metadata(path)
    schema = footer.schema.to_arrow_schema()
    if column not in schema.names:  # a shard of which no image has captions has no such column
        yield from ([] for _ in range(footer.num_rows))
        return
    kind = schema.field(column).type
    if not _is_text(kind):
        raise ValueError(f"{setting}: the metadata column {column!r} holds {kind}, it must be text or lists of text")
    for batch in tables.batches([path], [column], 1):
        for value in batch[column].to_pylist():
            yield [value] if isinstance(value, str) else [text for text in value or () if text]


def _is_text(kind: pa.DataType) -> bool:
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))
