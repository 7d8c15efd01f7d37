"""A finished run asked about images and vectors: what it says of its own, what is no image, what cannot be asked."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from cpp.files import filesystem
from cpp.store.local import Store
from pipelines.commands import predict
from pipelines.commands.parts import finished as finished_part
from pipelines.config.errors import UsageError
from pipelines.config.load import load
from pipelines.engine.stage import Context, Work
from pipelines.graph import Part
from pipelines.stages.drift import Fitted
from tests.pipelines.commands.test_inspect import call
from tests.support.datasets import COLOURS, Dataset, from_pictures, write_dataset
from tests.support.object_store import ObjectStore

STEPS = ("labels", "--local")  # nothing after them is needed
OWN = ["key", "cluster", "score", "second", "margin"]


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A finished run that starts from vectors. The tests only ask it."""
    return finished(write_dataset(tmp_path_factory.mktemp("vectors")), layers=[2, 9], fine=12)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Dataset:
    """One that starts from images."""
    return finished(from_pictures(write_dataset(tmp_path_factory.mktemp("pictures")), model))


def finished(dataset: Dataset, **partition: object) -> Dataset:
    torch.set_num_threads(1)
    config = yaml.safe_load(dataset.config.read_text())
    config["partition"] |= {"layers": [2], **partition}
    dataset.config.write_text(yaml.safe_dump(config))
    assert call("run", dataset.config, *STEPS)[0] == 0
    return dataset


def kept(root: Path, shard: int = 0) -> pa.Table:
    """What the run says of a shard, labels beside clusters."""
    found = pq.read_table(root / f"assignments/{shard:05d}.parquet").select([*OWN, "image_shard"])
    labels = pq.read_table(root / f"labels/{shard:05d}.parquet")
    for name in labels.column_names[1:]:
        found = found.append_column(name, labels[name])
    return found


def same(found: pa.Table, expected: pa.Table, names: list[str]) -> bool:
    return found.select(names).cast(expected.select(names).schema).equals(expected.select(names))


def folder_of(dataset: Dataset) -> Path:
    """Pictures as files, one of them cut short, and one that is text."""
    folder = dataset.folder / "new"
    (folder / "more").mkdir(parents=True)
    for name, colour in zip(("a.jpg", "b.png", "more/c.jpg"), COLOURS, strict=False):
        Image.new("RGB", (32, 24), colour).save(folder / name)
    (folder / "a2.jpg").write_text("no picture")
    (folder / "b2.png").write_bytes((folder / "b.png").read_bytes()[:60])
    return folder


def test_of_its_own_images_it_says_what_the_run_says(seen: Dataset) -> None:
    before = {path: path.stat().st_mtime_ns for path in seen.root.rglob("*")}
    tar, to = seen.folder / "data/images/00001.tar", seen.folder / "out.parquet"
    code, said = call("predict", seen.config, tar, "--to", to)
    assert code == 0, said
    expected, found = kept(seen.root, 1), pq.read_table(to)
    assert same(found, expected, expected.column_names)
    own = pq.read_table(seen.root / "assignments/00001.parquet")
    assert found["cluster_2"].equals(own["cluster_2"])
    assert found["source_label"].equals(own["label"])  # the tar has a column of that name
    assert "... and 40 more; --to FILE writes all of them" in said
    assert "60 of 60 have a cluster" in said
    clusters = pd.read_parquet(seen.root / "clusters.parquet").query("main").set_index("cluster")
    for row, line in zip(expected.to_pylist()[:20], said.splitlines()[1:], strict=False):
        cells = [row["key"], str(row["cluster"]), *clusters.loc[row["cluster"], "name"].split()]
        cells += [f"{row['confidence']:.0%}", f"{row['score']:.3f}", f"{row['margin']:.3f}"]
        assert line.split() == [*cells, *clusters.loc[row["second"], "name"].split()]
    assert {path: path.stat().st_mtime_ns for path in seen.root.rglob("*")} == before


def test_a_bad_image_is_a_row_with_the_reason(seen: Dataset) -> None:
    folder, to = folder_of(seen), seen.folder / "out.csv"
    code, said = call("predict", seen.config, folder, "--to", to)
    assert code == 0
    rows = pd.read_csv(to).set_index("key")
    assert rows.index.tolist() == ["a.jpg", "a2.jpg", "b.png", "b2.png", "more/c.jpg"]
    assert rows["reason"].dropna().to_dict() == {
        "a2.jpg": "not an image", "b2.png": "image is damaged or cut short",
    }  # fmt: skip
    assert rows.drop(["a2.jpg", "b2.png"])[[*OWN[1:], "label", "confidence"]].notna().all(axis=None)
    assert rows.loc["a2.jpg"].drop("reason").isna().all()
    lines = said.splitlines()
    assert lines[0].split() == ["image", "cluster", "name", "sure", "score", "margin", "runner-up", "rejected"]
    assert lines[2].split() == ["a2.jpg", "not", "an", "image"]
    assert "3 of 5 have a cluster; rejected: 1 not an image, 1 image is damaged or cut short" in said

    code, said = call("predict", seen.config, folder / "more/c.jpg")
    assert code == 0
    assert said.splitlines()[1].split()[:2] == ["c.jpg", str(int(rows.loc["more/c.jpg", "cluster"]))]
    code, said = call("predict", seen.config, folder / "a2.jpg")
    assert code == 1
    assert "0 of 1 have a cluster; rejected: 1 not an image" in said


def test_vectors_of_either_kind_of_run(known: Dataset) -> None:
    config, expected = load(known.config), kept(known.root, 2)
    file = known.folder / "data/img_emb/img_emb_2.npy"
    found = predict.predict(config, str(file))[0]
    names = [name for name in expected.column_names if name not in ("key", "image_shard")]
    assert same(found, expected, names)
    assert found["key"].to_pylist() == [f"img_emb_2/{i}" for i in range(40)]
    rows, names_of_clusters = predict.predict(config, str(known.folder / "data"))
    clusters = pd.read_parquet(known.root / "clusters.parquet").query("main").set_index("cluster")
    assert names_of_clusters == clusters["name"].to_dict()
    assert same(rows, pa.concat_tables(kept(known.root, shard) for shard in range(3)), ["key", *names])
    X = np.load(file).astype(np.float32)
    X[3], X[5, 0] = 0, np.nan
    np.save(known.folder / "bad.npy", X)
    bad, _ = predict.predict(config, str(known.folder / "bad.npy"))
    assert same(bad.take([0, 1, 2, 4]), expected.take([0, 1, 2, 4]), names)
    assert bad["reason"].to_pylist()[3:6] == ["vector is zero", None, "vector is not finite"]


def test_vectors_for_a_run_of_images(seen: Dataset) -> None:
    features = pq.read_table(seen.root / "features/00000.parquet")["embedding"].to_pylist()
    file = seen.folder / "own.npy"
    np.save(file, np.array(features, np.float32))
    found = predict.predict(load(seen.config), str(file))[0]
    expected = kept(seen.root)
    assert found["cluster"].equals(expected["cluster"])
    np.testing.assert_allclose(found["score"], expected["score"], atol=1e-3)
    np.save(file, np.ones((2, 5), np.float32))
    code, said = call("predict", seen.config, file)
    assert code == 2
    assert "own.npy has vectors of dimension 5, those of this run have 32" in said


def test_what_cannot_be_asked_is_one_error_that_says_why(known: Dataset) -> None:
    empty, broken = known.folder / "empty", known.folder / "broken.npy"
    empty.mkdir()
    broken.write_text("no array")
    np.save(known.folder / "none.npy", np.empty((0, 16), np.float32))
    file = known.folder / "data/img_emb/img_emb_0.npy"
    for arguments, message in (
        ([known.folder / "absent.jpg"], "absent.jpg does not exist: name an image, a folder of images, a tar"),
        ([known.folder / "data/images/00000.tar"], "this run starts from vectors of an encoder that it does not"),
        ([empty], "this run starts from vectors"),
        ([broken], "broken.npy is not a readable .npy file"),
        ([known.folder / "none.npy"], "none.npy has no rows"),
        (["s3://user:secret@bucket/x.npy"], "holds credentials"),
        ([file, "--to", known.folder / "out.txt"], "must end in .parquet or .csv"),
        ([file, "--to", known.folder / "absent/out.csv"], "absent does not exist"),
        ([file, "--set", "partition.n_clusters=5"], "is not a finished run with these settings"),
    ):
        code, said = call("predict", known.config, *arguments)
        assert (code, len(said.splitlines())) == (2, 1), said
        assert message in said


def test_vectors_are_read_as_the_run_reads_its_own_and_are_of_its_encoder(known: Dataset, tmp_path: Path) -> None:
    config = load(known.config)
    part = finished_part(config, ["clusters"])._replace(config=load(known.config, ["import.key=url"]))
    for what, key in (("img_emb/img_emb_0.npy", "key"), ("", "url")):
        stages, _ = predict._inputs(part, str(known.folder / "data" / what), tmp_path)
        assert stages["import"].settings()["key"] == key
    two = config.model_copy(update={"fit": config.fit.model_copy(update={"embeddings": ["embedding", "embedding_2"]})})
    with pytest.raises(
        UsageError, match="new.npy has vectors of one encoder, .* embedding, embedding_2: add vectors of all"
    ):
        predict._vector_steps(part._replace(config=two), "new.npy", "key", {})


def test_a_step_that_does_not_start_is_one_error(known: Dataset, tmp_path: Path) -> None:
    class Closed(Fitted):
        def open(self, context: Context) -> Work:
            raise FileNotFoundError("no weights")

    with pytest.raises(UsageError, match="predict: step fitted does not start: FileNotFoundError: no weights"):
        predict._work(Part(load(known.config), {}, {"fitted": Closed()}), "x.npy", Store(tmp_path))


@pytest.mark.parametrize(("n", "more"), [(20, []), (21, ["... and 1 more; --to FILE writes all of them"])])
def test_what_is_not_printed_is_counted_and_one_cluster_has_no_second(n: int, more: list[str]) -> None:
    row = {"key": "a", "cluster": 0, "score": 1.0, "second": -1, "margin": 0.5}
    rows = pa.Table.from_pylist([row] * n).append_column("reason", pa.nulls(n, pa.string()))
    assert predict.table(rows, {0: "thing"}).row_count == 20
    assert predict.lines(rows) == [*more, f"{n} of {n} have a cluster"]


def test_a_folder_without_images_and_a_damaged_tar_of_a_run_of_images(seen: Dataset) -> None:
    code, said = call("predict", seen.config, seen.folder / "data/images")
    assert code == 2
    assert "data/images has no images: name one that has, or a single tar" in said
    tar = seen.folder / "cut.tar"
    tar.write_bytes((seen.folder / "data/images/00000.tar").read_bytes()[:5000])
    code, said = call("predict", seen.config, tar)
    assert code == 2
    assert "cut.tar failed in step encode: " in said
    with tarfile.open(tar, "w") as file:
        about = tarfile.TarInfo("a.jpg")
        about.size = 4
        file.addfile(about, io.BytesIO(b"none"))
    assert call("predict", seen.config, tar)[0] == 1


def test_without_words_there_are_clusters_alone_and_neither_ray_nor_open_clip(dataset: Dataset) -> None:
    plain = ("--set", "label=null")
    assert call("run", dataset.config, "label", "--local", *plain)[0] == 0
    file = dataset.folder / "data/img_emb/img_emb_0.npy"
    asked = ["predict", str(dataset.config), str(file), *plain]
    code = f"app({asked}, standalone_mode=False); print({{'ray', 'open_clip'}} & {{*sys.modules}})"
    program = [sys.executable, "-c", f"import sys; from pipelines.__main__ import app; {code}"]
    said = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[0].split() == ["image", "cluster", "name", "score", "margin", "runner-up"]
    assert said.splitlines()[-1] == "set()"


def test_of_a_run_and_vectors_on_s3(dataset: Dataset, s3: ObjectStore) -> None:
    root = ("--set", "root=s3://bucket/run")
    assert call("run", dataset.config, *STEPS, *root)[0] == 0
    fs = filesystem.connect("s3://bucket")[0]
    fs.put(str(dataset.folder / "data/img_emb/img_emb_0.npy"), "bucket/new/img_emb_0.npy")
    found = predict.predict(load(dataset.config, root[1:]), "s3://bucket/new/img_emb_0.npy")[0]
    assert same(found, pq.read_table("bucket/run/assignments/00000.parquet", filesystem=fs), OWN[1:])
    code, said = call("predict", dataset.config, "s3://bucket/absent.npy", *root)
    assert code == 2
    assert "s3://bucket/absent.npy does not exist" in said
