"""The command `compare`: what became of the clusters of one finished run in another, as a table and a page.

Neither run is changed. Memory grows with the number of pairs of clusters that share images, not with the images.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpp.evaluation import comparison, overlaps
from cpp.evaluation.comparison import CHANGES, Agreement, Group
from cpp.evaluation.overlaps import Overlaps
from cpp.export.target import open_target
from cpp.files import credentials, filesystem, scratch, tables
from cpp.report import cards, comparison_page
from cpp.report.comparison_page import ELSEWHERE, LEAST_SHARE, PICTURES, Side
from pipelines.commands.parts import together
from pipelines.config.errors import UsageError
from pipelines.config.load import Config
from pipelines.engine.plan import Files

NEEDED = ("assignments", "clusters", "examples", "thumbnails")
TABLE, PAGE = "comparison.parquet", "comparison.html"
LISTED = 10  # groups of each change that are printed


class Run(NamedTuple):
    """A finished run: configuration, files of the fitted images, paths of all assignments, rows of its clusters."""

    config: Config
    files: Files
    assignments: list[str]
    clusters: Mapping[int, Mapping[str, Any]]


class Comparison(NamedTuple):
    """The result: numbers of images, agreement, groups of clusters with titles, and the folder that was written."""

    images: int
    only_a: int
    only_b: int
    agreement: Agreement | None
    groups: list[Group]
    titles: tuple[Mapping[int, str], Mapping[int, str]]
    folder: str

    def lines(self) -> Iterator[str]:
        """The summary that is printed."""
        yield f"{self.images:,} images are in both runs, {self.only_a:,} only in A, {self.only_b:,} only in B"
        if self.agreement:
            on = f" on {self.agreement.measured:,} random images" if self.agreement.measured < self.images else ""
            yield f"ARI {self.agreement.ari:.3f}, AMI {self.agreement.ami:.3f}{on}"
        counts = Counter(group.change for group in self.groups)
        for change in CHANGES:
            yield f"{change}: {counts[change]:,}"
            listed = [group for group in self.groups if group.change == change and change != "stayed"]
            for group in listed[:LISTED]:
                sides = (self._named(side, getattr(group, run)) for side, run in enumerate("ab"))
                yield f"    {' -> '.join(sides)}"
            if len(listed) > LISTED:
                yield f"    ... and {len(listed) - LISTED:,} more"
        yield f"every pair of clusters is in {self.folder}/{TABLE}"
        yield f"open {self.folder}/{PAGE}"

    def _named(self, side: int, clusters: tuple[int, ...]) -> str:
        names = [f"{self.titles[side][k]} (#{k})" for k in clusters[:LISTED]]
        return ", ".join([*names, *(["..."] if len(clusters) > LISTED else [])]) or "-"


def compare(a: Config, b: Config, out: str | None) -> Comparison:
    """Compare two finished runs, and write the table and the page to the folder `out`, by default in the folder of `b`.

    Raises UsageError if `out` holds other files, RunStateError if a run is not finished.
    """
    folder = _writable(out, a, b)
    runs = _read(a), _read(b)
    threads = b.resources.cpus * b.resources.workers
    counted = overlaps.count_overlaps(_rows(runs[0]), _rows(runs[1]), threads)
    groups = comparison.groups(counted)
    titles = tuple({k: row["title"] for k, row in run.clusters.items()} for run in runs)
    result = Comparison(
        int(counted.common.images.sum()),
        counted.only("a"),
        counted.only("b"),
        comparison.agreement(counted, b.seed),
        groups,
        (titles[0], titles[1]),
        folder,
    )
    page = _page(runs, counted, result)
    target = open_target(folder, tars=False)
    with target.commit({"table": f"{folder}/{TABLE}", "page": f"{folder}/{PAGE}"}) as files:
        tables.write(comparison.table(counted, groups, *result.titles), files["table"])
        files["page"].write_text(page, encoding="utf-8")
    with suppress(OSError):  # another comparison writes there
        target.scratch().rmdir()
    return result


def _writable(out: str | None, a: Config, b: Config) -> str:
    """The folder of the comparison. UsageError if it cannot be one."""
    if out is None:
        return f"{b.root.rstrip('/')}/compared-with-{PurePosixPath(a.root).name}"
    credentials.check_address(out)
    fs, name = filesystem.connect(out)
    if fs.isfile(name):
        raise UsageError(f"--out is {out}, which is a file: name a folder, which need not exist")
    return out.rstrip("/")


def _read(config: Config) -> Run:
    """A finished run with what was appended to it. RunStateError if it is not finished."""
    fitted, later = together(config, NEEDED)
    assigned = {**fitted.files["assignments"], **later.get("assignments", {})}
    (file,) = fitted.files["clusters"].values()
    with scratch.local_copy(file.path) as path:
        rows = tables.read(path, columns=["cluster", "main", "title"]).to_pylist()
    clusters = {row["cluster"]: row for row in rows if row["main"]}
    return Run(config, fitted.files, [file.path for file in assigned.values()], clusters)


def _rows(run: Run) -> Iterator[pa.RecordBatch]:
    """Key, shard and cluster of every image. The shard is the name of the tar, folder or table, or of our shard."""
    columns = ["key", "image_shard", "cluster", "__filename"]
    for batch in tables.batches(run.assignments, columns, run.config.resources.prefetch):
        ours = pc.replace_substring_regex(batch["__filename"], r"^(?:.*/)?([^/]*)-[^/-]*$", r"\1")
        shard = pc.coalesce(pc.replace_substring_regex(batch["image_shard"], r"^.*/", ""), ours)
        yield pa.record_batch([batch["key"], shard, batch["cluster"]], overlaps.COLUMNS)


def _page(runs: tuple[Run, Run], counted: Overlaps, result: Comparison) -> str:
    groups = [(group.change, group.a, group.b) for group in _in_order(result.groups, counted)]
    sides = [
        Side(
            run.config.name,
            run.config.root,
            _link(result.folder, run.config.root),
            _clusters(run, chosen, sizes, elsewhere),
        )
        for run, chosen, (sizes, elsewhere) in zip(
            runs, comparison_page.shown(groups), _destinations(counted, result.titles), strict=True
        )
    ]
    summary = {name: getattr(result, name) for name in ("images", "only_a", "only_b", "agreement")}
    return comparison_page.render(sides[0], sides[1], groups, summary)


def _in_order(groups: list[Group], counted: Overlaps) -> list[Group]:
    """The groups as the page shows them: the largest first, and among those that stayed the most changed first."""
    sizes = [np.bincount(column, counted.images) for column in (counted.a + 1, counted.b + 1)]  # 0 is no cluster

    def other(group: Group) -> int:
        everything = sum(sizes[side][k + 1] for side in (0, 1) for k in getattr(group, "ab"[side]))
        return int(everything) - 2 * group.images

    return sorted(groups, key=lambda group: -other(group) if group.change == "stayed" else 0)


def _destinations(
    counted: Overlaps, titles: tuple[Mapping[int, str], Mapping[int, str]]
) -> Iterator[tuple[dict[int, int], dict[int, list[tuple[str, float]]]]]:
    """For A and for B: the size of each cluster, and the clusters of the other run that have most of its images."""
    a, b, images = counted.common
    for all_of, own, other, names in ((counted.a, a, b, titles[1]), (counted.b, b, a, titles[0])):
        sizes = np.bincount(all_of + 1, counted.images).astype(np.int64)[1:]
        shares = images / np.bincount(own, images)[own] if len(own) else images
        elsewhere: dict[int, list[tuple[str, float]]] = {}
        for i in np.argsort(-shares, kind="stable"):
            if shares[i] < LEAST_SHARE:
                break
            if len(listed := elsewhere.setdefault(int(own[i]), [])) < ELSEWHERE:
                listed.append((names[int(other[i])], float(shares[i])))
        yield dict(enumerate(sizes.tolist())), elsewhere


def _clusters(
    run: Run, chosen: set[int], sizes: Mapping[int, int], elsewhere: Mapping[int, list[tuple[str, float]]]
) -> dict[int, dict[str, Any]]:
    """All clusters of a run as the page needs them; the `chosen` ones have members with pictures."""
    (file,) = run.files["examples"].values()
    with scratch.local_copy(file.path) as path:
        examples = tables.read(path)
    typical = pc.and_(pc.equal(examples["kind"], "typical"), pc.less(examples["rank"], PICTURES))
    examples = examples.filter(
        pc.and_(typical, pc.is_in(examples["cluster"], value_set=pa.array(sorted(chosen), "int32")))
    )
    paths = [file.path for file in run.files["thumbnails"].values()]
    keys = pc.field("key").isin(examples["key"].unique())
    columns = ["image_shard", "key", "large", "caption"]
    batches = tables.batches(paths, columns, run.config.resources.prefetch, keys)
    pictures = {(row["image_shard"], row["key"]): row for batch in batches for row in batch.to_pylist()}
    members = cards.members(examples, pictures)
    return {
        k: {
            "title": row["title"],
            "size": sizes.get(k, 0),
            "members": members.get(k, []),
            "elsewhere": elsewhere.get(k, []),
        }
        for k, row in run.clusters.items()
    }


def _link(folder: str, root: str) -> str | None:
    """The relative link from the page in a folder to that of a run; None if they are not in one place."""
    if filesystem.is_remote(folder) or filesystem.is_remote(root):
        return f"{posixpath.relpath(root, folder)}/report.html" if folder.startswith(f"{root.rstrip('/')}/") else None
    return f"{posixpath.relpath(os.path.abspath(root), os.path.abspath(folder))}/report.html"
