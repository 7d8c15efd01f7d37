"""Images stored as one file each: below a folder, with the texts beside them, or at the addresses that a table lists.

Knows no tables of addresses.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import posixpath
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from cpp.files import filesystem
from cpp.files.iterables import map_threads
from cpp.sources.formats import extension, unread_name
from cpp.sources.samples import (
    TEXT_BYTES,
    Reason,
    Rejected,
    Sample,
    merge_metadata,
    read_json,
    read_text,
    to_column_value,
)

PROTOCOLS = frozenset({"file", "http", "https", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hf"})
ATTEMPTS = 3  # for a web address: there may be very many, and many are dead
NO_PATH = (errno.ENAMETOOLONG, errno.EINVAL)  # of texts that are no paths, such as data URIs
THREADS, PENDING = 16, 64  # concurrent reads, and images read ahead of the consumer


class Address(NamedTuple):
    """An image that is still to be read; without an `address` the row is rejected for the `reason`.

    `texts` are addresses of files with its caption (`.txt`, `.caption`) and metadata (`.json`), which are read too.
    """

    key: str
    address: str | None
    metadata: dict[str, Any]
    reason: Reason | None = None
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class FolderShard:
    """Files `names`, relative to the folder `path`. With `labels`, the label of a file is its subfolder.

    `texts` are pairs of an image and a file of text that belongs to it. `tables` have metadata of images, each with its
    fingerprint; the shard covers all names in them in the interval (after, upto].
    """

    path: str
    fingerprint: str
    names: tuple[str, ...]
    labels: bool = False
    texts: tuple[tuple[str, str], ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    after: str = ""
    upto: str | None = None

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the names, which are the keys. A file directly in `path` has no label.

        An image of a table without a file is rejected. ValueError if a table cannot be read.
        """
        rows, texts = read_tables(self.path, self.tables), defaultdict[str, tuple[str, ...]](tuple)
        for name, text in self.texts:
            texts[name] += (f"{self.path}/{text}",)
        covered = {name for name in rows if name > self.after and (self.upto is None or name <= self.upto)}
        missing = covered - set(self.names)
        names = sorted(missing | set(self.names)) if missing else self.names
        return read_addresses((self._address(n, rows, texts[n], n in missing) for n in names), max_bytes)

    def _address(self, name: str, rows: dict[str, dict[str, Any]], texts: tuple[str, ...], missing: bool) -> Address:
        metadata = merge_metadata({"label": _label(name)} if self.labels else {}, rows.get(name, {}))
        reason = Reason.MISSING if missing else unread_name(name)
        return Address(name, None if reason else f"{self.path}/{name}", metadata, reason, texts)


def read_addresses(addresses: Iterable[Address | Sample], max_bytes: int) -> Iterator[Sample]:
    """Read images concurrently, in order; samples pass. A missing file or a failing web address is a rejected row.

    OSError, naming the file, if other storage fails; ImportError if the client package of a protocol is not installed.
    """

    def read(address: Address | Sample) -> Sample:
        if isinstance(address, Sample):
            return address
        data = address.reason or Reason.NO_IMAGE if address.address is None else _read(address.address, max_bytes)
        try:
            for text in address.texts:
                _add_text(address.metadata, text)
        except Rejected as rejected:
            data = data if isinstance(data, Reason) else rejected.reason
        if isinstance(data, Reason):
            return Sample(address.key, None, address.metadata, data)
        return Sample(address.key, data, address.metadata)

    return map_threads(read, addresses, THREADS, PENDING)


def _add_text(metadata: dict[str, Any], address: str) -> None:
    is_json = extension(address) == "json"
    data = _read(address, TEXT_BYTES)
    if isinstance(data, Reason):
        raise Rejected(Reason.BAD_JSON if is_json else Reason.BAD_TEXT)
    merge_metadata(metadata, read_json(data) if is_json else {"caption": read_text(data)})


def _read(address: str, max_bytes: int) -> bytes | Reason:
    protocol, separator, rest = address.partition("://")
    if separator and (
        protocol not in PROTOCOLS or "::" in address
    ):  # some fsspec protocols unpack archives or run commands
        return Reason.BAD_ADDRESS
    is_local, is_web = protocol == "file" or not separator, protocol in ("http", "https")
    if not (is_local or is_web or "/" in rest.strip("/")):
        return Reason.UNREADABLE  # a bucket
    try:
        if is_local and _is_special(Path(rest if separator else address)):
            return Reason.SPECIAL  # reading a pipe would block, a device would never end
        with filesystem.open_file(address, ATTEMPTS) as file:
            size = getattr(file, "size", None)
            if size is not None and size > max_bytes:
                return Reason.TOO_MANY_BYTES
            data = bytes(file.read() if size is not None else file.read(max_bytes + 1))
            return data if len(data) <= max_bytes else Reason.TOO_MANY_BYTES
    except ImportError:
        raise
    except Exception as error:  # aiohttp has many kinds of errors, and web addresses die
        if reason := _reason(error, is_local, is_web):
            return reason
        raise OSError(f"{address} cannot be read: {error}") from error


def _reason(error: Exception, is_local: bool, is_web: bool) -> Reason | None:
    """Why an image is rejected that cannot be read; None if the storage failed."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) or number == errno.ELOOP:
        return Reason.MISSING
    is_no_path = is_local and (isinstance(error, ValueError) or number in NO_PATH)
    is_no_bucket = type(error).__name__ == "ParamValidationError"  # of botocore
    return Reason.UNREADABLE if is_web or is_no_path or is_no_bucket else None


def _is_special(path: Path) -> bool:
    return path.exists() and not (path.is_file() or path.is_dir())


def _label(name: str) -> str | None:
    return name.rpartition("/")[0] or None


@lru_cache(maxsize=1)  # a worker reads many shards of one folder
def read_tables(folder: str, tables: tuple[tuple[str, str], ...]) -> dict[str, dict[str, Any]]:
    """Metadata of images by name from files of Hugging Face's ImageFolder; each is given by its name and fingerprint.

    The column `file_name` names an image relative to the folder of the file; files without that column are no such
    tables. ValueError that names file and row if one cannot be read.
    """
    rows: dict[str, dict[str, Any]] = {}
    for table, _ in tables:
        inside = posixpath.dirname(table)
        for number, row in _records(f"{folder}/{table}"):
            if not isinstance(file := row.pop("file_name", None), str):
                raise ValueError(f"{folder}/{table}: row {number} has no text in file_name: correct or remove it")
            name = posixpath.normpath(posixpath.join(inside, file))
            try:
                to_column_value(name)
                values = {to_column_value(k): to_column_value(v) for k, v in row.items()}
            except UnicodeEncodeError as error:
                text = str(error.object)[:80]
                raise ValueError(
                    f"{folder}/{table}: row {number} has {text!r}, half of a surrogate pair and no text: correct it"
                ) from error
            merge_metadata(rows.setdefault(name, {}), values)
    return rows


def _records(path: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbered rows of a JSONL or CSV file; none if the first has no `file_name`, which is printed."""
    with filesystem.open_file(path) as file:
        lines, number = io.TextIOWrapper(file, encoding="utf-8-sig", newline=""), 0
        is_csv = path.endswith(".csv")
        try:
            read = csv.DictReader(lines, strict=True) if is_csv else map(json.loads, filter(str.strip, lines))
            if isinstance(read, csv.DictReader) and len(header := read.fieldnames or ()) > len(set(header)):
                raise ValueError("several columns have one name")
            for record in read:
                if not isinstance(record, dict):
                    raise ValueError("it is no JSON object")
                if is_csv and (None in record or None in record.values()):
                    raise ValueError("it has more or fewer fields than the header")
                if not number and "file_name" not in record:
                    print(f"{path} has no column file_name and is left out", flush=True)
                    return
                number += 1
                yield number, record
        except (ValueError, csv.Error, RecursionError) as error:
            raise ValueError(f"{path} cannot be read after row {number} ({error}): correct or remove it") from error
