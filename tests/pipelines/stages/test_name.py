"""Labels of a run, row for row, against what a reader of its files would work out."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch

from cpp import CPP
from cpp.files.tables import matrix
from cpp.naming import cluster_table
from cpp.naming.vocabulary import Vocabulary
from cpp.naming.votes import similarities
from cpp.sources.vectors import read_words
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset


def test_examples_of_every_layer_are_its_members_of_highest_score(dataset: Dataset) -> None:
    assert Run(load(dataset.config, ["partition.layers=[2]"]), ["label"], local=True).go()
    rows = pd.concat(map(pd.read_parquet, sorted((dataset.root / "assignments").iterdir())))
    clusters = pd.read_parquet(dataset.root / "clusters.parquet")
    assert set(clusters["layer"]) == {2, 4}
    for cluster in clusters.itertuples():
        members = rows[rows["cluster" if cluster.main else f"cluster_{cluster.layer}"] == cluster.cluster]
        best = members.sort_values("score", ascending=False, kind="stable")["score"].iloc[: cluster_table.EXAMPLES]
        found = members.set_index("key").loc[list(cluster.examples), "score"]
        assert found.tolist() == best.tolist()


def test_labels_say_the_cluster_s_name_the_own_best_word_and_how_sure(dataset: Dataset) -> None:
    assert Run(load(dataset.config, ["label.min_confidence=0.3"]), local=True).go()
    root = dataset.root
    clusters = pd.read_parquet(root / "clusters.parquet").query("main").set_index("cluster")
    vocabulary = Vocabulary.of(*read_words(str(dataset.folder / "words")))
    paths = sorted((root / "labels").iterdir())
    features = {path.name: pq.read_table(root / "features" / path.name)["embedding"] for path in paths}
    X = {name: torch.from_numpy(matrix(column).astype(np.float32)) for name, column in features.items()}
    centre = torch.cat([*X.values()]).mean(0)
    for path in paths:
        table = pq.read_table(path)
        assert table.schema.equals(cluster_table.LABELS)
        labels, rows = table.to_pandas(), pd.read_parquet(root / "assignments" / path.name)
        assert labels["key"].tolist() == rows["key"].tolist()
        cluster = clusters.loc[rows["cluster"]]
        names = cluster["name"].where(cluster["name"].notna(), None).tolist()
        assert labels["label"].where(labels["label"].notna(), None).tolist() == names
        best = similarities(X[path.name], vocabulary, centre).argmax(1)
        assert labels["word"].tolist() == [vocabulary.words[i] for i in best]
        agrees = labels["word"].to_numpy() == cluster["guess"].to_numpy()
        assert labels["agrees"].tolist() == agrees.tolist()
        expected = cluster_table.confidence(cluster["confidence"].to_numpy(), agrees)
        np.testing.assert_allclose(labels["confidence"], expected, atol=1e-6)


def test_the_estimator_gives_the_answers_of_a_run_on_the_same_rows(dataset: Dataset) -> None:
    assert Run(load(dataset.config), ["label"], local=True).go()
    features = [pq.read_table(path)["embedding"] for path in sorted((dataset.root / "features").iterdir())]
    X = np.concatenate([matrix(column) for column in features]).astype(np.float32)
    answers = CPP(4, random_state=0).fit(X).name(*read_words(str(dataset.folder / "words")), X)
    clusters = pd.read_parquet(dataset.root / "clusters.parquet").query("main").sort_values("guess")
    answers.sort(key=lambda name: str(name.guess))
    for column in ("status", "name", "guess", "runner_up"):
        assert clusters[column].tolist() == [getattr(name, column) for name in answers]
    for column in ("confidence", "guess_confidence", "share", "margin", "agree"):
        np.testing.assert_allclose(clusters[column], [getattr(name, column) for name in answers], atol=1e-3)
