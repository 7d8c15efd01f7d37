"""Fingerprints: what makes a result stale, and what does not."""

import os

import pytest

from cpp.naming import word_lists
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.engine.inputs import input_shards
from pipelines.engine.plan import upstream
from pipelines.graph import plan
from tests.support.datasets import Dataset


def keys(dataset: Dataset, *overrides: str) -> dict[tuple[str, str], str]:
    return {(t.step, t.shard): t.fingerprint for step in plan(load(dataset.config, overrides)) for t in step.tasks}


SHOWN = ("examples", "members", "map", "thumbnails", "confusion", "report", "plots", "map_points", "map_page")
AFTER = {"assign", "vote", "label", "labels", "evaluate", *SHOWN}  # steps after K is known


def stale(dataset: Dataset, *overrides: str) -> set[str]:
    """Steps with a shard whose fingerprint the overrides change."""
    before, after = keys(dataset), keys(dataset, *overrides)
    return {step for (step, shard), key in after.items() if before.get((step, shard)) != key}


def test_steps_in_order_and_their_shards(dataset: Dataset) -> None:
    steps = plan(load(dataset.config))
    one = ["columns", "fit", "partition", "measure", "layers", "image_mean", "label", "evaluate"]
    once = dict.fromkeys((*one, *SHOWN), 1) | {"thumbnails": 3}
    making = ["import", "columns", "fit", "project", "partition", "measure", "layers", "assign"]
    names = [*making, "image_mean", "vote", "label", "labels", "evaluate", *SHOWN]
    assert [step.name for step in steps] == names
    assert {step.name: len(step.tasks) for step in steps} == dict.fromkeys(names, 3) | once
    assert not any(step.done for step in steps)
    assert not dataset.root.exists()


def test_without_vocabulary_and_labels_there_are_fewer_steps(dataset: Dataset) -> None:
    steps = plan(load(dataset.config, ["label=null", "evaluate=null"]))
    making = ["import", "columns", "fit", "project", "partition", "measure", "layers", "assign"]
    assert [step.name for step in steps] == [
        *making,
        "label",
        "examples",
        "members",
        "map",
        "thumbnails",
        "report",
        "plots",
        "map_points",
        "map_page",
    ]


@pytest.mark.parametrize(
    ("override", "steps"),
    [
        ("resources={workers: 1, batch: 7, prefetch: 1, cpus: 2}", set()),
        ("root=elsewhere", set()),
        ("label.top=3", {"vote", "label", "labels", "report", "plots", "map_page"}),
        ("label.min_confidence=0.2", {"label", "labels", "report", "plots", "map_page"}),
        ("evaluate.names=url", {"evaluate_names", "report"}),
        ("evaluate.baseline_sample=50", {"evaluate", "report"}),
        ("name=other", {"report", "plots", "map_page"}),
        ("report.images=false", {"thumbnails", "report", "plots", "map_page"}),
        ("partition.layers=[2]", {"layers", *AFTER}),
        ("partition.n_clusters=3", {"partition", "measure", "layers", *AFTER}),
        ("partition.eta=0.2", {"partition", "measure", "layers", *AFTER}),
        ("fit.epochs=5", {"fit", "project", "partition", "measure", "layers", *AFTER}),
    ],
)
def test_a_setting_changes_the_fingerprints_of_dependent_steps_only(
    dataset: Dataset, override: str, steps: set[str]
) -> None:
    assert stale(dataset, override) == steps


def test_a_changed_shard_makes_its_results_and_those_of_all_shards_stale(dataset: Dataset) -> None:
    before = keys(dataset)
    os.utime(dataset.folder / "data/img_emb/img_emb_1.npy", (5, 5))
    after = keys(dataset)
    changed = {place for place in after if after[place] != before[place]}
    assert ("import", "00001") in changed
    assert ("import", "00000") not in changed
    assert ("fit", "all") in changed


@pytest.mark.parametrize("name", ["names.txt", "embeddings.npy"])
def test_a_changed_vocabulary_makes_votes_stale(dataset: Dataset, name: str) -> None:
    before = keys(dataset)
    os.utime(dataset.folder / "words" / name, (5, 5))
    after = keys(dataset)
    assert {step for (step, _), key in after.items() if key not in before.values()} == {
        "vote",
        "label",
        "labels",
        "report",
        "plots",
        "map_page",
    }


def test_another_edition_of_a_word_list_makes_its_words_stale(
    pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = keys(pictures, "label.vocabulary=[coco]")
    monkeypatch.setattr(word_lists, "edition", lambda name: "another")
    after = keys(pictures, "label.vocabulary=[coco]")
    changed = {step for (step, _), key in after.items() if key not in before.values()}
    assert changed == {"words", "vote", "label", "labels", "report", "plots", "map_page"}


def test_upstream_of_named_steps(dataset: Dataset) -> None:
    steps = {step.name: step.stage for step in plan(load(dataset.config))}
    assert upstream(["project"], steps) == ["import", "fit", "project"]
    making = ["import", "columns", "fit", "project", "partition", "measure", "layers", "assign"]
    assert upstream(["label"], steps) == [*making, "image_mean", "vote", "label"]
    assert upstream([], steps) == list(steps)
    with pytest.raises(ConfigError, match="there is no step 'projct' in this run; its steps are import, columns, fit"):
        upstream(["projct"], steps)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "import.path=nowhere",
            "import: the folder .*nowhere/img_emb does not exist .*relative paths start from `data`",
        ),
        ("label.vocabulary=[nowhere]", "label.vocabulary: the file .*nowhere/names.txt does not exist"),
        ("import.images=words", "import: the folder .*words has no .tar files"),
    ],
)
def test_missing_inputs_are_named(dataset: Dataset, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(load(dataset.config, [override]))


def test_a_plan_fails_if_no_vectors_can_be_read(dataset: Dataset) -> None:
    for path in (dataset.folder / "data/img_emb").iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(
        ConfigError, match="import.path: none of the 3 files of vectors can be read; the first: .*/img_emb"
    ):
        plan(load(dataset.config))


def test_paths_of_images_and_annotations_are_relative_to_data(pictures: Dataset) -> None:
    (pictures.folder / "of").mkdir()
    for name in ("of/a.jpg", "captions.json"):
        (pictures.folder / name).touch()
    config = load(pictures.config, ["images={format: coco, path: [of], annotations: [captions.json]}"])
    (shard,) = (file.path for file in input_shards(config)["images"].values())
    assert shard.path == f"{pictures.folder}/of"
    assert [path for path, _ in shard.annotations] == [f"{pictures.folder}/captions.json"]
