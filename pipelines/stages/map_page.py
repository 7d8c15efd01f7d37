"""The stages of the map of all images: a place for each beside the sample of the map, and the page."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import map_page, tsne_map
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import clusters_state, read_main_clusters

COLUMNS = ["key", "image_shard", "cluster"]


class MapPoints(Stage):
    """CODES and the sample of the map -> at most `map_points` images in the plane, drawn at random if there are more.

    The drawn images are in memory without their codes.
    """

    version = 1
    products = (Product("map"),)
    whole = ("codes", "assignments", "map_sample")
    seed: int
    map_points: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        Z = tables.sample_rows(context.whole["codes"], ["code"], tsne_map.POINTS, self.seed, context.prefetch)
        sample = tables.read(context.file("map_sample"), columns=["x", "y"])
        points = np.stack([sample["x"].to_numpy(), sample["y"].to_numpy()], axis=1)
        drawn = (self.map_points, self.seed, context.prefetch)
        codes = tables.sample_batches(context.whole["codes"], ["code"], *drawn)
        rows = tables.sample_batches(context.whole["assignments"], COLUMNS, *drawn)
        placed = []
        for of_codes, of_rows in tables.align_batches(codes, rows):
            x, y = tsne_map.place(tables.matrix(of_codes["code"]), Z, points).T
            placed.append(of_rows.append_column("x", pa.array(x)).append_column("y", pa.array(y)))
        table = pa.Table.from_batches(placed)
        tables.write(table, out["map"])
        return Counts(len(table), len(table))


class MapPage(Stage):
    """The map of all images -> a page that draws it, with pictures as far as there are thumbnails."""

    version = 6
    products = (Product("map_page", ".html"),)
    whole = ("map", "clusters", "thumbnails")
    title: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        points = tables.read(context.file("map"))
        small: dict[tuple[str | None, str], bytes] = {}
        for batch in tables.batches(context.whole["thumbnails"], ["image_shard", "key", "small"], context.prefetch):
            small |= {(row["image_shard"], row["key"]): row["small"] for row in batch.to_pylist() if row["small"]}
        places = zip(points["image_shard"].to_pylist(), points["key"].to_pylist(), strict=True)
        pictures = {i: small[place] for i, place in enumerate(places) if place in small}
        page = map_page.render(self.title, clusters_state(context), points, read_main_clusters(context), pictures)
        out["map_page"].write_text(page, encoding="utf-8")
        return Counts(len(points), len(points))
