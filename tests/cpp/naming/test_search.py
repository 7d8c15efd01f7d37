"""The images and clusters nearest to a text, compared with a search of all rows at once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpp.files.tables import matrix_column, write
from cpp.naming.search import nearest_clusters, nearest_images
from cpp.naming.votes import ClusterSums


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_a_search_over_files_equals_a_search_of_all_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = unit(rng.standard_normal((50, 8))).astype(np.float16)
    paths = []
    for i, (a, b) in enumerate([(0, 20), (20, 21), (21, 50)]):
        columns = {"key": [f"k{j}" for j in range(a, b)], "embedding": matrix_column(X[a:b])}
        table = pa.table(columns | {"cluster": range(a, b), "image_shard": ["a.tar"] * (b - a)})
        write(table, tmp_path / f"{i}.parquet")
        paths.append(str(tmp_path / f"{i}.parquet"))
    text = unit(rng.standard_normal(8))
    images = nearest_images(paths, paths, "embedding", text, 5, 2)
    order = np.argsort(-(X.astype(np.float32) @ text.astype(np.float32)))[:5]
    assert [row["in_cluster"] for row in images] == order.tolist()
    assert [row["key"] for row in images] == [f"k{j}" for j in order]
    assert images[0]["cosine"] == pytest.approx(float(X[order[0]].astype(float) @ text), abs=1e-3)
    with pytest.raises(ValueError, match="the images have dimension 8, the text 3"):
        nearest_images(paths, paths, "embedding", text[:3], 5, 2)


def test_nearest_clusters_by_hand() -> None:
    sums = ClusterSums(np.array([2, 0, 1]), np.array([[2.0, 0], [0, 0], [0, 1]]))
    (first, second) = nearest_clusters(sums, np.array([0.0, 1.0]), 5)
    assert first == pytest.approx((2, 1.0, 1 - 1 / 3))
    assert second == pytest.approx((0, 0.0, -1 / 3))
    assert len(nearest_clusters(sums, np.array([0.0, 1.0]), 1)) == 1
