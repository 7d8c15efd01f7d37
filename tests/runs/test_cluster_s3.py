"""A run on a Ray cluster whose run folder is in a bucket, and which loses a node: the tables of a run on a disk."""

from pathlib import Path

import pytest
from ray.cluster_utils import Cluster

from cpp.files import filesystem
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import write_dataset
from tests.support.object_store import ObjectStore
from tests.support.ray_nodes import SMALL, disturb
from tests.support.runs import QUICK, files

pytestmark = pytest.mark.ray


@pytest.mark.slow
def test_losing_a_node_on_s3_changes_no_byte(s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_dataset(tmp_path / "data", (20, 20, 12, 20, 20, 12))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **SMALL})  # which have the credentials
    second = nodes.add_node(num_cpus=1, **SMALL)
    config = load(
        dataset.config,
        [*QUICK, "root=s3://bucket/run", f"resources.ray_address={nodes.address}", "resources.workers=2"],
    )
    this, disturbed = Run(config), disturb(monkeypatch, nodes, second)
    try:
        assert this.go()
    finally:
        nodes.shutdown()
    assert disturbed
    assert "was killed while it processed this shard (attempt 1); retrying" in (this.store.root / "run.log").read_text()
    filesystem.connect("s3://bucket")[0].get("bucket/run/", f"{tmp_path}/shown/", recursive=True)
    assert Run(load(dataset.config, QUICK), local=True).go()
    assert files(tmp_path / "shown") == files(dataset.root)
