"""The run in words: numbers that are there, and nothing that was not measured."""

from dataclasses import replace

from cpp.report.summary import Facts, how_partitioned, summary

FACTS = Facts(
    clustered=12_000,
    rejected=345,
    n_clusters=18,
    k_was_set=True,
    k_metadata={"low": 15, "high": 20},
    named=17,
    seconds={"encode": 100.0, "fit": 3.0},
    rates={"encode": 123.4, "fit": None},
    encoders={"embedding": {"model": "ViT-L-14", "pretrained": "openai", "sha256": "0123456789abcdef"}},
)


def test_a_run_in_one_paragraph() -> None:
    assert summary(FACTS) == [
        "The run read 12,345 images: 12,000 were clustered and 345 rejected.",
        "The configuration asks for 18 clusters; the coding length alone would choose between 15 and 20.",
        "1 of 18 clusters has no sure name.",
        "The encoder is ViT-L-14 with weights openai (SHA-256 0123456789ab…).",
        "The steps took 2 min of work; the slowest was encode (2 min, 123 images/s).",
    ]


def test_the_paragraph_leaves_out_what_is_unknown() -> None:
    bare = replace(FACTS, rejected=0, k_was_set=False, named=None, encoders={}, seconds={}, n_clusters=1)
    assert summary(bare) == [
        "The run read 12,000 images: 12,000 were clustered and none rejected.",
        "The coding length chose 1 cluster.",
        "The vectors were imported, not computed by this run.",
        "No time was recorded.",
    ]
    assert "Every cluster has a name." in summary(replace(FACTS, named=18))
    assert "2 of 18 clusters have no sure name." in summary(replace(FACTS, named=16))


def test_the_method_of_the_partition_and_its_silhouettes() -> None:
    compared = how_partitioned({"method": "spectral", "silhouettes": {"kmeans": 0.25, "spectral": 0.5}})
    assert compared.endswith(
        "by spectral clustering; the silhouettes were k-means 0.250 and spectral clustering 0.500."
    )
    assert how_partitioned({"method": "kmeans", "silhouettes": {}}) == "The sample was partitioned by k-means."
