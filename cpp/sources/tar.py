"""Samples of a WebDataset tar, as img2dataset writes them.

The tar is untrusted: it is read as a stream, links are rejected rows, the name of a member is a key and never a path,
and a member that is too large is not read. Grouping follows "the WebDataset format" of
https://github.com/webdataset/webdataset: neighbours with equal names up to the first dot of the file name are one
sample. The package webdataset is not used for reading: it reads members without a size limit, silently drops links and
names without a dot, raises on a repeated key, and accepts a tar that was cut between two members.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cpp.files import filesystem
from cpp.sources.samples import Reason, Rejected, Sample, merge_metadata, read_json, read_label, read_text

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp")
METADATA_EXTENSIONS = ("txt", "cls", "json")
TEXT_BYTES = 1 << 24  # limit for a .json, .txt or .cls, and for an extended tar header, which tarfile reads at once
PENDING = 16  # samples of one prefix held back while they may still be parts of one sample

_META = re.compile(r"__[^/]*__($|/)")
_LONG = {tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK}
_EXTENDED = _LONG | {tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE}


class _Member(NamedTuple):
    """A file of a tar: its path up to the first dot of the name, the rest in lower case, its bytes or why it has none.

    Files that are neither images nor metadata are not read, and have empty bytes.
    """

    prefix: str
    extension: str
    data: bytes | Reason


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
        return _samples(_members(self.path, max_bytes, frozenset(keys)))

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the tar. `.txt` becomes `caption`, `.cls` `label`, and `.json` its fields.

        Columns of the table that a sample lacks are added, by `key`. A sample with two images is two rows with one key;
        a sample without an image or with damaged metadata is a rejected row. Hidden files and `__meta__` are skipped.
        `DamagedTarError` if the tar is damaged, after the samples before the damage.
        """
        table = _Parquet.open(self.parquet) if self.parquet else None
        for sample in _samples(_members(self.path, max_bytes)):
            if table is not None and sample.reason is None:
                table.add(sample)
            yield sample


def _members(tar: str, max_bytes: int, keys: frozenset[str] | None = None) -> Iterator[_Member]:
    """The files of a tar; with `keys`, only files that may belong to these samples have bytes."""
    prefixes = None if keys is None else {_split(key)[0] for key in keys}
    with filesystem.open_file(tar) as file, _damage(tar), _open(file, seek=keys is not None) as stream:
        for info in stream:
            stream.members = []  # tarfile would keep every header
            name = info.name.rpartition("/")[2]
            if info.isdir() or name.startswith(".") or _META.match(info.name):
                continue
            prefix, extension = _split(info.name)
            selected = prefixes is None or prefix in prefixes
            yield _Member(prefix, extension.lower(), _content(stream, info, max_bytes) if selected else b"")


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


def _open(file: Any, seek: bool = False) -> Any:
    """Open a tar as a stream, or with `seek` and without compression as a seekable file."""
    options: dict[str, Any] = {"tarinfo": _Header, "encoding": "utf-8", "errors": "backslashreplace"}
    if seek:
        try:
            return tarfile.open(None, "r:", file, **options)
        except tarfile.ReadError:  # compressed
            file.seek(0)
    return tarfile.open(None, "r|*", file, **options)


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
    ) as error:  # tarfile lets these escape for damaged tars
        raise DamagedTarError(f"{tar} is cut short or damaged ({error}): copy or write it again") from error


def _content(stream: Any, info: tarfile.TarInfo, max_bytes: int) -> bytes | Reason:
    extension = info.name.lower().rpartition(".")[2]
    if not info.isreg():
        return Reason.LINK
    if extension not in IMAGE_EXTENSIONS + METADATA_EXTENSIONS:
        return b""
    if info.size > (max_bytes if extension in IMAGE_EXTENSIONS else TEXT_BYTES):
        return Reason.TOO_MANY_BYTES
    return bytes(stream.extractfile(info).read())


@dataclass
class _Group:
    """The members of one sample."""

    key: str
    members: dict[str, bytes | Reason] = field(default_factory=dict)

    @property
    def has_image(self) -> bool:
        return not self.members.keys().isdisjoint(IMAGE_EXTENSIONS)

    def samples(self) -> Iterator[Sample]:
        images = [content for extension, content in self.members.items() if extension in IMAGE_EXTENSIONS]
        metadata: dict[str, Any] = {}
        try:
            self._read_into(metadata)
            reason = None
        except Rejected as rejected:
            reason = rejected.reason
        for image in images or [self._missing_image()]:
            if isinstance(image, Reason):
                yield Sample(self.key, None, dict(metadata), image)
            else:
                yield Sample(self.key, image, dict(metadata), reason)

    def _read_into(self, metadata: dict[str, Any]) -> None:
        if "txt" in self.members:
            metadata["caption"] = read_text(self._text("txt", Reason.BAD_TEXT))
        if "cls" in self.members:
            metadata["label"] = read_label(self._text("cls", Reason.BAD_TEXT))
        if "json" in self.members:
            merge_metadata(metadata, read_json(self._text("json", Reason.BAD_JSON)))

    def _text(self, extension: str, reason: Reason) -> bytes:
        data = self.members[extension]
        if isinstance(data, Reason):
            raise Rejected(reason)
        return data

    def _missing_image(self) -> Reason:
        return Reason.LINK if Reason.LINK in self.members.values() else Reason.NO_IMAGE


def _samples(files: Iterable[_Member]) -> Iterator[Sample]:
    for prefix, run in groupby(files, key=lambda member: member.prefix):
        for group in _groups(prefix, run):
            yield from group.samples()


def _groups(prefix: str, run: Iterable[_Member]) -> Iterator[_Group]:
    """The samples among neighbours with one prefix: one, unless extensions repeat or names have several dots.

    `a.seg.png` belongs to the sample of `a.jpg`; without an image `a.EXTENSION`, `photo.2020.jpg` and `photo.2021.jpg`
    are two samples.
    """
    whole, parts = _Group(prefix), list[_Group]()
    for _, extension, data in run:
        inner, dot, last = extension.rpartition(".")
        if not dot:
            if extension in whole.members:
                yield from _one_or_parts(whole, parts)
                whole, parts = _Group(prefix), []
            whole.members[extension] = data
        elif not whole.has_image:
            key = f"{prefix}.{inner}"
            if not parts or parts[-1].key != key or last in parts[-1].members:
                parts.append(_Group(key))
            parts[-1].members[last] = data
            if len(parts) > PENDING:
                yield parts.pop(0)
    yield from _one_or_parts(whole, parts)


def _one_or_parts(whole: _Group, parts: list[_Group]) -> Iterator[_Group]:
    if whole.has_image or not any(part.has_image for part in parts):
        yield whole
    else:
        yield from ([whole] if whole.members else []) + parts


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

    def add(self, sample: Sample) -> None:
        missing = [name for name in self.names if name not in sample.metadata]
        if not missing:
            return
        if self.table is None or self.rows is None:
            self.table = _parquet(self.path, pq.read_table)
            self.rows = {str(key): row for row, key in enumerate(self.table["key"].to_pylist())}
        row = self.rows.get(sample.key.rpartition("/")[2])
        if row is not None:
            values = self.table.select(missing).slice(row, 1).to_pylist()[0]
            sample.metadata.update(values)


def _parquet(path: str, read: Any) -> Any:
    with filesystem.open_file(path) as file:
        try:
            return read(file)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"{path} is not a readable Parquet file ({error}): repair or remove it") from error
