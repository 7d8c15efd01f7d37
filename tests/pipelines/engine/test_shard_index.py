"""Names and results of many shards, against plain lists and dicts."""

import os
import pickle
import tracemalloc
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpp.files.tables import Counts, write
from cpp.sources.table import TableShard
from cpp.sources.tar import TarShard
from cpp.sources.vectors import vector_shards
from cpp.store.local import Store
from cpp.store.results import File, Product, fingerprint
from pipelines.engine import shard_index
from pipelines.engine.plan import plan_step
from pipelines.engine.row_counts import AccountingError, RowAccounting
from pipelines.engine.shard_index import (
    FilePaths,
    InputFiles,
    ShardFiles,
    ShardNames,
    common_shards,
    digest,
    fingerprints,
)
from pipelines.engine.stage import Context, Stage, Work

UNSORTED = ["b", "a", "c-10", "c-9", "ö"]


class Copy(Stage):
    version = 1
    products = (Product("copy", rows="out"),)
    each = ("features",)

    def settings(self) -> dict[str, object]:
        return {}

    def open(self, context: Context) -> Work:
        pytest.fail("it is only planned for")


def made(names: list[str]) -> ShardFiles:
    return ShardFiles(ShardNames(names), np.arange(len(names), dtype=np.uint64), "{}/{}".format)


@pytest.mark.parametrize("names", [UNSORTED, sorted(UNSORTED), []])
def test_names_are_ordered_and_have_positions(names: list[str]) -> None:
    shard_names = ShardNames(names)
    assert list(shard_names) == names == [shard_names[i] for i in range(len(names))]
    assert shard_names.positions(names).tolist() == list(range(len(names)))
    for unknown in ("", "z", "0", "c"):
        with pytest.raises(KeyError, match=repr(unknown)):
            shard_names.positions([*names, unknown])


def test_products_share_names_until_some_are_missing() -> None:
    names = ShardNames(UNSORTED)
    assert names.where(np.ones(5, bool)) is names
    assert list(names.where(np.array([1, 0, 0, 1, 1], bool))) == ["b", "c-9", "ö"]
    a = made(UNSORTED)
    assert common_shards([a, ShardFiles(a.names, a.numbers, a.path)]) is a.names
    some = [dict.fromkeys(names, File("", "")) for names in (["a", "ö", "x"], ["b", "ö"], UNSORTED[:2])]
    assert list(common_shards([a, some[0]])) == ["a", "ö"]
    assert list(common_shards([a, *some[:2]])) == ["ö"]
    assert list(common_shards([a, some[2]])) == UNSORTED[:2]


def test_results_are_a_mapping_like_a_dict_of_files() -> None:
    found = made(UNSORTED)
    expected = {name: File(f"{name}/{i:016x}", f"{i:016x}") for i, name in enumerate(UNSORTED)}
    assert dict(found) == expected
    assert list(found.values()) == list(expected.values())
    paths = [file.path for file in expected.values()]
    assert list(FilePaths(found)) == list(FilePaths(expected)) == paths
    assert [FilePaths(found)[i] for i in range(len(paths))] == paths
    assert list(fingerprints(found, ShardNames(["ö", "a"]))) == [
        expected["ö"].fingerprint,
        expected["a"].fingerprint,
    ]


def test_keys_are_fingerprints_of_step_shard_and_what_it_is_made_from(tmp_path: Path) -> None:
    files = {"features": {name: File(name, fingerprint(name)) for name in UNSORTED}}
    planned = plan_step("copy", Copy(), files, Store(tmp_path))
    base = fingerprint("copy", 1, {}, {})
    expected = [fingerprint(base, name, {"features": fingerprint(name)}) for name in UNSORTED]
    assert [task.fingerprint for task in planned.tasks] == expected
    assert [task.files for task in planned.tasks] == [{"features": name} for name in UNSORTED]
    assert [task.outputs["copy"] for task in planned.todo] == [
        str(Store(tmp_path).path(Copy.products[0], name, key)) for name, key in zip(UNSORTED, expected, strict=True)
    ]


def test_a_shard_is_worked_on_where_all_that_it_is_made_from_is_there(tmp_path: Path) -> None:
    class Two(Copy):
        each = ("features", "votes")

    files = {
        kind: {name: File(name, kind) for name in names} for kind, names in (("features", UNSORTED), ("votes", "ba"))
    }
    assert list(plan_step("two", Two(), files, Store(tmp_path)).names) == ["b", "a"]


def test_results_of_many_shards_take_few_bytes() -> None:
    names = [f"{i:05d}" for i in range(10_000)]
    numbers = np.arange(len(names), dtype=np.uint64)
    shared = ShardNames(names)
    assert len(pickle.dumps([ShardFiles(shared, numbers + i, str) for i in range(10)])) < 100 * len(names)


@pytest.mark.parametrize(
    "path",
    [
        lambda name: f"/data/{name}.npy",
        lambda name: TarShard(f"/data/{name}.tar", fingerprint(name), None),
        lambda name: TarShard(f"/data/{name}.tar", fingerprint(name), "t.parquet" if name == "c-9" else None),
        lambda name: TableShard("t.parquet", fingerprint(name), 3, 5, "url", True, None),
    ],
)
def test_inputs_in_a_table_are_what_they_were(path: Callable[[str], object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_index, "BLOCK", 2)
    expected = {name: File(path(name), fingerprint(name)) for name in UNSORTED}
    found = pickle.loads(pickle.dumps(InputFiles(iter(expected.items()))))  # noqa: S301 - its own
    assert dict(found) == expected
    assert list(FilePaths(found)) == [file.path for file in expected.values()]
    assert FilePaths(found)[3] == expected["c-9"].path
    assert digest(found) == digest(expected)
    assert list(fingerprints(found, ShardNames(["ö", "a"]))) == [
        expected["ö"].fingerprint,
        expected["a"].fingerprint,
    ]


@pytest.mark.parametrize("names", [("b", "a-0", "b"), ("a-0", "b", "b")])
def test_two_inputs_of_one_name_are_an_error(names: tuple[str, ...]) -> None:
    files = [(name, File(name, fingerprint(name))) for name in names]
    with pytest.raises(ValueError, match="two files would both be the shard b: rename one"):
        InputFiles(files)


def test_a_digest_follows_every_file_and_their_order() -> None:
    files = {name: File(name, fingerprint(name)) for name in UNSORTED}
    others = [files | {"a": File("a", fingerprint("x"))}, dict(reversed(files.items())), dict(list(files.items())[1:])]
    assert len({digest(files), *map(digest, others)}) == 4
    words = [{word: File(word, word) for word in some} for some in (("ab", "c"), ("a", "bc"))]
    assert digest(words[0]) != digest(words[1])


def test_inputs_and_plans_of_many_shards_take_few_bytes(tmp_path: Path) -> None:
    """At the peak of listing two kinds of files took some 180 bytes a shard as measured; objects took 1,250."""
    for folder, suffix in (("img_emb", "npy"), ("metadata", "parquet")):
        (tmp_path / folder).mkdir()
        for i in range(3000):
            (tmp_path / folder / f"{i}.{suffix}").touch()
    vector_shards(str(tmp_path))  # the first call imports packages, whose memory is not counted
    tracemalloc.start()
    found = {kind: InputFiles(files) for kind, files in vector_shards(str(tmp_path)).items()}
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found["vectors"]) == 3000
    assert kept < 150 * 3000  # strings are Arrow's, which is not counted; objects took 640
    assert peak < 400 * 3000


def test_rows_add_up_within_a_shard_and_with_the_step_before(tmp_path: Path) -> None:
    store, files = Store(tmp_path), {"features": {name: File(name, fingerprint(name)) for name in UNSORTED}}
    for rows, task in enumerate(plan_step("copy", Copy(), files, store).tasks):
        with store.commit(task.outputs) as out:
            write(pa.table({"key": ["k"] * rows}), out["copy"], Counts(rows + 2, rows, 2))
    planned = plan_step("copy", Copy(), files, store)
    assert planned.complete
    counted = Counts(20, 10, 10)
    assert RowAccounting().check(planned) == counted
    for lost in (0, 1):  # rows of the step before
        after = RowAccounting()
        after._rows_out["features"] = planned.names, np.arange(2, 7) - lost
        with pytest.raises(AccountingError, match="{'features': 1} came in; counted 2 in") if lost else nullcontext():
            assert after.check(planned) == counted
    path = Path(planned.outputs["copy"]["a"].path)
    whole, stat = path.read_bytes(), path.stat()
    path.chmod(0o644)
    path.write_bytes(whole[:-1])
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(AccountingError, match="is damaged"):
        RowAccounting().check(planned)
    path.unlink()
    write(pa.table({"key": ["k"] * 7}), path, Counts(8, 8))
    with pytest.raises(AccountingError, match="copy, shard a: rows do not add up: the source came in; counted 8 in"):
        RowAccounting().check(planned)


def test_every_file_of_a_shard_is_looked_for_and_its_rows_are_counted(tmp_path: Path) -> None:
    class Both(Copy):
        products = (*Copy.products, Product("left", rows="rejected"))

    store, files = Store(tmp_path), {"features": {name: File(name, fingerprint(name)) for name in UNSORTED}}
    for task in plan_step("both", Both(), files, store).tasks:
        with store.commit(task.outputs) as out:
            for name, rows in (("copy", 3), ("left", 2)):
                write(pa.table({"key": ["k"] * rows}), out[name], Counts(5, 3, 2))
    planned = plan_step("both", Both(), files, store)
    assert RowAccounting().check(planned) == Counts(25, 15, 10)
    left = Path(planned.outputs["left"]["a"].path)
    left.unlink()
    assert [task.shard for task in plan_step("both", Both(), files, store).todo] == ["a"]
    for counts, said in (
        (Counts(5, 4, 1), "rows do not add up: its files have different counts"),  # one image more
        (Counts(5, 3, 1), "rows do not add up: the source came in; counted 5 in, 3 out, 1 rejected"),
    ):
        left.unlink(missing_ok=True)
        write(pa.table({"key": ["k"]}), left, counts)
        with pytest.raises(AccountingError, match=f"both, shard a: {said}"):
            RowAccounting().check(planned)
