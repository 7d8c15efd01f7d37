"""Reads the files that several stages share: groups, moments, merge tree, vocabulary, votes, captions.

Groups, moments and the tree are written here too, the others by their stage. Knows no stage.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from cpp.clustering.answers import NO_LINKS, Links
from cpp.clustering.layers import Layers
from cpp.encoding import text_cache
from cpp.files import tables
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import NO_VOTES, ClusterSums, Votes
from cpp.sources import vectors
from cpp.store.results import fingerprint
from pipelines.config import sections
from pipelines.engine.stage import Context

if TYPE_CHECKING:
    from scipy import sparse

    from cpp.clustering.estimate_k import Estimate
    from cpp.clustering.partition import FineGroups, Measured
    from cpp.encoding.encoder import Encoder
    from cpp.rate_reduction.coding_rate import Moments

SHARD_BITS = 40  # the place of a row is its shard's number above these bits, and its row below them
ARRAYS = ("centroids", "cluster", "basis", "repeated", "copy_reach")  # of fine groups
FACTS = ("score", "pixels", "caption")  # the columns that decide which of a group of duplicates is kept
BATCH = len("append-001-")  # the start of the name of an appended shard, which tells its batch
LOST = "cpp.lost"  # in the footer of ASSIGNMENTS: by column, the number of metadata values without a place there
NOT_METADATA = re.compile(rf"key|{tables.EMBEDDING}(_\d+)?")  # columns of FEATURES that ASSIGNMENTS does not repeat
WORDS = ("vocabulary", "words", "exclude")  # the inputs of a vocabulary that the user has given
VOTES = ("votes", "likeness", "namer_words", *WORDS)  # the inputs of `read_votes`
VOTES_HELD = 1 << 20  # rows of votes in memory until they are added up


def shard_number(path: str, context: Context) -> int:
    """The number of the shard that a file of scattered rows belongs to; those that were fitted are before appended."""
    files = all_files("scattered", context)
    return [Path(other).name for other in files].index(Path(path).name)


def all_files(kind: str, context: Context) -> list[str]:
    """The files of a product of all shards: in an append first those of the run, then those of appended shards."""
    return [*context.whole.get(f"run_{kind}", ()), *context.whole.get(kind, ())]


class Model(sections.Encoder):
    """Settings of an encoder and the SHA-256 of its weights."""

    weights: str

    def open(self, device: str) -> Encoder:
        """The encoder on a device. WeightsError if its weights cannot be loaded."""
        from cpp.encoding import encoder, pretrained

        if self.configs:
            pretrained.register(self.configs)
        return encoder.Encoder(self.model, self.pretrained, device, self.precision, self.compile, self.pool)

    def word_table(self, words: Sequence[str], templates: str | list[str], device: str, context: Context) -> pa.Table:
        """Words with their text vectors, from the cache of the run folder as far as it has them."""
        from cpp.encoding import encoder

        tower, prompts = self.open(device), encoder.templates(templates)
        identity, texts = tower.identity, encoder.template_texts(prompts)
        space = fingerprint(identity.model, identity.sha256, self.precision, texts)
        folder = context.cache / "text" / space if context.cache else None
        X = text_cache.cached_vectors(words, lambda new: tower.words(new, prompts, context.image_batch), folder)
        return pa.table({"word": list(words), "embedding": tables.matrix_column(X)})


def read_metadata(path: str) -> pa.Table:
    """The metadata columns of a file of FEATURES, with `image_shard`."""
    names = tables.read_schema(path).names
    return tables.read(path, columns=[name for name in names if not NOT_METADATA.fullmatch(name)])


def lost_values(context: Context) -> Counter[str]:
    """By column, the number of metadata values of all shards that have no place in ASSIGNMENTS."""
    lost = Counter[str]()
    for path in context.whole["assignments"]:
        lost.update(json.loads((tables.read_footer(path).metadata or {}).get(LOST.encode(), b"{}")))
    return lost


def read_main_clusters(context: Context) -> list[dict[str, Any]]:
    """The rows of `clusters.parquet` of the main layer, by cluster number."""
    rows = tables.read(context.file("clusters")).to_pylist()
    return sorted((row for row in rows if row["main"]), key=lambda row: int(row["cluster"]))


def clusters_state(context: Context) -> str:
    """The state of the clusters, which decisions name: the fingerprint of `clusters.parquet`, as in the cache."""
    return Path(context.whole["clusters"][0]).stem.rpartition("-")[2]


def write_groups(groups: FineGroups, path: Path) -> None:
    """Write fine groups: arrays as tensors, the other values as JSON in the metadata."""
    metadata = groups._asdict()
    arrays = {name: np.ascontiguousarray(metadata.pop(name)) for name in ARRAYS}
    save_file(arrays, path, metadata={"partition": json.dumps(metadata)})


def read_groups(context: Context) -> FineGroups:
    """The fine groups of a run. Metadata of older versions that is no field any more is ignored."""
    from cpp.clustering.partition import FineGroups

    path = context.file("groups")
    values = load_file(path) | _metadata(path, "partition")
    return FineGroups(**{name: values[name] for name in FineGroups._fields})


def write_moments(measured: Measured, path: Path) -> None:
    """Write the moments of fine groups, each in `PARTS` parts, with the numbers of rows and copies as metadata."""
    moments, rows, copies = measured
    arrays = {"count": moments.count_K, "sum": moments.sum_Kd, "gram": moments.gram_Kdd}
    metadata = {"measured": json.dumps({"rows": rows, "copies": copies})}
    save_file({name: array.numpy() for name, array in arrays.items()}, path, metadata=metadata)


def read_copies(context: Context) -> dict[str, int]:
    """The numbers of `rows` and of `copies` that the moments were measured on."""
    return _metadata(context.file("moments"), "measured")


def read_part_moments(context: Context) -> Moments:
    """Moments over all data of the fine groups, each in `PARTS` parts."""
    import torch

    from cpp.rate_reduction.coding_rate import Moments

    arrays = load_file(context.file("moments"))
    return Moments(*(torch.from_numpy(arrays[name]) for name in ("count", "sum", "gram")))


def read_cluster_moments(context: Context, cluster: NDArray[np.int64]) -> Moments:
    """Moments over all data of clusters; `cluster` `[F]` is the cluster of each fine group."""
    import torch

    from cpp.clustering.partition import PARTS

    into = torch.from_numpy(cluster).repeat_interleave(PARTS)
    return read_part_moments(context).merge(into, int(cluster.max()) + 1)


def read_links(context: Context) -> Links:
    """The links between fine groups that answers ask for; none in a run without answers."""
    if "links" not in context.whole:
        return NO_LINKS
    content = json.loads(Path(context.file("links")).read_text())
    return Links(**{name: [(a, b) for a, b in pairs] for name, pairs in content.items()})


@dataclass(frozen=True)
class TreeFile:
    """The merge tree and its layers. `clusters[K]` `[F]` is the cluster of each fine group in a layer, coarsest first.

    `metadata` has the main K, the distortion e and the `uncertain` pairs of clusters. `rounds` `[R + 1, F]` has the
    main clusters before each round of a person's merges and splits and at the end.
    """

    metadata: Mapping[str, Any]
    clusters: Mapping[int, NDArray[np.int64]]
    rounds: NDArray[np.int64]

    @property
    def main(self) -> int:
        return int(self.metadata["main"])

    @property
    def finest(self) -> int:
        return max(self.clusters)

    def column(self, n_clusters: int) -> str:
        """The column of ASSIGNMENTS that holds a layer."""
        return "cluster" if n_clusters == self.main else f"cluster_{n_clusters}"


def write_tree(built: Layers, path: Path) -> None:
    arrays = {"merged": built.tree.merged, "bits": built.tree.bits, "clusters": np.stack([*built.clusters.values()])}
    metadata = {"main": built.main, "layers": list(built.clusters), "e": built.tree.e, "uncertain": built.uncertain}
    save_file(arrays, path, metadata={"tree": json.dumps(metadata)})


def read_tree(context: Context) -> TreeFile:
    path = context.file("tree")
    arrays, metadata = load_file(path), _metadata(path, "tree")
    clusters = dict(zip(metadata["layers"], arrays["clusters"], strict=True))
    return TreeFile(metadata, clusters, arrays.get("rounds", clusters[metadata["main"]][None]))


def read_estimate(context: Context) -> Estimate | None:
    """The estimate of K; None in a run whose configuration gives K."""
    from cpp.clustering.estimate_k import Estimate

    if "estimate" not in context.whole:
        return None
    return Estimate.from_json(Path(context.file("estimate")).read_text(encoding="utf-8"))


def _metadata(path: str, key: str) -> dict[str, Any]:
    with safe_open(path, framework="numpy") as file:
        metadata: dict[str, Any] = json.loads(file.metadata()[key])
    return metadata


def read_votes(context: Context, tree: TreeFile) -> tuple[Vocabulary, Votes, ClusterSums]:
    """The vocabulary, the votes of all images for its words, and sums of images, by cluster of the finest layer."""
    vocabulary = read_vocabulary(context)
    parts, rows = [NO_VOTES], 0
    for batch in tables.batches(context.whole["votes"], Votes._fields, context.prefetch):
        parts.append(Votes(*(batch[column].to_numpy() for column in Votes._fields)))
        rows += len(batch)
        if rows > VOTES_HELD:
            parts, rows = [Votes.total(parts)], 0
    sums = ClusterSums.zeros(tree.finest, vocabulary.vectors.shape[1])
    for path in context.files("likeness"):
        part = load_file(path)
        present = part.pop("present")
        sums.add_(present, ClusterSums(**part))
    return vocabulary, Votes.total(parts), sums


def read_vocabulary(context: Context) -> Vocabulary:
    """One vocabulary from folders of words with vectors and from encoded words, without the excluded words.

    Words of the namer are part of it once they exist. ValueError if the vectors have different dimensions.
    """
    parts = {folder: vectors.read_words(folder) for folder in context.whole.get("vocabulary", [])}
    for kind, place in (("words", "the encoder of this run"), ("namer_words", "the namer")):
        for path in context.files(kind):
            table = tables.read(path)
            parts[place] = table["word"].to_pylist(), tables.matrix(table["embedding"])
    dims = {place: X.shape[1] for place, (_, X) in parts.items()}
    if len(set(dims.values())) > 1:
        raise ValueError(f"label.vocabulary: the dimensions differ, {dims}; all must come from one text tower")
    words = [word for names, _ in parts.values() for word in names]
    return Vocabulary.of(words, np.concatenate([X for _, X in parts.values()]), context.whole.get("exclude", []))


def read_captions(context: Context, n_clusters: int) -> tuple[list[str], sparse.csr_array]:
    """The mined phrases, and the number of images with each, `[n_clusters, n_phrases]`, in the finest layer."""
    from scipy import sparse

    words = tables.read(context.file("mined"), columns=["phrase"])["phrase"].to_pylist()
    shape = (n_clusters, len(words))
    counts = sparse.csr_array(shape, dtype=np.int64)
    for batch in tables.batches(context.whole["captions"], ["cluster", "phrase", "images"], context.prefetch):
        row, column, images = (values.to_numpy() for values in batch.columns)
        counts += sparse.csr_array((images, (row, column)), shape)
    return words, counts


def iter_captions(path: str, column: str, setting: str = "label.captions") -> Iterator[list[str]]:
    """The captions of every image of a shard; no text for an image without. ValueError if the column is not text."""
    schema = pq.read_schema(path)
    if column not in schema.names:  # no image of the shard has captions
        yield from ([] for _ in range(pq.read_metadata(path).num_rows))
        return
    for batch in tables.batches([path], [column], 1):
        for value in batch[column].to_pylist():
            texts = value if isinstance(value, list) else [value]
            if not all(isinstance(text, str | None) for text in texts):
                dtype = schema.field(column).type
                raise ValueError(
                    f"{setting}: the metadata column {column!r} holds {dtype}, it must be text or lists of text"
                )
            yield [text for text in texts if text]


def is_number(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_integer(dtype) or pa.types.is_floating(dtype))


def numbers(table: pa.Table, column: str, setting: str) -> NDArray[np.float64]:
    """A metadata column of numbers, NaN for null. ValueError, which names the setting, if it holds anything else."""
    dtype = table[column].type
    if not (is_number(dtype) or table[column].null_count == len(table)):
        raise ValueError(
            f"{setting}: the metadata column {column!r} holds {dtype}, not numbers: name a column of numbers, or null"
        )
    return np.asarray(table[column].cast(pa.float64()))
