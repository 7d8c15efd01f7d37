"""The commands `names` and `search`: the clusters of a finished run, and those nearest to a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Column, Table

from cpp.clustering import choose_k
from cpp.files import scratch, tables
from cpp.naming import search
from cpp.naming.titles import row_title
from cpp.naming.wordnet import synonyms
from cpp.store.results import File
from pipelines.commands.parts import finished, together
from pipelines.commands.terminal import number, plain_table, title
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.stage import Context, Stage
from pipelines.stages.artifacts import read_tree, read_votes
from pipelines.stages.words import Words

PREFETCH = 4


def names(config: Config, layer: int | None) -> Table:
    """The clusters of a layer, by default the main one.

    Raises UsageError if there is no such layer, RunStateError if the run is not finished.
    """
    (file,) = finished(config, ["clusters"]).files["clusters"].values()
    with scratch.local_copy(file.path) as path:
        rows = tables.read(path).to_pylist()
    layers = sorted({row["layer"] for row in rows})
    if layer is not None and layer not in layers:
        raise UsageError(f"--layer is {layer}; the layers of this run have {', '.join(map(str, layers))} clusters")
    shown = [row for row in rows if row["layer"] == layer or (layer is None and row["main"])]
    has_captions = any(row["captions"] for row in shown)
    texts = [Column("typical", no_wrap=True), *([Column("captions", no_wrap=True)] if has_captions else [])]
    numbers = map(number, ("sure", "votes", "agree"))
    table = plain_table(number("cluster"), number("images"), title("name"), *numbers, title("runner-up"), *texts)
    for row in sorted(shown, key=lambda row: -row["size"]):
        captions = [", ".join(word["word"] for word in row["captions"][:3])] if has_captions else []
        shares = [f"{row[key]:.0%}" if row[key] is not None else "" for key in ("confidence", "share", "agree")]
        cells = [str(row["cluster"]), f"{row['size']:,}", row_title(row, ""), *shares, row["runner_up"] or ""]
        table.add_row(*cells, ", ".join(row["examples"][:1]), *captions)
    return table


def nearest(config: Config, text: str, n: int) -> tuple[Table, Table]:
    """Two tables: the clusters of the main layer and the images nearest to a sentence.

    Raises UsageError if the run has no names, or has neither a text tower nor the text in its vocabulary, and
    RunStateError if it is not finished.
    """
    if config.label is None:
        raise UsageError("search: this run has no vocabulary: it needs `label:` in its configuration")
    fitted, later = together(config, ["clusters", "labels"])
    files = fitted.files
    context = Context.create(files, files, config.resources)
    tree = read_tree(context)
    vocabulary, _, sums = read_votes(context, tree)
    text_d = _vector(config, text, fitted.stages, vocabulary.words, vocabulary.vectors.numpy())
    merged = sums.merge(choose_k.parents(tree.clusters[tree.finest], tree.clusters[tree.main]), tree.main)
    rows = {row["cluster"]: row for row in tables.read(context.file("clusters")).to_pylist() if row["main"]}
    clusters = Table("cluster", "name", "images", "cosine", "above the mean", box=None, header_style="dim")
    for k, cosine, above in search.nearest_clusters(merged, text_d, n):
        clusters.add_row(str(k), row_title(rows[k], ""), f"{rows[k]['size']:,}", f"{cosine:.3f}", f"{above:+.3f}")
    images = Table("image", "cosine", "cluster", "name", "in", box=None, header_style="dim")
    all_files = {kind: {**files[kind], **later.get(kind, {})} for kind in ("features", "assignments")}
    for image in _nearest_images(all_files, config.label.embedding, text_d, n):
        cells = [str(image["cluster"]), row_title(rows[image["cluster"]], ""), image["image_shard"] or ""]
        images.add_row(image["key"], f"{image['cosine']:.3f}", *cells)
    return clusters, images


def _nearest_images(
    files: Mapping[str, Mapping[str, File]], column: str, text_d: NDArray[np.floating], n: int
) -> list[dict[str, Any]]:
    shards = [shard for shard in files["features"] if shard in files["assignments"]]
    features = [files["features"][shard].path for shard in shards]
    images = search.nearest_images(features, column, text_d, n, PREFETCH)
    by_row, start = {image["row"]: image for image in images}, 0
    assignments = [files["assignments"][shard].path for shard in shards]
    for batch in tables.batches(assignments, ["cluster", "image_shard"], PREFETCH):
        for row in [row for row in by_row if start <= row < start + len(batch)]:
            by_row[row] |= batch.slice(row - start, 1).to_pylist()[0]
        start += len(batch)
    return images


def _vector(
    config: Config, text: str, stages: Mapping[str, Stage], words: Sequence[str], vectors: NDArray[np.float32]
) -> NDArray[np.floating]:
    """The unit vector of a text: encoded by the run's text tower or, without one, that of the same vocabulary word."""
    if config.encode and config.label:
        tower = stages.get("words")
        model = tower.encoder if isinstance(tower, Words) else None
        if model is not None:
            from cpp.encoding import encoder

            return np.asarray(model.open("cpu").words([text], encoder.templates(["{}"]), 1)[0], np.float32)
    at = next((i for i, word in enumerate(words) if synonyms(word, text)), None)
    if at is None:
        raise UsageError(
            f"search: this run has no text tower, and {text!r} is none of the {len(words):,} words of its vocabulary: "
            "take one of them, or a run with `encode` and words that it encodes"
        )
    return np.asarray(vectors[at])
