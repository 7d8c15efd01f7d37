"""The command `export` again: what it reuses, what it removes, and how it resumes after a failure or a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace

import pandas as pd
import pytest
from torchvision.datasets import ImageFolder

from cpp.export.classes import classes
from cpp.export.dataset import Export
from cpp.export.format import Format
from cpp.export.rows import Filter, Layer
from cpp.store.lease import LockedError
from cpp.store.local import Store
from cpp.store.results import fingerprint
from pipelines.commands.export import Write
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset
from tests.support.exports import export, files
from tests.support.runs import call


def test_a_repeated_export_writes_no_image_and_equal_tables(done: Dataset) -> None:
    export(done, "webdataset")
    before = files(done.folder / "out")
    times = {path: path.stat().st_mtime_ns for path in (done.folder / "out").glob("*.tar")}
    again = export(done, "webdataset")
    assert (again.reused, again.images) == (3, 160)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    assert files(done.folder / "out") == before


@pytest.mark.parametrize("format", ["webdataset", "imagefolder"])
def test_only_lost_files_are_written_again(done: Dataset, format: str) -> None:
    export(done, format)
    before = files(done.folder / "out")
    next((done.folder / "out").rglob("00001.tar" if format == "webdataset" else "00001-000007.jpg")).unlink()
    (done.folder / "out/classes.csv").unlink()
    assert export(done, format).reused == 2
    assert files(done.folder / "out") == before


@pytest.mark.parametrize("format", ["webdataset", "imagefolder", "huggingface", "csv"])
def test_other_filters_leave_no_file_of_the_earlier_export(done: Dataset, format: str) -> None:
    export(
        done,
        format,
        "fresh",
        clusters=(
            1,
            2,
        ),
    )
    export(done, format)
    assert (
        export(
            done,
            format,
            clusters=(
                1,
                2,
            ),
        ).reused
        == 0
    )
    assert files(done.folder / "out") == files(done.folder / "fresh")
    assert export(done, format).images == 160


def test_other_names_are_another_export(mine: Dataset) -> None:
    """The numbers of the clusters are the same, so the assignments are: the names are what changed."""
    export(mine, "imagefolder")
    words = mine.folder / "words/names.txt"
    words.write_text(words.read_text().replace("red thing", "blood"))
    assert Run(load(mine.config), local=True).go()
    assert export(mine, "imagefolder").reused == 0
    assert "blood" in ImageFolder(str(mine.folder / "out")).classes
    assert "red thing" not in ImageFolder(str(mine.folder / "out")).classes


def test_the_fingerprint_follows_every_setting_but_the_place() -> None:
    plain = Export(Format.CSV, Layer("cluster", ("cluster",), main=True), (), Filter())
    others = [
        replace(plain, format=Format.PARQUET),
        replace(plain, layer=Layer("cluster_2", ("cluster",), main=False)),
        replace(
            plain, classes=tuple(classes([{"cluster": 0, "name": "cat", "size": 1, "status": "named", "guess": "cat"}]))
        ),
        *(replace(plain, filter=f) for f in (Filter(()), Filter(None, 0.5), Filter(None, None, 3))),
        replace(plain, links=True),
        replace(plain, max_bytes=1),
    ]
    settings = [Write(export=export, root="r", to="t").settings() for export in (plain, *others)]
    assert len(set(map(fingerprint, settings))) == 1 + len(others)
    assert Write(export=plain, root="elsewhere", to="there").settings() == settings[0]


def test_the_folder_of_the_source_is_refused(mine: Dataset) -> None:
    before = files(mine.folder / "data/images")
    with pytest.raises(PermissionError, match="holds files and is not an export"):
        export(mine, "webdataset", "data/images")
    assert files(mine.folder / "data/images") == before


def test_an_export_is_refused_while_a_run_writes(done: Dataset) -> None:
    with Store(done.root).lock(), pytest.raises(LockedError, match="another run is writing to"):
        export(done, "csv")


def test_a_damaged_shard_is_set_aside_and_the_others_are_written(mine: Dataset) -> None:
    path = mine.folder / "data/images/00001.tar"
    good, stat = path.read_bytes(), path.stat()
    path.write_bytes(good[: len(good) // 2].ljust(len(good), b"?"))  # of the same size and time: the run does not know
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    summary = export(mine, "webdataset")
    assert [result.shard for result in summary.failed] == ["00001"]
    assert "1 of 3 shards failed" in list(summary.lines())[-1]
    assert not (mine.folder / "out/classes.csv").exists()
    assert json.loads((mine.folder / "out/export.json").read_text())["state"] == "unfinished"
    path.write_bytes(good)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert export(mine, "webdataset").reused == 2


@pytest.mark.slow
def test_ray_and_this_process_write_equal_bytes(done: Dataset) -> None:
    export(done, "webdataset")
    code, said = call("export", done.config, "--format", "webdataset", "--to", done.folder / "ray")
    assert code == 0, said
    assert files(done.folder / "out") == files(done.folder / "ray")


def test_a_killed_export_resumes(done: Dataset) -> None:
    """Killed in the middle of the second shard, with images of it written."""
    slow = (
        "import sys, time\n"
        "from cpp.export.target import Target\n"
        "place, n = Target.place, [0]\n"
        "def counted(images):\n"
        "    for image in images:\n"
        "        if n[0] == 90:\n"
        "            print('NOW', flush=True); time.sleep(600)\n"
        "        yield image\n"
        "        n[0] += 1\n"
        "Target.place = lambda self, images: place(self, counted(images))\n"
        "from pipelines.__main__ import app\n"
        "app()\n"
    )
    out = done.folder / "out"
    arguments = ["export", done.config, "--format", "imagefolder", "--to", out, "--local"]
    with subprocess.Popen([sys.executable, "-c", slow, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "NOW" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert len(list(out.rglob("*.jpg"))) == 90
    only = min(path.parent.name for path in out.rglob("*.jpg"))
    clusters = pd.read_parquet(done.root / "clusters.parquet").query("main").set_index("name")["cluster"]
    shutil.copytree(out, done.folder / "other")
    assert export(done, "imagefolder", "other", clusters=(int(clusters[only]),)).reused == 0
    assert {path.parent.name for path in (done.folder / "other").rglob("*.jpg")} == {only}
    assert export(done, "imagefolder").reused == 1
    export(done, "imagefolder", "fresh")
    assert files(out) == files(done.folder / "fresh")
