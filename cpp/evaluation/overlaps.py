"""Count the images that each pair of clusters of two runs shares, by a join that spills to disk. Knows no stages."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cpp.files import scratch

MEMORY = "1GB"  # of the join; what does not fit is written to the scratch folder
COLUMNS = pa.schema({"key": "string", "shard": "string", "cluster": "int32"})
# Keys that stand once in each run identify an image by themselves; other images are told apart by their shard too and,
# if they are still alike, by their order.
IMAGES = """
SELECT key, '' AS shard, 0 AS place, cluster FROM {run} ANTI JOIN repeated USING (key) UNION ALL
SELECT key, shard, row_number() OVER (PARTITION BY key, shard ORDER BY rowid), cluster
FROM {run} SEMI JOIN repeated USING (key)
"""
COUNT = """
SELECT coalesce(images_a.cluster, -1) AS a, coalesce(images_b.cluster, -1) AS b, count(*) AS images
FROM images_a FULL JOIN images_b USING (key, shard, place) GROUP BY ALL ORDER BY ALL
"""


class Overlaps(NamedTuple):
    """Numbers of images by pair of clusters of the runs A and B, `[m]` each, ordered by `a` and `b`.

    -1 stands for a run without these images.
    """

    a: NDArray[np.int64]
    b: NDArray[np.int64]
    images: NDArray[np.int64]

    @property
    def common(self) -> Overlaps:
        """The pairs of images that are in both runs."""
        chosen = (self.a >= 0) & (self.b >= 0)
        return Overlaps(*(column[chosen] for column in self))

    def only(self, run: str) -> int:
        """The number of images that are only in run `a` or `b`."""
        return int(self.images[(self.b if run == "a" else self.a) < 0].sum())


def count_overlaps(a: Iterable[pa.RecordBatch], b: Iterable[pa.RecordBatch], threads: int) -> Overlaps:
    """Count the images of two runs by their clusters, from batches with `COLUMNS`.

    The rows are held on disk, and the join of both runs takes `MEMORY`; the counts of all pairs are in memory.
    """
    import duckdb

    with tempfile.TemporaryDirectory(dir=scratch.folder()) as folder:
        config: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "threads": threads,
            "temp_directory": f"{folder}/spilled",
        }
        with duckdb.connect(str(Path(folder) / "runs.duckdb"), config=config) as database:
            for run, batches in (("run_a", a), ("run_b", b)):
                database.execute(f"CREATE TABLE {run} (key VARCHAR, shard VARCHAR, cluster INTEGER)")
                for batch in batches:
                    database.register("batch", pa.Table.from_batches([batch], COLUMNS))
                    database.execute(f"INSERT INTO {run} SELECT * FROM batch")  # noqa: S608 (one of two names)
            twice = "SELECT key FROM {run} GROUP BY key HAVING count(*) > 1"
            union = " UNION ".join(twice.format(run=run) for run in ("run_a", "run_b"))
            database.execute(f"CREATE TABLE repeated AS {union}")
            for run in "ab":
                database.execute(f"CREATE VIEW images_{run} AS {IMAGES.format(run=f'run_{run}')}")
            counts = database.sql(COUNT).to_arrow_table()
    return Overlaps(*(counts[name].to_numpy().astype(np.int64) for name in Overlaps._fields))
