"""What a run will take: sums by hand from invented rates, what does not fit, and the command on a small data set."""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cpp.files.tables import Counts
from cpp.store.local import Store
from cpp.store.results import Product
from pipelines.__main__ import app
from pipelines.config.load import Config, load
from pipelines.config.sections import Resources
from pipelines.engine import machine
from pipelines.engine.event_log import Spent
from pipelines.engine.stage import Given, Stage, Work
from pipelines.estimate import calibrate
from pipelines.estimate.calibrate import Size, Taken, sample, smaller
from pipelines.estimate.cost_model import Line, Rates, Todo, duration, lines, misfits, size, total
from tests.support.datasets import Dataset

SAMPLE = Size(rows=100, largest=100, groups=4, words=6, dim=16, codes=8)
FULL = replace(SAMPLE, rows=1000, largest=300)
TAKEN = Taken(opening=1.0, seconds=2.0, bytes=500, peak=1000)
GB = 10**9


@pytest.fixture
def config(dataset: Dataset) -> Config:
    """Two workers."""
    return load(dataset.config, ["fit={recipe: discriminant, max_samples: 500}", "resources.workers=2"])


def line(config: Config, step: str, todo: Todo, full: Size = FULL, **rates: object) -> Line:
    given = {"size": SAMPLE, "config": config, "taken": {step: TAKEN}, "speed": 1e6} | rates
    return lines(config, full, {step: todo}, Rates(**given))[0]  # type: ignore[arg-type]


def test_a_step_over_shards_grows_with_the_rows_that_are_to_do_and_its_memory_with_the_largest(config: Config) -> None:
    found = line(config, "import", Todo(10, 10, True, False))
    assert found.seconds == 1 + 2 * 10 / 2  # ten times the rows on two workers
    assert found.disk == 5000
    assert found.peak == 1000 + 200 * (16 + 8) * 6
    half = line(config, "import", Todo(10, 5, True, False))
    assert (half.rows, half.seconds, half.disk) == (500, 1 + 2 * 5 / 2, 2500)
    last = line(config, "import", Todo(10, 1, True, False))
    assert last.seconds == 1 + 2 * 1  # the second worker has nothing to do


def test_a_step_that_looks_at_a_sample_stops_growing(config: Config) -> None:
    once = Todo(1, 1, False, False)
    a_million, two = (line(config, "map", once, replace(FULL, rows=n)) for n in (10**6, 2 * 10**6))
    assert a_million.seconds == two.seconds == 1 + 2 * 25  # 2,500 points


def test_products_that_grow_faster_than_the_rows_take_the_time_of_the_machine(config: Config) -> None:
    more = (500**2 - 5 * 100**2) * (16 + 8)  # neighbours of 500 rows, in two rounds, on both workers' threads
    assert line(config, "fit", Todo(1, 1, False, True)).seconds == pytest.approx(1 + 2 * 5 + more / 2e6)
    wide = replace(FULL, groups=1004)
    assert line(config, "assign", Todo(10, 10, True, True), wide).seconds == 1 + (2 * 10 + 1000 * 1000 * 8 / 1e6) / 2


def test_what_a_step_grows_by(config: Config, dataset: Dataset) -> None:
    paper = load(dataset.config, ["fit.batch=200"])  # 5 steps to warm up and 4 epochs, of batches as large as there are
    fit = line(paper, "fit", Todo(1, 1, False, True))
    assert fit.seconds == pytest.approx(1 + 2 * ((5 + 4 * 5) * 200**2) / ((5 + 4 * 1) * 100**2))
    search = line(config, "search", Todo(10, 10, True, False))  # every row is compared with those of its group
    assert search.seconds == pytest.approx(1 + (2 * 10 + (1000**2 - 10 * 100**2) / 4 * 8 / 1e6) / 2)
    vote = line(config, "vote", Todo(10, 10, True, True), replace(FULL, words=1006))
    assert vote.peak == 1000 + 4 * 1000 * (16 + config.resources.batch) + 200 * (16 + 8) * 6
    drawn = config.model_copy(update={"partition": config.partition.model_copy(update={"sample": 500})})
    partition = line(drawn, "partition", Todo(1, 1, False, True))
    assert partition.peak == 1000 + 12 * (500 - 100) * (16 + 8) + 8 * (500**2 - 100**2)
    wide = line(config, "measure", Todo(10, 10, True, False), replace(FULL, groups=1004))
    assert wide.peak == 1000 + 8 * 5 * 1000 * 8**2 + 200 * (16 + 8) * 6


def test_what_was_worked_on_goes_by_the_log_and_what_is_done_takes_nothing(config: Config) -> None:
    log = {"import": Spent(20.0, 500, 5)}
    found = line(config, "import", Todo(10, 5, True, False), log=log)
    assert (found.source, found.seconds) == ("log", 1 + 20 / 2)
    alone = line(config, "import", Todo(10, 5, True, False), log=log, taken={})
    assert (alone.seconds, alone.disk, alone.peak) == (10, None, None)
    last, unknown = Todo(10, 1, True, False), {"import": Spent(20.0, 0, 5)}
    assert line(config, "import", last, log=log).seconds == line(config, "import", last, log=unknown).seconds == 1 + 4
    once = line(config, "fit", Todo(1, 1, False, True), log={"fit": Spent(20.0, 100, 1)})
    assert once.seconds == 1 + 20  # as it took the last time
    assert line(config, "import", Todo(10, 0, True, False)).seconds == 0


def test_a_sum_is_not_known_where_a_step_is_not(config: Config) -> None:
    assert line(config, "import", Todo(10, 5, True, False), taken={}).seconds is None
    assert total(iter([1.0, None])) is None
    assert total(iter([1.0, 2.5])) == 3.5


def test_what_does_not_fit_is_said_with_what_to_change(config: Config) -> None:
    fits = Line("encode", 100, 10, True, True, 5.0, "sample", 8 * GB, 5 * GB)
    assert list(misfits(config, FULL, [fits], 9 * GB, 10 * GB)) == []
    (disk,) = misfits(config, FULL, [fits], 7 * GB, 10 * GB)
    assert f"about 8 GB will be written to {config.root} and 7 GB are free" in disk
    assert "by encode: make room, or set root to a larger disk" in disk
    (memory,) = misfits(config, FULL, [fits], 9 * GB, 9 * GB)
    assert "encode needs about 10 GB, 2 workers of 5 GB at a time, and this machine has 9 GB" in memory
    assert memory.endswith("set resources.workers to 1")
    large = replace(fits, step="partition", each=False, shards=1, peak=20 * GB)
    said = list(misfits(config, FULL, [fits, large], 20 * GB, 12 * GB))
    assert said[0].endswith("lower partition.landmarks or partition.sample")
    both = config.model_copy(update={"resources": Resources(workers=1, gpus=1, cpu_workers=2)})
    (memory,) = misfits(both, FULL, [replace(fits, gpu=False)], 9 * GB, 9 * GB)
    assert memory.endswith("set resources.cpu_workers to 1")
    away = config.model_copy(update={"resources": Resources(workers=2, ray_address="host:6379")})
    assert list(misfits(away, FULL, [fits], 9 * GB, 1 * GB)) == []  # its nodes are not this machine
    one = [replace(fits, shards=1), replace(fits, step="import", peak=1 * GB)]  # one works, the other waits
    assert list(misfits(config, FULL, one, 20 * GB, 6 * GB)) == []
    assert len(list(misfits(config, FULL, one, 20 * GB, 5 * GB))) == 1


def test_too_few_rows_for_the_clusters_are_said(config: Config) -> None:
    (said,) = misfits(config, replace(FULL, rows=3), [], GB, GB)
    assert said == "rows: partition.n_clusters is 4 and there are about 3 rows: lower it"
    assert list(misfits(config, replace(FULL, rows=4), [], GB, GB)) == []
    drawn = config.model_copy(update={"partition": config.partition.model_copy(update={"sample": 2})})
    (said,) = misfits(drawn, FULL, [], GB, GB)
    assert said.endswith("partition.sample draws 2 rows: lower it, or raise partition.sample (2)")


def test_a_sample_has_fewer_clusters_and_codes_as_long(config: Config, dataset: Dataset) -> None:
    part = config.partition.model_copy(update={"n_clusters": 1000, "layers": [20]})
    found = smaller(config.model_copy(update={"partition": part}), 200)
    assert (found.partition.n_clusters, found.partition.layers) == (50, [])
    assert found.fit.dim == 2000
    assert smaller(config, 200).partition.n_clusters == 4
    paper = smaller(load(dataset.config), 200).fit
    assert (paper.epochs, paper.warmup_steps) == (1, 2)
    curated = smaller(load(dataset.config, ["curate={size: 1000}"]), 200)
    assert curated.curate is not None
    assert curated.curate.size == 50


@dataclass(frozen=True)
class Imports(Stage):
    """Takes long the first time, as what imports, by a clock of its own."""

    version = 1
    products = (Product("made", ".txt"),)
    each = ()
    whole = ()

    def open(self, given: Given) -> Work:
        def work(files: Mapping[str, str], out: Mapping[str, Path]) -> Counts:
            CLOCK.append(CLOCK[-1] + (5 if len(CLOCK) == 1 else 2))
            out["made"].write_text("made")
            return Counts(1, 1)

        return work


CLOCK = [0]


def test_what_the_first_time_takes_longer_does_not_grow_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "perf_counter", lambda: CLOCK[-1])
    taken, made = calibrate.trial("one", Imports(), Given({}, 1, "cpu", 1, 1, 1), {}, Store(tmp_path))
    assert (taken.opening, taken.seconds, taken.bytes) == (3, 2, 4)
    assert list(made) == ["made"]
    ticks = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(calibrate, "MATRIX", 8)
    assert calibrate._speed(False, 1) == 8**3  # multiply-adds of a product that takes a second


def test_the_machine_is_looked_at(config: Config) -> None:
    assert machine.memory() > 0
    assert machine.free(f"{config.root}/not/there/yet") > 0
    (said,) = machine.lacking(Resources(workers=1, cpus=100_000))
    assert said.startswith("resources: the workers together ask for 100000 CPUs and this machine has ")


@pytest.mark.parametrize(
    ("value", "said"), [(0.2, "< 1 s"), (90, "90 s"), (600, "10 min"), (7500, "2 h 05 min"), (2e5, "2 days 7 h")]
)
def test_times_in_words(value: float, said: str) -> None:
    assert duration(value) == said


def test_bytes_in_words() -> None:
    assert [size(n) for n in (12, 1500, 999_600, 3.2e15)] == ["12 B", "1.5 kB", "1 MB", "3.2e+03 TB"]


def test_the_command_tries_every_step_and_leaves_nothing(pictures: Dataset) -> None:
    called = CliRunner().invoke(app, ["plan", str(pictures.config), "assign", "--estimate", "--price", "3600"])
    assert called.exit_code == 0, called.output
    rows = {words[0]: words for row in called.output.splitlines() if (words := row.split())}
    assert rows["assign"][-1] == "sample"
    assert rows["encode"][2] == "3"
    assert "?" not in called.output.partition("step ")[2]
    assert "calibrated with 60 rows of the first shard, 4 groups and 7 words, on the cpu" in called.output
    assert " at 3600 an hour" in called.output
    assert not pictures.root.exists()


def test_without_calibration_only_the_log_is_known(dataset: Dataset) -> None:
    called = CliRunner().invoke(app, ["plan", str(dataset.config), "import", "--estimate", "--no-calibrate"])
    assert called.exit_code == 0, called.output
    assert "steps without a time have neither been calibrated nor worked on" in called.output
    assert "memory of GPUs" not in called.output


def test_memory_of_gpus_is_said_not_to_be_known(dataset: Dataset) -> None:
    gpus = ["--set", "resources.gpus=1", "--set", "resources.ray_address=auto"]
    called = CliRunner().invoke(app, ["plan", str(dataset.config), "import", "--estimate", "--no-calibrate", *gpus])
    assert "memory of GPUs is not estimated" in called.output


def test_vectors_are_tried_from_the_first_rows_with_their_metadata(dataset: Dataset, tmp_path: Path) -> None:
    files, rows, words = sample(load(dataset.config), tmp_path, most=7)
    assert (rows, words) == (7, 6)
    (file,) = files["vectors"].values()
    first = np.load(dataset.folder / "data/img_emb/img_emb_0.npy")[:7]
    assert np.array_equal(np.load(file.path), first)
    (about,) = files["metadata"].values()
    assert pq.read_table(about.path)["key"].to_pylist() == [f"0{i:04d}" for i in range(7)]
    assert len(calibrate._table(about.path, 0)) == 0


def test_images_are_tried_from_the_first_and_words_of_every_kind_are_counted(
    pictures: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "IMAGES", 7)
    config = load(pictures.config, ["label.vocabulary=[words.txt, words]"])
    files, rows, words = sample(config, tmp_path)
    (file,) = files["images"].values()
    assert len(list(file.path.read(10**6))) == rows == 7
    assert words == calibrate.word_count(config) == 7 + 6
