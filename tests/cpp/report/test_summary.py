"""The run in words: numbers that are there, and nothing that was not measured."""

from dataclasses import replace

from cpp.report.summary import Facts, summary

FACTS = Facts(
    clustered=12_000,
    rejected=345,
    n_clusters=18,
    asked=True,
    about={"low": 15, "high": 20},
    named=17,
    seconds={"encode": 100.0, "fit": 3.0},
    rates={"encode": 123.4, "fit": None},
    encoders={"embedding": {"model": "ViT-L-14", "pretrained": "openai", "sha256": "0123456789abcdef"}},
)


def test_a_run_in_one_paragraph() -> None:
    assert summary(FACTS) == [
        "12,345 images came in, 12,000 were clustered and 345 rejected.",
        "They form 18 clusters, as was asked; the coding length alone puts K between 15 and 20.",
        "17 have a name, of 1 it is unsure.",
        "Encoder: ViT-L-14, weights openai (SHA-256 0123456789ab…).",
        "The steps took 103 seconds of work, most of it in encode (100 seconds, 123 images/s).",
    ]


def test_what_is_not_known_is_not_said() -> None:
    bare = replace(FACTS, rejected=0, asked=False, named=None, encoders={}, seconds={}, n_clusters=1)
    assert summary(bare) == [
        "12,000 images came in, 12,000 were clustered and none rejected.",
        "They form 1 cluster, found by the coding length.",
        "Their vectors were given, not made by this run.",
        "No time was recorded.",
    ]
    assert "All have a name." in summary(replace(FACTS, named=18))
