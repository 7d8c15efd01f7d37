"""What images can be read from: WebDataset tars. The one door to webdataset.

Paths may be local or any URL of fsspec (`s3://`, `gs://`, `https://`). Input is untrusted: the name of a tar member is
a key and never a path.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import fsspec
import webdataset as wds

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")


def read_images(tar: str, keys: Iterable[str]) -> dict[str, bytes]:
    """Bytes of the images of the given keys in a tar, as far as they are there. Reads no further than the last of them."""
    wanted, found = set(keys), dict[str, bytes]()
    with fsspec.open(tar, "rb") as file:
        members = ({"__url__": tar, **m} for m in wds.tariterators.tar_file_iterator(file))
        for sample in wds.tariterators.group_by_keys(members):
            image = _image(sample)
            if sample["__key__"] in wanted and image is not None:
                found[sample["__key__"]] = image
                if len(found) == len(wanted):
                    break
    return found


def _image(sample: Mapping[str, Any]) -> bytes | None:
    return next((sample[ext] for ext in IMAGE_EXTENSIONS if ext in sample), None)
