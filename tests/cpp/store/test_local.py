"""The run folder: whole files or none, stable names, one writer."""

import contextlib
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.results import WHOLE, Product, fingerprint

CODES = Product("codes", ".txt")
SIDE = Product("side", ".txt")


def make(store: Store, shard: str, key: str, text: str, product: Product = CODES) -> str:
    target = str(store.path(product, shard, key))
    with store.commit({"made": target}) as out:
        out["made"].write_text(text)
    return target


def test_files_appear_together_and_nothing_is_left_behind(tmp_path: Path) -> None:
    store = Store(tmp_path)
    targets = {"codes": str(store.path(CODES, "0", "k")), "side": str(store.path(SIDE, "0", "k"))}
    with store.commit(targets) as out:
        for path in out.values():
            path.write_text("x")
        assert set(store.listing(CODES)) == set(store.listing(SIDE)) == set()
    assert set(store.listing(CODES)) == set(store.listing(SIDE)) == {"0-k.txt"}
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_a_body_that_raises_or_forgets_a_file_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with contextlib.suppress(KeyError), store.commit({"codes": str(store.path(CODES, "0", "k"))}) as out:
        out["codes"].write_text("half")
        raise KeyError
    with pytest.raises(RuntimeError, match="did not write its product 'codes'"), store.commit({"codes": "x.txt"}):
        pass
    assert set(store.listing(CODES)) == set()
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_stable_names_show_exactly_what_is_published(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = {s: make(store, s, "old", f"old {s}") for s in ("0", "1")}
    store.publish(CODES, old.items())
    assert sorted(p.name for p in (tmp_path / "codes").iterdir()) == ["0.txt", "1.txt"]
    store.publish(CODES, {"1": make(store, "1", "new", "new 1")}.items())
    assert [p.name for p in (tmp_path / "codes").iterdir()] == ["1.txt"]
    assert (tmp_path / "codes" / "1.txt").read_text() == "new 1"
    assert Path(old["0"]).read_text() == "old 0"  # still in the cache
    with pytest.raises(FileNotFoundError):
        store.publish(CODES, {"2": store.path(CODES, "2", "lost")}.items())
    store.publish(SIDE, {WHOLE: make(store, WHOLE, "k", "one", SIDE)}.items())
    assert (tmp_path / "side.txt").read_text() == "one"
    store.publish(SIDE, ())
    assert not (tmp_path / "side.txt").exists()


def test_a_file_of_ones_own_beside_the_stable_names_stays(tmp_path: Path) -> None:
    store, plots = Store(tmp_path), Product("plots", "")
    with store.commit({"plots": str(store.path(plots, WHOLE, "k"))}) as out:
        (out["plots"] / "of").mkdir(parents=True)
        for name in ("a.svg", "of/b.svg"):
            (out["plots"] / name).write_text("x")
    names = ("codes/mine.txt", "codes/notes.md", "plots/mine.svg", "side.txt", "side/0.txt")
    mine = [tmp_path / name for name in names]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    before = {path for path in tmp_path.rglob("*") if "cache" not in path.parts}
    store.publish(CODES, {"0": make(store, "0", "k", "x")}.items())
    store.publish(plots, {WHOLE: store.path(plots, WHOLE, "k")}.items())
    assert (tmp_path / "plots/of/b.svg").exists()
    for product in (CODES, plots, SIDE):
        store.publish(product, ())
    assert {path for path in tmp_path.rglob("*") if "cache" not in path.parts} - {tmp_path / "cache"} == before
    assert {path.read_text() for path in mine} == {"mine"}


def test_what_is_shown_is_left_alone_and_what_was_made_anew_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, linked, link = Store(tmp_path), list[str](), os.link
    paths = {s: make(store, s, "k", "old") for s in ("0", "1")}
    store.publish(CODES, paths.items())
    make(store, "1", "k", "new")
    monkeypatch.setattr(os, "link", lambda path, name: linked.append(str(path)) or link(path, name))
    store.publish(CODES, paths.items())
    assert linked == [paths["1"]]
    assert [(tmp_path / f"codes/{s}.txt").read_text() for s in ("0", "1")] == ["old", "new"]


def test_a_link_that_a_killed_run_left_half_made_is_not_written_through(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old, new = (make(store, "0", key, key) for key in ("old", "new"))
    (tmp_path / "codes").mkdir()
    os.link(old, tmp_path / "codes" / ".0.txt.new")
    store.publish(CODES, {"0": new}.items())
    assert [path.read_text() for path in (Path(old), tmp_path / "codes/0.txt")] == ["old", "new"]


def test_results_cannot_be_written_through_their_stable_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.publish(CODES, {"0": make(store, "0", "k", "x")}.items())
    assert (tmp_path / "codes" / "0.txt").stat().st_mode & 0o222 == 0


def test_a_file_system_without_hard_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise OSError

    monkeypatch.setattr(os, "link", refuse)
    store = Store(tmp_path)
    store.publish(CODES, {"0": make(store, "0", "k", "x")}.items())
    assert (tmp_path / "codes" / "0.txt").read_text() == "x"


def test_fingerprints_depend_on_every_part_and_not_on_the_order_of_keys() -> None:
    assert fingerprint("a", {"x": 1, "y": 2}) == fingerprint("a", {"y": 2, "x": 1})
    assert len({fingerprint("a", 1), fingerprint("a", 2), fingerprint("b", 1), fingerprint("a", "1")}) == 4


def test_a_second_writer_is_refused_by_name_until_the_first_is_gone(tmp_path: Path) -> None:
    holding = (
        "import sys, pathlib; from cpp.store.local import Store\nwith Store(pathlib.Path(sys.argv[1])).lock(): input()"
    )
    with subprocess.Popen([sys.executable, "-c", holding, tmp_path], stdin=subprocess.PIPE) as other:
        store = Store(tmp_path)
        while f"process {other.pid}" not in (store.holder() or ""):  # it has the lock before it says who it is
            assert other.poll() is None
            time.sleep(0.1)
        with pytest.raises(LockedError, match=f"another run is writing to .*process {other.pid} on"), store.lock():
            pass
        other.kill()
    with store.lock():
        assert f"process {os.getpid()}" in (store.root / "cache" / "lock").read_text()
    assert store.holder() is None
    assert Store(tmp_path / "cache" / "lock").holder() is None  # a file, not a folder


def test_who_asks_for_the_holder_at_the_same_moment_keeps_no_run_from_starting(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.lock():
        pass
    asking = (tmp_path / "cache" / "lock").open()
    fcntl.flock(asking, fcntl.LOCK_SH)
    timer = threading.Timer(0.1, asking.close)
    timer.start()
    with store.lock():
        assert store.holder() == f"process {os.getpid()} on {socket.gethostname()}"
    timer.join()


def test_taking_the_lock_clears_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / "cache" / "tmp" / "half").mkdir(parents=True)
    with Store(tmp_path).lock():
        assert not (tmp_path / "cache" / "tmp").exists()


def test_a_folder_that_cannot_be_made_is_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with (
        pytest.raises(PermissionError, match="cannot write to the run folder .*set `root` to one"),
        Store(tmp_path / "file" / "run").lock(),
    ):
        pass


def test_a_folder_appears_whole_and_shows_exactly_what_is_published(tmp_path: Path) -> None:
    store, plots = Store(tmp_path), Product("plots", "")
    for key, names in (("old", ("a.svg", "b.svg")), ("new", ("b.svg",)), ("none", ())):
        target = Path(store.path(plots, WHOLE, key))
        for _ in range(2):  # again over a folder that is there, as where another product of its step was lost
            with store.commit({"plots": str(target)}) as out:
                out["plots"].mkdir()
                for name in names:
                    (out["plots"] / name).write_text(f"{key} {name}")
        assert set(store.listing(plots)) >= {target.name}
        for _ in range(2):
            store.publish(plots, {WHOLE: str(target)}.items())
            shown = {p.name: p.read_text() for p in (tmp_path / "plots").iterdir()} if names else {}
            assert shown == {name: f"{key} {name}" for name in names}
        assert (tmp_path / "plots").exists() == bool(names)
        assert all(not os.access(p, os.W_OK) or os.geteuid() == 0 for p in target.iterdir())
    store.publish(plots, {WHOLE: str(store.path(plots, WHOLE, "old"))}.items())
    store.publish(plots, ())
    assert not (tmp_path / "plots").exists()
