"""Clusters as a page shows them: title, confidence, evidence, members and warnings.

The input is rows of `clusters.parquet`, in which every column except number, size, layer and title may be missing. This
module knows no HTML.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cpp.files.quantities import format_percent

Row = Mapping[str, Any]

# A cluster gets a warning if it has
MANY_UNDECIDED = 0.2  # a larger share of members with a small margin
ALIKE = 0.9  # a larger cosine with the nearest cluster
DISAGREE = 0.4  # a smaller share of members whose own best word is its name
FEW = 5  # fewer images
WORDS = 5  # words, words of captions and classes on a card, at most
LEAST_SHARE = 0.01  # of a word or class on a card


def cards(
    rows: Sequence[Row], members: Mapping[int, Sequence[Row]], classes: Mapping[int, Sequence[tuple[str, float]]]
) -> list[dict[str, Any]]:
    """The clusters of one layer in the order of `rows`, each row with further keys.

    `part`, its share of all images; `status`, None without names; `sure`, the confidence or else the name's share of
    the votes, None without names; `evidence` and `classes`, the best words and true classes with their shares;
    `captions`, the words of captions; `nearest_title`; `warnings`; `words`, the text that the search box matches;
    `members`. The arguments `members` and `classes` are by cluster number.
    """
    total = max(sum(row["size"] for row in rows), 1)
    titles = {row["cluster"]: row["title"] for row in rows}
    result = []
    for row in rows:
        k, title, confidence = row["cluster"], titles[row["cluster"]], row.get("confidence")
        top = sorted(row.get("top") or [], key=lambda word: -float(word["share"]))  # the guess may have fewer votes
        evidence = _shown((word["word"], word["share"]) for word in top)
        captions = [word["word"] for word in (row.get("captions") or [])[:WORDS]]
        of_cluster = _shown(classes.get(k, ()))
        words = dict.fromkeys([title, f"#{k}", *(w for w, _ in evidence), *captions, *(c for c, _ in of_cluster)])
        result.append(
            {
                **row,
                "part": row["size"] / total,
                "status": row.get("status") if evidence else None,
                "sure": confidence if confidence is not None else (row.get("share") if evidence else None),
                "evidence": evidence,
                "captions": captions,
                "classes": of_cluster,
                "nearest_title": titles.get(row.get("nearest", -1)),
                "warnings": warnings(row),
                "words": " ".join(words).casefold()[:400],
                "members": members.get(k, ()),
            }
        )
    return result


def _shown(entries: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """The first entry, and the following ones with at least `LEAST_SHARE`."""
    return [entry for i, entry in enumerate(entries) if i == 0 or (i < WORDS and entry[1] >= LEAST_SHARE)]


def warnings(row: Row) -> list[str]:
    """Sentences about weaknesses of a cluster."""
    sentences = []
    if row["size"] < FEW:
        images = f"only {row['size']} image{'s' * (row['size'] > 1)}" if row["size"] else "no images"
        sentences.append(f"The cluster has {images}.")
    if (undecided := row.get("small_margin")) is not None and undecided > MANY_UNDECIDED:
        sentences.append(f"{format_percent(undecided)} of its images are almost as close to another cluster.")
    if (overlap := row.get("overlap")) is not None and overlap > ALIKE:
        sentences.append(f"It is nearly the same as cluster {row['nearest']} (cosine {overlap:.2f}).")
    if row.get("status") == "named" and (agree := row.get("agree")) is not None and agree < DISAGREE:
        sentences.append(f"The name is the best word for only {format_percent(agree)} of its images.")
    return sentences


def members(examples: pa.Table, thumbnails: Mapping[tuple[str | None, str], Row]) -> dict[int, list[Row]]:
    """Rows of EXAMPLES by cluster and in their order, each with its row of `thumbnails`, which are by shard and key."""
    result: dict[int, list[Row]] = {}
    for row in sorted(examples.to_pylist(), key=lambda row: row["rank"]):
        result.setdefault(row["cluster"], []).append({**thumbnails.get((row["image_shard"], row["key"]), {}), **row})
    return result


def layer_tree(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The clusters of the coarsest layer, the largest first, each row with its `parts`.

    These are its clusters in the next finer layer, which have parts too. The list is empty if there is only one layer.
    """
    layers = sorted({row["layer"] for row in rows}, reverse=True)
    nodes: list[dict[str, Any]] = []
    for layer in layers if len(layers) > 1 else []:
        parts: dict[int, list[dict[str, Any]]] = {}
        for node in nodes:
            parts.setdefault(node["parent"], []).append(node)
        of_layer = sorted((row for row in rows if row["layer"] == layer), key=lambda row: -row["size"])
        nodes = [{**row, "parts": parts.get(row["cluster"], [])} for row in of_layer]
    return nodes
