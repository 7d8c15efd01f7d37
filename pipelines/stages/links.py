"""The stage `links`: the answers about pairs of clusters as links between fine groups, which steer the cut."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpp.clustering.answers import Links as GroupLinks
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.nearest import Nearest
from cpp.store.results import Product
from pipelines.config.answers import read
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages import artifacts


class Links(Stage):
    """Find the fine groups of the images in the answers, by key. An answer about images that are not there is ignored.

    The images of one side of an answer are where most of them are.
    """

    version = 1
    products = (Product("links", ".json"),)
    whole = ("answers", "codes", "groups")

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        answers = read(context.file("answers"))
        groups = _groups(context, {key for answer in answers for key in (*answer.a, *answer.b)})
        links, ignored = GroupLinks([], []), 0
        for answer in answers:
            pair = _place(answer.a, groups), _place(answer.b, groups)
            if None in pair or (pair[0] == pair[1] and not answer.same):
                ignored += 1
            else:
                (links.same if answer.same else links.different).append(pair)  # type: ignore[arg-type]  # not None
        out["links"].write_text(json.dumps(links._asdict()) + "\n", encoding="utf-8")
        if ignored:
            print(
                f"links: {ignored:,} of {len(answers):,} answers have no effect: their images are not in this run, or "
                "are too alike to be told apart",
                flush=True,
            )
        return Counts(len(answers), len(answers))


def _groups(context: Context, keys: set[str]) -> dict[str, list[int]]:
    """The fine groups of the images with these keys; a key may occur in several shards."""
    nearest, wanted = Nearest(artifacts.read_groups(context).centroids), pa.array(sorted(keys), pa.string())
    groups: dict[str, list[int]] = {}
    for batch in tables.batches(context.whole["codes"], ["key", "code"], context.prefetch):
        rows = batch.filter(pc.is_in(batch["key"].cast(pa.string()), value_set=wanted))
        if len(rows):
            group = nearest(tables.matrix(rows["code"]).astype(np.float32), context.batch).group
            for key, number in zip(rows["key"].to_pylist(), group.tolist(), strict=True):
                groups.setdefault(key, []).append(number)
    return groups


def _place(keys: list[str], groups: Mapping[str, list[int]]) -> int | None:
    """The fine group that most of the images are in; None if there are no such images."""
    of_images = [number for key in keys for number in groups.get(key, [])]
    return int(np.bincount(of_images).argmax()) if of_images else None
