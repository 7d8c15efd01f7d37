"""The stage `links`: the answers about pairs of clusters as links between fine groups, which steer the cut."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from cpp.clustering.answers import Links, joined
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.config.answers import read
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages import artifacts


class LinkGroups(Stage):
    """Find the fine groups of the images in the answers, by key. An answer about images that are not there is ignored.

    The images of one side of an answer are where most of them are. ValueError, naming the answer, if answers contradict
    each other.
    """

    version = 1
    products = (Product("links", ".json"),)
    whole = ("answers", "codes", "groups")

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        path, fine = context.file("answers"), artifacts.read_groups(context)
        answers = read(path)
        groups = _groups(context, fine.centroids, {key for answer in answers for key in (*answer.a, *answer.b)})
        links, different = Links([], []), dict[int, tuple[int, int]]()
        for number, answer in enumerate(answers, 1):
            a, b = _place(answer.a, groups), _place(answer.b, groups)
            if a is None or b is None or (a == b and not answer.same):
                continue
            if answer.same:
                links.same.append((a, b))
            else:
                different[number] = a, b
        links.different.extend(different.values())
        cluster = joined(len(fine.centroids), links.same)
        for number, (a, b) in different.items():
            if cluster[a] == cluster[b]:
                titles = " and ".join(answers[number - 1].names)
                raise ValueError(
                    f"{path}: answer {number} ({titles}) says that two groups of images are different, and other "
                    "answers that they are the same: correct or remove one of them"
                )
        out["links"].write_text(json.dumps(links._asdict()) + "\n", encoding="utf-8")
        if ignored := len(answers) - len(links.same) - len(links.different):
            print(
                f"links: {ignored:,} of {len(answers):,} answers have no effect: their images are not in this run, or "
                "are too alike to be told apart",
                flush=True,
            )
        return Counts(len(answers), len(answers))


def _groups(context: Context, centroids: NDArray[np.float32], keys: set[str]) -> dict[str, list[int]]:
    """The fine groups of the images with these keys; a key may occur in several shards."""
    from cpp.nearest import Nearest

    nearest, codes = Nearest(centroids), tables.vectors_of_keys(context.whole["codes"], "code", keys, context.prefetch)
    return {key: nearest(Z, context.batch).group.tolist() for key, Z in codes.items()}


def _place(keys: list[str], groups: Mapping[str, list[int]]) -> int | None:
    """The fine group that most of the images are in; None if there are no such images."""
    of_images = [number for key in keys for number in groups.get(key, [])]
    return int(np.bincount(of_images).argmax()) if of_images else None
