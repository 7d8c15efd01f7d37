"""Curation in runs: exact sizes, reasons that add up, an order that nothing but data and seed decides, exports."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from cpp.curation.decisions import DropReason
from cpp.export.format import Format
from cpp.export.rows import Filter
from pipelines.commands.export import Summary, go
from pipelines.commands.export_plan import Wanted
from pipelines.config.errors import ConfigError, UsageError
from pipelines.config.load import load
from pipelines.engine.stage import Context, Work
from pipelines.run import AccountingError, Run
from pipelines.stages import curate
from tests.support.datasets import Dataset, write_dataset

CURATE = {"duplicates": None, "outliers": {"threshold": 0.95}, "size": 60}


def curated(dataset: Dataset, **settings: object) -> Run:
    config = yaml.safe_load(dataset.config.read_text())
    config["curate"] = {**CURATE, **settings}
    dataset.config.write_text(yaml.safe_dump(config))
    run = Run(load(dataset.config), ["curation"], local=True)
    assert run.go()
    return run


def worked(run: Run) -> set[str]:
    return {name for name, o in run.outcomes.items() if o.done > o.reused}


def read(dataset: Dataset, product: str) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(p) for p in sorted((dataset.root / product).iterdir())], ignore_index=True)


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A run of 160 images in 4 clusters below 2, of unequal sizes."""
    made = write_dataset(tmp_path_factory.mktemp("once"))
    config = yaml.safe_load(made.config.read_text())
    config |= {"fit": {"recipe": "discriminant"}, "evaluate": None}
    config["partition"] = {"n_clusters": 4, "layers": [2, 8], "fine": 16}
    made.config.write_text(yaml.safe_dump(config))
    curated(made)
    return made


@pytest.fixture
def done(once: Dataset, tmp_path: Path) -> Dataset:
    shutil.copytree(once.root, tmp_path / "run")
    config = yaml.safe_load(once.config.read_text()) | {"root": str(tmp_path / "run")}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    return replace(once, folder=tmp_path, config=tmp_path / "config.yaml", root=tmp_path / "run")


def test_every_image_is_kept_or_dropped_for_one_reason_and_counts_add_up(once: Dataset) -> None:
    keep, drop, all_of = read(once, "keep"), read(once, "drop"), read(once, "assignments")
    assert len(keep) == 60
    assert sorted([*keep["key"], *drop["key"]]) == sorted(all_of["key"])
    said = json.loads((once.root / "curation.json").read_text())
    counts = drop["reason"].value_counts().to_dict()
    assert said["dropped"] == {r.value: counts.get(r.value, 0) for r in DropReason}
    assert (said["images"], said["kept"], said["asked"]) == (160, 60, 60)
    odd = read(once, "outliers").set_index("key")["outlier"]
    assert set(drop[drop["reason"] == DropReason.OUTLIER]["key"]) == set(odd[odd > np.float32(0.95)].index)
    assert counts[DropReason.OUTLIER] > 0
    for path in (once.root / "keep").iterdir():
        table, source = pd.read_parquet(path), pd.read_parquet(once.root / "assignments" / path.name)
        assert table["key"].tolist() == source["key"].iloc[table["row"]].tolist()


def test_shares_go_down_the_layers_and_of_a_cluster_the_surest_are_taken(once: Dataset) -> None:
    rows = read(once, "assignments").assign(sure=read(once, "labels")["confidence"])
    rows["kept"] = rows["key"].isin(read(once, "keep")["key"])
    rows["stays"] = read(once, "outliers")["outlier"] <= np.float32(0.95)
    finest = rows[rows["stays"]].groupby("cluster_8").agg(stays=("kept", "size"), kept=("kept", "sum"))
    assert finest["kept"].sum() == 60
    assert (finest["kept"] >= np.minimum(finest["stays"], 60 // 8)).all()
    for _, cluster in rows[rows["stays"]].groupby("cluster_8"):
        taken, left = cluster[cluster["kept"]], cluster[~cluster["kept"]]
        if len(taken) and len(left):
            assert taken["sure"].min() >= left["sure"].max()


@pytest.mark.parametrize("by", ["confidence", "random", "diversity"])
def test_smaller_subsets_are_parts_of_larger_ones_whatever_the_order(done: Dataset, by: str) -> None:
    before: set[str] = set()
    for size in (20, 60, 500):
        curated(done, by=by, size=size)
        kept = set(read(done, "keep")["key"])
        assert len(kept) == min(size, 160 - (read(done, "outliers")["outlier"] > np.float32(0.95)).sum())
        assert before <= kept
        before = kept


def test_shards_in_another_order_change_nothing(done: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    original = curate.Balance.open

    def turned(self: curate.Balance, context: Context) -> Work:
        return original(self, replace(context, whole={kind: [*paths][::-1] for kind, paths in context.whole.items()}))

    for by in ("confidence", "random", "diversity"):
        curated(done, by=by)
        kept = set(read(done, "keep")["key"])
        with monkeypatch.context() as patch:
            patch.setattr(curate.Balance, "open", turned)
            patch.setattr(curate.Balance, "version", 99)
            curated(done, by=by)
        assert set(read(done, "keep")["key"]) == kept, by


def test_diversity_in_parts_is_the_same_and_it_sees_so_many(done: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curate, "HELD", 16)
    curated(done, by="diversity")
    kept = set(read(done, "keep")["key"])
    monkeypatch.setattr(curate, "HELD", 1 << 18)
    monkeypatch.setattr(curate.Balance, "version", 99)
    curated(done, by="diversity")
    assert set(read(done, "keep")["key"]) == kept  # in one part or in many
    monkeypatch.setattr(curate, "CANDIDATES", 2)
    monkeypatch.setattr(curate.Balance, "version", 98)
    curated(done, by="diversity")
    assert len(read(done, "keep")) == 60


def test_curate_reruns_alone(done: Dataset) -> None:
    assert worked(curated(done)) == set()
    assert worked(curated(done, size=70)) == {"balance", "curate", "curation"}
    assert "asks for" not in (page := (done.root / "balance_page.html").read_text())
    assert "70 of 160 images are kept" in " ".join(page.split())
    assert worked(curated(done, outliers={"threshold": 0.9})) == {"balance", "curate", "curation"}
    changed = worked(curated(done, outliers={"threshold": 0.9, "neighbours": 3}))
    assert changed == {"oddities", "scales", "outliers", "balance", "curate", "curation"}
    assert worked(curated(done, size=None, outliers=None)) == {"curate", "curation"}
    assert len(read(done, "keep")) == 160


def test_rows_that_go_missing_from_the_lists_are_an_error(done: Dataset) -> None:
    path = next((done.root / "cache/drop").iterdir())
    table = pq.read_table(path)
    path.chmod(0o644)
    pq.write_table(table.slice(1).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(AccountingError, match="curate, shard 0000"):
        Run(load(done.config), ["curation"], local=True).go()


def test_a_column_of_similarities_is_a_part_of_the_score(done: Dataset) -> None:
    curated(done, similarity="label")
    found = read(done, "outliers")
    labels = read(done, "assignments")["label"]
    assert found.groupby(labels)["caption"].mean().is_monotonic_decreasing  # the less it fits, the odder
    with pytest.raises(ConfigError, match="curate.similarity is 'none_such', and no image has"):
        Run(load(done.config, ["curate.similarity=none_such"]))
    run = Run(load(done.config, ["curate.similarity=url"]), ["outliers"], local=True)
    assert not run.go()
    assert "'url' holds string, not numbers" in str(run.outcomes["caption_match"].failed[0].error)


def export(dataset: Dataset, format: str, **more: object) -> Summary:
    wanted = Wanted(Format(format), str(dataset.folder / "out"), None, Filter(**more), curated=True)  # type: ignore[arg-type]
    return go(load(dataset.config), wanted, local=True)


def test_an_export_has_what_is_kept_and_counts_what_is_not(done: Dataset) -> None:
    summary = export(done, "parquet")
    keep, drop = read(done, "keep"), read(done, "drop")
    assert pd.read_parquet(done.folder / "out/images.parquet")["key"].tolist() == keep["key"].tolist()
    counts = drop["reason"].value_counts()
    assert summary.left_out == {f"dropped by curation: {reason}": n for reason, n in counts.items()}
    assert summary.images + sum(summary.left_out.values()) == 160


def test_an_export_of_tars_takes_the_surest_of_what_is_kept(done: Dataset) -> None:
    summary = export(done, "webdataset", per_cluster=3)
    keys = pd.read_parquet(done.folder / "out/images.parquet")["key"]
    assert summary.images == len(keys) == 12
    assert set(keys) <= set(read(done, "keep")["key"])
    curated(done, size=8)
    assert export(done, "webdataset", per_cluster=3).images == 8


def test_an_export_of_a_run_that_curates_nothing_says_so(done: Dataset) -> None:
    config = yaml.safe_load(done.config.read_text())
    del config["curate"]
    done.config.write_text(yaml.safe_dump(config))
    with pytest.raises(UsageError, match="--curated: this run curates nothing: add `curate:` to its configuration"):
        export(done, "csv")
