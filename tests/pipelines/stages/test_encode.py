"""From images to named clusters: the encode and words steps, with a small model of random weights."""

import io
import json
import tarfile
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import open_clip
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from cpp.encoding import encoder, images
from cpp.files import tables
from cpp.files.tables import Counts, matrix
from cpp.rate_reduction.head import Head
from cpp.sources import shards
from cpp.sources.samples import Reason
from cpp.sources.shards import Images, read_images
from cpp.store.local import Store
from pipelines.config.errors import ConfigError
from pipelines.config.load import load
from pipelines.engine.executor import open_stage, run_task
from pipelines.engine.source_counts import sentence
from pipelines.engine.stage import WORKER_MEMORY, Context
from pipelines.graph import plan
from pipelines.run import Run
from pipelines.stages.encode import Encode
from tests.support.datasets import COLOURS, SMALL, TINY, WORDS, Dataset
from tests.support.runs import computed, files
from tests.support.tars import DAMAGE, damaged_files, write_tar


def test_pictures_become_vectors_clusters_and_a_page(pictures: Dataset) -> None:
    run = Run(load(pictures.config), local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(160, 160, 0)
    assert list(run.outcomes) == [
        "encode", "columns", "fit", "project", "partition", "measure", "layers", "assign",
        "words", "image_mean", "vote", "label", "labels", "evaluate",
        "examples", "members", "map", "thumbnails", "confusion", "report", "plots", "map_points", "map_page",
    ]  # fmt: skip
    clusters = pd.read_parquet(pictures.root / "clusters.parquet")
    assert clusters["size"].sum() == 160
    assert clusters["top"].map(lambda top: top[0]["word"]).isin(WORDS).all()
    assert json.loads((pictures.root / "scores.json").read_text())["methods"][0]["acc"] == 1  # four colours
    assert "were not found" not in (pictures.root / "report.html").read_text()


def test_vectors_are_those_of_open_clip_image_by_image(pictures: Dataset, model: Path) -> None:
    assert Run(load(pictures.config), ["encode"], local=True).go()
    network, _, transform = open_clip.create_model_and_transforms(
        "cpp-run", pretrained=str(model / "weights.safetensors")
    )
    path = pictures.root / "features" / "00001.parquet"
    table = pq.read_table(path)
    data = read_images(table["image_shard"][0].as_py(), table["key"].to_pylist())
    for key, row in zip(table["key"].to_pylist(), matrix(table["embedding"]), strict=True):
        (pictures.folder / "x.jpg").write_bytes(data[key])
        with torch.no_grad():
            expected = network.eval().encode_image(transform(Image.open(pictures.folder / "x.jpg"))[None])[0].numpy()
        found = row.astype(np.float32)
        assert found @ expected / np.linalg.norm(expected) / np.linalg.norm(found) > 0.9999
    metadata = pq.read_schema(path).metadata
    said = json.loads(metadata[b"cpp.embedding"])
    assert (said["model"], said["pretrained"], len(said["sha256"])) == ("cpp-run", "weights.safetensors", 64)


def test_bad_pictures_are_rejected_with_a_reason(
    pictures: Dataset,
) -> None:
    folder = pictures.folder / "loose"
    for kind in ("red", "blue"):
        (folder / kind).mkdir(parents=True)
        for i in range(40):
            Image.new("RGB", (30, 30), kind).save(folder / kind / f"{i:02d}.png")
    (folder / "red/10.png").write_bytes(b"no picture")
    (folder / "red/11.png").write_bytes(b"")
    (folder / "red/12.dng").write_bytes(b"II*")
    (folder / "notes.md").write_text("about the pictures")
    (folder / ".hidden.png").write_bytes(b"")
    overrides = ["images={format: folder, path: [loose], labels: true, shard_size: 50}", "partition.n_clusters=2"]
    run = Run(load(pictures.config, [*overrides, "evaluate.label=label"]), local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(81, 78, 3)
    rejected = pd.read_parquet(pictures.root / "rejected")
    assert rejected[["key", "reason"]].values.tolist() == [
        ["red/10.png", "not an image"], ["red/11.png", "no bytes"], ["red/12.dng", str(Reason.RAW)],
    ]  # fmt: skip
    sources = json.loads((pictures.root / "run.json").read_text())["sources"]
    assert {name: sources[name] for name in ("files", "pictures", "rows", "rejected", "ignored")} == {
        "files": 83, "pictures": 81, "rows": 78, "rejected": 3, "ignored": 2,
    }  # fmt: skip
    assert f"83 files, 81 pictures, 78 rows, 3 rejected (1 not an image, 1 no bytes, 1 {Reason.RAW}), 2 ignored" in (
        sentence(sources, "pictures")
    )
    assert "ignored: 1 x no picture (.md); the first is notes.md" in (pictures.root / "run.log").read_text()
    assert json.loads((pictures.root / "scores.json").read_text())["methods"][0]["acc"] == 1
    assert "were not found" not in (pictures.root / "report.html").read_text()


@pytest.mark.parametrize("key", ["name", "null"])
@pytest.mark.parametrize("format", ["parquet", "table"])
def test_pictures_in_tables_are_on_the_page(pictures: Dataset, format: str, key: str) -> None:
    tars = shards.shards(Images("webdataset", (f"{pictures.folder}/data/images/*.tar",)))
    found = [sample for tar in tars.values() for sample in shards.read_samples(tar)]
    (pictures.folder / "files").mkdir()
    for sample in found:
        (pictures.folder / f"files/{sample.key}.jpg").write_bytes(sample.image or b"")
    table = {
        "name": [f"picture {sample.key}" for sample in found],
        "label": [sample.metadata["label"] for sample in found],
        "where": [f"files/{sample.key}.jpg" for sample in found],
        "image": [sample.image for sample in found],
    }
    pq.write_table(pa.table(table), pictures.folder / "t.parquet", row_group_size=30)
    column = {"parquet": "image", "table": "where"}[format]
    images = f"images={{format: {format}, path: [t.parquet], column: {column}, key: {key}, shard_size: 70}}"
    run = Run(load(pictures.config, [images]), local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(160, 160, 0)
    html = (pictures.root / "report.html").read_text()
    assert "were not found" not in html
    assert html.count("data:image/webp;base64,Ukl") == 4 * 16 + 6 * 2 * 4  # also in the six pairs of clusters
    label = dict(zip(table["name"] if key == "name" else [f"t/{i}" for i in range(160)], table["label"], strict=True))
    made = pq.read_table(pictures.root / "thumbnails").to_pylist()
    assert len(made) == 160
    for row in made:
        pixel = Image.open(io.BytesIO(row["large"])).resize((1, 1)).getpixel((0, 0))
        assert np.abs(np.subtract(pixel, COLOURS[label[row["key"]]])).max() < 12


def test_heic_pictures_are_read_again_once_their_package_is_installed(
    pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pillow_heif")
    assert images.reads_heif()
    for i in range(4):
        Image.new("RGB", (64, 64), COLOURS[i % 2]).save(pictures.folder / f"{i}.{'heic' if i == 3 else 'png'}")
    config = load(pictures.config, ["images={format: folder, path: [.], shard_size: 2}", "evaluate=null"])
    with monkeypatch.context() as without_package:
        without_package.delitem(Image.OPEN, "HEIF")
        run = Run(config, ["columns"], local=True)
        assert run.go()
        assert run.sources["rejected_reasons"] == {Reason.HEIC: 1}
        assert Run(config, ["columns"], local=True).go()
    before = {step.name: len(step.done) for step in plan(config, ["columns"])}
    assert before == {"encode": 2, "columns": 1}  # nothing is lost for those who read the results
    run = Run(config, ["columns"], local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(4, 4, 0)
    assert run.outcomes["columns"].reused == 0
    log = (pictures.root / "run.log").read_text()
    assert "encode: 1 shards have rejected pictures that can be read now" in log
    assert log.count(" encode 00000: ") == 1  # the shard without HEIC is not read again
    assert all(step.complete for step in plan(config, ["columns"]))


def test_a_vector_that_is_not_finite_is_rejected(pictures: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = encoder.Encoder.begin

    def spoilt(self: encoder.Encoder, rows: list[np.ndarray]) -> object:
        X = begin(self, rows)()
        X[3:4] = np.inf
        return lambda: X

    monkeypatch.setattr(encoder.Encoder, "begin", spoilt)
    run = Run(load(pictures.config), ["encode"], local=True)
    assert run.go()
    assert run.outcomes["encode"].counts == Counts(160, 157, 3)
    rejected = pd.read_parquet(pictures.root / "rejected")
    assert rejected[["row", "reason"]].values.tolist() == [[3, "vector is not finite"]] * 3


def test_a_shard_is_read_and_encoded_while_the_one_before_it_is_written(
    pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = list[int]()  # threads that have begun to encode, in order
    second = threading.Event()
    begin, write = encoder.Encoder.begin, tables.write

    def note(self: encoder.Encoder, rows: list[np.ndarray]) -> object:
        thread = threading.get_ident()
        if thread != threading.main_thread().ident and thread not in begun:  # which opens the stage
            begun.append(thread)
            second.set() if len(begun) == 2 else None
        return begin(self, rows)

    def write_late(*arguments: Any) -> None:
        assert second.wait(120)
        write(*arguments)

    with monkeypatch.context() as noted:
        noted.setattr(encoder.Encoder, "begin", note)
        noted.setattr(tables, "write", write_late)
        run = Run(load(pictures.config), ["encode"], local=True)
        assert run.go()
    assert second.is_set()
    alone = pictures.folder / "alone"
    monkeypatch.setattr(Encode, "overlaps", False)
    assert Run(load(pictures.config, [f"root={alone}"]), ["encode"], local=True).go()
    assert files(pictures.root) == files(alone)


def test_a_worker_needs_memory_for_weights_and_batches(pictures: Dataset, model: Path) -> None:
    (step,) = plan(load(pictures.config), ["encode"])
    weights = 2 * (model / "weights.safetensors").stat().st_size
    assert step.stage.memory(10) == WORKER_MEMORY + weights + 7 * 10 * 3 * 384**2
    assert step.stage.memory(10) < step.stage.memory(11)


def test_an_interrupted_shard_is_given_up(pictures: Dataset) -> None:
    config = load(pictures.config)
    (step,) = plan(config, ["encode"])
    interrupted = threading.Event()
    context = replace(Context.create((), {}, config.resources), interrupted=interrupted)
    work = open_stage(step.stage, context)
    interrupted.set()
    result = run_task(work, step.todo[0], Store(pictures.root))
    assert result.error == "InterruptedError: the run was interrupted"
    assert not (pictures.root / "cache/features").exists()


def test_what_changes_recomputes_only_what_it_must(pictures: Dataset) -> None:
    assert Run(load(pictures.config), local=True).go()
    (pictures.folder / "words.txt").write_text("sea\nsky\n")
    again = Run(load(pictures.config), local=True)
    assert again.go()
    assert computed(again) == {"words": 1, "vote": 3, "label": 1, "labels": 3, "report": 1, "plots": 1, "map_page": 1}


def test_several_encoders_see_the_same_images(pictures: Dataset, model: Path) -> None:
    alone = Run(load(pictures.config), ["encode"], local=True)
    assert alone.go()
    small, settings = tables.matrix(read(pictures.root, "features")["embedding"]), f"configs: {model}, model: cpp-small"
    overrides = [f"encode.encoders=[{{{settings}, pretrained: {model / 'small.safetensors'}}}]"]
    both = [*overrides, "fit.embeddings=[embedding_2, embedding]", "label.embedding=embedding_2"]
    run = Run(load(pictures.config, both), local=True)
    assert run.go()
    features = read(pictures.root, "features")
    assert np.array_equal(tables.matrix(features["embedding"]), small)
    other = [setting.replace("encode.encoders=[", "encode=")[:-1] for setting in overrides]
    assert Run(load(pictures.config, other), ["encode"], local=True).go()
    assert np.array_equal(
        tables.matrix(features["embedding_2"]), tables.matrix(read(pictures.root, "features")["embedding"])
    )
    head = Head.load(pictures.root / "head.safetensors")
    assert head.in_dim == TINY["embed_dim"] + SMALL["embed_dim"]
    assert "embedding_2" not in read(pictures.root, "assignments").column_names
    words = pq.read_schema(next((pictures.root / "cache/words").iterdir()))
    assert words.field("embedding").type.list_size == SMALL["embed_dim"]
    assert pd.read_parquet(pictures.root / "clusters.parquet")["top"].map(lambda top: top[0]["word"]).isin(WORDS).all()


def test_tars_come_over_http_as_well(pictures: Dataset, tmp_path: Path) -> None:
    assert Run(load(pictures.config), ["encode"], local=True).go()
    here = read(pictures.root, "features")
    handler = partial(SimpleHTTPRequestHandler, directory=str(pictures.folder / "data/images"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        overrides = [f"images.path=['http://127.0.0.1:{server.server_port}/{{00000..00002}}.tar']"]
        assert Run(load(pictures.config, overrides), ["encode"], local=True).go()
    finally:
        server.shutdown()
    there = read(pictures.root, "features")
    assert there.drop(["image_shard"]).equals(here.drop(["image_shard"]))
    assert there["image_shard"][0].as_py().startswith("http://127.0.0.1")


def read(root: Path, product: str) -> pa.Table:
    """The files of a product as one table."""
    return pa.concat_tables(pq.read_table(path) for path in sorted((root / product).iterdir()))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_shard_of_damage_gives_the_undamaged_rows_and_a_reason_for_each_other(pictures: Dataset) -> None:
    write_tar(pictures.folder / "bad.tar", damaged_files())
    overrides = ["images={format: webdataset, path: [bad.tar], max_bytes: 150_000}"]
    run = Run(load(pictures.config, overrides), ["encode"], local=True)
    assert run.go()
    reasons = {key: str(reason) for key, (_, reason) in DAMAGE.items() if reason}
    assert run.outcomes["encode"].counts == Counts(len(DAMAGE), len(DAMAGE) - len(reasons), len(reasons))
    assert read(pictures.root, "features")["key"].to_pylist() == [key for key in DAMAGE if key not in reasons]
    rejected = read(pictures.root, "rejected")
    assert dict(zip(rejected["key"].to_pylist(), rejected["reason"].to_pylist(), strict=True)) == reasons


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "encode.model=ViT-B-23",
            "encode, column embedding: encode.model is 'ViT-B-23', which open_clip does not know; .*ViT-B-32",
        ),
        (
            "encode.pretrained=gone.safetensors",
            "encode, column embedding: encode.pretrained is .*gone.safetensors.* nor a file",
        ),
        (
            "encode.configs=s3://b/m",
            "encode.configs is s3://b/m: models and weights must be files on a disk of every machine",
        ),
        ("images.path=[gone.tar]", "images: 1 of the 1 paths of images.path do not exist"),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(pictures: Dataset, override: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        plan(load(pictures.config, [override]))


def test_a_list_of_words_needs_an_encoder(dataset: Dataset) -> None:
    with pytest.raises(ConfigError, match="is a list of words, which only a run with `encode` can use"):
        plan(load(dataset.config, ["label.vocabulary=[words.txt]"]))


def test_pictures_are_measured_while_they_are_encoded_or_later_without_encoding_again(
    pictures: Dataset, tmp_path: Path
) -> None:
    with tarfile.open(pictures.folder / "data/images/00001.tar", "a") as tar:
        tar.addfile(tarfile.TarInfo("broken.jpg"), io.BytesIO())
    in_one_pass = Run(load(pictures.config, ["curate={size: null}"]), ["flag"], local=True)
    assert in_one_pass.go()
    assert computed(in_one_pass) == {"encode": 3, "picture_sizes": 1, "flag": 3}
    later = f"root={tmp_path / 'later'}"
    assert Run(load(pictures.config, [later]), ["encode"], local=True).go()
    afterwards = Run(load(pictures.config, [later, "curate={size: null}"]), ["flag"], local=True)
    assert afterwards.go()
    assert computed(afterwards) == {"pictures": 3, "picture_sizes": 1, "flag": 3}
    one, other = (read(root / "cache", "pictures") for root in (pictures.root, tmp_path / "later"))
    assert one.equals(other)
    assert one["bytes_hash"].to_numpy().all()
    assert len(one) == len(read(pictures.root, "features")) == 160
