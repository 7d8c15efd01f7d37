"""Data sets of the Hugging Face Hub as inputs, `hf://datasets/USER/NAME/...`, from a local server."""

from collections.abc import Iterator
from pathlib import Path

import fsspec
import huggingface_hub.constants
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpp.files import filesystem, scratch, tables
from cpp.sources import paths, shards
from cpp.sources.shards import Images, read_samples
from tests.support import hub
from tests.support.stalls import Stall
from tests.support.tars import write_tar

ADDRESS = f"hf://{hub.REPOSITORY}"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[hub.Hub]:
    forget()
    with hub.serve() as running:
        template = f"{running.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", running.url)
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield running
    forget()


def forget() -> None:
    """The next use connects anew."""
    fsspec.get_filesystem_class("hf").clear_instance_cache()


def tar(folder: Path, n: int, size: int = 1000) -> bytes:
    pictures = [(f"{i:03d}.jpg", bytes([i]) * size) for i in range(n)]
    return Path(write_tar(folder / "made.tar", pictures)).read_bytes()


def test_tars_of_a_data_set_are_shards(server: hub.Hub, tmp_path: Path) -> None:
    server.files = {f"data/{name}.tar": tar(tmp_path, n) for n, name in enumerate(("00000", "00001"), start=3)}
    listed = shards.shards(Images("webdataset", (f"{ADDRESS}/data/*.tar",)))
    assert [len(list(read_samples(shard))) for shard in listed.values()] == [3, 4]
    assert [shard.path for shard in listed.values()] == [f"{ADDRESS}/data/{name}.tar" for name in ("00000", "00001")]
    ranged = shards.shards(Images("webdataset", (f"{ADDRESS}/data/{{00000..00001}}.tar",)))
    assert ranged == listed


def test_a_file_that_changes_has_another_fingerprint(server: hub.Hub, tmp_path: Path) -> None:
    server.files = {"a.tar": tar(tmp_path, 3), "b.tar": tar(tmp_path, 3)}
    before = dict(paths.expand([f"{ADDRESS}/*.tar"]))
    server.files["b.tar"] = server.files["b.tar"].replace(b"\x01", b"\x05")  # of the same size
    forget()
    after = dict(paths.expand([f"{ADDRESS}/*.tar"]))
    assert [path for path in after if after[path] != before[path]] == [f"{ADDRESS}/b.tar"]


def test_an_answer_that_breaks_off_is_requested_again(server: hub.Hub, tmp_path: Path) -> None:
    server.files = {"a.tar": tar(tmp_path, 60, 200_000)}  # 12 MB, more than one request
    server.cut = lambda number: number % 2 == 0
    (shard,) = shards.shards(Images("webdataset", (f"{ADDRESS}/a.tar",))).values()
    assert [sample.image for sample in read_samples(shard)] == [bytes([i]) * 200_000 for i in range(60)]
    assert len(set(server.ranges)) > 1
    server.ranges.clear()
    copy = scratch.download(f"{ADDRESS}/a.tar", tmp_path)
    assert Path(copy).read_bytes() == server.files["a.tar"]


def test_parquet_of_a_data_set_is_read_in_ranges(server: hub.Hub, tmp_path: Path) -> None:
    pq.write_table(pa.table({"key": ["a", "b"]}), tmp_path / "m.parquet")
    server.files = {"m.parquet": (tmp_path / "m.parquet").read_bytes()}
    (batch,) = tables.batches([f"{ADDRESS}/m.parquet"], ["key"], 1)
    assert batch["key"].to_pylist() == ["a", "b"]


def test_a_data_set_that_does_not_exist_is_named(server: hub.Hub) -> None:
    with pytest.raises(ValueError, match=r"the first is hf://datasets/me/other/0.tar: correct images.path"):
        paths.expand(["hf://datasets/me/other/0.tar"])


def test_the_token_comes_from_the_environment(server: hub.Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    server.files = {"a.tar": tar(tmp_path, 1)}
    (shard,) = shards.shards(Images("webdataset", (f"{ADDRESS}/a.tar",))).values()
    assert "hf_secret" not in repr(shard)
    assert server.tokens == {"Bearer hf_secret"}


def test_a_hub_that_stalls_is_reported(server: hub.Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    server.files = {"a.tar": b"content"}
    stall = Stall(monkeypatch)
    server.cut = lambda number: bool(stall.wait())
    with filesystem.open_file(f"{ADDRESS}/a.tar") as file:
        assert file.read() == b"content"
    assert ("hf", f"{ADDRESS}/a.tar has taken N s, still waiting") in stall.lines
