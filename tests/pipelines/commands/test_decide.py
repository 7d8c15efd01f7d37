"""Decisions about clusters: applied to a finished run, refused as a whole, and undone."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from cpp.curation.decisions import DropReason
from pipelines.__main__ import app
from tests.support.appending import new_vectors
from tests.support.datasets import Dataset
from tests.support.deciding import main_clusters, refer, write

PRODUCTS = ("clusters.parquet", "report.html", "tree.safetensors", "groups.safetensors", "moments.safetensors")


def call(*args: object) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "300"}).invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.output


def images(dataset: Dataset, kind: str = "assignments") -> pd.DataFrame:
    return pd.concat(map(pd.read_parquet, sorted((dataset.root / kind).iterdir()))).set_index("key")


def products(dataset: Dataset) -> dict[str, bytes]:
    """The bytes of the products that a person opens, by their stable names."""
    paths = [dataset.root / name for name in PRODUCTS]
    paths += [path for kind in ("assignments", "labels") for path in (dataset.root / kind).iterdir()]
    return {str(path.relative_to(dataset.root)): path.read_bytes() for path in paths}


@pytest.fixture
def finished(dataset: Dataset) -> Dataset:
    assert call("run", dataset.config, "--local")[0] == 0
    return dataset


def test_decisions_reach_every_table_and_undo_restores_the_bytes(finished: Dataset) -> None:
    before, assigned, names = products(finished), images(finished), main_clusters(finished)["name"]
    stranger = assigned.index[assigned["cluster"] == 0][0]
    path = write(
        finished,
        "anna.yaml",
        {"action": "rename", "clusters": [refer(finished, 0)], "name": "fire engine", "by": "anna"},
        {"action": "merge", "clusters": [refer(finished, 1), refer(finished, 2)], "reason": "both are plants"},
        {"action": "split", "clusters": [refer(finished, 0)]},
        {"action": "drop", "clusters": [refer(finished, 3)], "reason": "screenshots"},
        {"action": "tag", "clusters": [refer(finished, 1)], "tag": "look again"},
        {"action": "not_member", "clusters": [refer(finished, 0)], "images": [stranger]},
    )
    code, output = call("decide", finished.config, path, "--local")
    assert code == 0, output
    assert "rename 0" in output
    assert "named 'fire engine'" in output
    clusters, after = main_clusters(finished), images(finished)
    assert len(clusters) == 4  # one less by the merge, one more by the split
    assert after.loc[assigned["cluster"].isin([1, 2]), "cluster"].eq(1).all()
    assert after.loc[assigned["cluster"] == 3, "cluster"].eq(3).all()
    assert set(after.loc[assigned["cluster"] == 0, "cluster"]) == {0, 2}
    assert clusters["size"].to_dict() == after["cluster"].value_counts().sort_index().to_dict()
    engine = clusters.index[clusters["name"] == "fire engine"].item()
    assert engine in (0, 2)
    assert clusters.loc[engine, ["status", "title", "confidence"]].tolist() == ["decided", "fire engine", 1.0]
    assert clusters.loc[3, "dropped"] == "screenshots"
    assert clusters.loc[1, "tags"].tolist() == ["look again"]
    excluded = after["excluded"].notna()
    assert excluded[after["cluster"] == 3].all()
    assert excluded[excluded & (after["cluster"] != 3)].index.isin([stranger]).all()
    labels = images(finished, "labels")
    assert labels["label"][excluded].isna().all()
    assert (labels["label"][after["cluster"] == engine].dropna() == "fire engine").all()
    record = pd.read_parquet(finished.root / "decisions.parquet")
    assert record["action"].tolist() == ["rename", "merge", "split", "drop", "tag", "not_member"]
    assert record["reason"][1] == "both are plants"

    code, output = call("export", finished.root, "--format", "csv")
    assert code == 0, output
    exported = pd.read_csv(finished.root / "export/csv/images.csv", dtype={"key": str})
    assert set(exported["key"]) == set(after.index[~excluded])
    assert "fire engine" in set(exported["class_name"])

    code, output = call("decide", finished.config, "--undo", "--local")
    assert code == 0, output
    assert products(finished) == before
    assert main_clusters(finished)["name"].tolist() == names.tolist()
    assert not (finished.root / "decisions.parquet").exists()
    assert not (finished.root / "decisions.yaml").exists()


def test_a_copy_of_an_image_that_does_not_belong_is_kept_in_its_place(finished: Dataset) -> None:
    """The image that is kept of four copies is excluded: one of the others is kept."""
    path = finished.folder / "data/img_emb/img_emb_0.npy"
    X = np.load(path)
    X[[1, 2, 3]] = X[0]
    np.save(path, X)
    curate = ("--local", "--set", "curate={duplicates: {threshold: 0.9999, pictures: false}}")
    assert call("run", finished.config, *curate)[0] == 0
    copies = images(finished)[:4].index
    kept = images(finished, "keep")
    (first,) = copies.intersection(kept.index)
    cluster = int(images(finished)["cluster"][first])
    stranger = {"action": "not_member", "clusters": [refer(finished, cluster)], "images": [first]}
    code, output = call("decide", finished.config, write(finished, "a.yaml", stranger), *curate)
    assert code == 0, output
    (second,) = copies.intersection(images(finished, "keep").index)
    assert second != first
    reasons = images(finished, "drop")["reason"][copies.drop(second)]
    assert reasons.value_counts().to_dict() == {DropReason.DUPLICATE.value: 2, DropReason.DECISION.value: 1}


def test_a_later_run_follows_recorded_decisions_and_a_later_file_may_overrule_them(finished: Dataset) -> None:
    first = write(finished, "a.yaml", {"action": "rename", "clusters": [refer(finished, 0)], "name": "engine"})
    assert call("decide", finished.root, first, "--local")[0] == 0
    assert call("run", finished.config, "--local")[0] == 0
    assert main_clusters(finished)["name"][0] == "engine"
    recorded = (finished.root / "decisions.yaml").read_bytes()
    second = write(finished, "b.yaml", {"action": "rename", "clusters": [refer(finished, 0)], "name": "lorry"})
    code, output = call("decide", finished.root, second, "--local")
    assert code == 0, output
    assert main_clusters(finished)["name"][0] == "lorry"
    record = pd.read_parquet(finished.root / "decisions.parquet")
    assert record["effect"].tolist()[0] == "replaced by decision 1 of b.yaml"
    assert call("decide", finished.root, "--undo", "--local")[0] == 0
    assert (finished.root / "decisions.yaml").read_bytes() == recorded


def test_files_that_contradict_each_other_are_refused_as_a_whole(finished: Dataset) -> None:
    before = products(finished)
    a = write(
        finished,
        "a.yaml",
        {"action": "rename", "clusters": [refer(finished, 0)], "name": "engine"},
        {"action": "drop", "clusters": [refer(finished, 1)]},
    )
    b = write(
        finished,
        "b.yaml",
        {"action": "rename", "clusters": [refer(finished, 0)], "name": "lorry"},
        {"action": "merge", "clusters": [refer(finished, 1), refer(finished, 2)]},
    )
    code, output = call("decide", finished.config, a, b, "--local")
    assert code == 2
    assert "two names, 'engine' in a.yaml, decision 1 (rename), 'lorry' in b.yaml, decision 1 (rename)" in output
    assert "a.yaml, decision 2 (drop) and b.yaml, decision 2 (merge)" in output
    assert products(finished) == before
    assert not (finished.root / "decisions.yaml").exists()


def test_a_cluster_that_is_not_in_the_run_is_refused_by_name(finished: Dataset) -> None:
    cluster = {"cluster": 7, "members": ["00000", "00001", "00002", "00003", "nowhere"], "title": "leopard"}
    path = write(finished, "old.yaml", {"action": "drop", "clusters": [cluster]}, state="0" * 16)
    code, output = call("decide", finished.config, path, "--local")
    assert code == 2
    assert "old.yaml, decision 1 (drop): cluster 7 (leopard) is not a cluster of this run" in output
    assert not (finished.root / "decisions.yaml").exists()


def test_decisions_are_found_by_their_images_in_another_state(finished: Dataset) -> None:
    """The numbers are wrong on purpose: only the keys count."""
    row = refer(finished, 2) | {"cluster": 40}
    path = write(finished, "old.yaml", {"action": "drop", "clusters": [row]}, state="0" * 16)
    assert call("run", finished.config, "--local", "--set", f"decisions={path}")[0] == 0
    assert main_clusters(finished)["dropped"].notna().to_dict() == {0: False, 1: False, 2: True, 3: False}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("decisions: []", "decisions: List should have at least 1 item"),
        ("decisions: [{action: cut, clusters: [{cluster: 1, members: [a]}]}]", "decision 1: action: Input should be"),
        (
            "decisions: [{action: rename, clusters: [{cluster: 1, members: [a]}]}]",
            "decision 1: rename needs the key `name`",
        ),
        ("decisions: [{action: merge, clusters: [{cluster: 1, members: [a]}]}]", "decision 1: merge needs two or more"),
        (
            "decisions: [{action: drop, clusters: [{cluster: 1, members: [7]}]}]",
            "and is 7: put the text in quotation marks",
        ),
        ("decisions: [{action: drop", "not valid YAML"),
        (None, "decisions: "),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error(dataset: Dataset, text: str | None, message: str) -> None:
    path = dataset.folder / "decisions.yaml"
    if text is not None:
        path.write_text(text)
    code, output = call("validate", dataset.config, "--set", f"decisions={path}")
    assert code == 2
    assert message in output
    assert str(path) in output


def test_appended_images_follow_the_decisions(dataset: Dataset) -> None:
    folder = new_vectors(dataset, "more", 2)
    assert call("run", dataset.config, "--local")[0] == 0
    dropped = write(dataset, "a.yaml", {"action": "drop", "clusters": [refer(dataset, 0)]})
    assert call("decide", dataset.config, dropped, "--local")[0] == 0
    code, output = call("append", dataset.config, "--shards", folder, "--images", folder / "images", "--local")
    assert code == 0, output
    later = pd.concat(map(pd.read_parquet, sorted((dataset.root / "appended/assignments").iterdir())))
    assert later["excluded"].notna().equals(later["cluster"] == 0)
    assert 0 < later["excluded"].notna().sum() < len(later)
