"""Clusters as a person sees them: with every column that there may be, and with none."""

import pyarrow as pa
import pytest

from cpp.report.cards import Neighbour, Picture, Share, cards, members, warnings
from cpp.report.examples import EXAMPLES

BARE = {"layer": 2, "cluster": 0, "size": 40}
FULL = {
    **BARE,
    "name": "cat (tabby)", "status": "named", "confidence": 0.93, "agree": 0.8, "share": 0.5, "margin": 0.3,
    "runner_up": "dog", "small_margin": 0.01, "coding_rate": 10.0, "effective_rank": 2.0, "rate_share": 0.5,
    "nearest": 1, "overlap": 0.5,
    "top": [{"word": "cat", "votes": 5.0, "share": 0.5}, {"word": "dog", "votes": 2.0, "share": 0.2},
            {"word": "axe", "votes": 0.1, "share": 0.005}],
    "captions": [{"word": "whiskers", "score": 2.0}],
}  # fmt: skip


def test_a_row_of_two_numbers_is_a_card() -> None:
    (card,) = cards([BARE], {}, {})
    assert (card.title, card.size, card.part, card.sure, card.unsure) == ("cluster 0", 40, 1.0, None, False)
    assert (card.evidence, card.captions, card.warnings, card.neighbour) == ([], [], [], None)
    assert "#0" in card.words


def test_a_row_with_everything() -> None:
    other = {**BARE, "cluster": 1, "size": 60, "name": None, "status": "unsure", "top": FULL["top"], "confidence": 0.2,
             "share": 0.5, "agree": None}  # fmt: skip
    named, unsure = cards([FULL, other], {}, {0: [Share("tabby", 1.0)]})
    assert (named.title, named.sure, named.calibrated, named.part) == ("cat (tabby)", 0.93, True, 0.4)
    assert named.evidence == [Share("cat", 0.5), Share("dog", 0.2)]  # a word of half a percent is not worth a line
    assert named.captions == ["whiskers"]
    assert named.neighbour == Neighbour(1, "cat?", 0.5)
    assert named.classes == [Share("tabby", 1.0)]
    assert {"whiskers", "dog", "tabby", "#0"} <= set(named.words.split())
    assert named.row == FULL
    assert (unsure.title, unsure.unsure, unsure.sure) == ("cat?", True, 0.2)


def test_without_a_confidence_the_share_of_the_votes_says_how_sure() -> None:
    (card,) = cards([{k: v for k, v in FULL.items() if k != "confidence"}], {}, {})
    assert (card.sure, card.calibrated) == (0.5, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"size": 3}, ["The cluster has only 3 images."]),
        ({"size": 0}, ["The cluster has no images."]),
        ({"small_margin": 0.25}, ["25\u202f% of its images are almost as close to another cluster."]),
        ({"overlap": 0.95}, ["It is nearly the same as cluster 1 (cosine 0.95)."]),
        ({"agree": 0.2}, ["The name is the best word for only 20\u202f% of its images."]),
        ({"agree": 0.2, "name": None}, []),
    ],
)
def test_warnings(change: dict[str, object], said: list[str]) -> None:
    assert warnings({**FULL, **change}) == said


def test_members_by_kind_in_their_order_with_their_pictures() -> None:
    rows = [("typical", 1, "b"), ("typical", 0, "a"), ("odd", 0, "c")]
    about = {"cluster": 5, "score": 0.5, "margin": 0.25, "image_shard": "s"}
    table = pa.Table.from_pylist([{**about, "kind": k, "rank": r, "key": key} for k, r, key in rows], EXAMPLES)
    found = members(table, {("s", "a"): {"large": b"A", "small": None, "caption": "an a"}})
    assert [p.key for p in found[5]["typical"]] == ["a", "b"]
    assert (found[5]["typical"][0].large, found[5]["typical"][0].alt) == (b"A", "an a")
    assert (found[5]["odd"][0].large, found[5]["odd"][0].alt) == (None, "c")


def test_text_alternatives_and_details_of_a_picture() -> None:
    picture = Picture("k", caption="a cat", score=0.5, margin=0.25)
    assert picture.details == "a cat\nk\nsimilarity 0.500, margin 0.250"
    assert Picture("k").details == Picture("k").alt == "k"
    assert Picture("k").uri is None
