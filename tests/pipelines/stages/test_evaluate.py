"""Scores of names in a run: the column of true names, the file of accepted ones, and errors that say what to change."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.graph import plan
from tests.support.datasets import Dataset
from tests.support.runs import computed, go

QUICK = ["fit={recipe: discriminant}", "evaluate.names=kind"]
KINDS = ["red thing", "green thing", "machine", "yellow thing"]  # the word of the third is "blue thing"


@pytest.fixture
def named(dataset: Dataset) -> Dataset:
    """The data set with a column of true names, one of which the words lack."""
    for path in (dataset.folder / "data/metadata").iterdir():
        table = pq.read_table(path)
        pq.write_table(table.append_column("kind", pa.array(KINDS).take(table["label"])), path)
    return dataset


def accept(dataset: Dataset, lists: object) -> str:
    (dataset.folder / "accepted.json").write_text(json.dumps(lists))
    return "evaluate.accepted=accepted.json"


def scores(root: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "name_scores.json").read_text())
    return content


def test_accepted_names_change_what_is_right_and_nothing_else(named: Dataset) -> None:
    go(named, *QUICK)
    before = scores(named.root)
    assert (before["names"], before["classes"], before["classes_with_accepted_names"]) == ("kind", 4, 0)
    assert [row["names"] for row in before["clusters"]] == [
        "all words",
        "without the true names",
    ]
    assert before["clusters"][0]["right_guess"] == pytest.approx(0.75)
    assert before["clusters"][0]["sacc"] == pytest.approx(0.75)
    assert before["labels"]["right_of_labelled"] == pytest.approx(0.75)
    again = go(named, *QUICK, accept(named, {"Machines": ["Blue things"], "red thing": []}))
    assert computed(again) == {"evaluate_names": 1, "report": 1}
    after = scores(named.root)
    assert (after["classes"], after["classes_with_accepted_names"]) == (4, 2)
    assert after["clusters"][0]["right_guess"] == after["labels"]["right_of_labelled"] == 1
    assert after["clusters"][0]["rules"] == pytest.approx(
        {"synonym": 0.75, "accepted": 0.25, "general": 0, "special": 0}
    )
    assert after["clusters"][0]["sacc"] == pytest.approx(0.75)
    assert "2 of 4 classes have a list" in (named.root / "report.html").read_text()


def test_a_list_for_a_class_without_images_fails_with_the_file_and_the_fix(named: Dataset) -> None:
    run = go(named, *QUICK, accept(named, {"blue thing": ["machine"]}))
    message = str(run.outcomes["evaluate_names"].failed[0].error)
    assert f"evaluate.accepted: {named.folder}/accepted.json, with evaluate.names 'kind': no image has" in message
    assert "the class 'blue thing': correct or remove it; the classes are green thing, machine, " in message


def test_the_log_names_the_slow_comparison_and_what_makes_it_shorter(
    named: Dataset, capfd: pytest.CaptureFixture[str]
) -> None:
    go(named, *QUICK, "evaluate.baseline_sample=20")
    line = "for comparison k-means runs ten times on 20 rows, slow with many clusters; evaluate.baseline_sample"
    assert line in capfd.readouterr().out


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("evaluate.accepted=gone.json", "evaluate.accepted: the file .*/gone.json does not exist .*relative paths"),
        ("evaluate.accepted=config.yaml", "evaluate.accepted: .*/config.yaml is not JSON"),
        ("evaluate={label: label, accepted: a.json}", "accepted is 'a.json' and evaluate.names is null.*: set"),
    ],
)
def test_a_bad_file_is_an_error_before_the_run(named: Dataset, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(load(named.config, [QUICK[1], override]))
