"""Clusters as a person sees them: with every column that there may be, and with none."""

import pyarrow as pa
import pytest

from cpp.report.cards import cards, layer_tree, members, warnings
from cpp.report.examples import EXAMPLES

BARE = {"layer": 2, "cluster": 0, "size": 40, "title": "cluster 0"}
FULL = {
    **BARE,
    "title": "cat + tabby", "name": "cat + tabby", "status": "named", "confidence": 0.93,
    "agree": 0.8, "share": 0.5, "margin": 0.3, "runner_up": "dog",
    "small_margin": 0.01, "coding_rate": 10.0, "effective_rank": 2.0, "rate_share": 0.5, "nearest": 1, "overlap": 0.5,
    "top": [{"word": "cat", "votes": 5.0, "share": 0.5}, {"word": "dog", "votes": 2.0, "share": 0.2},
            {"word": "axe", "votes": 0.1, "share": 0.005}],
    "captions": [{"word": "whiskers", "score": 2.0}],
}  # fmt: skip


def test_a_row_of_two_numbers_is_a_card() -> None:
    (card,) = cards([BARE], {}, {})
    assert (card["title"], card["size"], card["part"], card["sure"], card["status"]) == (
        "cluster 0",
        40,
        1.0,
        None,
        None,
    )
    assert (card["evidence"], card["captions"], card["warnings"], card["nearest_title"]) == ([], [], [], None)
    assert "#0" in card["words"]


def test_a_row_with_everything() -> None:
    other = {**BARE, "cluster": 1, "size": 60, "title": "cat?", "name": None, "status": "unsure", "top": FULL["top"],
             "confidence": 0.2, "share": 0.5, "agree": None}  # fmt: skip
    named, unsure = cards([FULL, other], {}, {0: [("tabby", 1.0)]})
    assert (named["title"], named["status"], named["sure"], named["part"]) == ("cat + tabby", "named", 0.93, 0.4)
    assert named["evidence"] == [("cat", 0.5), ("dog", 0.2)]  # a word of half a percent is not worth a line
    assert named["captions"] == ["whiskers"]
    assert named["nearest_title"] == "cat?"
    assert named["classes"] == [("tabby", 1.0)]
    assert {"whiskers", "dog", "tabby", "#0"} <= set(named["words"].split())
    assert {**named, "captions": FULL["captions"]}.items() >= FULL.items()
    assert (unsure["title"], unsure["status"], unsure["sure"]) == ("cat?", "unsure", 0.2)


def test_words_are_in_the_order_of_their_shares() -> None:
    top = [{"word": "cat", "share": 0.25}, {"word": "dog", "share": 0.34}, {"word": "cow", "share": 0.3}]
    (card,) = cards([{**FULL, "top": top}], {}, {})
    assert card["evidence"] == [("dog", 0.34), ("cow", 0.3), ("cat", 0.25)]


def test_without_a_confidence_the_share_of_the_votes_says_how_sure() -> None:
    (card,) = cards([{k: v for k, v in FULL.items() if k != "confidence"}], {}, {})
    assert card["sure"] == 0.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"size": 3}, ["The cluster has only 3 images."]),
        ({"size": 0}, ["The cluster has no images."]),
        ({"small_margin": 0.25}, ["25\u202f% of its images are almost as close to another cluster."]),
        ({"overlap": 0.95}, ["It is nearly the same as cluster 1 (cosine 0.95)."]),
        ({"agree": 0.2}, ["The name is the best word for only 20\u202f% of its images."]),
        ({"agree": 0.2, "name": None, "status": "unsure"}, []),
        ({"agree": 0.2, "name": "animal", "status": "general"}, []),
    ],
)
def test_warnings(change: dict[str, object], said: list[str]) -> None:
    assert warnings({**FULL, **change}) == said


def test_members_are_in_order_with_their_pictures() -> None:
    rows = [("typical", 1, "b"), ("typical", 0, "a"), ("odd", 0, "c")]
    about = {"cluster": 5, "score": 0.5, "margin": 0.25, "image_shard": "s"}
    table = pa.Table.from_pylist([{**about, "kind": k, "rank": r, "key": key} for k, r, key in rows], EXAMPLES)
    shown = members(table, {("s", "a"): {"large": b"A", "small": None, "caption": "an a"}})
    assert [(row["kind"], row["key"], row.get("large"), row.get("caption")) for row in shown[5]] == [
        ("typical", "a", b"A", "an a"), ("odd", "c", None, None), ("typical", "b", None, None),
    ]  # fmt: skip


def test_in_the_tree_of_layers_the_largest_cluster_comes_first_and_one_layer_is_no_tree() -> None:
    rows = [
        {"layer": layer, "cluster": k, "parent": parent, "size": size, "title": "a"}
        for layer, k, parent, size in [(2, 0, None, 5), (2, 1, None, 7), (3, 0, 0, 5), (3, 1, 1, 3), (3, 2, 1, 4)]
    ]
    roots = layer_tree(rows)
    assert [(n["cluster"], [p["cluster"] for p in n["parts"]]) for n in roots] == [(1, [2, 1]), (0, [0])]
    assert layer_tree(rows[:2]) == []
