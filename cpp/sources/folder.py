"""Images stored as one file each: below a folder, or at the addresses that a table lists.

Knows no captions and no tables.
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
ATTEMPTS = 3  # for a web address: there may be very many, and many are dead
THREADS, PENDING = 16, 64  # concurrent reads, and images read ahead of the consumer


class Address(NamedTuple):
    """An image that is still to be read; without an `address` the row is rejected for the `reason`."""

    key: str
    address: str | None
    metadata: dict[str, Any]
    reason: Reason | None = None


@dataclass(frozen=True)
class FolderShard:
    """Files `names`, relative to the folder `path`. With `labels`, the label of a file is its subfolder."""

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
    """Whether a file name has an image extension."""
    return name.lower().endswith(IMAGE_EXTENSIONS)


def read_addresses(addresses: Iterable[Address], max_bytes: int) -> Iterator[Sample]:
    """Read images concurrently, in order. A missing file or a failing web address is a rejected row.

    OSError, naming the file, if other storage fails; ImportError if the client package of a protocol is not installed.
    """

    def read(address: Address) -> Sample:
        data = address.reason or Reason.NO_IMAGE if address.address is None else _read(address.address, max_bytes)
        if isinstance(data, Reason):
            return Sample(address.key, None, address.metadata, data)
        return Sample(address.key, data, address.metadata)

    return map_threads(read, addresses, THREADS, PENDING)


def _read(address: str, max_bytes: int) -> bytes | Reason:
    protocol, separator, _ = address.partition("://")
    if separator and (
        protocol not in PROTOCOLS or "::" in address
    ):  # some fsspec protocols unpack archives or run commands
        return Reason.BAD_ADDRESS
    if protocol == "file" or not separator:
        path = Path(address.removeprefix("file://"))
        if path.exists() and not (path.is_file() or path.is_dir()):
            return Reason.SPECIAL  # reading a pipe would block, a device would never end
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
    except Exception as error:  # aiohttp has many kinds of errors, and web addresses die
        if protocol in ("http", "https"):
            return Reason.UNREADABLE
        raise OSError(f"{address} cannot be read: {error}") from error


def _label(name: str) -> str | None:
    return name.rpartition("/")[0] or None
