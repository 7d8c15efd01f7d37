"""Clusters and classes, worked out by hand."""

import pyarrow as pa

from cpp.report.confusion import DRAWN, classes, confusion, count

ROWS = [("a", 0)] * 6 + [("b", 0)] * 2 + [("a", 1)] * 3 + [("b", 2)] + [("c", 2)] + [(None, 2)] * 4


def rows() -> list[dict[str, object]]:
    names, clusters = zip(*ROWS, strict=True)
    table = pa.table({"cluster": pa.array(clusters, pa.int32()), "kind": pa.array(names)})
    return count(table.to_batches(max_chunksize=5), "kind").to_pylist()


def test_counts_add_up_over_batches_and_nulls_do_not_count() -> None:
    assert [tuple(row.values()) for row in rows()] == [
        (0, "a", 6), (0, "b", 2), (1, "a", 3), (2, "b", 1), (2, "c", 1),
    ]  # fmt: skip


def test_numbers_are_classes_too_and_no_rows_are_no_counts() -> None:
    table = pa.table({"cluster": pa.array([0, 0], pa.int32()), "kind": [7, 7]})
    assert count(table.to_batches(), "kind").to_pylist() == [{"cluster": 0, "class": "7", "images": 2}]
    assert count([], "kind").to_pylist() == []


def test_the_most_mixed_up_and_the_split_by_hand() -> None:
    matrix = confusion(rows())
    assert (matrix["n_clusters"], matrix["n_classes"], matrix["spare"]) == (
        3,
        2 + 1,
        1,
    )  # class c is main in none
    mixed = [(c["cluster"], c["class"], c["images"], c["main"]) for c in matrix["mixed"]]
    assert mixed == [(0, "b", 2, "a"), (2, "c", 1, "b")]
    assert matrix["mixed"][0]["of_class"] == 2 / 3
    assert matrix["mixed"][0]["of_cluster"] == 1 / 4
    assert matrix["split"] == [{"class": "a", "images": 9, "clusters": [(0, 6), (1, 3)]}]


def test_a_perfect_clustering_is_a_diagonal() -> None:
    matrix = confusion([{"cluster": 2 - i, "class": name, "images": 5 + i} for i, name in enumerate("xyz")])
    assert all(cell["row"] == cell["column"] for cell in matrix["cells"])
    assert matrix["mixed"] == matrix["split"] == []


def test_too_many_are_not_drawn() -> None:
    many = [{"cluster": i, "class": str(i), "images": 1} for i in range(DRAWN + 1)]
    assert confusion(many)["cells"] == []
    assert len(confusion(many[:-1])["cells"]) == DRAWN


def test_shares_of_the_classes_of_a_cluster() -> None:
    assert classes(rows())[0] == [("a", 0.75), ("b", 0.25)]
