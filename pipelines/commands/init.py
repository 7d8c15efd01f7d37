"""The command `init`: looks at inputs and writes a commented configuration for them. Reads a few files, no images."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import jinja2
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import yaml
from markupsafe import Markup

from cpp.files import filesystem
from cpp.sources.folder import is_image
from cpp.sources.tar import TarShard
from pipelines.config.errors import UserError
from pipelines.config.load import load

TABLES = (".parquet", ".csv", ".tsv")
ADDRESSES = ("url", "image_url", "img_url", "link", "path", "image_path", "file", "filename", "file_name")
CAPTIONS = ("caption", "captions", "text", "alt", "description")
IMAGE_BYTES = ("image", "jpg", "bytes", "img", "image_bytes", "webp", "png")

TEMPLATE = """\
# {{ sentence }}.
# The project's folder configs/ explains every key; `cpp-at-scale schema` helps editors to check them.
name: {{ name }}
root: runs/{{ name }}            # the run folder: all results go here

{{ section }}

{% if encode %}
encode:
  model: ViT-B-32              # any open_clip model; larger ones, such as ViT-L-14, cluster better
  pretrained: openai           # a tag of its weights, downloaded once, or a local file
  precision: fp32              # fp16 or bf16 on a GPU

{% endif %}
partition:
  n_clusters: null             # K; null estimates it
  layers: auto                 # nested, coarser layers

{% if encode %}
label:
  vocabulary: [imagenet1k]     # words for names; also wordnet, coco, or a .txt file
{% if captions %}
  captions: {{ captions }}            # the metadata column with captions, which tell clusters apart
{% endif %}
{% else %}
# Names need words with text vectors of the same model: a folder with names.txt and embeddings.npy.
# label:
#   vocabulary: [path/of/the/words]
{% endif %}

resources:
  gpus: 0                      # GPUs of each worker; set it to 1 on a machine with GPUs"""


class Inputs(NamedTuple):
    """What was recognised: a sentence about it, the section of the configuration, and the column with captions."""

    sentence: str
    section: dict[str, Any]
    captions: str | None = None


def init(inputs: str, to: Path) -> list[str]:
    """Write a configuration for `inputs` to the new file `to`. UserError if it exists or nothing is recognised."""
    if to.exists():
        raise UserError(f"{to} exists already: name another file with --to, or remove it")
    root = inputs.rstrip("/") if "://" in inputs else str(Path(inputs).expanduser().absolute())
    recognised = recognise(root)
    to.write_text(render(PurePosixPath(root).stem, recognised), encoding="utf-8")
    load(to)  # what is written is a valid configuration
    return [recognised.sentence, f"wrote {to}; check its keys, then: cpp-at-scale run {to}"]


def recognise(root: str) -> Inputs:
    """The kind of the inputs at an absolute path or an address. UserError says what was looked for."""
    fs, name = filesystem.connect(root)
    if not fs.exists(name):
        raise UserError(f"{root} does not exist: name a folder, a tar or a table")
    names = sorted(_names(fs, name)) if fs.isdir(name) else [PurePosixPath(name).name]
    folder = root if fs.isdir(name) else root.rpartition("/")[0]
    for look in (_vectors, _coco, _tars, _table, _images):
        if recognised := look(fs, folder, names):
            return recognised
    raise UserError(
        f"{root} has none of these: img_emb/*.npy (vectors), annotations/*.json (COCO), *.tar (WebDataset), "
        "*.parquet, *.csv or *.tsv (tables), images: name the folder that holds them"
    )


def _names(fs: Any, folder: str) -> Iterator[str]:
    for entry in fs.ls(folder, detail=True):
        suffix = "/" if entry["type"] == "directory" else ""
        yield PurePosixPath(entry["name"]).name + suffix


def _vectors(fs: Any, folder: str, names: list[str]) -> Inputs | None:
    if "img_emb/" not in names:
        return None
    images = next((f"{folder}/{name.rstrip('/')}" for name in names if name in ("images/", "tars/", "shards/")), None)
    section = {"import": {"path": folder, "images": images, "key": _first(_columns(fs, folder), ("key",))}}
    return Inputs(f"{folder} has vectors in clip-retrieval's layout", section)


def _columns(fs: Any, folder: str) -> list[str]:
    """The metadata columns of vectors."""
    tables = sorted(fs.glob(f"{filesystem.connect(folder)[1]}/metadata/*.parquet"))
    return pq.read_schema(tables[0], filesystem=fs).names if tables else []


def _coco(fs: Any, folder: str, names: list[str]) -> Inputs | None:
    if "annotations/" not in names:
        return None
    known = [n for n in _names(fs, f"{filesystem.connect(folder)[1]}/annotations") if n.endswith(".json")]
    wanted = [n for n in known if n.startswith(("captions", "instances"))]
    images = next((n.rstrip("/") for n in names if n.endswith("/") and n != "annotations/"), None)
    if not wanted or not images:
        return None
    files = [f"{folder}/annotations/{name}" for name in sorted(wanted) if images in name] or [
        f"{folder}/annotations/{name}" for name in sorted(wanted)
    ]
    section = {"images": {"format": "coco", "path": [f"{folder}/{images}"], "annotations": files}}
    captions = "captions" if any("captions" in PurePosixPath(file).name for file in files) else None
    return Inputs(f"{folder} is a COCO data set, its images are in {images}/", section, captions)


def _tars(fs: Any, folder: str, names: list[str]) -> Inputs | None:
    tars = [name for name in names if name.endswith(".tar")]
    if not tars:
        return None
    path = f"{folder}/*.tar" if len(tars) > 1 else f"{folder}/{tars[0]}"
    first = next(iter(TarShard(f"{folder}/{tars[0]}", "").read(1 << 26)), None)
    captions = _first(list(first.metadata) if first else [], CAPTIONS)
    return Inputs(f"{folder} has {len(tars):,} tars", {"images": {"format": "webdataset", "path": [path]}}, captions)


def _table(fs: Any, folder: str, names: list[str]) -> Inputs | None:
    tables = [name for name in names if name.endswith(TABLES)]
    if not tables:
        return None
    schema = _schema(fs, f"{filesystem.connect(folder)[1]}/{tables[0]}")
    suffix = PurePosixPath(tables[0]).suffix
    path = f"{folder}/*{suffix}" if len(tables) > 1 else f"{folder}/{tables[0]}"
    images = [field.name for field in schema if pa.types.is_binary(field.type) or pa.types.is_struct(field.type)]
    addresses = [
        field.name for field in schema if pa.types.is_string(field.type) or pa.types.is_large_string(field.type)
    ]
    column = _first(images, IMAGE_BYTES) or (images[0] if images else None)
    kind = "parquet" if column else "table"
    column = column or _first(addresses, ADDRESSES)
    if column is None:
        raise UserError(
            f"{folder}/{tables[0]} has the columns {', '.join(schema.names)}, none of which is known to hold images: "
            f"rename one to {ADDRESSES[0]} (addresses) or {IMAGE_BYTES[0]} (bytes), or write images.column by hand"
        )
    section = {"format": kind, "path": [path], "column": column, "key": _first(schema.names, ("key", "id", "image_id"))}
    sentence = f"{folder} has {len(tables):,} tables, the images are in the column {column}"
    return Inputs(sentence, {"images": section}, _first(schema.names, CAPTIONS))


def _schema(fs: Any, path: str) -> pa.Schema:
    if path.endswith(".parquet"):
        return pq.read_schema(path, filesystem=fs)
    with fs.open(path) as file:
        delimiter = "\t" if path.endswith(".tsv") else ","
        with pyarrow.csv.open_csv(file, parse_options=pyarrow.csv.ParseOptions(delimiter=delimiter)) as reader:
            return reader.schema


def _images(fs: Any, folder: str, names: list[str]) -> Inputs | None:
    folders = [name for name in names if name.endswith("/")]
    here_path, here = filesystem.connect(folder)[1], any(is_image(name) for name in names)
    below = any(is_image(file) for name in folders for file in _names(fs, f"{here_path}/{name.rstrip('/')}"))
    if not here and not below:
        return None
    section = {"images": {"format": "folder", "path": [folder], "labels": not here}}
    where = "its sub-folders become the column `label`" if not here else "sub-folders included"
    return Inputs(f"{folder} is a folder of images; {where}", section)


def _first(names: Iterable[str], wanted: Iterable[str]) -> str | None:
    """The name that comes first among the wanted ones, in any case of letters."""
    by_lower = {name.lower(): name for name in reversed(list(names))}
    return next((by_lower[name] for name in wanted if name in by_lower), None)


def render(name: str, inputs: Inputs) -> str:
    """The YAML file."""
    safe = "".join(c if c.isalnum() or c in "-_" else "-" for c in name) or "images"
    section = yaml.safe_dump(inputs.section, sort_keys=False, allow_unicode=True, width=1000).rstrip()
    values = {
        "name": safe,
        "section": section,
        "sentence": " ".join(inputs.sentence.split()),
        "captions": inputs.captions and json.dumps(inputs.captions),
    }
    template = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=True).from_string(TEMPLATE)
    plain = {key: value and Markup(value) for key, value in values.items()}  # noqa: S704 (YAML, where & is no entity)
    return template.render(plain, encode="images" in inputs.section) + "\n"
