"""COCO's layout: a folder of images, with metadata from annotation files (captions_*.json, instances_*.json).

Source of the format: https://cocodataset.org/#format-data
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from cpp.files import filesystem
from cpp.sources.folder import Address, read_addresses
from cpp.sources.samples import Reason, Sample, to_column_value


@dataclass(frozen=True)
class CocoShard:
    """Files `names` of the folder `path`; the shard covers all annotated file names in the interval (after, upto]."""

    path: str
    fingerprint: str
    names: tuple[str, ...]
    after: str
    upto: str | None
    annotations: tuple[tuple[str, str], ...]

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of their file names, which are the keys. An annotated image without a file is rejected.

        Metadata: `image_id`, `captions` and the first of them as `caption`, `categories` (distinct, in the order of the
        annotations), and the fields of the entry in `images`. ValueError if an annotation file is not in COCO's format.
        """
        metadata = read_annotations(self.annotations)
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
def read_annotations(files: tuple[tuple[str, str], ...]) -> dict[str, dict[str, Any]]:
    """Metadata of each image by file name, from annotation files (path, fingerprint)."""
    by_id: dict[Any, dict[str, Any]] = {}
    for path, _ in files:
        try:
            with filesystem.open_file(path) as file:
                content = json.load(file)
            categories = {entry["id"]: str(entry["name"]) for entry in content.get("categories", [])}
            for image in content["images"]:
                metadata = by_id.setdefault(image["id"], {"image_id": image["id"]})
                metadata |= {name: to_column_value(value) for name, value in image.items() if name != "id"}
            for annotation in content["annotations"]:
                _add(by_id[annotation["image_id"]], annotation, categories)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path} is not a COCO annotation file ({error!r}): correct images.annotations") from error
    return {metadata.pop("file_name"): metadata for metadata in by_id.values()}


def _add(metadata: dict[str, Any], annotation: dict[str, Any], categories: dict[Any, str]) -> None:
    if "caption" in annotation:
        caption = to_column_value(str(annotation["caption"]).strip())
        metadata.setdefault("caption", caption)
        metadata.setdefault("captions", []).append(caption)
    if "category_id" in annotation:
        names = metadata.setdefault("categories", [])
        name = categories[annotation["category_id"]]
        if name not in names:
            names.append(name)
