"""The described schemas are those of the files that a run writes."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.config.load import load
from pipelines.run import Run
from pipelines.stages.schemas import MEANINGS, METADATA, OUTPUTS, WHITE_BOX, Output
from tests.support.chat_server import ChatServer, completion
from tests.support.datasets import from_pictures, write_dataset

TABLES = [output for output in OUTPUTS if output.schema is not None]
CURATE = "curate={split: url, duplicates: {threshold: 0.999, pictures: false}, outliers: {threshold: 0.9}}"


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory, model: Path) -> list[Path]:
    """The folders of a run from pictures and of one from vectors."""
    pictures = from_pictures(write_dataset(tmp_path_factory.mktemp("pictures")), model)
    assert Run(load(pictures.config, ["report.attention=true"]), local=True).go()
    dataset = write_dataset(tmp_path_factory.mktemp("schemas"))
    table = pq.read_table(dataset.folder / "data/metadata/metadata_0.parquet").to_pandas()
    members = table["key"][table["label"] == 0].tolist()
    decisions = dataset.folder / "decisions.yaml"
    decisions.write_text(
        json.dumps({"decisions": [{"action": "drop", "clusters": [{"cluster": 0, "members": members}]}]})
    )
    with ChatServer(lambda body: completion('{"name": "cloud"}')) as server:
        namer = f"label.namer={{url: '{server.url}', model: small}}"
        assert Run(
            load(dataset.config, [CURATE, namer, "partition.layers=[2]", f"decisions={decisions}"]), local=True
        ).go()
    return [dataset.root, pictures.root]


@pytest.mark.parametrize(
    "output", [o for o in TABLES if o.schema != WHITE_BOX], ids=lambda output: output.path.partition("/")[0]
)
def test_a_run_writes_the_described_columns(output: Output, roots: list[Path]) -> None:
    path = next(path for root in roots for path in root.glob(output.path.replace("SHARD", "*")))
    written = pq.read_schema(path)
    described = [field for field in output.schema or () if field.name != METADATA]
    assert [f.name.replace("cluster_2", "cluster_20") for f in written][: len(described)] == [f.name for f in described]
    if output.schema is None or METADATA not in output.schema.names:
        assert len(written) == len(described)
    for field in described:
        assert written.field(field.name.replace("cluster_20", "cluster_2")).type.id == field.type.id, field.name


def test_every_column_has_a_meaning() -> None:
    for output in TABLES:
        names = set(output.schema.names if output.schema else ())
        assert set(output.columns) <= names <= {*output.columns, *MEANINGS}, output.path


def test_all_files_of_a_run_are_described(roots: list[Path]) -> None:
    described = {name.strip().split("/")[0] for output in OUTPUTS for name in output.path.split(",")}
    internal = {"cache", "scattered", "similar_pairs", "similar_rows", "duplicate_groups", "duplicate_examples"}
    internal |= {"duplicate_counts", "duplicate_pictures", "scales", "chosen"}
    internal |= {"cells", "pictures", "picture_sizes", "caption_match"}
    written = {path.name for root in roots for path in root.iterdir() if path.name.split(".")[0] not in internal}
    assert written <= described, written - described
