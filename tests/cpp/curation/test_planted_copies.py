"""Duplicates among pictures: planted ones of every kind, and the real ones of a crawl."""

import hashlib
from collections import defaultdict
from pathlib import Path

import numpy as np

from cpp.curation.duplicate_groups import Linked, group
from cpp.curation.duplicate_pairs import KINDS
from cpp.sources.tar import TarShard
from tests.bench.planted import CHANGES, Planted, drawings, found, pairs, plant, signatures, vectors


def test_copies_of_drawings_are_found_by_kind() -> None:
    planted = plant(drawings(90, 5), 3, 1)
    X = vectors(planted.files)
    exact = found(planted, pairs(planted, X, 0.9), 1.0)
    assert exact.recall["copied"] == 1
    assert exact.goes == exact.right == (planted.change == "copied").sum()
    near = found(planted, pairs(planted, X, 0.9, signatures(planted.files)), 0.95)
    assert set(near.recall) == set(CHANGES)
    assert near.goes == near.right
    for kind in ("copied", "encoded again", "mirrored"):
        assert near.recall[kind] >= 0.8, kind


def test_the_real_copies_of_a_crawl_are_all_found(real_data: Path) -> None:
    """Which files are equal is known from their SHA-256; of the other images every tenth is among them."""
    files: list[bytes] = []
    for path in sorted((real_data / "cc3m-img2dataset").glob("*.tar")):
        files += [sample.image for sample in TarShard(str(path), "").read(1 << 26) if sample.image is not None]
    by_digest = defaultdict(list)
    for i, data in enumerate(files):
        by_digest[hashlib.sha256(data).hexdigest()].append(i)
    copied = sorted(i for some in by_digest.values() if len(some) > 1 for i in some)
    assert len(copied) == 28
    some = sorted({*copied, *range(0, len(files), 10)})
    chosen = [files[i] for i in some]
    links = pairs(Planted(chosen, np.arange(len(chosen)), np.array([""] * len(chosen))), vectors(chosen), 0.9)
    exact = links.kind == KINDS.index("bytes")
    nothing = np.full(len(chosen), np.nan)
    only = links._replace(
        a=links.a[exact], b=links.b[exact], similarity=links.similarity[exact], kind=links.kind[exact]
    )
    groups = group(Linked(np.arange(len(chosen)), nothing, nothing, nothing), only, 1.0, "first")
    said = defaultdict(set)
    for row, number in zip(groups.row, groups.group, strict=True):
        said[number].add(some[row])
    assert sorted(map(sorted, said.values())) == sorted(rows for rows in by_digest.values() if len(rows) > 1)
    assert (~groups.kept).sum() == 21
