"""Questions about pairs of clusters, their answers in the run folder, and runs that follow them."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from pipelines.__main__ import app
from tests.support.datasets import Dataset

FINE = ["--set", "partition.fine=12"]


def call(*args: object, typed: str = "") -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(arg) for arg in args], input=typed)
    return result.exit_code, result.output


def clusters(dataset: Dataset) -> pd.Series:
    return pd.concat(map(pd.read_parquet, sorted((dataset.root / "assignments").iterdir()))).set_index("key")["cluster"]


def test_same_joins_two_clusters_and_different_keeps_them_apart(dataset: Dataset) -> None:
    assert call("run", dataset.config, "--local", *FINE)[0] == 0
    assert "Same or different?" in (dataset.root / "report.html").read_text()
    before = clusters(dataset)
    code, said = call("ask", dataset.config, *FINE, typed="x\ns\n\nd\nq\n")
    assert code == 0
    assert "1 of 6: as one cluster, these two would change the coding length by +" in said
    assert said.count("same or different?") == 5  # x is no answer
    path = dataset.root / "answers.yaml"
    assert f"2 new answers, 2 in {path}" in said
    assert f"set partition.answers to {path}, and run again: cpp-at-scale run" in said
    same, different = yaml.safe_load(path.read_text())
    assert (same["same"], different["same"]) == (True, False)
    assert "1 of 4: " in call("ask", dataset.config, *FINE, typed="q\n")[1]  # the other two have an answer
    one, two = (before[keys].unique().tolist() for keys in (same["a"], same["b"]))
    assert [len(one), len(two)] == [1, 1]

    answers = ["--set", f"partition.answers={path}"]
    code, said = call("run", dataset.config, "--local", *FINE, *answers)
    assert code == 0
    assert "layers: 3 clusters after the answers about pairs: 1 same, 1 different" in said
    after = clusters(dataset)
    assert after.nunique() == 3
    assert after[before.isin([*one, *two])].nunique() == 1
    coarse = ["--set", "partition.n_clusters=1"]
    assert call("run", dataset.config, "--local", *FINE, *answers, *coarse)[0] == 0
    assert clusters(dataset)[[*different["a"], *different["b"]]].nunique() == 2

    code, said = call("ask", dataset.config, *FINE, *answers, *coarse, typed="s\n")  # then the input ends
    assert code == 0
    assert "there are no two clusters left to ask about" in said
    assert "0 new answers, 2 in" in said
    assert "to follow them: cpp-at-scale run" in said


def test_before_the_run_is_finished_it_says_what_makes_it(dataset: Dataset) -> None:
    code, said = call("ask", dataset.config)
    assert code == 2
    assert f"cpp-at-scale run {dataset.config}" in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- {same: maybe, a: [x], b: [y]}", "0.same: Input should be a valid boolean, and is 'maybe'"),
        ("- {same: true, a: [1], b: [y]}", "0.a.0: Input should be a valid string, and is 1"),
        ("same: true", "the file: Input should be a valid list"),
        ("- {same: true", "not valid YAML"),
        ("- {same: true, a: [2024-30-12], b: [y]}", "not valid YAML: month must be in 1..12; a text that looks like"),
        (None, "partition.answers"),
    ],
)
def test_a_file_of_answers_that_cannot_be_used_is_an_error(
    dataset: Dataset, tmp_path: Path, text: str | None, message: str
) -> None:
    path = tmp_path / "answers.yaml"
    if text is not None:
        path.write_text(text)
    code, said = call("validate", dataset.config, "--set", f"partition.answers={path}")
    assert code == 2
    assert message in said
    assert str(path) in said


def test_answers_about_unknown_images_have_no_effect(dataset: Dataset) -> None:
    path = dataset.folder / "answers.yaml"
    path.write_text("- {same: true, a: [nothing], b: ['00000']}\n")
    code, said = call("run", dataset.config, "layers", "--local", "--set", f"partition.answers={path}")
    assert code == 0
    assert "links: 1 of 1 answers have no effect: their images are not in this run" in said


def test_answers_that_contradict_each_other_are_named(dataset: Dataset) -> None:
    path = dataset.folder / "answers.yaml"
    path.write_text(
        "- {same: true, a: ['00000'], b: ['00001']}\n- {same: false, a: ['00000'], b: ['00001'], names: [cat, dog]}\n"
    )
    code, output = call("run", dataset.config, "layers", "--local", "--set", f"partition.answers={path}")
    assert code == 1
    assert f"{path}: answer 2 (cat and dog) says that two groups of images are different, and other answers" in output
