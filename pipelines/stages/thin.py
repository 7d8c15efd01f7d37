"""The stage `thin`: the rows beyond the `keep` of their group, which the fit and a balanced subset leave out."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyarrow as pa

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.files.thinning import Names, spare_rows
from cpp.store.results import Product, shard_of
from pipelines.engine.stage import Context, Inputs, Outputs, Stage


class Thin(Stage):
    """Find the rows of FEATURES beyond `keep` of each group, which a metadata `column` or a `pattern` of the key names.

    In an append, rows of the run come first: appended rows stay as far as the run has fewer than `keep` of their group.

    ValueError if the pattern matches no key.
    """

    version = 1
    products = (Product("thinned"),)
    whole = ("run_features", "features")
    column: str | None
    pattern: str | None
    keep: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        paths = context.whole["features"]
        earlier = self._names(context, "run_features") if "run_features" in context.whole else ()
        rows = list(spare_rows(lambda: self._names(context, "features"), self.keep, earlier))
        schema = pa.schema({"shard": "string", "rows": pa.list_(pa.int64())})
        tables.write(pa.table({"shard": [shard_of(path) for path in paths], "rows": rows}, schema), out["thinned"])
        n, spare = sum(tables.read_footer(path).num_rows for path in paths), sum(map(len, rows))
        print(f"thin: {spare:,} of {n:,} rows are beyond the {self.keep:,} of their group", flush=True)
        return Counts(n, n)

    def _names(self, context: Context, kind: str) -> Iterator[Names]:
        """The names of the groups of each file's rows, for the files of FEATURES of this run or of the fitted one."""
        column, find = self.column or "key", re.compile(self.pattern or "").search
        example, matched = None, self.pattern is None
        for path in context.files(kind):
            if column not in tables.read_schema(path).names:  # no image of the shard has a value
                yield [None] * tables.read_footer(path).num_rows
                continue
            values = tables.read(path, [column])[column].to_pylist()
            if self.pattern is None:
                yield [None if value is None else str(value) for value in values]
                continue
            example = example or next(iter(values), None)
            found = [find(key) for key in values]
            matched |= any(found)
            yield [match and match[match.re.groups] for match in found]
        if not matched and "run_features" not in context.whole:
            raise ValueError(
                f"group.pattern is {self.pattern!r}, and no key matches it, such as {example!r}: change it, or name a "
                "metadata column in group.column"
            )
