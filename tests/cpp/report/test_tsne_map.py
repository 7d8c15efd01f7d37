"""The map: near codes stay near, equal input gives an equal map, neighbours differ in colour."""

import numpy as np
import pytest

from cpp.report.tsne_map import COLOURS, NEAR, SIDE, colours, embed, plane
from tests.support.vectors import subspaces


def test_neighbours_in_the_plane_are_of_one_group_and_an_equal_seed_gives_equal_points() -> None:
    rng = np.random.default_rng(0)
    group = np.arange(240) % 6
    Z = np.eye(16)[group] + 0.1 * rng.standard_normal((240, 16))
    Y = embed(Z.astype(np.float32), seed=0)
    away = np.linalg.norm(Y[:, None] - Y[None], axis=-1)
    np.fill_diagonal(away, np.inf)
    assert (group[away.argmin(1)] == group).mean() > 0.95
    assert Y.min(axis=0) == pytest.approx([0, 0], abs=1e-2)
    assert Y.max(axis=0) == pytest.approx([SIDE, SIDE], abs=1e-2)
    np.testing.assert_array_equal(Y, embed(Z.astype(np.float32), seed=0))


@pytest.mark.parametrize("n", [1, 2, 4, 5, 6])
def test_few_rows_and_equal_rows_have_places_too(n: int) -> None:
    Z = subspaces(n, 1, 2, 8, 0)[0].numpy()
    for rows in (Z, np.ones_like(Z)):
        assert np.isfinite(embed(rows, 0)).all()


def test_a_name_stands_at_a_point_of_its_cluster() -> None:
    ring = np.stack([np.cos(np.arange(30)), np.sin(np.arange(30))], axis=1) * 100 + 500
    points = plane(np.concatenate([ring, [[500.0, 500.0]]]), [4] * 30 + [9])
    assert [(c["cluster"], c["points"]) for c in points["centres"]] == [(4, 30), (9, 1)]
    centre = points["centres"][0]
    assert (centre["x"], centre["y"]) in set(zip(points["x"][:30], points["y"][:30], strict=True))
    row = np.stack([np.arange(11.0), np.zeros(11)], axis=1)
    (centre,) = plane(row, [0] * 11)["centres"]
    assert (centre["x"], centre["y"]) == (5.0, 0.0)  # in the middle of it


def test_near_clusters_have_other_colours() -> None:
    rng = np.random.default_rng(0)
    middles = rng.random((200, 2)) * SIDE
    given = colours(middles)
    assert set(given) == set(range(COLOURS))
    for i in range(200):
        before = np.argsort(np.hypot(*(middles[:i] - middles[i]).T))[:NEAR]
        assert given[i] not in {given[j] for j in before}
