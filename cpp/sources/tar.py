"""Reads WebDataset tars, as img2dataset writes them, plain or compressed.

The tar is untrusted: it is read as a stream, links are rejected rows, the name of a member is a key and never a path,
and a member that is too large is not read. What is a tar, and how it is compressed, is told by its content. The package
webdataset is not used for reading: it reads members without a size limit, silently drops links and names without a dot,
raises on a repeated key, and accepts a tar that was cut between two members.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpp.files import filesystem
from cpp.sources.formats import HEAD, extension, is_picture, is_picture_name, unread_name
from cpp.sources.grouping import TEXTS, Member, group_samples
from cpp.sources.samples import TEXT_BYTES, Reason, Sample, to_column_value

_META = re.compile(r"__[^/]*__($|/)")
_LONG = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_EXTENDED = _LONG | {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}
_COMPRESSED: dict[bytes, Callable[[Any], Any]] = {
    rb"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    rb"BZh[1-9]1AY&SY": bz2.BZ2File,  # a plain tar may begin with the name BZh.jpg
    rb"\xfd7zXZ\0": lzma.LZMAFile,
    rb"\x28\xb5\x2f\xfd": lambda file: pa.CompressedInputStream(pa.PythonFile(file, mode="r"), "zstd"),
}  # pattern of the first bytes -> a stream of the decompressed bytes


class DamagedTarError(ValueError):
    """The tar cannot be read to its end."""


@dataclass(frozen=True)
class TarShard:
    """A tar, and img2dataset's table of the same name if it exists."""

    path: str
    fingerprint: str
    parquet: str | None = None

    def pick(self, keys: Collection[str], max_bytes: int) -> Iterator[Sample]:
        """A superset of the samples with one of the keys, as `read` yields them but without the table's columns.

        In an uncompressed tar only the headers and these samples are read.
        """
        return group_samples(_members(self.path, max_bytes, frozenset(keys)))

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples as `group_samples` orders them. `.txt` becomes `caption`, `.cls` `label`, and `.json` its fields.

        Columns of the table that a sample lacks are added by `key`, at the end of the tar. A sample with two images is
        two rows with one key; a sample without an image or with damaged metadata is a rejected row. Hidden files and
        `__meta__` are skipped. `DamagedTarError` if the tar is damaged, after the samples before the damage.
        """
        table = _Parquet.open(self.parquet) if self.parquet else None
        metadata = list[tuple[str, dict[str, Any]]]()
        for sample in group_samples(_members(self.path, max_bytes)):
            if table is not None and sample.reason is None:
                metadata.append((sample.key, sample.metadata))
            yield sample
        if table is not None:  # texts may lie anywhere before the end
            for key, of_sample in metadata:
                table.add(key, of_sample)


def is_tar(path: str) -> bool:
    """Whether a file is a tar, plain or compressed, by its content."""
    try:
        with filesystem.open_file(path) as file, _damage(path), _open(file) as stream:
            stream.next()
    except DamagedTarError:
        return False
    return True


def _members(tar: str, max_bytes: int, keys: frozenset[str] | None = None) -> Iterator[Member]:
    """The files of a tar; with `keys`, only files that may belong to these samples have bytes."""
    prefixes = None if keys is None else {_split(key)[0] for key in keys}
    ahead = keys is None
    with filesystem.open_file(tar, ahead=ahead) as file, _damage(tar), _open(file, seek=not ahead) as stream:
        for info in stream:
            stream.members = []  # tarfile would keep every header
            name = info.name.rpartition("/")[2]
            if info.isdir() or name.startswith(".") or _META.match(info.name):
                continue
            prefix, rest = _split(info.name)
            content: tuple[bool, bytes | Reason] = (bool(is_picture_name(name)), b"")
            if prefixes is None or prefix in prefixes:
                content = _content(stream, info, max_bytes)
            yield Member(prefix, rest, *content)


def _split(path: str) -> tuple[str, str]:
    """Split a path at the first dot of the file name."""
    folder, slash, name = path.rpartition("/")
    stem, _, extension = name.partition(".")
    return folder + slash + stem, extension


class _Header(tarfile.TarInfo):
    """Treats an invalid header as damage; tarfile would take it for the end of the tar."""

    @classmethod
    def fromtarfile(cls, tar: tarfile.TarFile) -> _Header:
        try:
            return super().fromtarfile(tar)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # missing in typeshed
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(f"{error} in place of a member or the end mark") from error

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Header:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _EXTENDED and header.size > TEXT_BYTES:
            raise tarfile.HeaderError("an extended header is too large")
        return header


class _Rewound(io.RawIOBase):
    """A stream whose first bytes were read already."""

    def __init__(self, head: bytes, file: Any) -> None:
        self._head, self._file = head, file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        head, self._head = self._head, b""
        if 0 <= size < len(head):
            head, self._head = head[:size], head[size:]
        return head + bytes(self._file.read(size - len(head) if size >= 0 else -1))


def _open(file: Any, seek: bool = False) -> Any:
    """Open a tar as a stream, or with `seek` and without compression as a seekable file."""
    options: dict[str, Any] = {"tarinfo": _Header, "encoding": "utf-8", "errors": "backslashreplace"}
    head = bytes(file.read(10))
    rewound = _Rewound(head, file)
    for magic, decompressed in _COMPRESSED.items():
        if re.match(magic, head):
            return tarfile.open(None, "r|", decompressed(rewound), **options)
    if seek:
        file.seek(0)
        return tarfile.open(None, "r:", file, **options)
    return tarfile.open(None, "r|", rewound, **options)


@contextmanager
def _damage(tar: str) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError,
        EOFError,
        ValueError,
        IndexError,
        OverflowError,
        OSError,
        lzma.LZMAError,
        zlib.error,
    ) as error:  # tarfile and the decompressors let these escape for damaged tars
        if isinstance(error, OSError) and not (type(error) in (OSError, gzip.BadGzipFile) and error.errno is None):
            raise  # the storage failed
        raise DamagedTarError(f"{tar} is cut short or damaged ({error}): copy or write it again") from error


def _content(stream: Any, info: tarfile.TarInfo, max_bytes: int) -> tuple[bool, bytes | Reason]:
    """Whether a member is a picture; and the bytes of a picture or text, or why they are not read."""
    is_named = is_picture_name(info.name)
    if not info.isreg():
        return bool(is_named), Reason.LINK
    if is_named is False:
        return False, _text(stream, info) if extension(info.name) in TEXTS else b""
    file = stream.extractfile(info)
    head = b"" if is_named else bytes(file.read(HEAD))
    if not is_named and not is_picture(head):
        return False, b""
    if reason := unread_name(info.name):
        return True, reason
    return True, Reason.TOO_MANY_BYTES if info.size > max_bytes else head + bytes(file.read())


def _text(stream: Any, info: tarfile.TarInfo) -> bytes | Reason:
    return Reason.TOO_MANY_BYTES if info.size > TEXT_BYTES else bytes(stream.extractfile(info).read())


@dataclass
class _Parquet:
    """img2dataset's table beside a tar, read when the first sample lacks one of its columns."""

    path: str
    names: list[str]
    rows: dict[str, int] | None = None
    table: pa.Table | None = None

    @classmethod
    def open(cls, path: str) -> _Parquet | None:
        """None if the file has no column `key` and so is not img2dataset's."""
        names = _parquet(path, pq.read_schema).names
        return cls(path, [name for name in names if name != "key"]) if "key" in names else None

    def add(self, key: str, metadata: dict[str, Any]) -> None:
        """Add the columns that the metadata of a sample lacks, in place."""
        missing = [name for name in self.names if name not in metadata]
        if not missing:
            return
        if self.table is None or self.rows is None:
            self.table = _parquet(self.path, pq.read_table)
            keys = enumerate(self.table["key"].to_pylist())
            self.rows = {str(key): row for row, key in keys if isinstance(key, str | int)}
        row = self.rows.get(key.rpartition("/")[2])
        if row is not None:
            values = self.table.select(missing).slice(row, 1).to_pylist()[0]
            metadata.update({name: to_column_value(value) for name, value in values.items()})


def _parquet(path: str, read: Any) -> Any:
    with filesystem.open_file(path) as file:
        try:
            return read(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}): repair or remove it") from error
