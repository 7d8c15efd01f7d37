"""The estimate: rows of the inputs, and remaining time and disk from the log, the files of the run and rates."""

import json
import re
from typing import Any

import pytest
from typer.testing import CliRunner

from cpp.store.object_store import open_store
from pipelines.__main__ import app
from pipelines.config.load import load
from pipelines.engine import machine
from pipelines.engine.event_log import StepTotals
from pipelines.engine.plan import Step
from pipelines.estimate import MOST_ROWS, RATES, Remaining, _misfits, count_rows, remain
from pipelines.graph import plan
from tests.support.datasets import Dataset
from tests.support.runs import go

SETTINGS = ["fit={recipe: discriminant}", "resources.workers=2"]


def planned(dataset: Dataset, name: str) -> tuple[Any, Step, Any]:
    """Configuration, step and store of a run over three shards."""
    config = load(dataset.config, SETTINGS)
    (step,) = (step for step in plan(config) if step.name == name)
    return config, step, open_store(config.root)


def test_a_step_over_shards_takes_the_measured_time_shared_by_the_workers(dataset: Dataset) -> None:
    config, step, store = planned(dataset, "project")
    line = remain(config, step, 900_000, None, store)
    assert (line.rows, line.shards, line.source) == (900_000, 3, "measured")
    assert line.seconds == 900_000 / (RATES["project"][0] or 0) / 2
    assert line.bytes == 900_000 * (RATES["project"][1] or 0)


def test_a_step_that_sees_a_sample_takes_the_time_of_the_sample(dataset: Dataset) -> None:
    config = load(dataset.config, [*SETTINGS, "partition.n_clusters=null"])
    step = next(step for step in plan(config) if step.name == "estimate_k")
    line = remain(config, step, 1_000_000, None, open_store(config.root))
    assert (line.rows, line.source) == (MOST_ROWS["estimate_k"], "measured")
    assert line.seconds == MOST_ROWS["estimate_k"] / (RATES["estimate_k"][0] or 0)
    assert remain(config, step, 100, None, open_store(config.root)).rows == 100


@pytest.mark.parametrize("name", ["map_points", "map_page"])
def test_the_map_has_no_more_images_than_the_configuration_allows(dataset: Dataset, name: str) -> None:
    config = load(dataset.config, ["report.map_points=1000"])
    step = next(step for step in plan(config) if step.name == name)
    line = remain(config, step, 10**9, None, open_store(config.root))
    assert line.rows == 1000
    assert line.seconds == 1000 / (RATES[name][0] or 0)


def test_the_log_comes_before_the_measured_rate(dataset: Dataset) -> None:
    config, step, store = planned(dataset, "project")
    line = remain(config, step, 1000, StepTotals(seconds=20.0, rows=500, shards=2), store)
    assert (line.seconds, line.source) == (20.0, "log")  # 25 rows a second on two workers
    without_rows = remain(config, step, 1000, StepTotals(seconds=20.0, rows=0, shards=2), store)
    assert without_rows.seconds == 15.0  # 10 s a shard


def test_a_step_that_runs_once_takes_its_logged_time(dataset: Dataset) -> None:
    config, step, store = planned(dataset, "fit")
    assert remain(config, step, 1000, StepTotals(seconds=20.0, rows=100, shards=1), store).seconds == 20.0
    assert remain(config, step, 1000, None, store).seconds is None


def test_finished_files_give_the_size_of_the_others(dataset: Dataset) -> None:
    go(dataset, *SETTINGS)
    config, step, store = planned(dataset, "project")
    assert remain(config, step, 160, None, store) == Remaining("project", 0, 0, 0.0, 0.0, "done")
    removed = next((dataset.root / "cache/codes").iterdir())
    kept = [path.stat().st_size for path in (dataset.root / "cache/codes").iterdir() if path != removed]
    removed.unlink()
    config, step, store = planned(dataset, "project")
    assert remain(config, step, 160, None, store).bytes == pytest.approx(sum(kept) / 2)


def test_the_command_prints_a_table_and_the_totals_and_writes_nothing(dataset: Dataset) -> None:
    called = CliRunner().invoke(app, ["plan", str(dataset.config), "assign", "--estimate", "--price", "3600"])
    assert called.exit_code == 0, called.output
    rows = {words[0]: words for line in called.output.splitlines() if (words := line.split())}
    assert rows["assign"][-1] == "measured"
    assert rows["fit"][-1] == "unknown"
    assert "about 160 images in 3 shards" in called.output
    assert " at 3600 an hour" in called.output
    assert "not counted, because their time is not known yet: fit, partition" in called.output
    assert "not counted, because the size of their files is not known yet: fit, partition" in called.output
    assert "together < 1 s" in called.output
    assert not dataset.root.exists()


def test_what_does_not_fit_is_named_with_the_key_to_change(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(dataset.config, ["partition.n_clusters=200", "resources.workers=2"])
    monkeypatch.setattr(machine, "free_bytes", lambda folder: 10)
    monkeypatch.setattr(machine, "memory_bytes", lambda: 2_000_000_000)
    lines = [Remaining("features", 160, 3, 1.0, 8e9, "measured"), Remaining("codes", 160, 3, 1.0, 1e9, "measured")]
    stages = [step.stage for step in plan(config)]
    clusters, disk, *others = _misfits(config, 160, lines, stages)
    assert clusters == "partition.n_clusters is 200, but the partition sees 160 rows only: lower it"
    assert "write about 9 GB" in disk
    assert "the step features writes 8 GB" in disk
    assert others[-1] == "2 workers need about 3 GB of memory and this machine has 2 GB: lower resources.workers (2)"


def test_the_memory_of_workers_is_that_of_the_largest_step_that_is_left(
    pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "memory_bytes", lambda: 10 * 10**9)

    def misfits(*overrides: str) -> list[str]:
        config = load(pictures.config, [*overrides, "resources.ray_address=null"])
        stages = [step.stage for step in plan(config)]
        return [line for line in _misfits(config, 160, [], stages) if "of memory" in line]

    assert misfits("resources.workers=5") == []
    fix = "lower resources.workers (5) or resources.image_batch (1000)"
    (message,) = misfits("resources.workers=5", "resources.image_batch=1000")
    assert re.fullmatch(
        rf"5 workers need about 23\.\d GB of memory and this machine has 10 GB: {re.escape(fix)}", message
    )
    (message,) = misfits("resources.workers=2", "resources.gpus=1", "resources.cpu_workers=9")
    assert message.endswith(
        "9 workers need about 13.5 GB of memory and this machine has 10 GB: lower resources.cpu_workers (9)"
    )
    config = load(pictures.config, ["resources.workers=5", "resources.image_batch=1000"])
    others = [step.stage for step in plan(config) if step.name != "encode"]  # which is done
    assert not [line for line in _misfits(config, 160, [], others) if "of memory" in line]


def test_gpu_memory_is_not_estimated(dataset: Dataset) -> None:
    gpus = ["--set", "resources.gpus=1", "--set", "resources.ray_address=auto"]
    called = CliRunner().invoke(app, ["plan", str(dataset.config), "import", "--estimate", *gpus])
    assert "GPU memory is not estimated" in called.output


def test_rows_of_vectors_follow_from_the_sizes_of_their_files(dataset: Dataset) -> None:
    (dataset.folder / "data/img_emb/img_emb_0.npy").write_bytes(b"broken")  # the header is that of the next
    rows = count_rows(load(dataset.config))
    assert (rows.shards, rows.rows) == (3, 100)


def test_images_of_tars_follow_from_their_sizes_and_img2dataset_stats(pictures: Dataset) -> None:
    rows = count_rows(load(pictures.config))
    assert rows.shards == 3
    assert rows.rows == pytest.approx(160, abs=4)
    assert "00000.tar" in rows.source
    for number, n in enumerate((60, 60, 40)):
        stats = pictures.folder / f"data/images/{number:05d}_stats.json"
        stats.write_text(json.dumps({"count": 99, "successes": n}))
    rows = count_rows(load(pictures.config))
    assert rows.rows == 160


def test_files_of_a_folder_are_counted(pictures: Dataset) -> None:
    for i in range(5):
        (pictures.folder / f"loose/{i}.jpg").parent.mkdir(exist_ok=True)
        (pictures.folder / f"loose/{i}.jpg").write_bytes(b"")
    config = load(pictures.config, ["images={format: folder, path: [loose], shard_size: 2}"])
    rows = count_rows(config)
    assert (rows.shards, rows.rows) == (3, 5)
