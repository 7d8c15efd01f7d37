"""The report of an append: how well the new images fit the clusters, and when to fit again."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from cpp.clustering.drift import Profile
from pipelines.engine.stage import Context
from pipelines.stages.artifacts import read_groups, read_tree
from pipelines.stages.drift import Growth
from tests.support.appending import STEPS, append, new_vectors, rows
from tests.support.datasets import Dataset
from tests.support.runs import call


def test_the_report_says_how_well_they_fit(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    label = pq.read_table(new / "metadata")["label"].to_numpy()
    for path, n_bad in ((dataset.folder / "data/img_emb/img_emb_0.npy", 1), (new / "img_emb/img_emb_0.npy", 2)):
        X = np.load(path)
        if n_bad == 2:
            one, other = X[label == 0][-1], X[label == 1][-1]
            X[label == 3], X[5] = one, one + other  # nothing of one kind, and an image between two clusters
            X[6] = -one - other  # which is far from all
        X[:n_bad] = np.nan
        np.save(path, X)
    how = ("--set", "label.min_confidence=1", "--set", "partition={n_clusters: 4, fine: 12, layers: [9]}")
    call("run", dataset.config, *STEPS, "--local", *how)
    append(dataset, new, more=how)
    said = json.loads((dataset.root / "appended/growth.json").read_text())
    assert [said["fitted"][what] for what in ("images", "rejected")] == [119, 1]
    assert [said["appended"][what] for what in ("images", "rejected")] == [38, 2]
    assert said["refit_due"] is False
    by_cluster = pq.read_table(dataset.root / "appended/growth_by_cluster.parquet").to_pylist()
    guesses = pq.read_table(dataset.root / "clusters.parquet", filters=[("main", "=", True)]).to_pylist()
    assert [row["guess"] for row in by_cluster] == [row["guess"] for row in guesses]
    for kind, score, small, root in (
        ("fitted", "fitted_score", "fitted_small_margin", dataset.root),
        ("appended", "score", "small_margin", dataset.root / "appended"),
    ):
        there = np.array(list(rows(root / "assignments").values()))  # cluster, score, margin
        for row in by_cluster:
            own = there[there[:, 0] == row["cluster"]]
            assert row[kind] == len(own)
            assert row[score] == (pytest.approx(own[:, 1].mean()) if len(own) else None)
            assert row[small] == ((own[:, 2] < 0.05).mean() if len(own) else None)
    assert (
        {bool(row["small_margin"]) for row in by_cluster}
        == {row["score"] is None for row in by_cluster}
        == {False, True}
    )
    whole = {kind: [f"{dataset.root}/{kind}.safetensors"] for kind in ("groups", "tree")}
    whole |= {kind: [str(*(dataset.root / "appended" / kind).iterdir())] for kind in ("codes", "assignments")}
    context = Context(whole, 1, "cpu", 8, 8, 1)
    close = there[
        there[:, 1] >= read_groups(context).reach
    ]  # of the appended ones; the others are no measure of clusters
    came = Growth(title="")._appended_moments(context, read_tree(context), Profile.empty(4))
    assert 0 < len(close) < len(there)
    assert came.count_K.tolist() == np.bincount(close[:, 0].astype(int), minlength=4).tolist()
    page = (dataset.root / "appended/report.html").read_text()
    assert "The clusters still fit" in page
    assert "Coloured things" in page
    assert all(row["name"] is None and f"{row['cluster']} {row['guess']}?<" in page for row in by_cluster)


def test_images_unlike_the_fitted_ones_make_a_refit_due(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    call("run", dataset.config, *STEPS, "--local")
    strange = np.random.default_rng(3).standard_normal((40, 16)).astype(np.float16)
    np.save(new / "img_emb/img_emb_0.npy", strange)
    code, said = append(dataset, new)
    assert code == 0
    assert "refit is due: The clusters save" in said
    growth = dataset.root / "appended/growth.json"
    found = json.loads(growth.read_text())
    growth.chmod(0o644)
    growth.write_bytes(growth.read_bytes()[:9])  # cut off: nothing is said of it
    assert "refit" not in (told := call("status", dataset.config, *STEPS))[1]
    assert told[0] == 0
    assert found["bits"]["appended_saved"] < found["bits"]["fitted_saved"]
    assert found["appended"]["low_score"] > 0.5 > found["fitted"]["low_score"]
