"""Labels of a run, row for row, against what a reader of its files would work out."""

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from cpp.files.tables import matrix
from cpp.naming import cluster_table
from cpp.naming.vocabulary import Vocabulary
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
    words, vectors = read_words(str(dataset.folder / "words"))
    vocabulary = Vocabulary.of(words, vectors)
    text = vocabulary.vectors.numpy()
    for path in sorted((root / "labels").iterdir()):
        found = pq.read_table(path)
        assert found.schema.equals(cluster_table.LABELS)
        labels = found.to_pandas()
        rows = pd.read_parquet(root / "assignments" / path.name)
        X = matrix(pq.read_table(root / "features" / path.name)["embedding"]).astype(np.float32)
        assert labels["key"].tolist() == rows["key"].tolist()
        mine = clusters.loc[rows["cluster"]]
        assert (
            labels["label"].where(labels["label"].notna(), None).tolist()
            == mine["name"].where(mine["name"].notna(), None).tolist()
        )
        cosine = X @ text.T
        assert labels["word"].tolist() == [vocabulary.words[i] for i in cosine.argmax(1)]
        guess = mine["top"].map(lambda top: top[0]["word"])
        assert labels["agrees"].tolist() == (labels["word"].to_numpy() == guess.to_numpy()).tolist()
        at = [vocabulary.words.index(word) for word in guess]
        lag = cosine.max(1) - cosine[np.arange(len(at)), at]
        expected = cluster_table.confidence(mine["confidence"].to_numpy(), rows["margin"].to_numpy(), lag)
        np.testing.assert_allclose(labels["confidence"], expected, atol=1e-3)
