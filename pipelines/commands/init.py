"""The command `init`: looks at inputs and writes a commented configuration for them. Reads a few files, no images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import yaml

from cpp.files import filesystem
from cpp.sources import table_rows
from cpp.sources.formats import TARS, is_picture_name
from cpp.sources.tar import TarShard
from pipelines.config.errors import UserError
from pipelines.config.load import load

ADDRESSES = ("url", "image_url", "img_url", "link", "path", "image_path", "file", "filename", "file_name")
CAPTIONS = ("caption", "captions", "text", "alt", "description")
IMAGE_BYTES = ("image", "jpg", "bytes", "img", "image_bytes", "webp", "png")
DEPTH = 4  # sub-folders in which pictures are looked for, such as train/cat

CONFIG = """\
# {sentence}.
# The project's folder configs/ explains every key; `cpp-at-scale schema` helps editors to check them.
name: {name}
root: runs/{name}            # the run folder: all results go here

{section}

{encode}partition:
  n_clusters: null             # K; null estimates it
  layers: auto                 # nested, coarser layers

{label}
resources:
  gpus: 0                      # GPUs of each worker; set it to 1 on a machine with GPUs
"""
ENCODE = """\
encode:
  model: ViT-B-32              # any open_clip model; larger ones, such as ViT-L-14, cluster better
  pretrained: openai           # a tag of its weights, downloaded once, or a local file
  precision: fp32              # fp16 or bf16 on a GPU

"""
LABEL = """\
label:
  vocabulary: [photographs]    # 8,500 words for names; or objects, scenes, imagenet1k, a .txt file and others
"""
LABEL_WITH_CAPTIONS = """\
label:
  vocabulary: [photographs, captions]   # 8,500 words for names, and phrases of the captions
  captions: {}          # the metadata column with captions
"""
LABEL_OF_VECTORS = """\
# Names need words with text vectors of the same model: a folder with names.txt and embeddings.npy.
# label:
#   vocabulary: [path/of/the/words]
"""


class Recognised(NamedTuple):
    """What was recognised: a sentence about it, the section of the configuration, and the column with captions."""

    sentence: str
    section: dict[str, Any]
    captions: str | None = None


def init(inputs: str, to: Path) -> list[str]:
    """Write a configuration for `inputs` to the new file `to`. UserError if it exists or nothing is recognised."""
    if to.exists():
        raise UserError(f"{to} exists already: name another file with --to, or remove it")
    root = inputs.rstrip("/") if "://" in inputs else str(Path(inputs).expanduser().absolute())
    try:
        recognised = recognise(root)
    except ValueError as error:  # a damaged tar or table
        raise UserError(str(error)) from error
    to.write_text(render(PurePosixPath(root).stem, recognised), encoding="utf-8")
    load(to)  # what is written is a valid configuration
    return [recognised.sentence, f"wrote {to}; check its keys, then: cpp-at-scale run {to}"]


def recognise(root: str) -> Recognised:
    """The kind of the inputs at an absolute path or an address. UserError says what was looked for."""
    fs, name = filesystem.connect(root)
    if not fs.exists(name):
        raise UserError(f"{root} does not exist: name a folder, a tar or a table")
    folder = root if fs.isdir(name) else root.rpartition("/")[0]
    names = sorted(_names(root)) if fs.isdir(name) else [PurePosixPath(name).name]
    for look in (_vectors, _coco, _tars, _table, _images):
        if recognised := look(folder, names):
            return recognised
    raise UserError(
        f"{root} has none of these: img_emb/*.npy (vectors), annotations/*.json (COCO), *.tar (WebDataset), "
        "*.parquet, *.csv, *.tsv or *.jsonl (tables), images: name the folder that holds them"
    )


def _names(folder: str) -> Iterator[str]:
    """The names of the files in a folder, and of its sub-folders with a slash at the end, without hidden ones."""
    for entry in filesystem.list_folder(folder):
        name = PurePosixPath(entry["name"]).name
        if not name.startswith("."):
            yield name + ("/" if entry["type"] == "directory" else "")


def _vectors(folder: str, names: Sequence[str]) -> Recognised | None:
    if "img_emb/" not in names:
        return None
    images = next((f"{folder}/{name[:-1]}" for name in names if name in ("images/", "tars/", "shards/")), None)
    inside = _names(f"{folder}/metadata") if "metadata/" in names else ()
    tables = sorted(name for name in inside if name.endswith(".parquet"))
    columns = table_rows.columns(f"{folder}/metadata/{tables[0]}") if tables else []
    section = {"import": {"path": folder, "images": images, "key": _first(columns, ("key",))}}
    return Recognised(f"{folder} has vectors in clip-retrieval's layout", section)


def _coco(folder: str, names: Sequence[str]) -> Recognised | None:
    if "annotations/" not in names:
        return None
    images = next((name[:-1] for name in names if name.endswith("/") and name != "annotations/"), None)
    files = sorted(name for name in _names(f"{folder}/annotations") if name.endswith(".json"))
    files = [name for name in files if name.startswith(("captions", "instances"))]
    if not files or not images:
        return None
    files = [name for name in files if images in name] or files
    paths = [f"{folder}/annotations/{name}" for name in files]
    section = {"images": {"format": "coco", "path": [f"{folder}/{images}"], "annotations": paths}}
    captions = "captions" if any("captions" in name for name in files) else None
    return Recognised(f"{folder} is a COCO data set, its images are in {images}/", section, captions)


def _tars(folder: str, names: Sequence[str]) -> Recognised | None:
    tars = [name for name in names if name.lower().endswith(TARS)]
    if not tars:
        return None
    first = next(iter(TarShard(f"{folder}/{tars[0]}", "").read(1 << 26)), None)
    captions = _first(first.metadata if first else [], CAPTIONS)
    path = folder if len(tars) > 1 else f"{folder}/{tars[0]}"
    return Recognised(
        f"{folder} has {len(tars):,} tars", {"images": {"format": "webdataset", "path": [path]}}, captions
    )


def _table(folder: str, names: Sequence[str]) -> Recognised | None:
    tables = [name for name in names if name.lower().endswith(table_rows.EXTENSIONS)]
    if not tables:
        return None
    path = f"{folder}/{tables[0]}"
    columns = table_rows.columns(path) or table_rows.describe(path).columns  # JSON Lines has no header
    images = [name for name, kind in columns.items() if kind is table_rows.Kind.BYTES]
    texts = [name for name, kind in columns.items() if kind is table_rows.Kind.TEXT]
    column = _first(images, IMAGE_BYTES) or next(iter(images), None)
    kind = "parquet" if column else "table"
    column = column or _first(texts, ADDRESSES)
    if column is None:
        if images_beside := _images(folder, names):
            return images_beside
        raise UserError(
            f"{folder}/{tables[0]} has the columns {', '.join(columns)}, none of which is known to hold images: "
            f"rename one to {ADDRESSES[0]} (addresses) or {IMAGE_BYTES[0]} (bytes), or write images.column by hand"
        )
    path = folder if len(tables) > 1 else f"{folder}/{tables[0]}"
    section = {
        "format": kind,
        "path": [path],
        "column": column,
        "key": _first(columns, ("key", "id", "image_id")),
    }
    sentence = f"{folder} has {len(tables):,} tables, the images are in the column {column}"
    return Recognised(sentence, {"images": section}, _first(columns, CAPTIONS))


def _images(folder: str, names: Sequence[str]) -> Recognised | None:
    labels = not any(map(is_picture_name, names))
    if labels and not _has_pictures(folder, names):
        return None
    where = "its sub-folders become the column `label`" if labels else "sub-folders included"
    section = {"images": {"format": "folder", "path": [folder], "labels": labels}}
    return Recognised(f"{folder} is a folder of images; {where}", section)


def _has_pictures(folder: str, names: Iterable[str], depth: int = DEPTH) -> bool:
    """Whether a file with these names in a folder, or one at most `depth` folders below, has the name of a picture."""
    names = list(names)
    below = (f"{folder}/{name[:-1]}" for name in names if name.endswith("/")) if depth else ()
    return any(map(is_picture_name, names)) or any(_has_pictures(path, _names(path), depth - 1) for path in below)


def _first(names: Iterable[str], candidates: Iterable[str]) -> str | None:
    """The name that comes first among the candidates, in any case of letters."""
    by_lower = {name.lower(): name for name in reversed(list(names))}
    return next((by_lower[name] for name in candidates if name in by_lower), None)


def render(name: str, inputs: Recognised) -> str:
    """The YAML file."""
    label = LABEL_WITH_CAPTIONS.format(json.dumps(inputs.captions)) if inputs.captions else LABEL
    encode, label = (ENCODE, label) if "images" in inputs.section else ("", LABEL_OF_VECTORS)
    return CONFIG.format(
        name="".join(c if c.isalnum() or c in "-_" else "-" for c in name) or "images",
        sentence=" ".join(inputs.sentence.split()),
        section=yaml.safe_dump(inputs.section, sort_keys=False, allow_unicode=True, width=1000).rstrip(),
        encode=encode,
        label=label,
    )
