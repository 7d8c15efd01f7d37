"""The run folder on object stores: S3 over HTTP, with its faults, and fsspec's memory as a second one."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpp.files import filesystem, scratch
from cpp.store import lease
from cpp.store.bucket_folder import BucketObjects
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.object_store import open_store
from cpp.store.results import WHOLE, Product
from pipelines.engine.executor import open_stage
from pipelines.engine.stage import Context
from pipelines.stages.drift import Fitted
from tests.support.leases import claimed
from tests.support.object_store import Fault, ObjectStore, disconnect

CODES, SIDE, PLOTS = Product("codes", ".txt"), Product("side", ".txt"), Product("plots", "")


@pytest.fixture(params=["s3", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "s3":
        request.getfixturevalue("s3")
    made = open_store(f"{request.param}://bucket/run")
    yield made
    if request.param == "memory":
        filesystem.connect("memory://bucket")[0].rm("/bucket", recursive=True)


def make(store: Store, product: Product, shard: str, key: str, text: str) -> str:
    target = store.path(product, shard, key)
    with store.commit({product.name: target}) as out:
        out[product.name].write_text(text)
    return target


def there(store: Store, folder: str = "") -> dict[str, str]:
    """What lies in the bucket below a folder."""
    fs, start = filesystem.connect(store.address)
    names = fs.find(f"{start}/{folder}".rstrip("/"))
    return {name[len(start) + 1 :]: fs.cat_file(name).decode() for name in names}


def test_files_appear_together_and_nothing_is_left_behind(store: Store) -> None:
    targets = {p.name: store.path(p, "0", "k") for p in (CODES, SIDE)}
    before = set(scratch.folder().iterdir())  # of tests before it, on which of two processes they may have been
    with store.commit(targets) as out:
        for path in out.values():
            path.write_text("x")
        assert there(store) == {}
    assert set(store.listing(CODES)) == set(store.listing(SIDE)) == {"0-k.txt"}
    with contextlib.suppress(KeyError), store.commit(targets) as out:
        out["codes"].write_text("half")
        raise KeyError
    assert there(store) == {"cache/codes/0-k.txt": "x", "cache/side/0-k.txt": "x"}
    assert set(scratch.folder().iterdir()) == before


def test_stable_names_show_exactly_what_is_published(store: Store) -> None:
    old = {shard: make(store, CODES, shard, "old", f"old {shard}") for shard in ("0", "1")}
    store.publish(CODES, old.items())
    assert there(store, "codes") == {"codes/0.txt": "old 0", "codes/1.txt": "old 1"}
    store.publish(CODES, {"1": make(store, CODES, "1", "new", "new 1")}.items())  # of equal size
    assert there(store, "codes") == {"codes/1.txt": "new 1"}
    store.publish(SIDE, {WHOLE: make(store, SIDE, WHOLE, "k", "one")}.items())
    assert there(store, "side.txt") == {"side.txt": "one"}
    store.publish(SIDE, ())
    assert "side.txt" not in there(store)


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
    shown = {name: text for name, text in there(store).items() if not name.startswith("cache/")}
    assert shown == {**dict.fromkeys(mine, "mine"), "plots/a.svg": "a", "codes/0.txt": "x"}
    for product in (PLOTS, CODES, SIDE):
        store.publish(product, ())
    shown = {name: text for name, text in there(store).items() if not name.startswith("cache/")}
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
    assert there(store, "plots") == {"plots/a.svg": "a", "plots/in/b.svg": "b"}
    store.publish(PLOTS, ())
    assert there(store, "plots") == {}


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
            assert there(store)["run.log"].endswith(f"{day}\n")
    assert there(store)["run.log"] == "one\ntwo\n"
    assert store.log("run.log").read_text() == "one\ntwo\n"
    assert not [name for name in there(store) if name.startswith("failed")]
    assert not store.log("run.json").exists()


def test_a_second_writer_is_refused_by_name_until_the_first_is_gone(store: Store, quick: None) -> None:
    other = open_store(store.address)
    with store.lock():
        assert str(other.holder()).startswith("process ")
        with pytest.raises(LockedError, match=r"another run is writing to .*bucket/run \(process \d+ on"), other.lock():
            pass
    assert other.holder() is None
    watched = list[str]()
    with other.lock(watched.append):
        assert not watched  # what was given back need not be


def test_of_many_writers_at_once_one_wins(s3: ObjectStore, quick: None) -> None:
    assert claimed("s3://bucket/lease") == {"wrote": 1, "LockedError": 5}


def test_an_abandoned_lease_is_taken_over_whatever_the_clocks_say(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs, folder = filesystem.connect(f"{store.address}/cache/lease")
    fs.pipe_file(f"{folder}/000000007", b"process 1 on a machine that is gone\nx")
    monkeypatch.setattr(time, "time", lambda: 4e9)  # a clock that is half a century ahead
    monkeypatch.setattr(lease, "PATIENCE", 1.5)
    told = list[str]()
    start = time.monotonic()
    lease.Lease(fs, folder, "here").take(told.append)
    assert time.monotonic() - start >= lease.PATIENCE
    assert [int(path.rpartition("/")[2]) for path in fs.ls(folder, detail=False)] == [8]
    assert "held by process 1 on a machine that is gone: waiting up to" in told[0]


def test_a_lease_that_is_given_back_while_it_is_watched_is_taken(store: Store, quick: None) -> None:
    fs, folder = filesystem.connect(f"{store.address}/cache/lease")
    fs.pipe_file(f"{folder}/000000007", b"process 1 on another\nx")
    given_back = threading.Timer(0.2, fs.pipe_file, (f"{folder}/000000007", b""))
    given_back.start()
    with store.lock():
        given_back.join()


def test_a_contender_that_was_suspended_polls_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    fs, folder = filesystem.connect("memory://bucket/run/lease")
    fs.pipe_file(f"{folder}/000000007", b"process 1 on another\nx")
    once, now, looks = fs.cat_file, [0.0], list[bytes]()

    def stopped(path: str) -> bytes:
        looks.append(once(path))
        if len(looks) == 2:
            now[0] += lease.PATIENCE
            fs.pipe_file(path, b"process 1 on another\ny")
        return looks[-1]

    monkeypatch.setattr(fs, "cat_file", stopped)
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    assert lease.Lease(fs, folder, "here").holder() == "process 1 on another"
    fs.rm("/bucket", recursive=True)


def test_a_repeated_put_after_a_lost_answer_holds_the_lease(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fs = filesystem.connect(store.address)[0]
    once = fs.pipe_file

    def again(path: str, data: bytes, **how: str) -> None:
        for _ in range(1 + bool(how)):
            once(path, data, **how)

    monkeypatch.setattr(fs, "pipe_file", again)
    with store.lock():
        pass


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (b"process 2 on another\ny", "process 2 on another has taken over"),
        (b"", "another run has taken over and ended"),
    ],
)
def test_a_run_whose_lease_was_taken_over_stops_and_writes_no_more(
    store: Store, quick: None, now: bytes, said: str
) -> None:
    fs, folder = filesystem.connect(f"{store.address}/cache/lease")

    def work() -> None:
        with store.lock():
            (store.root / "run.json").write_text("{}")
            fs.pipe_file(f"{folder}/000000002", now)
            time.sleep(120)  # ended by the lease

    with pytest.raises(LockedError, match=f"no longer the writer .*{said}"):
        work()
    assert "run.json" not in there(store)
    assert fs.cat_file(f"{folder}/000000002") == now


def test_a_run_that_cannot_renew_its_lease_stops_before_another_may_take_it(
    s3: ObjectStore, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store("s3://bucket/run")

    def work() -> None:
        with store.lock():
            s3.fault = lambda method, path: "403"
            monkeypatch.setattr(lease, "PATIENCE", 1.5)
            time.sleep(120)

    with pytest.raises(LockedError, match="could not be renewed for"):
        work()


def test_a_renewal_counts_from_its_start_and_vanishing_numbers_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fs, folder = filesystem.connect("memory://bucket/run/lease")
    made, now, once = lease.Lease(fs, folder, "here"), [0.0], fs.pipe_file

    def slow(path: str, data: bytes) -> None:
        once(path, data)
        now[0] += lease.PATIENCE

    def gone(path: str) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    made.take(print)
    with monkeypatch.context() as patch:
        patch.setattr(fs, "pipe_file", slow)
        made._renew_once()
    made.check()
    now[0] += 1
    with pytest.raises(LockedError, match="could not be renewed for"):
        made.check()
    monkeypatch.setattr(fs, "cat_file", gone)
    with pytest.raises(LockedError, match="other runs keep taking over the lease of here: stop them"):
        made.holder()
    fs.rm("/bucket", recursive=True)


@pytest.mark.parametrize("fault", ["500", "503", "cut", 3.0])
def test_transient_faults_are_retried(s3: ObjectStore, fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = Counter[tuple[str, str]]()

    def once(method: str, path: str) -> Fault:
        if fault == "cut" and (method != "GET" or "k.txt" not in path):
            return None  # an answer is cut off where it has a body
        seen[method, path] += 1
        return fault if seen[method, path] == 1 else None

    monkeypatch.setitem(filesystem.OPTIONS["s3"]["config_kwargs"], "read_timeout", 1)
    disconnect()
    store = open_store("s3://bucket/run")
    s3.fault = once
    target = make(store, CODES, "0", "k", "text" * 1000)
    store.publish(CODES, {"0": target}.items())
    with store.local_files({"codes": target}) as files:
        assert Path(files["codes"]).read_text() == "text" * 1000
    s3.reset()
    assert there(store)["codes/0.txt"] == "text" * 1000
    assert max(seen.values()) > 1
    disconnect()


def test_a_permanent_failure_names_the_address_and_the_fix(s3: ObjectStore, quick: None) -> None:
    store = open_store("s3://bucket/run")
    s3.fault = lambda method, path: "403"
    with pytest.raises(PermissionError, match="cannot use the run folder s3://bucket/run .*set `root`"), store.lock():
        pass
    with pytest.raises(PermissionError, match="cannot use the run folder"):
        store.listing(CODES)
    s3.reset()
    with pytest.raises(PermissionError, match="s3://no-such-bucket/run .*set `root` to an existing bucket"):
        open_store("s3://no-such-bucket/run").lock().__enter__()
    assert there(store) == {}
    with (
        pytest.raises(ConnectionError, match=r"https://\*\*\*@host refused"),
        BucketObjects("s3://b", "", "").explain_errors(),
    ):
        raise OSError("https://user:hidden@host refused")
    with (
        pytest.raises(ZeroDivisionError),
        BucketObjects("s3://b", "", "").explain_errors(),
    ):  # a bug in a program is no error of the store
        raise ZeroDivisionError
