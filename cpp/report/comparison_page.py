"""The page that compares two runs: their clusters side by side, with pictures. This module knows no files.

Titles and keys are untrusted, and the templates escape them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cpp.report import html, run_page

LISTED = 40  # groups of each kind of change on the page
SIDE = 12  # clusters of a group that are shown on either side
PICTURES = 8  # of each cluster
ELSEWHERE = 3  # clusters of the other run that a cluster's images are in, with at least
LEAST_SHARE = 0.05  # of its images
SECTIONS = {
    "split": ("Split", "One cluster of A is several clusters in B."),
    "merged": ("Merged", "Several clusters of A are one cluster in B."),
    "regrouped": ("Regrouped", "Clusters that correspond to each other otherwise than by a split or a merge."),
    "vanished": ("Vanished", "Clusters of A whose images are spread over B, or not in B."),
    "appeared": ("Appeared", "Clusters of B whose images come from many clusters of A, or are not in A."),
    "stayed": ("Stayed", "More than half of the images of both clusters are the same; the most changed are first."),
}


class Side(NamedTuple):
    """One of the runs: its `title` and `address`, the `link` to its page or None, and its clusters by number.

    A cluster has its `title`, `size`, typical `members` with pictures, and `elsewhere`: titles of clusters of the other
    run with the share of its images that they have.
    """

    title: str
    address: str
    link: str | None
    clusters: Mapping[int, Mapping[str, Any]]


def shown(groups: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> tuple[set[int], set[int]]:
    """The clusters of A and of B that the page shows, which need pictures; `groups` as for `render`."""
    listed = [group for of_change in _by_change(groups).values() for group in of_change[:LISTED]]
    return {k for _, a, _ in listed for k in a[:SIDE]}, {k for _, _, b in listed for k in b[:SIDE]}


def render(
    a: Side, b: Side, groups: Sequence[tuple[str, Sequence[int], Sequence[int]]], summary: Mapping[str, Any]
) -> str:
    """The page. A group is its change (a key of `SECTIONS`), and the clusters of A and B, in the order of the page.

    `summary` has the numbers of `images` in both runs and only in one (`only_a`, `only_b`), and the `agreement`: `ari`,
    `ami` and the number of images `measured`, or None.
    """
    by_change = _by_change(groups)
    cards = [
        {**side.clusters[k], "cluster": (run, k)}
        for run, side, numbers in zip("ab", (a, b), shown(groups), strict=True)
        for k in sorted(numbers)
    ]
    fitting = {card["cluster"]: card for card in run_page.fit(cards, run_page.ROOM - 3_000 * len(cards))}
    return html.fill(
        "comparison.html",
        run=f"{a.title} and {b.title}",
        home=b.link,
        others={},
        a=a,
        b=b,
        summary=summary,
        sections=[(change, *texts, by_change.get(change, [])) for change, texts in SECTIONS.items()],
        cards=fitting,
        listed=LISTED,
        side_limit=SIDE,
    )


def _by_change(groups: Sequence[tuple[str, Sequence[int], Sequence[int]]]) -> dict[str, list[Any]]:
    result: dict[str, list[Any]] = {}
    for group in groups:
        result.setdefault(group[0], []).append(group)
    return result
