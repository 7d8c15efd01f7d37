"""The rows of `clusters.parquet`, and the confidence of an image's label. Knows no files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.clustering.quality import Measures
from cpp.naming.decided import Decided
from cpp.naming.layer_titles import Layer

EXAMPLES = 5  # keys of typical members per cluster
# logistic regression of labels that are right for their image (tests/bench/names.py)
INTERCEPT, ODDS_WEIGHT, AGREE_WEIGHT = -0.58, 1.06, 0.55

_WORD = pa.struct([("word", pa.string()), ("votes", pa.float64()), ("share", pa.float64())])
CLUSTERS = pa.schema(
    [
        ("layer", pa.int32()),
        ("main", pa.bool_()),
        ("cluster", pa.int32()),
        ("parent", pa.int32()),
        ("size", pa.int64()),
        ("title", pa.string()),
        ("name", pa.string()),
        ("status", pa.string()),
        ("confidence", pa.float64()),
        ("guess", pa.string()),
        ("guess_confidence", pa.float64()),
        ("general", pa.string()),
        ("share", pa.float64()),
        ("runner_up", pa.string()),
        ("margin", pa.float64()),
        ("agree", pa.float64()),
        ("top", pa.list_(_WORD)),
        ("captions", pa.list_(pa.struct([("word", pa.string()), ("score", pa.float64())]))),
        ("examples", pa.list_(pa.string())),
        ("tags", pa.list_(pa.string())),
        ("dropped", pa.string()),
        ("small_margin", pa.float64()),
        *((name, pa.int32() if name == "nearest" else pa.float64()) for name in Measures._fields),
    ]
)
LABELS = pa.schema(
    {"key": pa.string(), "label": pa.string(), "confidence": pa.float32(), "word": pa.string(), "agrees": pa.bool_()}
)


def layer_table(
    *,
    main: bool,
    layer: Layer,
    titles: Sequence[str],
    measures: Measures,
    captions: Sequence[Sequence[tuple[str, float]]] | None,
    examples: Mapping[int, Sequence[str]],
    small_margin: Sequence[float | None],
    decided: Decided,
) -> pa.Table:
    """The rows of a layer in `clusters.parquet`, from values by cluster number.

    `titles` are those of `cpp.naming.layer_titles`. `captions`, the words that set a cluster's captions apart with
    their scores, is None without captions. `main` is true for the layer of the column `cluster` in ASSIGNMENTS; other
    layers are in `cluster_{layer}`. `examples` are the keys of typical members, `small_margin` is the share of members
    whose margin is small. `decided` is what a person decided about the clusters of this layer.
    """
    K, names = len(layer.size), layer.names
    evidence = CLUSTERS.names[CLUSTERS.names.index("name") : CLUSTERS.names.index("top")]
    columns = {
        "layer": [K] * K,
        "main": [main] * K,
        "cluster": range(K),
        "parent": layer.parent,
        "size": layer.size,
        "title": titles,
        **{column: [getattr(name, column) for name in names] if names else [None] * K for column in evidence},
        "top": [[word._asdict() for word in name.top] for name in names] if names else [[]] * K,
        "captions": [[{"word": word, "score": score} for word, score in words] for words in captions or [()] * K],
        "examples": [examples.get(k, ()) for k in range(K)],
        "tags": [decided.tags.get(k, ()) for k in range(K)],
        "dropped": [decided.dropped.get(k) for k in range(K)],
        "small_margin": small_margin,
        **measures._asdict(),
    }
    return pa.table(columns, schema=CLUSTERS)


def confidence(cluster_n: NDArray[np.floating], agrees_n: NDArray[np.bool_]) -> NDArray[np.float32]:
    """The probability that the cluster's name is right for each image, float32 `[n]`.

    It follows from the confidence of the cluster's name, and from whether the image's own best word agrees with it.
    """
    likely = cluster_n.clip(1e-6, 1 - 1e-6)
    odds = ODDS_WEIGHT * np.log(likely / (1 - likely)) + AGREE_WEIGHT * agrees_n
    probability: NDArray[np.floating] = 1 / (1 + np.exp(-INTERCEPT - odds))
    return probability.astype(np.float32)
