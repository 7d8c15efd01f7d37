"""The lease of a run folder on object stores: one writer at a time, whatever happens to it."""

from __future__ import annotations

import time

import pytest

from cpp.files import filesystem
from cpp.store import lease
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.object_store import open_store
from tests.support.leases import claimed
from tests.support.object_store import ObjectStore
from tests.support.stores import contents


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


def test_a_lease_that_is_given_back_while_it_is_watched_is_taken(
    store: Store, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "PATIENCE", 3600.0)
    fs, folder = filesystem.connect(f"{store.address}/cache/lease")
    fs.pipe_file(f"{folder}/000000007", b"process 1 on another\nx")
    messages = list[str]()

    def give_back(message: str) -> None:
        messages.append(message)
        fs.pipe_file(f"{folder}/000000007", b"")

    with store.lock(give_back):
        assert len(messages) == 1


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
    assert "run.json" not in contents(store)
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
