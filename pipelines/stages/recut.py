"""The stage `recut`: merges and splits that a person decided on change the clusters. The head is not fitted again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from cpp.clustering.layers import UNCERTAIN
from cpp.files import tables
from cpp.files.tables import Counts
from cpp.store.results import Product
from pipelines.config.decision_matching import keys_of, match, refuse
from pipelines.config.decisions import Entry
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages import artifacts

if TYPE_CHECKING:
    import torch

    from cpp.clustering.partition import FineGroups
    from cpp.rate_reduction.coding_rate import Moments


class Recut(Stage):
    """Replace groups, moments and tree of the run by those with all merges and splits, round by round.

    A cluster that is one fine group is divided before it is split: some fine groups are new then, and all are measured
    again. The tree file also has `rounds`, the clusters before each round and at the end by fine group.
    ValueError, naming the decisions, if their clusters are not found or cannot be split.
    """

    version = 2
    products = (Product("groups", ".safetensors"), Product("moments", ".safetensors"), Product("tree", ".safetensors"))
    whole = ("cuts", "codes", "groups", "moments", "tree")
    gpu = True
    sample: int
    landmarks: int
    seed: int

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        rounds: Sequence[Sequence[Entry]] = context.value("cuts")
        state = _State(self, context, rounds)
        for entries in rounds:
            state.apply(entries)
        before, after = len(np.unique(state.cut.history[0])), state.write(context, out, context.device == "cuda")
        print(f"recut: {before:,} clusters were changed to {after:,} by decisions", flush=True)
        n = sum(map(len, rounds))
        return Counts(n, n)


class _State:
    """The clusters and the fine groups while rounds are applied. `moments` has one part per group."""

    def __init__(self, stage: Recut, context: Context, rounds: Sequence[Sequence[Entry]]) -> None:
        from cpp.clustering.partition import PARTS
        from cpp.clustering.recut import Cut

        self.stage, self.context = stage, context
        self.groups, self.moments = artifacts.read_groups(context), artifacts.read_part_moments(context)
        self.n_groups, self.moments = len(self.groups.centroids), self.moments.merge_runs(PARTS)
        self.tree = artifacts.read_tree(context)
        layers = {K: labels.copy() for K, labels in self.tree.clusters.items()}
        self.cut = Cut([*layers.values()], [*layers].index(self.tree.main), self.moments.count_K.numpy().copy())
        keys = keys_of(entry for entries in rounds for entry in entries)
        self.codes = tables.vectors_of_keys(context.whole["codes"], "code", keys, context.prefetch)

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply a round of merges and splits. ValueError as in `Recut`."""
        from cpp.nearest import Nearest

        self.cut.remember()
        start, nearest = len(self.cut.history) - 1, Nearest(self.groups.centroids)
        places = {key: nearest(Z, self.context.batch).group.tolist() for key, Z in self.codes.items()}
        faults = list[str]()
        for entry, clusters in zip(entries, match(entries, places, self.cut.clusters), strict=True):
            now = np.unique(self.cut.clusters[np.isin(self.cut.history[start], [one.now for one in clusters])])
            if entry.decision.action == "merge":
                self.cut.merge(now.tolist())
            elif len(now) == 1 and not self._split(int(now[0])):  # otherwise another file of the round has split it
                faults.append(
                    f"{entry.place}: {clusters[0].cluster} cannot be split: its images have one and the same code"
                )
        refuse(faults)

    def _split(self, cluster: int) -> bool:
        """Split a cluster at the next cut of the tree below it. Returns whether it has parts."""
        from cpp.clustering import recut

        (groups,) = np.nonzero((self.cut.clusters == cluster) & (self.cut.rows > 0))
        if len(groups) == 1:
            groups = self._divide(int(groups[0]))
        if len(groups) < 2:
            return False
        finest = self.cut.layers[-1][groups]
        part = np.zeros(len(self.cut.clusters), np.bool_)
        part[groups] = recut.smaller_half(self.moments[groups], self.tree.metadata["e"], finest)
        self.cut.split(part)
        return True

    def _divide(self, group: int) -> NDArray[np.int64]:
        """Divide a fine group by its rows in a sample. Returns the groups that it is now."""
        import torch

        from cpp.clustering import recut
        from cpp.nearest import Nearest
        from cpp.rate_reduction.coding_rate import Moments

        s, g = self.stage, self.groups
        sampled = tables.sample_rows(self.context.whole["codes"], ["code"], s.sample, s.seed, self.context.prefetch)
        Z = sampled.astype(np.float32)
        Z = Z[Nearest(g.centroids)(Z, self.context.batch).group == group]
        centroids, of_row = recut.divided(Z, s.landmarks, s.seed) if len(Z) else (Z, np.zeros(0, np.int64))
        if len(centroids) < 2:
            return np.array([group])
        sums = Moments.of(torch.from_numpy(Z @ g.basis), torch.from_numpy(of_row), len(centroids))
        sums = sums * (float(self.cut.rows[group]) / len(Z))  # as if all rows had been measured
        new = np.array([group, *range(len(g.centroids), len(g.centroids) + len(centroids) - 1)])
        self.groups = _with_groups(g, group, centroids)
        self.moments = Moments(
            *(torch.cat([m, part[1:]]) for m, part in zip(_parts(self.moments), _parts(sums), strict=True))
        )
        for m, part in zip(_parts(self.moments), _parts(sums), strict=True):
            m[group] = part[0]
        self.cut.divide(group, sums.count_K.numpy())
        return new

    def write(self, context: Context, out: Outputs, gpu: bool) -> int:
        """Write the products, with new moments if groups were divided. Returns the number of clusters."""
        import torch

        from cpp.clustering.merge_tree import least_certain
        from cpp.clustering.partition import PARTS

        main, layers = self.cut.numbered()
        if len(self.groups.centroids) == self.n_groups:
            for kind in ("groups", "moments"):
                shutil.copyfile(context.file(kind), out[kind])
        else:
            artifacts.write_groups(self.groups, out["groups"])
            batches = tables.batches(context.whole["codes"], ["code"], context.prefetch)
            codes = (tables.matrix(batch["code"]).astype(np.float32) for batch in batches)
            measured = self.groups.moments(codes, context.batch, gpu)
            artifacts.write_moments(measured, out["moments"])
            self.moments = measured.moments.merge_runs(PARTS)
        clusters = self.moments.merge(torch.from_numpy(layers[main]), main)
        metadata = {**self.tree.metadata, "main": main, "layers": [*layers]}
        metadata["uncertain"] = least_certain(clusters, self.tree.metadata["e"], UNCERTAIN)
        arrays = load_file(context.file("tree")) | {"clusters": np.stack([*layers.values()])}
        arrays["rounds"] = np.stack([*self.cut.history, layers[main]])
        save_file(arrays, out["tree"], metadata={"tree": json.dumps(metadata)})
        return main


def _parts(moments: Moments) -> tuple[torch.Tensor, ...]:
    return moments.count_K, moments.sum_Kd, moments.gram_Kdd


def _with_groups(groups: FineGroups, group: int, centroids: NDArray[np.float32]) -> FineGroups:
    """The fine groups with several in place of one: the first has its place, the others are added at the end."""
    all_centroids = np.concatenate([groups.centroids, centroids[1:]])
    all_centroids[group] = centroids[0]
    cluster = np.concatenate([groups.cluster, np.repeat(groups.cluster[group], len(centroids) - 1)])
    return groups._replace(centroids=all_centroids, cluster=cluster)
