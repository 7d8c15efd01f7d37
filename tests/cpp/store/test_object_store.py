"""The run folder on object stores: S3 over HTTP, and fsspec's memory as a second one."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from cpp.files import filesystem, scratch
from cpp.store.bucket_folder import BucketObjects
from cpp.store.local import Store
from cpp.store.object_store import open_store
from cpp.store.results import WHOLE
from pipelines.engine.executor import open_stage
from pipelines.engine.stage import Context
from pipelines.stages.drift import Fitted
from tests.support.object_store import ObjectStore
from tests.support.stores import CODES, PLOTS, SIDE, contents, make


def test_files_appear_together_and_nothing_is_left_behind(store: Store) -> None:
    targets = {p.name: store.path(p, "0", "k") for p in (CODES, SIDE)}
    before = set(scratch.folder().iterdir())  # of tests before it, on which of two processes they may have been
    with store.commit(targets) as out:
        for path in out.values():
            path.write_text("x")
        assert contents(store) == {}
    assert set(store.listing(CODES)) == set(store.listing(SIDE)) == {"0-k.txt"}
    with contextlib.suppress(KeyError), store.commit(targets) as out:
        out["codes"].write_text("half")
        raise KeyError
    assert contents(store) == {"cache/codes/0-k.txt": "x", "cache/side/0-k.txt": "x"}
    assert set(scratch.folder().iterdir()) == before


def test_stable_names_show_exactly_what_is_published(store: Store) -> None:
    old = {shard: make(store, CODES, shard, "old", f"old {shard}") for shard in ("0", "1")}
    store.publish(CODES, old.items())
    assert contents(store, "codes") == {"codes/0.txt": "old 0", "codes/1.txt": "old 1"}
    store.publish(CODES, {"1": make(store, CODES, "1", "new", "new 1")}.items())  # of equal size
    assert contents(store, "codes") == {"codes/1.txt": "new 1"}
    store.publish(SIDE, {WHOLE: make(store, SIDE, WHOLE, "k", "one")}.items())
    assert contents(store, "side.txt") == {"side.txt": "one"}
    store.publish(SIDE, ())
    assert "side.txt" not in contents(store)


def test_a_file_of_ones_own_beside_the_stable_names_stays(store: Store) -> None:
    mine = ("codes/mine.txt", "codes/notes.md", "plots/mine.svg", "side.txt")
    for name in mine:
        filesystem.connect(store.address)[0].pipe_file(f"{store.address}/{name}", b"mine")
    target = store.path(PLOTS, WHOLE, "k")
    with store.commit({"plots": target}) as out:
        out["plots"].mkdir()
        (out["plots"] / "a.svg").write_text("a")
    store.publish(PLOTS, {WHOLE: target}.items())
    store.publish(CODES, {"0": make(store, CODES, "0", "k", "x")}.items())
    shown = {name: text for name, text in contents(store).items() if not name.startswith("cache/")}
    assert shown == {**dict.fromkeys(mine, "mine"), "plots/a.svg": "a", "codes/0.txt": "x"}
    for product in (PLOTS, CODES, SIDE):
        store.publish(product, ())
    shown = {name: text for name, text in contents(store).items() if not name.startswith("cache/")}
    assert shown == dict.fromkeys(mine, "mine")


def test_a_folder_is_done_when_all_its_files_are_uploaded(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    target = store.path(PLOTS, WHOLE, "k")

    def write() -> None:
        with store.commit({"plots": target}) as out:
            (out["plots"] / "in").mkdir(parents=True)
            (out["plots"] / "a.svg").write_text("a")
            (out["plots"] / "in/b.svg").write_text("b")

    def away(*args: object) -> None:
        raise OSError("the network is down")

    for request in ("put", "write"):
        with monkeypatch.context() as patch:
            patch.setattr(BucketObjects, request, away)
            with pytest.raises(ConnectionError, match="bucket/run did not answer"):
                write()
        assert set(store.listing(PLOTS)) == set()
    write()
    assert set(store.listing(PLOTS)) == {"all-k"}
    store.publish(PLOTS, {WHOLE: target}.items())
    assert contents(store, "plots") == {"plots/a.svg": "a", "plots/in/b.svg": "b"}
    store.publish(PLOTS, ())
    assert contents(store, "plots") == {}


def test_an_up_to_date_stable_name_is_not_copied_again(s3: ObjectStore) -> None:
    store = open_store("s3://bucket/run")
    paths = {str(shard): make(store, CODES, str(shard), "k", f"text {shard}") for shard in range(4)}
    target = store.path(PLOTS, WHOLE, "k")
    with store.commit({"plots": target}) as out:
        out["plots"].mkdir()
        (out["plots"] / "a.svg").write_text("a")
    for times in range(3):
        s3.requests.clear()
        store.publish(CODES, paths.items())
        store.publish(PLOTS, {WHOLE: target}.items())
        assert s3.counts()["PUT"] == (5 if times == 0 else 0)
    assert len(s3.requests) < 10  # listings, however many shards there are


def test_results_of_steps_are_local_during_the_block(store: Store) -> None:
    path = make(store, CODES, "0", "k", "text")
    with store.local_files({"codes": path, "images": "s3://elsewhere/a.tar", "named": 3}) as files:
        assert Path(files["codes"]).read_text() == "text"
        assert (files["images"], files["named"]) == ("s3://elsewhere/a.tar", 3)
    assert not Path(files["codes"]).exists()
    kept = scratch.cached_copy(path)
    assert scratch.cached_copy(path) == kept
    open_stage(Fitted(), Context({}, 1, "cpu", 1, 1, 1))  # the next step
    assert not Path(kept).exists()


def test_logs_continue_those_of_earlier_runs(store: Store, quick: None) -> None:
    for day in ("one", "two"):
        this = open_store(store.address)
        with this.lock():
            with (this.root / "run.log").open("a") as file:
                file.write(f"{day}\n")
            assert (this.root / "failed/codes-0.txt").exists() == (day == "two")
            if day == "one":
                (this.root / "failed").mkdir()
                (this.root / "failed/codes-0.txt").write_text("Traceback")
            else:
                (this.root / "failed/codes-0.txt").unlink()
            this.save()
            assert contents(store)["run.log"].endswith(f"{day}\n")
    assert contents(store)["run.log"] == "one\ntwo\n"
    assert store.log("run.log").read_text() == "one\ntwo\n"
    assert not [name for name in contents(store) if name.startswith("failed")]
    assert not store.log("run.json").exists()
