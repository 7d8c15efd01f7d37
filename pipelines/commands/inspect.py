"""The commands `names` and `search`: the clusters of a finished run, and those nearest to a sentence."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from rich.table import Column, Table

from cpp.clustering.layers import parents
from cpp.files import scratch, tables
from cpp.naming import search
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.wordnet import synonyms
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
        cells = [str(row["cluster"]), f"{row['size']:,}", row["title"], *shares, row["runner_up"] or ""]
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
    text_d = _vector(fitted.stages.get("words"), text, vocabulary)
    merged = sums.merge(parents(tree.clusters[tree.finest], tree.clusters[tree.main]), tree.main)
    rows = {row["cluster"]: row for row in tables.read(context.file("clusters")).to_pylist() if row["main"]}
    clusters = Table("cluster", "name", "images", "cosine", "above the mean", box=None, header_style="dim")
    for k, cosine, above in search.nearest_clusters(merged, text_d, n):
        clusters.add_row(str(k), rows[k]["title"], f"{rows[k]['size']:,}", f"{cosine:.3f}", f"{above:+.3f}")
    images = Table("image", "cosine", "cluster", "name", "in", box=None, header_style="dim")
    features, assigned = ({**files[kind], **later.get(kind, {})} for kind in ("features", "assignments"))
    shards = [shard for shard in features if shard in assigned]
    paths, assigned_paths = ([files[shard].path for shard in shards] for files in (features, assigned))
    for image in search.nearest_images(paths, assigned_paths, config.label.embedding, text_d, n, PREFETCH):
        cells = [str(image["in_cluster"]), rows[image["in_cluster"]]["title"], image["image_shard"] or ""]
        images.add_row(image["key"], f"{image['cosine']:.3f}", *cells)
    return clusters, images


def _vector(tower: Stage | None, text: str, vocabulary: Vocabulary) -> NDArray[np.floating]:
    """The unit vector of a text: encoded by the run's text tower or, without one, that of the same vocabulary word."""
    if isinstance(tower, Words):
        from cpp.encoding import encoder

        return np.asarray(tower.encoder.open("cpu").words([text], encoder.templates(["{}"]), 1)[0], np.float32)
    at = next((i for i, word in enumerate(vocabulary.words) if synonyms(word, text)), None)
    if at is None:
        raise UsageError(
            f"search: this run has no text tower, and {text!r} is none of the {len(vocabulary.words):,} words of its "
            "vocabulary: take one of them, or a run with `encode` and words that it encodes"
        )
    return np.asarray(vocabulary.vectors[at])
