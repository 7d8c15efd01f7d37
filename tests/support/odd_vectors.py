"""Random odd folders of vectors with metadata and images beside them, and the rows that they must give."""

from __future__ import annotations

import datetime
import decimal
import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.support.odd_parts import OddInput, Parts

DIM = 5
NAMES = ["n", "score", "cluster", "embedding", "image_shard", "margin", "cluster_20", "Über", "a b", "source_score"]
KEYS = ["key", "id", "url", "score"]


class Vectors(Parts):
    """Makes a folder in clip-retrieval's layout."""

    def vectors(self) -> OddInput:
        """Files of vectors with metadata of the same numbers, and perhaps tars with the images."""
        with_images, key = self.chance(0.4), self.random.choice([None, *KEYS])
        images = {"images": self.random.choice(["tars", "v/images"])} if with_images else {}
        result = OddInput({"path": "v", "key": key, **images}, kind="import", vectors=[])
        start, name = self.random.choice([0, 7, 99998]), self.random.choice(["img_emb_{}", "{:04}", "a.b-{:05}"])
        for number in range(start, start + self.random.randint(1, 3)):
            stem = name.format(number)
            X = self.matrix(result, self.random.randint(number == start, 9), good=number == start)
            keys = self.keys(len(X), stem)
            sizes = np.abs(X[(X != 0) & np.isfinite(X)])
            fits_half = bool(sizes.min(initial=1) > 1e-3 and sizes.max(initial=1) < 1e4)
            X = X.astype(self.random.choice(["<f4", "<f8", ">f4", *["<f2"] * fits_half]))
            written, version = io.BytesIO(), self.random.choice([(1, 0), (2, 0), (3, 0)])
            np.lib.format.write_array(written, np.asarray(X, order=self.random.choice(["C", "F"])), version)
            self.write(f"v/img_emb/{stem}.{self.random.choice(['npy', 'NPY'])}", written.getvalue())
            columns = self.metadata(result, len(X), keys, key)
            file = io.BytesIO()
            pq.write_table(pa.table(columns), file, row_group_size=self.random.choice([2, 100]))
            self.write(f"v/metadata/metadata_{number}.parquet", file.getvalue())
            if with_images:
                self.images(result, f"{images['images']}/{number:05d}", keys if key else [])
        for odd in ("._img_emb_0.npy", "README.md", "stats_0.json"):
            if self.chance(0.2):
                self.write(f"v/img_emb/{odd}", b"x")
        if self.chance(0.05):
            self.write(f"v/metadata/metadata_{start + 9}.parquet", b"")
            result.error = "has no partner of number"
        return result

    def matrix(self, result: OddInput, n: int, good: bool) -> np.ndarray[Any, Any]:
        """Rows whose directions have the number of each, some of them no vectors, counted in `result`."""
        rows = []
        for i in range(n):
            self.next += 1
            row = np.array([16, self.next >> 8 & 15, self.next >> 4 & 15, self.next & 15, 1], np.float64)
            row *= self.random.choice([1, -1, 1e-3, 1e25, 1e-30, 3e37 / 16])
            is_vector = (good and i == 0) or self.chance(0.8)
            if not is_vector:
                row = np.array([self.random.choice([0, np.nan, np.inf]), *[0] * (DIM - 1)])
                result.rejected += 1
            assert result.vectors is not None
            result.vectors.append({"number": self.next if is_vector else None})
            rows.append(row)
        return np.array(rows).reshape(n, DIM)

    def keys(self, n: int, stem: str) -> list[str | None]:
        """Names of images, some of which repeat or are missing."""
        keys: list[str | None] = [f"{stem.replace('.', '-')}{i:04}" for i in range(n)]
        for i in range(n):
            if self.chance(0.1):
                keys[i] = self.random.choice([None, keys[0], "猫", "a/b", " ", f"{keys[0]}#2"])
        return keys

    def metadata(
        self, result: OddInput, n: int, keys: list[str | None], key: str | None
    ) -> dict[str, pa.Array | pa.ChunkedArray]:
        """Columns of types that differ between files; the values are kept in `result`."""
        columns: dict[str, pa.Array] = {}
        if key is not None:
            columns[key] = pa.array(keys, self.random.choice([pa.string(), pa.large_string()]))
            if self.chance(0.3):
                columns[key] = columns[key].dictionary_encode()
        for name in self.random.sample(NAMES, self.random.randint(0, 4)):
            if name not in columns:
                columns[name] = self.random.choice(_COLUMNS)(self.random, n)
        assert result.vectors is not None
        for i, row in enumerate(result.vectors[len(result.vectors) - n :]):
            row["metadata"] = {name: column[i].as_py() for name, column in columns.items() if name != key}
            row["key"] = keys[i] if key is not None else None
        return columns or {"nothing": pa.nulls(n)}

    def images(self, result: OddInput, stem: str, keys: list[str | None]) -> None:
        """A tar with the images of keys that can name a member, in the order of the vectors."""
        members, rows = list[tuple[str, bytes]](), result.vectors or []
        for row, key in zip(rows[len(rows) - len(keys) :], keys, strict=True):
            if key is not None and key.strip() and "#" not in key:
                identity, suffix, data = self.picture()
                members.append((f"{key}.{suffix}", data))
                row["picture"] = identity
        self.tar(stem, members)


def _decimals(random: Any, n: int) -> pa.Array:
    scale = random.choice([0, 2, 5])
    return pa.array([decimal.Decimal(7).scaleb(-scale)] * n, pa.decimal128(random.choice([9, 38]), scale))


def _times(random: Any, n: int) -> pa.Array:
    moments = [datetime.datetime(random.choice([1, 1970, 2026, 9999]), 2, 3, 4, 5, 6) for _ in range(n)]
    units = ["s", "ms", "us"] + (["ns"] if all(1700 < moment.year < 2200 for moment in moments) else [])
    return pa.array(moments, pa.timestamp(random.choice(units), random.choice([None, "UTC"])))


def _some(values: list[Any], type_: pa.DataType | None = None) -> Any:
    return lambda random, n: pa.array([random.choice([*values, None]) for _ in range(n)], type_)


_COLUMNS = [
    _some([1, 2**62, -5]),
    _some([1, 200], pa.uint8()),
    _some([2**64 - 1], pa.uint64()),
    _some([1, 2**40]),
    _some([0.5, float("inf"), -0.0]),
    _some([0.1], pa.float32()),
    _some([True, False]),
    _some(["a", "", "1"]),
    _some([["a"], []], pa.list_(pa.string())),
    _some([[1, None]], pa.list_(pa.int32())),
    _some([{"a": 1, "b": {"c": [2]}}]),
    _some([{"a": "x"}]),
    _some([b"\0\xff"]),
    _some([datetime.date(2026, 1, 2)]),
    _some([datetime.time(1, 2, 3)]),
    _some([]),
    lambda random, n: pa.array(random.choices(["x", "y", None], k=n), pa.string()).dictionary_encode(),
    _decimals,
    _times,
]
