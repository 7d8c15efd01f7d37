"""COCO's layout: a folder of images, with metadata from annotation files (captions_*.json, instances_*.json, LVIS).

An id belongs to its annotation file; files are joined by the images that they name. Source of the format:
https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
import posixpath
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from cpp.files import filesystem
from cpp.sources.folder import Address, read_addresses
from cpp.sources.ignored import FileCounts
from cpp.sources.listing import list_folder
from cpp.sources.samples import Reason, Sample, merge_metadata, to_column_value


class AnnotatedImage(NamedTuple):
    """An image of an annotation file: its file name as written, its fields, and what its annotations say."""

    file_name: str
    fields: dict[str, Any]
    captions: list[str]
    categories: list[str]


@dataclass(frozen=True)
class CocoShard:
    """Files `names` of the folder `path`; the shard covers all annotated file names in the interval (after, upto].

    `all_names` is a fingerprint of the names of all images of the folder, on which `place` depends.
    """

    path: str
    fingerprint: str
    names: tuple[str, ...]
    after: str
    upto: str | None
    annotations: tuple[tuple[str, str], ...]
    all_names: str

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of their file names, which are the keys. An annotated image without a file is rejected.

        Metadata: `image_id`, `captions` and the first of them as `caption`, `categories` (distinct, in the order of the
        annotations), and the fields of the entry in `images`. ValueError if an annotation file is not in COCO's format.
        """
        metadata = read_annotations(self.path, self.annotations, self.all_names)
        covered = {name for name in metadata if name > self.after and (self.upto is None or name <= self.upto)}
        missing = covered - set(self.names)
        addresses = (
            Address(name, None, metadata[name], Reason.MISSING)
            if name in missing
            else Address(name, f"{self.path}/{name}", dict(metadata.get(name, {})))
            for name in sorted(missing | set(self.names))
        )
        return read_addresses(addresses, max_bytes)


@lru_cache(maxsize=1)  # a worker reads many shards of one data set
def read_annotations(folder: str, files: tuple[tuple[str, str], ...], all_names: str) -> dict[str, dict[str, Any]]:
    """Metadata of each image of the folder by its path there, from annotation files (path, fingerprint).

    `all_names` is that of the shard and part of the cache's key. Prints what is left out. ValueError, naming the file
    and the entry, for a file that is not in COCO's format.
    """
    entries = {path: _read_file(path) for path, _ in files}
    places = place(folder, {path: [entry.file_name for entry in images] for path, images in entries.items()})
    by_image = defaultdict[str, list[AnnotatedImage]](list)
    for path, images in entries.items():
        for entry in images:
            by_image[places[path, entry.file_name]].append(entry)
    return {name: _metadata(of_image) for name, of_image in by_image.items()}


def _metadata(entries: Sequence[AnnotatedImage]) -> dict[str, Any]:
    """The fields of the entries of one image, then its captions and its distinct categories, if there are some."""
    captions = [caption for entry in entries for caption in entry.captions]
    categories = list(dict.fromkeys(category for entry in entries for category in entry.categories))
    columns = {"caption": captions[0], "captions": captions} if captions else {}
    columns |= {"categories": categories} if categories else {}
    metadata: dict[str, Any] = {}
    for fields in (*(entry.fields for entry in entries), columns):
        merge_metadata(metadata, fields)
    return metadata


def place(folder: str, names: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], str]:
    """The path in the folder for each file name, by annotation file and name.

    A name is that of the image in the folder; else it is sought beside the annotation file, in the sub-folder that the
    annotation file is named after (`instances_val2017.json`: `val2017`), and without its first folders, if they lead to
    this folder or if it is a full path or a URL. A name that exists nowhere stays. So do names that would share an
    image in this way: their annotations must not be mixed up.
    """
    existing = list_folder(folder, FileCounts()).pictures
    folders = sorted({posixpath.dirname(name) for name in existing} - {""}, key=len, reverse=True)
    places, sought = dict[tuple[str, str], str](), defaultdict[str, set[str]](set)
    for path in names:
        stem = PurePosixPath(path).stem
        beside = posixpath.dirname(path).removeprefix(folder).strip("/")
        parents = [beside, *(parent for parent in folders if posixpath.basename(parent) in stem)]
        for name in names[path]:
            parts = _parts(name)
            tidy = "/".join(parts)
            candidates = [f"{parent}/{tidy}" for parent in parents]
            candidates += ["/".join(parts[i:]) for i in _starts(name, parts, posixpath.basename(folder))]
            found = tidy if tidy in existing else next((c for c in candidates if c in existing), tidy)
            places[path, name] = found
            sought[found].add(tidy)
    return {
        (path, name): "/".join(_parts(name)) if len(sought[found]) > 1 else found
        for (path, name), found in places.items()
    }


def _parts(name: str) -> list[str]:
    path = unquote(urlsplit(name).path) if "://" in name else name.replace("\\", "/")
    return posixpath.normpath(path).strip("/").split("/")


def _starts(name: str, parts: Sequence[str], folder: str) -> list[int]:
    """Where the path in the folder may start in `parts`: after the folder's own name; anywhere in a full path."""
    after = [i + 1 for i, part in enumerate(parts[:-1]) if part == folder]
    return [*after, *(range(1, len(parts)) if "://" in name or name.startswith("/") else [])]


def _read_file(path: str) -> list[AnnotatedImage]:
    """The images of an annotation file with the captions and categories of their annotations."""
    try:
        with filesystem.open_file(path) as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file ({error}): correct images.annotations") from error
    try:
        return _entries(path, content)
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{path}: {str(error.object)[:80]!r} is half of a surrogate pair, no text: correct it"
        ) from error


def _entries(path: str, content: Any) -> list[AnnotatedImage]:
    images, by_id = [], dict[str, AnnotatedImage]()
    for place_in_file, item in _items(path, content, "images", required=True):
        name = item.get("file_name") or item.get("coco_url")  # LVIS has only the URL
        if not isinstance(name, str):
            raise ValueError(
                f"{path}: {place_in_file} with the id {item.get('id')} has neither `file_name` nor `coco_url`: "
                "add one, or remove the image"
            )
        to_column_value(name)
        fields = {
            "image_id" if field == "id" else to_column_value(field): to_column_value(item[field]) for field in item
        }
        fields.pop("file_name", None)
        images.append(AnnotatedImage(name, fields, [], []))
        if item.get("id") is not None and by_id.setdefault(_id(item), images[-1]).file_name != name:
            raise _repeated(path, place_in_file, item, "image")
    _add_annotations(path, content, by_id)
    return images


def _id(item: Mapping[str, Any], field: str = "id") -> str:
    """An id as text; 7, "7" and 7.0, as tools write them from tables, are one id."""
    value = item.get(field)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _repeated(path: str, place_in_file: str, item: Mapping[str, Any], kind: str) -> ValueError:
    return ValueError(
        f"{path}: {place_in_file} has the id {item['id']} of another {kind}, so the annotations of the two cannot be "
        "told apart: correct the ids"
    )


def _add_annotations(path: str, content: Mapping[str, Any], images: Mapping[str, AnnotatedImage]) -> None:
    """Add captions and categories to the images by id. Prints how many annotations have an id that does not exist."""
    categories, unknown = dict[str, str](), defaultdict[str, list[Any]](list)
    for place_in_file, item in _items(path, content, "categories"):
        name = to_column_value(str(_id(item) if item.get("name") is None else item["name"]))
        if categories.setdefault(_id(item), name) != name:
            raise _repeated(path, place_in_file, item, "category")
    for place_in_file, item in _items(path, content, "annotations"):
        image = images.get(_id(item, "image_id"))
        if image is None:
            unknown["image_id"].append(item.get("image_id"))
            continue
        if item.get("caption") is not None:
            image.captions.append(to_column_value(str(item["caption"]).strip()))
        segments = _items(path, item, "segments_info", inside=f"{place_in_file}.")
        for segment in [segment for _, segment in segments] or [item]:  # a panoptic annotation has several categories
            number = segment.get("category_id")
            if (category := _id(segment, "category_id")) in categories:
                image.categories.append(categories[category])
            elif number is not None:
                unknown["category_id"].append(number)
    for field, ids in unknown.items():
        print(f"{path}: {len(ids)} annotations with an unknown {field}, such as {ids[0]}, are left out", flush=True)


def _items(
    path: str, content: Any, field: str, *, required: bool = False, inside: str = ""
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list of the file, each with its place as text. ValueError if it is not a list of objects."""
    items = content.get(field, None if required else []) if isinstance(content, dict) else None
    if not isinstance(items, list):
        raise ValueError(
            f"{path} is not a COCO annotation file, it has no list `{inside}{field}`: correct images.annotations"
        )
    for number, item in enumerate(items):
        if not isinstance(item, dict):
            raise ValueError(
                f"{path}: {inside}{field}[{number}] is {item!r}, not an object: correct images.annotations"
            )
        yield f"{inside}{field}[{number}]", item
