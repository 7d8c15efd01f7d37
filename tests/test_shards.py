"""Names and results of many shards, against plain lists and dicts."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpp.store import File, Product, Store, fingerprint
from cpp.tables import Counts, write
from pipelines import accounts
from pipelines.accounts import AccountingError, Accounts
from pipelines.plan import step
from pipelines.shards import Made, Names, Paths, aligned, common
from pipelines.stage import Given, Stage, Work

UNSORTED = ["b", "a", "c-10", "c-9", "ö"]


class Copy(Stage):
    version = 1
    products = (Product("copy", rows="out"),)
    each = ("features",)
    whole = ()

    def settings(self) -> dict[str, object]:
        return {}

    def open(self, given: Given) -> Work:
        raise NotImplementedError


def made(names: list[str]) -> Made:
    return Made(Names(names), np.arange(len(names), dtype=np.uint64), "{}/{}".format)


@pytest.mark.parametrize("names", [UNSORTED, sorted(UNSORTED), []])
def test_names_are_a_sequence_and_a_set(names: list[str]) -> None:
    found = Names(names)
    assert list(found) == names
    assert [found.at(name) for name in names] == list(range(len(names)))
    assert not any(name in found for name in ("", "z", "0", "c", 5))
    with pytest.raises(KeyError):
        found.at("z")


def test_products_share_names_until_some_are_missing() -> None:
    names = Names(UNSORTED)
    assert names.where(np.ones(5, bool)) is names
    assert list(names.where(np.array([1, 0, 0, 1, 1], bool))) == ["b", "c-9", "ö"]
    a = made(UNSORTED)
    assert common([a, Made(a.names, a.numbers, a.path)]) is a.names
    assert list(common([a, dict.fromkeys(["a", "ö", "x"], File("", ""))])) == ["a", "ö"]


def test_results_are_a_mapping_like_a_dict_of_files() -> None:
    found = made(UNSORTED)
    expected = {name: File(f"{name}/{i:016x}", f"{i:016x}") for i, name in enumerate(UNSORTED)}
    assert dict(found) == expected
    assert list(found.values()) == list(expected.values())
    paths = [file.path for file in expected.values()]
    assert list(Paths(found)) == list(Paths(expected)) == paths
    assert Paths(found)[1:3] == paths[1:3]
    assert list(aligned(found, Names(["ö", "a"]))) == [expected["ö"].fingerprint, expected["a"].fingerprint]


def test_keys_are_fingerprints_of_step_shard_and_what_it_is_made_from(tmp_path: Path) -> None:
    files = {"features": {name: File(name, fingerprint(name)) for name in UNSORTED}}
    planned = step("copy", Copy(), files, Store(tmp_path))
    base = fingerprint("copy", 1, {}, {})
    expected = [fingerprint(base, name, {"features": fingerprint(name)}) for name in UNSORTED]
    assert [task.key for task in planned.tasks] == expected
    assert [task.files for task in planned.tasks] == [{"features": name} for name in UNSORTED]
    assert [task.outputs["copy"] for task in planned.todo] == [
        str(Store(tmp_path).path(Copy.products[0], name, key)) for name, key in zip(UNSORTED, expected, strict=True)
    ]


def test_results_of_many_shards_take_few_bytes() -> None:
    names = [f"{i:05d}" for i in range(10_000)]
    numbers = np.arange(len(names), dtype=np.uint64)
    shared = Names(names)
    assert len(pickle.dumps([Made(shared, numbers + i, str) for i in range(10)])) < 100 * len(names)


def test_sums_are_kept_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accounts, "MANY", 3)
    store, files = Store(tmp_path), {"features": {name: File(name, fingerprint(name)) for name in UNSORTED}}
    for rows, task in enumerate(step("copy", Copy(), files, store).tasks):
        with store.commit(task.outputs) as out:
            write(pa.table({"key": ["k"] * rows}), out["copy"], Counts(rows + 2, rows, 2))
    planned = step("copy", Copy(), files, store)
    assert planned.complete
    counted = Counts(20, 10, 10)
    assert Accounts(store).check(planned) == counted
    opened: list[str] = []
    real = accounts.read_counts
    monkeypatch.setattr(accounts, "read_counts", lambda path: opened.append(path) or real(path))
    assert Accounts(store).check(planned) == counted
    assert not opened
    path = Path(planned.made["copy"]["a"].path)
    path.unlink()
    write(pa.table({"key": ["k"] * 7}), path, Counts(8, 8))
    with pytest.raises(AccountingError, match="copy, shard a: rows do not add up: the source came in; counted 8 in"):
        Accounts(store).check(planned)
