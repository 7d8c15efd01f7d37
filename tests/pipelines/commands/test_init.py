"""`init` recognises inputs and writes a valid configuration; `validate` and `schema` check one without a run."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from cpp.sources.shards import Images, shards
from pipelines.commands.init import recognise
from pipelines.config.errors import UserError
from pipelines.config.load import load
from tests.support.datasets import Dataset
from tests.support.pictures import encoded, picture
from tests.support.runs import call

JPEG = encoded(picture(), "JPEG")


def image_folder(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(JPEG)


def test_vectors_with_their_images(dataset: Dataset) -> None:
    section = recognise(str(dataset.folder / "data")).section
    data = dataset.folder / "data"
    assert section == {"import": {"path": str(data), "images": str(data / "images"), "key": "key"}}


def test_tars(dataset: Dataset) -> None:
    section = recognise(str(dataset.folder / "data/images")).section
    assert section == {"images": {"format": "webdataset", "path": [f"{dataset.folder}/data/images"]}}


def test_coco(tmp_path: Path) -> None:
    image_folder(tmp_path / "val2017")
    (tmp_path / "annotations").mkdir()
    (tmp_path / ".cache").mkdir()  # hidden folders hold no images
    for name in ("captions_val2017.json", "instances_train2017.json", "notes.json"):
        (tmp_path / "annotations" / name).write_text("{}")
    recognised = recognise(str(tmp_path))
    assert recognised.section["images"]["path"] == [f"{tmp_path}/val2017"]
    assert recognised.section["images"]["annotations"] == [f"{tmp_path}/annotations/captions_val2017.json"]
    assert recognised.captions == "captions"


@pytest.mark.parametrize(("where", "labels"), [("", False), ("cat", True), ("train/cat", True)])
def test_image_folders(tmp_path: Path, where: str, labels: bool) -> None:
    image_folder(tmp_path / "images" / where)
    (tmp_path / "images/classes.csv").write_text("id,class\n1,cat\n")  # a table that says nothing of the images
    assert recognise(f"{tmp_path}/images").section["images"]["labels"] is labels


def test_tables_with_bytes_or_addresses(tmp_path: Path) -> None:
    for kind, column in (("bytes", pa.array([JPEG])), ("url", pa.array(["https://example.org/a.jpg"]))):
        (tmp_path / kind).mkdir()
        pq.write_table(pa.table({"id": [1], kind: column, "TEXT": ["a cat"]}), tmp_path / kind / "0.parquet")
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv/t.csv").write_text("name,URL\nx,https://example.org/a.jpg\n")
    sections = [recognise(f"{tmp_path}/{kind}").section["images"] for kind in ("bytes", "url", "csv")]
    assert [(s["format"], s["column"]) for s in sections] == [("parquet", "bytes"), ("table", "url"), ("table", "URL")]
    assert recognise(f"{tmp_path}/bytes").captions == "TEXT"


def test_several_tables_are_their_folder_whatever_its_name(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / "[new]").mkdir(exist_ok=True)
        pq.write_table(pa.table({"bytes": [JPEG]}), tmp_path / f"[new]/{number}.parquet")
    section = recognise(f"{tmp_path}/[new]").section["images"]
    images = Images(section["format"], tuple(section["path"]), column=section["column"])
    assert list(shards(images)) == ["0", "1"]


@pytest.mark.parametrize("name", ["a.tar", "a.parquet", "a.csv"])
def test_a_damaged_input_is_an_error_that_names_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(b"\xff\xfe" * 999)
    code, output = call("init", tmp_path / "in", "--to", tmp_path / "new.yaml")
    assert code == 2, output
    assert f"{tmp_path}/in/{name} " in output
    assert not (tmp_path / "new.yaml").exists()


def test_inputs_that_are_not_recognised_are_named_with_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        recognise(f"{tmp_path}/nothing")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"none of these: img_emb/\*.npy"):
        recognise(str(tmp_path))
    pq.write_table(pa.table({"n": [1]}), tmp_path / "0.parquet")
    with pytest.raises(UserError, match="has the columns n, none of which"):
        recognise(str(tmp_path))


def test_init_writes_a_valid_file_and_replaces_none(dataset: Dataset, tmp_path: Path) -> None:
    to = tmp_path / "new.yaml"
    code, output = call("init", dataset.folder / "data/images", "--to", to)
    assert code == 0, output
    assert "3 tars" in output
    assert load(to).images is not None
    assert to.read_text().startswith("# ")
    code, output = call("init", dataset.folder / "data", "--to", to)
    assert (code, "exists already" in output) == (2, True)


def test_validate_names_every_fault_and_starts_nothing(dataset: Dataset) -> None:
    code, output = call("validate", dataset.config)
    assert code == 0, output
    assert "3 input shards" in output
    config = yaml.safe_load(dataset.config.read_text())
    dataset.config.write_text(yaml.safe_dump(config | {"seed": -1, "colour": "red"}))
    code, output = call("validate", dataset.config)
    assert code == 2
    assert "seed" in output
    assert "colour" in output
    assert call("validate", dataset.config, "--set", "import.path=elsewhere")[0] == 2
    assert not dataset.root.exists()


def test_the_schema_has_every_section(tmp_path: Path) -> None:
    assert call("schema", "--to", tmp_path / "schema.json") == (0, "")
    schema = json.loads((tmp_path / "schema.json").read_text())
    assert {"import", "images", "encode", "fit", "partition", "resources"} <= set(schema["properties"])
    assert schema["properties"]["name"]["description"] == "title of the run"
    assert json.loads(call("schema")[1]) == schema
