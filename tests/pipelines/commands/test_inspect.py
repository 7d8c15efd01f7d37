"""Looking into a finished run from the command line: the table of names, and what is nearest to a sentence."""

import pandas as pd
from typer.testing import CliRunner

from pipelines.__main__ import app
from tests.support.datasets import WORDS, Dataset


def call(*args: object) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.output


def test_before_the_run_is_finished_both_say_what_makes_it(dataset: Dataset) -> None:
    for command in (["names", dataset.config], ["search", dataset.config, WORDS[0]]):
        code, said = call(*command)
        assert code == 2
        assert f"cpp-at-scale run {dataset.config}" in said


def test_names_and_search_of_a_run_with_vectors_only(dataset: Dataset) -> None:
    assert call("run", dataset.config, "--local", "--set", "partition.layers=[2]")[0] == 0
    again = ["--set", "partition.layers=[2]"]
    clusters = pd.read_parquet(dataset.root / "clusters.parquet")
    code, said = call("names", dataset.config, *again)
    assert code == 0
    main = clusters[clusters["main"]]
    for row in main.itertuples():
        assert row.top[0]["word"] in said
        assert row.examples[0] in said
    assert len(call("names", dataset.config, "--layer", 2, *again)[1].splitlines()) == 1 + 2
    code, said = call("names", dataset.config, "--layer", 9, *again)
    assert code == 2
    assert "--layer is 9; the layers of this run have 2, 4 clusters" in said

    code, said = call("search", dataset.config, WORDS[2].upper(), "-n", 3, *again)
    assert code == 0
    assignments = pd.concat(map(pd.read_parquet, sorted((dataset.root / "assignments").iterdir())))
    cluster = main.set_index("cluster")["top"].map(lambda top: top[0]["word"])
    nearest, images = said.split(" image ")
    assert nearest.splitlines()[1].split()[0] == str(cluster[cluster == WORDS[2]].index[0])
    found = [line.split() for line in images.splitlines()[1:]]
    assert len(found) == 3
    for key, cosine, number, *_ in found:
        assert float(cosine) > 0.9
        assert assignments.set_index("key").loc[key, "cluster"] == int(number)
    code, said = call("search", dataset.config, "no such word", *again)
    assert code == 2
    assert "this run has no text tower, and 'no such word' is none of the 6 words" in said


def test_search_by_the_text_tower(pictures: Dataset) -> None:
    assert call("run", pictures.config, "--local")[0] == 0
    code, said = call("search", pictures.config, "a sentence that is no word", "-n", 2)
    assert code == 0
    assert len(said.splitlines()) == 2 * 3


def test_search_without_words_says_so(dataset: Dataset) -> None:
    code, said = call("search", dataset.config, "cat", "--set", "label=null")
    assert code == 2
    assert "it needs `label:` in its configuration" in said
