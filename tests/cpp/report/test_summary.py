"""The summary of a run in a paragraph, and nothing in it that was not measured."""

import re
from typing import Any

from cpp.report.run_page import render
from tests.support.pages import made

ENCODER = {"model": "ViT-L-14", "pretrained": "openai", "sha256": "0123456789abcdef"}


def summary(**changes: Any) -> str:
    """The paragraph of a page of four clusters with 6, 7, 8 and 9 images, of which one has no sure name."""
    rejected = [{"reason": r, "images": n, "examples": []} for r, n in (("no bytes", 1_300), ("not an image", 45))]
    steps = [("fit", 3.0, 30, 1), ("encode", 100.0, 12_345, 3)]
    page = {
        **made(4),
        "rejected": rejected,
        "k": {"best": 4, "low": 2, "high": 1_005, "sentence": "", "rounds": [4, 4]},
        "uncertain": [],
        "encoders": {"embedding": ENCODER},
        "steps": [dict(zip(("name", "seconds", "rows", "shards"), step, strict=True)) for step in steps],
    }
    html = render({**page, **changes})
    paragraph = re.search(r'<p class="summary">(.*?)</p>', html, re.DOTALL)
    assert paragraph is not None
    return " ".join(paragraph[1].split())


def test_a_run_in_one_paragraph() -> None:
    assert summary() == (
        "The run read 1,375 images: 30 were clustered and 1,345 rejected. "
        "The number of clusters was estimated as 4, and is between 2 and 1,005 for other samples of such images. "
        "3 of 4 clusters have a name, 1 no sure name. "
        "The encoder is ViT-L-14 with weights openai (SHA-256 0123456789ab…). "
        "The steps took 2 min of work; the slowest was encode (2 min, 123 images/s). "
        "The sample was partitioned by k-means."
    )


def test_the_paragraph_leaves_out_what_is_unknown() -> None:
    cards = [{**card, "evidence": [], "status": None} for card in made(1)["cards"]]
    assert summary(cards=cards, rejected=[], k=None, k_curve=None, encoders={}, steps=[]) == (
        "The run read 6 images: 6 were clustered and none rejected. "
        "The configuration determines the 1 cluster. "
        "The vectors were imported, not computed by this run. "
        "The sample was partitioned by k-means."
    )


def test_each_of_several_encoders_is_described() -> None:
    other = {"model": "timm/vit", "pretrained": "lvd142m", "sha256": "fedcba9876543210", "pool": "mean"}
    assert (
        "The encoder of embedding is ViT-L-14 with weights openai (SHA-256 0123456789ab…). The encoder of embedding_2 "
        "is timm/vit with weights lvd142m (SHA-256 fedcba987654…), and a vector is the mean of the patch tokens. "
    ) in summary(encoders={"embedding": ENCODER, "embedding_2": other})


def test_sure_names_are_counted() -> None:
    cards = made(4)["cards"]
    assert "Every cluster has a name." in summary(cards=cards[:3])
    assert "2 of 4 clusters have a name, 1 only a general one, 1 no sure name." in summary(
        cards=[{**cards[0], "status": "general"}, *cards[1:]]
    )
    assert "None of 2 clusters have a name, 2 only a general one." in summary(
        cards=[{**card, "status": "general"} for card in cards[:2]]
    )


def test_an_interval_of_one_k_is_not_mentioned() -> None:
    assert "estimated as 4. " in summary(k={"best": 4, "low": 4, "high": 4, "sentence": "", "rounds": [4, 4]})


def test_an_estimate_that_the_run_does_not_follow_is_kept_apart_from_its_clusters() -> None:
    assert (
        "The number of clusters was estimated as 6, and is between 5 and 7 for other samples of such images; "
        "this run has 4 clusters. "
    ) in summary(k={"best": 6, "low": 5, "high": 7, "sentence": "", "rounds": [6, 6]})


def test_copies_are_counted() -> None:
    assert "1,000 of 5,000 images are copies or near-copies of others; they count once for K." in summary(
        copies={"rows": 5_000, "copies": 1_000}
    )
    assert "1 of 5 images is a copy or near-copy of another; it counts once for K." in summary(
        copies={"rows": 5, "copies": 1}
    )


def test_candidates_are_compared() -> None:
    candidates = {"9": 30.0, "4": 10.0, "2": 20.0}  # as JSON has them
    said = summary(partition={"method": "spectral", "candidates": candidates})
    assert "The sample was partitioned by spectral clustering. Of 9, 4, 2 clusters, each partitioned separately, " \
        "4 have the least coding length." in said  # fmt: skip


def test_missing_pictures_are_explained() -> None:
    assert "Pictures are left out because the configuration says so" in summary(pictures_allowed=False)
    cards = [{**card, "members": [{**card["members"][0], "large": None}]} for card in made(4)["cards"]]
    assert "4 pictures were not found in the image shards or could not be read." in summary(cards=cards)


def test_the_answers_about_pairs_need_a_key_and_no_change_has_a_minus() -> None:
    html = render({**made(3), "uncertain": [[0, 1, -0.3], [1, 2, -4.0]]})
    assert "keeps the answers, which a run with <code>partition.answers</code> follows." in html
    assert re.findall(r"· (\S+) bits", html) == ["+0", "-4"]


def test_one_cluster_is_singular() -> None:
    html = render({**made(1), "uncertain": []})
    assert "1 cluster</title>" in html
    assert "<b>1</b>cluster</li>" in html
