"""Images in the rows of a table: their bytes, or their addresses.

Leaves the reading of addresses to `cpp.sources.folder`, and that of the file to `cpp.sources.table_rows`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, urlencode

from cpp.sources.folder import Address, read_addresses
from cpp.sources.samples import Reason, Sample, to_column_value
from cpp.sources.table_rows import Kind, Values, columns, read_rows


@dataclass(frozen=True)
class TableShard:
    """Rows [start, stop) of a table. `column` holds image bytes, or their `addresses`; the column `key` their keys."""

    table: str
    fingerprint: str
    start: int
    stop: int
    column: str
    addresses: bool
    key: str | None = None

    @property
    def path(self) -> str:
        """The shard as text for `from_path`: `train.parquet#bytes=image&key=id&rows=0-10000`."""
        query = {"addresses" if self.addresses else "bytes": self.column}
        query |= {"key": self.key} if self.key is not None else {}
        return f"{self.table}#{urlencode(query)}&rows={self.start}-{self.stop}"

    @classmethod
    def from_path(cls, path: str) -> TableShard | None:
        """The shard of a `path`, without its fingerprint; None if the path is not that of a table's shard."""
        table, _, query = path.rpartition("#")
        fields = dict(parse_qsl(query, keep_blank_values=True))
        rows = re.fullmatch(r"(\d+)-(\d+)", fields.get("rows", ""))
        column = fields.get("bytes", fields.get("addresses"))
        if rows is None or column is None:
            return None
        return cls(table, "", int(rows[1]), int(rows[2]), column, "addresses" in fields, fields.get("key"))

    def read(self, max_bytes: int) -> Iterator[Sample]:
        """Samples in the order of the rows, numbered if there is no `key`. All but binary columns become metadata.

        Addresses may be relative to the table's folder. ValueError if the table cannot be read.
        """
        names = [n for n, kind in columns(self.table).items() if kind is not Kind.BYTES or n == self.column]
        return self._samples(read_rows(self.table, range(self.start, self.stop), names), max_bytes)

    def pick(self, keys: Collection[str], max_bytes: int) -> Iterator[Sample]:
        """The samples with one of the keys, without metadata.

        From Parquet it decodes the column of keys, and only those row groups of images that contain one of the keys.
        """
        rows = range(self.start, self.stop)
        keyed = ((row, None) for row in rows) if self.key is None else read_rows(self.table, rows, [self.key])
        chosen = [row for row, values in keyed if self._key(row, values or {}) in keys]
        names = [name for name in dict.fromkeys((self.key, self.column)) if name is not None]
        return self._samples(read_rows(self.table, chosen, names), max_bytes)

    def _key(self, row: int, values: Values) -> str:
        key = values.get(self.key) if self.key is not None and not isinstance(values, Reason) else None
        return f"{PurePosixPath(self.table).stem}/{row}" if key is None else str(key)

    def _samples(self, rows: Iterable[tuple[int, Values]], max_bytes: int) -> Iterator[Sample]:
        return read_addresses((self._sample(row, values, max_bytes) for row, values in rows), max_bytes)

    def _sample(self, row: int, values: Values, max_bytes: int) -> Sample | Address:
        key = self._key(row, values)
        if isinstance(values, Reason):
            return Sample(key, None, {}, values)
        image = values.get(self.column)
        kept = (name for name in values if name != self.key and (self.addresses or name != self.column))
        try:
            key.encode()
            metadata = {name: to_column_value(values[name]) for name in kept}
        except UnicodeEncodeError:
            return Sample(f"{PurePosixPath(self.table).stem}/{row}", None, {}, Reason.BAD_TEXT)
        if isinstance(image, dict):  # Hugging Face's struct{bytes, path} has either or both
            path = image.get("path")
            if path is not None:
                metadata.setdefault("path", str(path))
            image = path if image.get("bytes") is None else image["bytes"]
        if isinstance(image, bytes):
            if len(image) > max_bytes:
                return Sample(key, None, metadata, Reason.TOO_MANY_BYTES)
            return Sample(key, image, metadata)
        return self._address(key, image, metadata)

    def _address(self, key: str, address: Any, metadata: dict[str, Any]) -> Address:
        if not isinstance(address, str) or not address:
            return Address(key, None, metadata, Reason.NO_IMAGE)
        folder = self.table.rpartition("/")[0]
        if "://" not in address and not address.startswith("/") and folder:
            address = f"{folder}/{address}"
        return Address(key, address, metadata)
