"""The command `export` into a bucket: the bytes of an export to a disk, whole files, and what is refused."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cpp.export.format import Format
from cpp.files import filesystem
from pipelines.__main__ import app
from pipelines.commands.export import Summary, go
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset, write_dataset
from tests.support.leases import PROGRAM
from tests.support.object_store import ObjectStore
from tests.support.runs import QUICK

OUT = "s3://bucket/out"
FINAL = ("images.parquet", "metadata.parquet", ".csv", ".json", ".md")  # the ends of files that combine all shards
OURS = ("export.json", ".lock", ".lease")  # which say where the export is, or keep others off


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A finished run of three shards on a disk."""
    dataset = write_dataset(tmp_path_factory.mktemp("done"), (20, 20, 12))
    assert Run(load(dataset.config, QUICK), local=True).go()
    return dataset


def export(dataset: Dataset, format: str, to: Path | str | None, root: Path | str | None = None) -> Summary:
    config = load(dataset.config, [*QUICK, f"root={root or dataset.root}"])
    return go(config, Wanted(Format(format), to and str(to)), local=True)


def files(where: Path | str) -> dict[str, bytes]:
    fs, path = filesystem.connect(str(where))
    found = {name[len(path) + 1 :]: name for name in fs.find(path)}
    return {name: fs.cat_file(where) for name, where in found.items() if name and not name.startswith(OURS)}


@pytest.mark.parametrize("format", list(Format))
def test_an_export_to_s3_has_the_bytes_of_one_to_a_disk_and_again_writes_no_image(
    done: Dataset, s3: ObjectStore, tmp_path: Path, format: Format
) -> None:
    export(done, format, tmp_path)
    summary = export(done, format, OUT)
    assert (summary.images, summary.reused, summary.to) == (52, 0, OUT)
    assert files(OUT) == files(tmp_path)
    fs, path = filesystem.connect(f"{OUT}/export.json")
    assert json.loads(fs.cat_file(path))["state"] == "done"
    s3.requests.clear()
    assert export(done, format, OUT).reused == 3
    assert files(OUT) == files(tmp_path)
    finals = {name for name in files(OUT) if "/" not in name and name.endswith(FINAL)}
    put = {path.removeprefix("/bucket/out/") for method, path in s3.requests if method == "PUT"}
    assert {name for name in put if not name.startswith(OURS)} == finals


def test_a_run_on_s3_is_exported_into_its_folder_and_to_this_machine(
    done: Dataset, s3: ObjectStore, tmp_path: Path
) -> None:
    root = "s3://bucket/run"
    fs = filesystem.connect(root)[0]
    fs.put(f"{done.root}/", "bucket/run/", recursive=True)
    fs.call_s3("put_object", Bucket="bucket", Key="run/export/webdataset/", Body=b"")  # made in a console, empty
    export(done, "webdataset", tmp_path / "disk")
    assert export(done, "webdataset", None, root).to == f"{root}/export/webdataset"
    export(done, "webdataset", tmp_path / "here", root)
    assert files(f"{root}/export/webdataset") == files(tmp_path / "disk") == files(tmp_path / "here")


@pytest.mark.slow
def test_an_export_to_s3_that_is_killed_goes_on_where_it_was(
    done: Dataset, s3: ObjectStore, impatient: None, tmp_path: Path
) -> None:
    """Killed in the middle of the second shard, with images of it in the bucket and more under way."""
    late = "/out/images/00001-000010"
    s3.fault = lambda method, path: 600.0 if method == "PUT" and late in path else None
    settings = [part for override in QUICK for part in ("--set", override)]
    arguments = ["export", done.config, "--format", "huggingface", "--to", OUT, "--local", *settings]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments]) as process:
        while not any(late in path for _, path in s3.requests):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    s3.settle()
    s3.reset()
    assert any("/00001-" in f"/{name}" for name in files(OUT))
    assert not any(name.startswith(".00001") for name in files(OUT))
    assert export(done, "huggingface", OUT).reused == 1
    export(done, "huggingface", tmp_path)
    assert files(OUT) == files(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--to", OUT, "--format", "imagefolder", "--links"], "--links needs a folder of this machine"),
        (["--to", "s3://key:hidden@bucket/out", "--format", "csv"], "--to: the address s3://... holds credentials"),
        (["--to", "https://example.org/out", "--format", "csv"], "--to: https://example.org/out cannot be written to"),
        (["--to", "s3:///", "--format", "csv"], "--to: s3:/// cannot be written to: name a folder, s3://BUCKET/FOLDER"),
        (["--to", "s3://bucket/taken", "--format", "csv"], "s3://bucket/taken holds files and is not an export"),
        (["--to", "s3://gone/out", "--format", "csv"], "cannot use the folder s3://gone/out"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_written(
    done: Dataset, s3: ObjectStore, more: list[str], said: str
) -> None:
    filesystem.connect("s3://bucket")[0].pipe_file("bucket/taken/mine.txt", b"mine")
    settings = [part for override in QUICK for part in ("--set", override)]
    found = CliRunner().invoke(app, ["export", str(done.config), "--local", *settings, *more])
    assert found.exit_code == 2
    assert said in " ".join(found.output.split())
    assert "hidden" not in found.output
    assert files("s3://bucket") == {"taken/mine.txt": b"mine"}
