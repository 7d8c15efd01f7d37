"""Images that are files of their own: those below a folder, or wherever a table says.

Knows nothing of captions or of what lies in a table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from cpp.files import filesystem
from cpp.files.iterables import map_threads
from cpp.sources.samples import Reason, Sample

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2")
PROTOCOLS = frozenset({"file", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf"})
ATTEMPTS = 3  # of a web address: many are dead, and there may be very many
THREADS, WAITING = 16, 64  # files that are read at a time, and ahead of the reader


class Address(NamedTuple):
    """Where an image is, before it is read. `address` None: it is nowhere, for the reason."""

    key: str
    address: str | None
    metadata: dict[str, Any]
    reason: Reason | None = None


@dataclass(frozen=True)
class FolderShard:
    """Files `names`, relative to the folder `path`. With `labels` the folder that a file is in is its label."""

    path: str
    fingerprint: str
    names: tuple[str, ...]
    labels: bool = False

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the names, which are the keys. A file directly in `path` has no label."""
        return read_addresses(
            (
                Address(name, f"{self.path}/{name}", {"label": _label(name)} if self.labels else {})
                for name in self.names
            ),
            max_bytes,
        )


def is_image(name: str) -> bool:
    """Whether the name of a file ends as an image's does."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def read_addresses(addresses: Iterable[Address], max_bytes: int) -> Iterator[Sample]:
    """Read images, some at a time, in order. A missing file, or a web address that fails, is a row with a reason.

    OSError, naming the file, where storage fails otherwise; ImportError where fsspec lacks what a protocol needs.
    """

    def one(address: Address) -> Sample:
        data = address.reason or Reason.NO_IMAGE if address.address is None else _read(address.address, max_bytes)
        if isinstance(data, Reason):
            return Sample(address.key, None, address.metadata, data)
        return Sample(address.key, data, address.metadata)

    return map_threads(one, addresses, THREADS, WAITING)


def _read(address: str, max_bytes: int) -> bytes | Reason:
    protocol, separator, _ = address.partition("://")
    if separator and (protocol not in PROTOCOLS or "::" in address):  # fsspec also knows protocols that unpack or run
        return Reason.BAD_ADDRESS
    if protocol == "file" or not separator:
        path = Path(address.removeprefix("file://"))
        if path.exists() and not (path.is_file() or path.is_dir()):
            return Reason.SPECIAL  # a pipe would be waited for, a device read without end
    try:
        with filesystem.open_file(address, ATTEMPTS) as file:
            size = getattr(file, "size", None)
            if size is not None and size > max_bytes:
                return Reason.TOO_MANY_BYTES
            data = bytes(file.read() if size is not None else file.read(max_bytes + 1))
            return data if len(data) <= max_bytes else Reason.TOO_MANY_BYTES
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return Reason.MISSING
    except ImportError:
        raise
    except Exception as error:  # aiohttp has many kinds of failure, and links on the web rot
        if protocol in ("http", "https"):
            return Reason.UNREADABLE
        raise OSError(f"{address} cannot be read: {error}") from error


def _label(name: str) -> str | None:
    return name.rpartition("/")[0] or None
