"""Folders of vectors: what pairs, what is rejected, and what is said when something is wrong."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.files.tables import matrix
from cpp.sources.vectors import (
    import_vectors,
    read_header,
    read_vectors,
    read_words,
    source_file,
    vector_dim,
    vector_shards,
)
from tests.support.datasets import Dataset


def write(folder: Path, X: np.ndarray, **columns: list[object]) -> tuple[str, str]:
    np.save(folder / "x_0.npy", X)
    pq.write_table(pa.table(columns), folder / "m_0.parquet")
    return str(folder / "x_0.npy"), str(folder / "m_0.parquet")


def test_shards_pair_by_number_and_not_by_order(tmp_path: Path) -> None:
    for name in (
        "img_emb/img_emb_2.npy",
        "img_emb/img_emb_10.npy",
        "metadata/metadata_10.parquet",
        "metadata/metadata_2.parquet",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = {kind: dict(files) for kind, files in vector_shards(str(tmp_path)).items()}
    assert [list(files) for files in found.values()] == [["00002", "00010"]] * 2
    assert found["vectors"]["00010"].path == f"{tmp_path}/img_emb/img_emb_10.npy"
    assert found["metadata"]["00010"].path.endswith("metadata_10.parquet")


def test_fingerprints_follow_the_file(dataset: Dataset) -> None:
    folder = str(dataset.folder / "data")
    before = {kind: dict(files) for kind, files in vector_shards(folder, f"{folder}/images").items()}
    os.utime(dataset.folder / "data/img_emb/img_emb_1.npy", (1, 1))
    after = {kind: dict(files) for kind, files in vector_shards(folder, f"{folder}/images").items()}
    assert {(s, k) for k in before for s in before[k] if before[k][s] != after[k][s]} == {("00001", "vectors")}
    words = str(dataset.folder / "words")
    first = source_file(words, "names.txt", "embeddings.npy")
    (dataset.folder / "words/names.txt").write_text("other words\n")
    assert source_file(words, "names.txt", "embeddings.npy").fingerprint != first.fingerprint


def test_folders_that_do_not_pair_are_errors_that_name_the_file(dataset: Dataset) -> None:
    data = dataset.folder / "data"
    (data / "metadata/metadata_1.parquet").rename(data / "metadata/metadata_7.parquet")
    with pytest.raises(ValueError, match=r"img_emb_1\.npy has no partner of number 1 among the metadata"):
        vector_shards(str(data))
    with pytest.raises(ValueError, match="the folder .*nowhere/img_emb does not exist"):
        vector_shards(str(dataset.folder / "nowhere"))
    (data / "images/1.tar").write_text("")
    with pytest.raises(ValueError, match="have the same number 1: rename one"):
        vector_shards(str(data), str(data / "images"))
    (data / "img_emb/img_emb_7.npy").symlink_to(data / "nothing")
    with pytest.raises(ValueError, match=r"img_emb_7\.npy is a broken link"):
        vector_shards(str(data))


def test_rows_are_unit_and_keep_all_metadata(tmp_path: Path) -> None:
    X = np.array([[3.0, 4.0], [0.0, 2.0]])
    paths = write(tmp_path, X, key=["a", "b"], url=["u", None], size=[1, 2])
    features, rejected, n = import_vectors(*paths, images="pictures.tar", key="key", dim=2)
    np.testing.assert_allclose(matrix(features["embedding"]), [[0.6, 0.8], [0, 1]], atol=1e-3)
    assert features.drop(["embedding"]).to_pylist() == [
        {"key": "a", "image_shard": "pictures.tar", "url": "u", "size": 1},
        {"key": "b", "image_shard": "pictures.tar", "url": None, "size": 2},
    ]
    assert len(rejected) == 0
    assert n == 2


def test_rows_that_are_no_vectors_are_rejected_with_a_reason(tmp_path: Path) -> None:
    X = np.array([[1, 0], [np.nan, 1], [0, 0], [np.inf, 0], [0, 1]], np.float16)
    paths = write(tmp_path, X, key=["a", "b", "c", "d", "e"])
    features, rejected, n = import_vectors(*paths, images=None, key="key", dim=2)
    assert features["key"].to_pylist() == ["a", "e"]
    assert n == 5
    assert rejected.to_pylist() == [
        {"key": "b", "row": 1, "reason": "vector is not finite"},
        {"key": "c", "row": 2, "reason": "vector is zero"},
        {"key": "d", "row": 3, "reason": "vector is not finite"},
    ]


@pytest.mark.parametrize(("scale", "dtype"), [(1e-30, "f4"), (1e30, "f4"), (3e38, "f4"), (1e-250, "f8"), (1e300, "f8")])
def test_very_long_and_short_vectors_are_rows(tmp_path: Path, scale: float, dtype: str) -> None:
    paths = write(tmp_path, np.array([[0.6, -0.8], [0, 0]]).astype(dtype) * np.array(scale, dtype), key=["a", "b"])
    features, rejected, _ = import_vectors(*paths, None, "key", 2)
    np.testing.assert_allclose(matrix(features["embedding"]), [[0.6, -0.8]], atol=1e-3)
    assert rejected["reason"].to_pylist() == ["vector is zero"]


def test_rows_without_a_key_are_numbered(tmp_path: Path) -> None:
    paths = write(tmp_path, np.eye(2), caption=["a", "b"])
    features, _, _ = import_vectors(*paths, images=None, key=None, dim=2)
    assert features["key"].to_pylist() == ["x_0/0", "x_0/1"]
    with pytest.raises(ValueError, match=r"no column 'key' \(import\.key\); it has caption: name one of them, or null"):
        import_vectors(*paths, images=None, key="key", dim=2)


def test_lengths_dimensions_and_reserved_names_are_checked(tmp_path: Path) -> None:
    paths = write(tmp_path, np.eye(3), key=["a", "b"])
    with pytest.raises(ValueError, match=r"x_0\.npy has 3 rows, .*m_0\.parquet 2; they must be equal"):
        import_vectors(*paths, images=None, key="key", dim=3)
    with pytest.raises(ValueError, match=r"has dimension 3, the first file 4"):
        import_vectors(*write(tmp_path, np.eye(3), key=["a", "b", "c"]), images=None, key="key", dim=4)


def test_metadata_with_names_of_results_are_kept_under_other_names(tmp_path: Path) -> None:
    named: dict[str, list[object]] = {
        name: [f"{name} {i}" for i in range(2)]
        for name in ("cluster", "cluster_20", "score", "second", "margin", "image_shard", "embedding", "source_score")
    }
    X = np.eye(2)
    features, _, _ = import_vectors(*write(tmp_path, X, key=["a", "b"], **named), images="x.tar", key="key", dim=2)
    assert features["image_shard"].to_pylist() == ["x.tar"] * 2
    assert np.array_equal(matrix(features["embedding"]), X)
    titles = {name: f"source_{'source_' * (name == 'score')}{name}" for name in named} | {
        "source_score": "source_score"
    }
    assert features.column_names == ["key", "embedding", "image_shard", *titles.values()]
    assert all(features[titles[name]].to_pylist() == values for name, values in named.items())
    for key in ("id", None):  # a column `key` that is not the key is metadata too
        features, _, _ = import_vectors(*write(tmp_path, X, id=["c", "d"], key=["a", "b"]), images=None, key=key, dim=2)
        assert features["key"].to_pylist() == (["c", "d"] if key else ["x_0/0", "x_0/1"])
        assert features["id"].to_pylist() == ["c", "d"]
        assert features["source_key"].to_pylist() == ["a", "b"]


def test_keys_may_be_numbers_and_repeat(tmp_path: Path) -> None:
    for keys, expected in (
        ([7, 7, 12], ["7", "7#2", "12"]),
        ([7.0, None, 12.0], ["7", "x_0/1", "12"]),
        (["a", "b", "a"], ["a", "b", "a#2"]),
        ([b"a", b"b", b"c"], ["a", "b", "c"]),
    ):
        features, _, _ = import_vectors(*write(tmp_path, np.eye(3), key=keys), images=None, key="key", dim=3)
        assert features["key"].to_pylist() == expected
        assert features.column_names == ["key", "embedding", "image_shard"]
    with pytest.raises(ValueError, match=r"m_0\.parquet: the column 'key' \(import\.key\) has binary, not one name"):
        import_vectors(*write(tmp_path, np.eye(1), key=[b"\xff"]), images=None, key="key", dim=1)
    pq.write_table(pa.table([["a"], [1], [2]], ["key", "n", "n"]), tmp_path / "m_0.parquet")
    with pytest.raises(ValueError, match=r"m_0\.parquet is not a readable Parquet file: Multiple matches .*\(n\)"):
        import_vectors(str(tmp_path / "x_0.npy"), str(tmp_path / "m_0.parquet"), None, "key", 1)


def test_a_row_without_a_key_is_numbered_and_lists_are_no_keys(tmp_path: Path) -> None:
    paths = write(tmp_path, np.eye(2), key=["a", None])
    features, _, _ = import_vectors(*paths, images=None, key="key", dim=2)
    assert features["key"].to_pylist() == ["a", "x_0/1"]
    paths = write(tmp_path, np.eye(2), key=[["a"], ["b"]])
    with pytest.raises(ValueError, match=r"'key' \(import.key\) has list<.*>, not one name for each image"):
        import_vectors(*paths, images=None, key="key", dim=2)


def test_files_that_are_not_what_they_should_be(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY but not really")
    with pytest.raises(ValueError, match=r"x\.npy is not a readable \.npy file"):
        read_vectors(str(path))
    np.save(path, np.eye(4))
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="not a readable"):
        read_vectors(str(path))
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="not a readable"):  # pickle is never read
        read_vectors(str(path))
    np.save(path, np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match=r"holds int64 of shape \(2, 3\), expected a matrix of floats"):
        read_vectors(str(path))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones(6), r"holds float64 of shape \(6,\)"),
        (np.ones((1, 2, 3)), r"holds float64 of shape \(1, 2, 3\)"),
        (np.array(1.0), r"holds float64 of shape \(\)"),
        (np.ones((2, 0)), r"holds float64 of shape \(2, 0\)"),
        (np.ones((2, 3), np.int8), r"holds int8 of shape \(2, 3\)"),
        (np.ones((2, 3), bool), r"holds bool of shape \(2, 3\)"),
        (np.ones((2, 3), np.complex64), r"holds complex64 of shape \(2, 3\)"),
        (np.array([["a", "b"]]), r"holds <U1 of shape \(1, 2\)"),
        (np.array([[{}]]), r"is not a readable \.npy file \(Object arrays cannot be loaded"),
    ],
)
def test_other_arrays_than_vectors_are_errors_that_say_what_is_needed(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "x.npy", array)
    needed = r".*, expected a matrix of floats \[rows, dimension\]: save one with numpy\.save"
    with pytest.raises(ValueError, match=rf"x\.npy {message}{needed}"):
        read_vectors(str(tmp_path / "x.npy"))
    with pytest.raises(ValueError, match="none of the 1 files of vectors can be read; the first: .*x.npy"):
        vector_dim([str(tmp_path / "x.npy")])


def test_archives_empty_and_cut_files_are_errors_that_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.savez(tmp_path / "x.npz", a=np.eye(2), b=np.eye(3))
    path.write_bytes((tmp_path / "x.npz").read_bytes())
    with pytest.raises(ValueError, match=r"x\.npy is an \.npz archive of the arrays a, b, expected a matrix of floats"):
        read_vectors(str(path))
    for data in (b"", b"\x93NUMPY", (tmp_path / "x.npz").read_bytes()[:100]):
        path.write_bytes(data)
        for read in (read_vectors, read_header):
            with pytest.raises(ValueError, match=r"x\.npy is not a readable \.npy file .* expected a matrix of floats"):
                read(str(path))


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_all_floats_in_both_orders_are_read(tmp_path: Path, dtype: str, order: Literal["C", "F"]) -> None:
    X = np.array([[3, 4], [0, 2], [8, 6]], dtype, order=order)
    features, _, n = import_vectors(*write(tmp_path, X, key=["a", "b", "c"]), images=None, key="key", dim=2)
    assert n == 3
    np.testing.assert_allclose(matrix(features["embedding"]), [[0.6, 0.8], [0, 1], [0.8, 0.6]], atol=1e-3)


def test_files_without_rows_have_no_rows(tmp_path: Path) -> None:
    paths = write(tmp_path, np.empty((0, 2), np.float16), key=[])
    assert [len(part) for part in import_vectors(*paths, images=None, key="key", dim=2)[:2]] == [0, 0]


def test_the_dimension_is_that_of_the_first_readable_header(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(b"broken")
    np.save(tmp_path / "b.npy", np.zeros((5, 7), np.float16))
    assert vector_dim([str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]) == 7
    with pytest.raises(ValueError, match=r"none of the 1 files of vectors can be read; the first: .*a\.npy is not"):
        vector_dim([str(tmp_path / "a.npy")])


def test_words_and_vectors_must_be_of_equal_length_and_whole(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("кошка\n犬\n")
    np.save(tmp_path / "embeddings.npy", np.eye(2, dtype=np.float16))
    assert read_words(str(tmp_path))[0] == ["кошка", "犬"]
    (tmp_path / "names.txt").write_text("cat\n\n")
    with pytest.raises(ValueError, match="line 2 has no word"):
        read_words(str(tmp_path))
    (tmp_path / "names.txt").write_text("cat\n")
    with pytest.raises(ValueError, match=r"names.txt has 1 lines, embeddings.npy 2 rows"):
        read_words(str(tmp_path))
