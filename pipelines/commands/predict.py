"""The command `predict`: assign images or vectors to the named clusters of a finished run.

The steps of the run work on them in this process, in a temporary folder; the run folder is not changed. Knows no Ray.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa
from rich.table import Table

from cpp.export.tables import write_csv
from cpp.files import credentials, filesystem, scratch, tables
from cpp.naming.cluster_table import LABELS
from cpp.rate_reduction.head import Head
from cpp.sources import shards as sources
from cpp.sources import vectors
from cpp.sources.folder import FolderShard
from cpp.sources.formats import TARS
from cpp.sources.ignored import FileCounts
from cpp.sources.listing import list_folder
from cpp.sources.tar import is_tar
from cpp.store.local import Store
from cpp.store.object_store import open_store
from cpp.store.results import File
from pipelines.commands.parts import finished, new_shard_steps
from pipelines.commands.terminal import number, plain_table, title
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.executor import OpenError, run_in_process
from pipelines.engine.plan import Files, plan_step
from pipelines.engine.stage import Context, Stage
from pipelines.graph import Part
from pipelines.stages.columns import Columns
from pipelines.stages.encode import Import

SHOWN = 20  # rows that are printed
REASON = "reason"
ADDED = {*LABELS.names[1:], REASON}  # columns added to those of ASSIGNMENTS


def predict(config: Config, what: str) -> tuple[pa.Table, dict[int, str]]:
    """The clusters of an image, a folder of images, a tar, an .npy file of vectors or a folder in import's layout.

    Returns a row for each image, in the order of the input, with the columns of ASSIGNMENTS, of LABELS, and `reason`,
    and the title of each cluster. For a rejected image, all columns but `key` and `reason` are null.

    Raises UsageError if the input does not exist, does not fit the run or cannot be read, RunStateError if the run is
    not finished.
    """
    fitted = finished(config, ["clusters"])
    with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        try:
            stages, inputs = _inputs(fitted, what, Path(folder))
        except UsageError:
            raise
        except (ValueError, FileNotFoundError) as error:
            raise UsageError(f"predict: {error}") from error
        first, *others = stages.items()
        stages = dict([first, ("columns", Columns()), *others])  # the metadata of the input, not of the run
        files = _work(Part(config, {**new_shard_steps(fitted)[1], **inputs}, stages), what, open_store(folder))
        parts = [_rows(files, shard) for shard in next(iter(inputs.values()))]
    with scratch.local_copy(next(iter(fitted.files["clusters"].values())).path) as path:
        clusters = tables.read(path).to_pylist()
    titles = {row["cluster"]: row["title"] for row in clusters if row["main"]}
    return pa.concat_tables(parts, promote_options="permissive"), titles


def table(rows: pa.Table, titles: Mapping[int, str]) -> Table:
    """The first rows that `predict` returned, as a table for the terminal."""
    shown = rows.slice(0, SHOWN).to_pylist()
    sure = ["sure"] if "confidence" in rows.column_names else []
    rejected = ["rejected"] if any(row[REASON] for row in shown) else []
    numbers = map(number, (*sure, "score", "margin"))
    result = plain_table("image", number("cluster"), title("name"), *numbers, title("runner-up"), *rejected)
    for row in shown:
        if row[REASON]:
            cells = [""] * (len(result.columns) - 2) + [row[REASON]]
        else:
            cells = [str(row["cluster"]), titles[row["cluster"]], *(f"{row['confidence']:.0%}" for _ in sure)]
            cells += [f"{row['score']:.3f}", f"{row['margin']:.3f}", titles.get(row["second"], "")]
        result.add_row(row["key"], *cells)
    return result


def lines(rows: pa.Table) -> list[str]:
    """The number of rows that `predict` returned, and the reasons why some have no cluster."""
    more = [f"... and {len(rows) - SHOWN:,} more; --to FILE writes all of them"] if len(rows) > SHOWN else []
    counts = Counter(rows[REASON].drop_null().to_pylist())
    why = ", ".join(f"{count:,} {reason}" for reason, count in counts.most_common())
    return [*more, f"{rows[REASON].null_count:,} of {len(rows):,} have a cluster{f'; rejected: {why}' if why else ''}"]


def writable(to: Path) -> Path:
    """The same path. UsageError if rows cannot be written to it."""
    if to.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--to is {to}: the name must end in .parquet or .csv")
    if not to.parent.is_dir():
        raise UsageError(f"--to is {to}: the folder {to.parent} does not exist")
    return to


def write(rows: pa.Table, to: Path) -> None:
    """Write all rows; an existing file is replaced."""
    with tempfile.TemporaryDirectory(dir=to.parent, prefix=".predict-") as folder:
        parquet, csv = Path(folder) / "rows.parquet", Path(folder) / "rows.csv"
        tables.write(rows, parquet)
        if to.suffix == ".csv":
            write_csv(csv, [str(parquet)], rows.column_names)
        os.replace(csv if to.suffix == ".csv" else parquet, to)


def _inputs(fitted: Part, what: str, folder: Path) -> tuple[Mapping[str, Stage], Files]:
    """The steps for the input, and its shards by kind. ValueError or UsageError if it is empty or missing."""
    credentials.check_address(what)
    what = what if filesystem.is_remote(what) else os.path.abspath(what)
    fs, name = filesystem.connect(what)
    if not fs.exists(name):
        raise UsageError(f"{what} does not exist: name an image, a folder of images, a tar or an .npy file of vectors")
    if what.endswith(".npy"):
        files = _numbered(what, folder)
        return _vector_steps(fitted, what, "key", files), files
    if fs.isdir(name) and fs.isdir(f"{name}/img_emb"):
        files = {kind: dict(by_name) for kind, by_name in vectors.vector_shards(what).items()}
        key = fitted.config.import_.key if fitted.config.import_ else "key"
        return _vector_steps(fitted, what, key, files), files
    if fitted.config.images is None:
        raise UsageError(
            f"{what} is not vectors, and this run starts from vectors of an encoder that it does not know: encode the "
            "images with that encoder and name the .npy file, an array of rows of floats"
        )
    if not fs.isdir(name) and not (what.lower().endswith(TARS) or is_tar(what)):
        parent, _, file = what.rpartition("/")
        shards: Mapping[str, sources.ImageShard] = {"image": FolderShard(parent, "", (file,))}
    elif fs.isdir(name) and not list_folder(what, FileCounts()).pictures:
        raise UsageError(f"the folder {what} has no images: name one that has, or a single tar")
    else:
        layout: sources.Format = "folder" if fs.isdir(name) else "webdataset"
        shards = sources.shards(sources.Images(layout, (what,), fitted.config.images.shard_size))
    files = {"images": {shard: File(images, images.fingerprint) for shard, images in shards.items()}}
    return new_shard_steps(fitted)[0], files


def _numbered(what: str, folder: Path) -> Files:
    """An .npy file as a shard with metadata; keys are numbered as by an import without keys."""
    rows = len(vectors.read_vectors(what))
    if not rows:
        raise UsageError(f"{what} has no rows")
    stem = PurePosixPath(what).stem
    tables.write(pa.table({"key": [f"{stem}/{i}" for i in range(rows)]}), folder / "metadata.parquet")
    return {"vectors": {stem: File(what, "")}, "metadata": {stem: File(str(folder / "metadata.parquet"), "")}}


def _vector_steps(fitted: Part, what: str, key: str | None, files: Files) -> dict[str, Stage]:
    """The steps for vectors: the first step, which may encode images, is replaced by one that reads vectors."""
    label = fitted.config.label
    columns = {*fitted.config.fit.embeddings, *([label.embedding] if label else [])}
    if columns != {tables.EMBEDDING}:
        fix = "name images" if fitted.config.images else "add vectors of all encoders to its inputs, and run it again"
        raise UsageError(
            f"{what} has vectors of one encoder, and this run works with {', '.join(sorted(columns))}: {fix}"
        )
    try:
        dim = vectors.vector_dim(file.path for file in files["vectors"].values())
    except ValueError as error:
        raise UsageError(str(error)) from None
    (head,) = fitted.files["head"].values()
    with scratch.local_copy(head.path) as path:
        expected = Head.load(path).in_dim
    if dim != expected:
        raise UsageError(
            f"{what} has vectors of dimension {dim}, those of this run have {expected}: name vectors of the encoder "
            "that the run was made with"
        )
    _, *others = new_shard_steps(fitted)[0].items()
    return {"import": Import(key=key, dim=expected), **dict(others)}


def _work(part: Part, what: str, store: Store) -> Files:
    """Run every step on all shards, and return all files. UsageError if a shard cannot be read."""
    files = dict(part.files)
    for name, stage in part.stages.items():
        step = plan_step(name, stage, files, store)
        context = Context.create(stage.whole, files, part.config.resources, gpu=stage.gpu)
        try:
            for result in run_in_process(stage, context, step.tasks, store):
                if result.error:
                    raise UsageError(f"predict: {what} failed in step {name}: {result.error}")
        except OpenError as error:
            raise UsageError(f"predict: step {name} does not start: {str(error).splitlines()[-1]}") from error
        files |= step.outputs
    return files


def _rows(files: Files, shard: str) -> pa.Table:
    """The rows of a shard in the order of the input. A metadata column with a name of ours becomes `source_NAME`."""
    accepted = tables.read(files["assignments"][shard].path).replace_schema_metadata(None)
    accepted = accepted.rename_columns([f"source_{name}" if name in ADDED else name for name in accepted.column_names])
    if "labels" in files:
        labels = tables.read(files["labels"][shard].path)
        for name in LABELS.names[1:]:
            accepted = accepted.append_column(name, labels[name])
    else:
        accepted = accepted.append_column("label", pa.nulls(len(accepted), pa.string()))
    rejected = tables.read(files["rejected"][shard].path)
    places = rejected["row"].to_numpy()
    others = np.setdiff1d(np.arange(len(accepted) + len(rejected)), places)
    rows = pa.concat_tables([accepted, rejected.drop_columns("row")], promote_options="default")
    return rows.take(np.argsort(np.concatenate([others, places])))
