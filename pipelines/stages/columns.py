"""The stage `columns`: one schema for the metadata of all shards, before the first file of ASSIGNMENTS is written."""

from __future__ import annotations

import pyarrow as pa

from cpp.files import tables
from cpp.files.common_schema import common_schema
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import NOT_METADATA


class Columns(Stage):
    """Write the common schema of the metadata in all FEATURES, as a table without rows."""

    version = 2
    products = (Product("columns"),)
    whole = ("features",)

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        fields = {field.name: field.type for field in common_schema(context.whole["features"])}
        types = {name: type_ for name, type_ in fields.items() if not NOT_METADATA.fullmatch(name)}
        schema = pa.schema(types | {"image_shard": pa.string()})
        tables.write(schema.empty_table(), out["columns"])
        return Counts(len(schema), len(schema))
