"""The command clean: what no configuration refers to goes, once it was listed, and nothing else."""

import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cpp.files import filesystem
from cpp.store.lease import LockedError
from cpp.store.local import Store
from pipelines.commands import clean
from pipelines.config.load import load
from tests.support.appending import append, new_vectors
from tests.support.datasets import Dataset, write_dataset
from tests.support.object_store import ObjectStore
from tests.support.runs import call

OLD = ("--set", "partition.n_clusters=3")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The data set, run with an old setting to its labels, and then whole."""
    dataset = write_dataset(tmp_path_factory.mktemp("made"))
    run(dataset.config, "labels", *OLD)
    run(dataset.config)
    return dataset


@pytest.fixture
def ran(made: Dataset, tmp_path: Path) -> Dataset:
    """The same, in a run folder of its own."""
    root = tmp_path / "run"
    subprocess.run(["cp", "-a", made.root, root], check=True)  # hard links stay such
    here = replace(made, folder=tmp_path, root=root)
    return replace(here, config=other(here, "config.yaml", root=str(root)))


def run(config: Path, *more: str) -> None:
    code, said = call("run", config, *more, "--local")
    assert code == 0, said


def other(dataset: Dataset, name: str, **changes: object) -> Path:
    """The configuration with other sections."""
    path = dataset.folder / name
    path.write_text(yaml.safe_dump({**yaml.safe_load(dataset.config.read_text()), **changes}))
    return path


def cached(root: Path) -> set[str]:
    """All files in the cache but that of the lock."""
    folder = root / "cache"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != "lock"}


def of(product: str, files: set[str]) -> set[str]:
    return {name for name in files if name.startswith(f"{product}/")}


def test_results_of_an_old_setting_are_listed_and_go_with_yes_and_nothing_else(ran: Dataset) -> None:
    before = cached(ran.root)
    code, said = call("clean", ran.config)
    assert code == 0
    assert re.search(rf"{re.escape(str(ran.root))}/cache/labels: 3 results, [\d.]+ kB\n", said)
    assert "cache/features" not in said
    assert "nothing was removed: the same command with --yes" in said
    assert cached(ran.root) == before
    code, said = call("clean", ran.config, "--yes")
    assert code == 0
    assert "are free again" in said
    left = cached(ran.root)
    assert left < before
    for product, n_old, n_left in (("features", 3, 3), ("labels", 6, 3), ("groups", 2, 1), ("plots", 3, 3)):
        assert (len(of(product, before)), len(of(product, left))) == (n_old, n_left), product
    events = (ran.root / "events.jsonl").read_text().count('"event": "shard"')
    assert events > 0
    run(ran.config)
    assert (ran.root / "events.jsonl").read_text().count('"event": "shard"') == events
    assert cached(ran.root) == left
    assert "0 results that no configuration refers to" in call("clean", ran.config, "--yes")[1]


def test_caches_of_words_and_replies_stay_and_are_named(ran: Dataset) -> None:
    for name in ("text", "chat"):
        (ran.root / "cache" / name / "space").mkdir(parents=True)
        (ran.root / "cache" / name / "space" / "a.json").write_bytes(b"x" * 2000)
    said = call("clean", ran.config, "--yes")[1]
    assert f"{ran.root}/cache/text (2 kB) stays: the vectors of words, which later runs use again" in said
    assert f"{ran.root}/cache/chat (2 kB) stays: the replies of the namer" in said
    assert (ran.root / "cache/chat/space/a.json").exists()


def test_what_is_shown_since_it_was_listed_stays(ran: Dataset) -> None:
    lines = clean.clean([load(ran.config)], True)
    assert "results that no configuration refers to" in next(lines)
    run(ran.config, "labels", *OLD)
    old = {path.stat().st_ino for path in (ran.root / "labels").iterdir()}
    assert list(lines)
    assert old == {path.stat().st_ino for path in (ran.root / "cache/labels").iterdir()} & old


def test_what_one_of_several_configurations_refers_to_stays(ran: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cached(ran.root)
    monkeypatch.chdir(ran.folder)
    second = other(ran, "second.yaml", partition={"n_clusters": 3}, root="run")  # the same folder by another name
    assert "0 results that no configuration refers to" in call("clean", ran.config, second, "--yes")[1]
    assert cached(ran.root) == before
    elsewhere = other(ran, "elsewhere.yaml", root=str(ran.folder / "elsewhere"))
    code, said = call("clean", ran.config, elsewhere, "--yes")
    assert code == 2
    assert "clean one folder at a time" in said
    assert cached(ran.root) == before


def test_what_the_last_run_shows_stays_until_another_replaces_it(ran: Dataset) -> None:
    call("clean", ran.config, "--yes")
    before = cached(ran.root)
    said = call("clean", ran.config, "--set", "seed=5", "--yes")[1]
    assert "0 results that no configuration refers to" in said
    assert "more stay until a run replaces them" in said
    assert cached(ran.root) == before


def test_results_of_a_run_that_went_on_without_a_shard_that_failed_stay(dataset: Dataset) -> None:
    broken = dataset.folder / "data/img_emb/img_emb_0.npy"
    whole = broken.read_bytes()
    broken.write_bytes(b"broken")
    assert call("run", dataset.config, "labels", "--local", "--allow-failed")[0] == 1
    before = cached(dataset.root)
    for shown in (dataset.root / "labels").iterdir():
        shown.unlink()
    assert "0 results that no configuration refers to" in call("clean", dataset.config, "--yes")[1]
    assert cached(dataset.root) == before
    broken.write_bytes(whole)
    run(dataset.config, "import")
    assert "cache/labels: 2 results" in call("clean", dataset.config)[1]


def test_products_of_a_step_that_no_configuration_has_go_with_their_names(ran: Dataset) -> None:
    without = other(ran, "without.yaml", label=None, evaluate=None)
    said = call("clean", without, "--yes")[1]
    assert "cache/labels: 6 results" in said
    assert "with their stable names" in said
    left = cached(ran.root)
    for name in ("labels", "votes", "matches", "scores", "confusion"):
        assert not of(name, left), name
    assert not (ran.root / "labels").exists()
    assert not (ran.root / "scores.json").exists()
    assert (ran.root / "clusters.parquet").exists()
    assert len(list((ran.root / "assignments").iterdir())) == 3


def test_folders_go_whole(ran: Dataset) -> None:
    call("clean", ran.config, "--yes")
    before = cached(ran.root)
    old = ran.root / "cache/plots/all-0123456789abcdef"
    old.mkdir()
    (old / "curve.svg").write_bytes(b"x" * 3 * 2**20)
    assert "cache/plots: 1 results, 3.15 MB" in call("clean", ran.config, "--yes")[1]
    assert not old.exists()
    assert cached(ran.root) == before


def test_foreign_files_and_kept_text_stay(ran: Dataset) -> None:
    call("clean", ran.config, "--yes")
    cache = ran.root / "cache"
    for name in (
        "codes/notes.txt",
        "codes/00000-abc.parquet",
        "text/space/words.parquet",
        "mine/a-0123456789abcdef",
        "codes/0-0123456789abcdef_parquet",
    ):
        (cache / name).parent.mkdir(parents=True, exist_ok=True)
        (cache / name).write_text("mine")
    (cache / "codes/gone-0123456789abcdef.parquet").write_text("old")
    before = cached(ran.root)
    said = call("clean", ran.config, "--yes")[1]
    assert "1 results that no configuration refers to" in said
    assert "3 files stay that no step wrote, such as" in said
    assert before - cached(ran.root) == {"codes/gone-0123456789abcdef.parquet"}


def test_a_run_at_work_is_not_disturbed(ran: Dataset) -> None:
    before = cached(ran.root)
    with Store(ran.root).lock():
        for more in ((), ("--yes",)):
            code, said = call("clean", ran.config, *more)
            assert code == 2
            assert f"a run is writing to {ran.root} (process" in said
    lines = clean.clean([load(ran.config)], True)
    next(lines)
    with Store(ran.root).lock(), pytest.raises(LockedError):  # one that starts after the listing
        list(lines)
    assert cached(ran.root) == before


def test_a_folder_that_was_never_run_to_is_not_made(dataset: Dataset) -> None:
    assert call("clean", dataset.config, "--yes")[0] == 0
    assert not dataset.root.exists()


def test_what_was_appended_and_what_it_was_made_from_stays(dataset: Dataset) -> None:
    new = new_vectors(dataset, "new", 2)
    run(dataset.config, "labels")
    assert append(dataset, new)[0] == 0
    here = dataset.root / "appended"
    before = cached(dataset.root), cached(here)
    (here / "cache/codes/append-009-0-0123456789abcdef.parquet").write_text("old")
    with Store(here).lock():
        assert call("clean", dataset.config)[0] == 2
    assert "appended/cache/codes: 1 results" in call("clean", dataset.config, "--yes")[1]
    assert (cached(dataset.root), cached(here)) == before
    (new / "img_emb/img_emb_0.npy").unlink()
    code, said = call("clean", dataset.config, "--yes")
    assert code == 0
    assert f"{here} is left as it is: append 1" in said
    assert (cached(dataset.root), cached(here)) == before


def test_what_was_appended_without_a_shard_that_failed_stays(dataset: Dataset) -> None:
    new_vectors(dataset, "new", 1)
    new = new_vectors(dataset, "new", 2, as_number=1)
    run(dataset.config, "labels")
    (new / "img_emb/img_emb_1.npy").write_bytes(b"broken")
    assert append(dataset, new, more=("--allow-failed",))[0] == 1
    here = dataset.root / "appended"
    for shown in (*(here / "labels").iterdir(), *here.glob("growth*"), here / "report.html"):
        shown.unlink()
    before = cached(here)
    assert of("growth", before)
    call("clean", dataset.config, "--yes")
    assert cached(here) == before


def test_a_bucket_is_cleaned_the_same(ran: Dataset, s3: ObjectStore) -> None:
    fs, start = filesystem.connect("s3://bucket")[0], "bucket/run/cache/"
    files = {path for path in cached(ran.root) if path.startswith(("labels/", "codes/", "head/", "groups/"))}
    for path in files:
        fs.put_file(str(ran.root / "cache" / path), f"{start}{path}")
    call("clean", ran.config, "--yes")
    shown = of("labels", files - cached(ran.root))  # by the bucket
    for path in shown:
        shard = path.removeprefix("labels/")[:5]
        fs.cp_file(f"{start}{path}", f"bucket/run/labels/{shard}.parquet")
    fs.pipe_file(f"{start}plots/all-0123456789abcdef", b'["curve.svg"]')
    fs.pipe_file(f"{start}plots/all-0123456789abcdef.files/curve.svg", b"x" * 2**20)
    code, said = call("clean", ran.config, "--set", "root=s3://bucket/run", "--yes")
    assert code == 0, said
    assert "cache/plots: 1 results, 1.05 MB" in said
    assert "3 more stay" in said
    left = {path.removeprefix(start) for path in fs.find(start) if "/lease/" not in path}
    assert left == files & cached(ran.root) | shown < files
