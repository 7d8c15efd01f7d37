"""Tables in the forms that people have: every row is an image or a rejected row, with its own fields."""

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.sources import folder as folders
from cpp.sources import shards as sources
from cpp.sources import table_rows as rows
from cpp.sources.ignored import SUB_FOLDER, FileCounts
from cpp.sources.samples import Reason, Sample
from cpp.sources.shards import Images, iter_images, read_images, read_samples
from cpp.sources.table import TableShard
from tests.support.tars import JPEG, only, write_images


@pytest.mark.parametrize("struct", [True, False])
def test_parquet_with_bytes_as_hugging_face_has_them(tmp_path: Path, struct: bool) -> None:
    data = [JPEG + bytes([i]) for i in range(7)]
    cells = [{"bytes": d, "path": f"{i}.jpg"} for i, d in enumerate(data)] if struct else data
    table = pa.table(
        {"image": [*cells[:6], None], "label": list(range(7)), "mask": [b"x"] * 7, "id": [f"k{i}" for i in range(7)]}
    )
    pq.write_table(table, tmp_path / "train.parquet", row_group_size=2)
    shards = sources.shards(Images("parquet", (f"{tmp_path}/*.parquet",), shard_size=3, column="image", key="id"))
    assert list(shards) == ["train-00000", "train-00001", "train-00002"]
    found = [s for shard in shards.values() for s in read_samples(shard)]
    assert [s.key for s in found] == [f"k{i}" for i in range(7)]
    assert [s.image for s in found] == [*data[:6], None]
    assert found[6].reason == Reason.NO_IMAGE
    assert found[2].metadata == {"label": 2} | ({"path": "2.jpg"} if struct else {})
    numbered = only("parquet", f"{tmp_path}/train.parquet", column="image")
    assert [s.key for s in read_samples(numbered)][:2] == ["train/0", "train/1"]


def test_the_only_column_of_bytes_is_found(tmp_path: Path) -> None:
    pq.write_table(pa.table({"png": [JPEG], "n": [1]}), tmp_path / "a.parquet")
    assert [s.image for s in read_samples(only("parquet", f"{tmp_path}/a.parquet"))] == [JPEG]


@pytest.mark.parametrize("suffix", ["csv", "CSV", "parquet"])
def test_a_table_of_addresses(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path / "pictures", ["1.jpg", "2.jpg"])
    addresses = [
        "pictures/1.jpg",
        f"{tmp_path}/pictures/2.jpg",
        "none.jpg",
        "",
        "ssh://host/x.jpg",
        "file:///a::zip://b.jpg",
    ]
    table = pa.table({"where": addresses, "text": ["a, b", 'c "d"', "e\nf", "", "g", "h"]})
    if suffix == "parquet":
        pq.write_table(table, tmp_path / "t.parquet")
    else:
        table.to_pandas().to_csv(tmp_path / f"t.{suffix}", index=False)
    shards = sources.shards(Images("table", (f"{tmp_path}/t.{suffix}",), shard_size=4, column="where"))
    found = [s for shard in shards.values() for s in read_samples(shard)]
    assert [s.key for s in found] == [f"t/{i}" for i in range(6)]
    assert [s.reason for s in found] == [
        None,
        None,
        Reason.MISSING,
        Reason.NO_IMAGE,
        Reason.BAD_ADDRESS,
        Reason.BAD_ADDRESS,
    ]
    assert found[0].image == JPEG + b"1.jpg"
    assert found[2].metadata == {"where": "none.jpg", "text": "e\nf"}


@pytest.mark.parametrize("key", ["id", None])
@pytest.mark.parametrize("struct", [True, False])
def test_pictures_of_a_table_are_found_by_key_without_reading_the_rest(
    tmp_path: Path, struct: bool, key: str | None
) -> None:
    data = [JPEG + bytes([i]) for i in range(12)]
    cells = [{"bytes": d, "path": f"{i}.jpg"} for i, d in enumerate(data)] if struct else data
    path, names = tmp_path / "t.parquet", [f"t/{i}" if key is None else f"k{i % 10}" for i in range(12)]
    table = pa.table({"image": cells, "id": [None if i == 6 else name for i, name in enumerate(names)]})
    pq.write_table(table, path, row_group_size=3, compression="none")
    written, groups = bytearray(path.read_bytes()), pq.read_metadata(path)
    for group in (0, 3):
        chunk = groups.row_group(group).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
        written[start : start + chunk.total_compressed_size] = bytes(chunk.total_compressed_size)
    path.write_bytes(written)
    first, second = sources.shards(Images("parquet", (str(path),), shard_size=8, column="image", key=key)).values()
    wanted = [names[4], "t/6", names[7], "k99", "t/99", "x/5"]
    expected = {names[4]: data[4], "t/6": data[6], names[7]: data[7]}
    assert read_images(first.path, wanted) == read_images(first, wanted) == expected
    assert read_images(second.path, [names[8], names[4]]) == {names[8]: data[8]}
    assert list(iter_images(first.path, [])) == []


def test_a_row_group_is_never_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Counted(io.FileIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(-1 if size is None else size)
            asked.append(len(data))
            return data

    table = pa.table({"image": [JPEG + bytes(100_000) for _ in range(200)]})
    pq.write_table(table, tmp_path / "t.parquet", compression="none", use_dictionary=False, write_batch_size=1)
    shard, asked = only("parquet", f"{tmp_path}/t.parquet"), list[int]()
    monkeypatch.setattr(rows.filesystem, "open_file", Counted)
    next(read_samples(shard))
    assert max(asked) < 2 * rows.BUFFER
    assert sum(asked) < 10_000_000


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
@pytest.mark.parametrize("key", ["where", "id", None])
def test_of_a_table_of_addresses_only_the_wanted_are_fetched(
    tmp_path: Path, name: str, key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [f"{i}.jpg" for i in range(6)]
    write_images(tmp_path / "pictures", files)
    (tmp_path / "pictures/4.jpg").write_bytes(bytes(9000))
    table = pa.table({"where": [f"pictures/{file}" for file in files], "id": [str(i) for i in range(6)]})
    if name.endswith(".parquet"):
        pq.write_table(table, tmp_path / name, row_group_size=2)
    else:
        table.to_pandas().to_csv(tmp_path / name, sep="\t" if name.endswith(".tsv") else ",", index=False)
    asked, fetched = list[str](), folders._read
    monkeypatch.setattr(folders, "_read", lambda address, limit: asked.append(address) or fetched(address, limit))  # type: ignore[func-returns-value]
    monkeypatch.setattr(sources, "MAX_BYTES", 8000)
    shard = only("table", f"{tmp_path}/{name}", column="where", key=key)
    keys = [{"where": f"pictures/{i}.jpg", "id": str(i), None: f"t/{i}"}[key] for i in range(6)]
    assert read_images(shard.path, [keys[1], keys[3], keys[4]]) == {
        keys[1]: JPEG + b"1.jpg",
        keys[3]: JPEG + b"3.jpg",
    }
    assert sorted(asked) == [f"{tmp_path}/pictures/{i}.jpg" for i in (1, 3, 4)]


@pytest.mark.parametrize("key", ["a#b&c=d %+é", "rows", "", None])
@pytest.mark.parametrize("addresses", [True, False])
def test_the_path_of_a_table_says_all_that_reading_it_takes(key: str | None, addresses: bool) -> None:
    shard = TableShard("s3://b/x#bytes=y&rows=1-2.parquet", "", 3, 70, "bytes=image&key#", addresses, key)
    assert TableShard.from_path(shard.path) == shard
    for path in ("a/b", "a#b", "a#bytes=b", "a#rows=1-2", "a#bytes=b&rows=1-x", ""):
        assert TableShard.from_path(path) is None


def samples(folder: Path, name: str, content: str | bytes, shard_size: int = 100, **settings: Any) -> list[Sample]:
    """The samples of a table `name` in `folder` with this content; its column `path` holds addresses."""
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    images = Images("table", (f"{folder}/{name}",), shard_size, column="path", **settings)
    return [sample for shard in sources.shards(images).values() for sample in read_samples(shard)]


def test_quotation_marks_are_characters_in_tsv(tmp_path: Path) -> None:
    write_images(tmp_path, [f"{i}.jpg" for i in range(4)])
    captions = ['"begins with a quote', 'a 5" nail', 'says "hi"', '"a, ""b"""']
    lines = ["path\tcaption", *(f"{i}.jpg\t{caption}" for i, caption in enumerate(captions))]
    for end in ("\n", "\r\n"):
        found = samples(tmp_path, "t.tsv", end.join(lines) + end, shard_size=3)
        assert [(s.key, s.metadata["caption"]) for s in found] == [(f"t/{i}", text) for i, text in enumerate(captions)]
        assert all(s.image for s in found)


def test_quoted_fields_of_csv_hold_commas_quotes_and_lines(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.jpg", "1.jpg"])
    content = 'path,caption\r\n0.jpg,"a, ""b""\nand c"\r\n\r\n1.jpg,a 5" nail\r\n'
    found = samples(tmp_path, "t.csv", content)
    assert [s.metadata["caption"] for s in found] == ['a, "b"\nand c', 'a 5" nail']


@pytest.mark.parametrize(
    "caption", ['"never closed', '"closed\n1.jpg,"later" on', '"text" after the quote'], ids=["open", "later", "after"]
)
def test_unbalanced_quotes_of_csv_are_an_error_that_names_the_line(tmp_path: Path, caption: str) -> None:
    content = f"path,caption\n0.jpg,fine\n0.jpg,{caption}\n0.jpg,more\n"
    with pytest.raises(ValueError, match=r"t\.csv, line 3: .* A CSV field that begins with a quotation mark ends with"):
        samples(tmp_path, "t.csv", content)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.jsonl"])
def test_rows_that_cannot_be_read_are_rejected_in_their_place(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, ["0.jpg"])
    if name == "t.jsonl":
        good, bad = b'{"path": "0.jpg", "n": 1}', [b"{", b"[1]", b'{"path": "0.jpg", "n": "\\ud800"}']
        reasons, lines = [Reason.BAD_JSON, Reason.BAD_JSON, Reason.BAD_TEXT], [good, bad[0], good, *bad[1:], good]
    else:
        comma = b"," if name == "t.csv" else b"\t"
        good = b"0.jpg" + comma + b"1"
        bad = [b"0.jpg", good + comma + b"2", b"\xff.jpg" + comma + b"1"]
        reasons = [Reason.FIELDS, Reason.FIELDS, Reason.BAD_TEXT]
        lines = [b"\xef\xbb\xbfpath" + comma + b"n", good, bad[0], good, *bad[1:], good]
    found = samples(tmp_path, name, b"\n".join(lines), shard_size=2)
    assert [(s.key, s.reason) for s in found] == [
        (f"t/{i}", reason) for i, reason in enumerate([None, reasons[0], None, *reasons[1:], None])
    ]
    assert [str(s.metadata["n"]) for s in found if s.reason is None] == ["1", "1", "1"]


def test_an_empty_field_of_csv_is_a_row_and_an_empty_line_is_not(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.jpg"])
    found = samples(tmp_path, "t.csv", b'path\n0.jpg\n\n""\r\n\r\n0.jpg\n')
    assert [(s.key, s.reason) for s in found] == [("t/0", None), ("t/1", Reason.NO_IMAGE), ("t/2", None)]


def test_json_lines_need_not_have_the_same_fields(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.jpg", "1.jpg"])
    lines = [{"n": 1}, {"path": "0.jpg"}, {"path": "1.jpg", "n": 2.5, "tags": ["a", "b"], "id": 7}]
    content = "\n\n".join(json.dumps(line) for line in lines)
    found = samples(tmp_path, "metadata.jsonl", content, key="id")
    assert [s.key for s in found] == ["metadata/0", "metadata/1", "7"]
    assert [s.reason for s in found] == [Reason.NO_IMAGE, None, None]
    assert found[2].metadata == {"path": "1.jpg", "n": 2.5, "tags": ["a", "b"]}


def test_tables_without_rows_are_ignored_if_another_has_some(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.jpg"])
    (tmp_path / "a.csv").write_text("path\n")
    with pytest.raises(ValueError, match=r"the 1 tables of images\.path have no rows, the first is .*a\.csv"):
        only("table", f"{tmp_path}/a.csv", column="path")
    (tmp_path / "b.CSV").write_text("path\n0.jpg\n")
    (tmp_path / "more tables").mkdir()
    counts = FileCounts()
    ((_, shard),) = sources.iter_shards(Images("table", (str(tmp_path),), column="path"), counts)
    assert shard.path.endswith("b.CSV#addresses=path&rows=0-1")
    assert (counts.files, counts.ignored) == (3, {"table without rows": 1, SUB_FOLDER: 1})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"path,caption,caption\n0.jpg,a,b\n", r"t\.csv has several columns with the name 'caption': rename"),
        ("t.csv", b"", r"t\.csv has no header"),
        ("t.csv", "path\n0.jpg\n".encode("utf-16"), r"t\.csv has no header: .* in UTF-8"),
        ("t.tsv", b"path\tcaption\r0.jpg\ta\r", r"t\.tsv: its lines end with carriage returns alone"),
        ("t.csv", b"path\r0.jpg\r", r"t\.csv, line 1: new-line character seen in unquoted field"),
        ("t.csv", b"path;caption\n0.jpg;a\n", r"there are path;caption among path;caption"),
        ("t.jsonl", b'{"n": 1}\n', r"images\.column is 'path', .* there are none among n"),
    ],
)
def test_headers_that_do_not_do_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samples(tmp_path, name, content)


def test_repeated_columns_of_parquet_are_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["path", "path"]), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"t\.parquet has several columns with the name 'path'"):
        only("table", f"{tmp_path}/t.parquet", column="path")


@pytest.mark.parametrize("type_", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_addresses_may_have_any_type_of_text(tmp_path: Path, type_: pa.DataType) -> None:
    write_images(tmp_path, ["0.jpg", "1.jpg"])
    pq.write_table(pa.table({"path": pa.array(["0.jpg", "1.jpg"]).cast(type_)}), tmp_path / "t.parquet")
    found = list(read_samples(only("table", f"{tmp_path}/t.parquet", column="path")))
    assert [s.image for s in found] == [JPEG + b"0.jpg", JPEG + b"1.jpg"]


def test_image_structs_may_hold_paths_alone(tmp_path: Path) -> None:
    """Hugging Face writes the path without the bytes if the files are not embedded."""
    write_images(tmp_path, ["0.jpg"])
    cells = [{"bytes": None, "path": "0.jpg"}, {"bytes": JPEG, "path": "0.jpg"}, {"bytes": None, "path": "x.jpg"}]
    cells += [{"bytes": None, "path": None}, None]
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array(cells, type_)}), tmp_path / "t.parquet")
    found = list(read_samples(only("parquet", f"{tmp_path}/t.parquet")))
    assert [s.image for s in found] == [JPEG + b"0.jpg", JPEG, None, None, None]
    assert [s.reason for s in found[2:]] == [Reason.MISSING, Reason.NO_IMAGE, Reason.NO_IMAGE]


def test_a_table_that_gets_shorter_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("path\n0.jpg\n1.jpg\n")
    shard = only("table", f"{tmp_path}/t.csv", column="path")
    (tmp_path / "t.csv").write_text("path\n0.jpg\n")
    with pytest.raises(ValueError, match=r"t\.csv has no row 1: it was changed while it was read"):
        list(read_samples(shard))


def test_a_path_that_exists_is_no_pattern(tmp_path: Path) -> None:
    folder = tmp_path / "photos [1] {a,b}"
    write_images(folder, ["0.jpg"])
    (folder / "t.csv").write_text("path\n0.jpg\n")
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + f"{folder}/t.csv\r\n".encode())
    for path in (f"{folder}/t.csv", f"{tmp_path}/list.txt"):
        assert [s.image for s in read_samples(only("table", path, column="path"))] == [JPEG + b"0.jpg"]


def test_a_file_that_is_no_table_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(
        ValueError, match=r"a\.parquet cannot be read as a table \(.*\): a table is Parquet, .csv, .tsv or .jsonl"
    ):
        sources.shards(Images("parquet", (f"{tmp_path}/*.parquet",), column="image"))
