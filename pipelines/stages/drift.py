"""The stages of an append only: a profile of the fitted images, and how well the appended images fit."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cpp.files import tables
from cpp.files.tables import Counts
from cpp.report import section_pages
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import (
    TreeFile,
    lost_values,
    read_groups,
    read_main_clusters,
    read_part_moments,
    read_tree,
)

if TYPE_CHECKING:
    from cpp.clustering.drift import Profile
    from cpp.rate_reduction.coding_rate import Moments

COLUMNS = ["cluster", "score", "margin"]


class Fitted(Stage):
    """Summarise ASSIGNMENTS of the fitted images as a profile, for comparison with appended images."""

    version = 1
    products = (Product("fitted", ".safetensors"),)
    whole = ("run_assignments", "tree")

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        from cpp.clustering.drift import Profile

        profile = Profile.empty(read_tree(context).main)
        for batch in tables.batches(context.whole["run_assignments"], COLUMNS, context.prefetch):
            profile.add(*(batch[column].to_numpy() for column in COLUMNS))
        save_file({f.name: getattr(profile, f.name) for f in fields(profile)}, out["fitted"])
        return Counts(profile.rows, profile.rows)


class Growth(Stage):
    """Measure how well appended images fit: in numbers, by cluster, and as a page."""

    version = 6
    products = (Product("growth", ".json"), Product("growth_by_cluster"), Product("report", ".html"))
    whole = (
        "fitted", "run_rejected", "codes", "assignments", "rejected", "groups", "tree", "moments", "clusters",
    )  # fmt: skip
    title: str

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        from cpp.clustering import drift
        from cpp.clustering.drift import Profile

        tree = read_tree(context)
        old, new = Profile(**load_file(context.file("fitted"))), Profile.empty(tree.main)
        moments = self._appended_moments(context, tree, new)
        profiles = {
            "fitted": old.summary(_rows(context, "run_rejected"), old),
            "appended": new.summary(_rows(context, "rejected"), old),
        }
        bits = drift.added_bits(_by_part(context, tree), moments, tree.metadata["e"])
        due = drift.refit_reasons(profiles["fitted"], profiles["appended"], bits)
        growth = {**profiles, "bits": bits, "refit_due": bool(due), "reasons": due}
        growth["lost"] = lost_values(context)
        out["growth"].write_text(json.dumps(growth, indent=2) + "\n", encoding="utf-8")
        table = _by_cluster(context, old, new)
        tables.write(table, out["growth_by_cluster"])
        page = section_pages.appended(self.title, growth, old, new, table.to_pylist())
        out["report"].write_text(page, encoding="utf-8")
        return Counts(new.rows, new.rows)

    def _appended_moments(self, context: Context, tree: TreeFile, new: Profile) -> Moments:
        """Moments by cluster of the appended images that are close enough to count; all images are added to `new`."""
        import torch

        from cpp.rate_reduction.coding_rate import Moments

        groups = read_groups(context)
        moments = Moments.zeros(tree.main, groups.basis.shape[1])
        columns = {"codes": ["code"], "assignments": COLUMNS}
        streams = (tables.batches(context.whole[kind], names, context.prefetch) for kind, names in columns.items())
        for codes, assigned in tables.align_batches(*streams):
            cluster, score, margin = (assigned[column].to_numpy() for column in COLUMNS)
            new.add(cluster, score, margin)
            close = score >= groups.reach
            Z = tables.matrix(codes["code"]).astype(np.float32)[close] @ groups.basis
            moments.add_(torch.from_numpy(Z), torch.from_numpy(cluster[close].astype(np.int64)))
        return moments


def _by_part(context: Context, tree: TreeFile) -> Moments:
    """Moments of the clusters of the main layer over the fitted images, each in `PARTS` parts."""
    import torch

    from cpp.clustering.partition import PARTS

    cluster = torch.from_numpy(tree.clusters[tree.main])
    into = cluster.repeat_interleave(PARTS) * PARTS + torch.arange(PARTS).repeat(len(cluster))
    return read_part_moments(context).merge(into, tree.main * PARTS)


def _rows(context: Context, kind: str) -> int:
    return sum(map(len, tables.batches(context.whole.get(kind, []), ["row"], context.prefetch)))


def _by_cluster(context: Context, old: Profile, new: Profile) -> pa.Table:
    """A row for each cluster of the main layer."""
    rows = read_main_clusters(context)

    def mean(sums: NDArray[Any], profile: Profile) -> pa.Array:
        return pa.array(sums / np.maximum(profile.size_K, 1), mask=profile.size_K == 0)

    return pa.table(
        {
            "cluster": pa.array(range(len(rows)), pa.int32()),
            **{column: pa.array([row[column] for row in rows], pa.string()) for column in ("title", "name", "guess")},
            "fitted": old.size_K,
            "appended": new.size_K,
            "fitted_score": mean(old.score_K, old),
            "score": mean(new.score_K, new),
            "fitted_small_margin": mean(old.small_K, old),
            "small_margin": mean(new.small_K, new),
        }
    )
