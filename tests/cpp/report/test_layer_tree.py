"""Layers as a tree, worked out by hand."""

from cpp.report.layer_tree import layer_tree


def test_the_largest_cluster_comes_first_and_one_layer_is_no_tree() -> None:
    rows = [
        {"layer": layer, "cluster": k, "parent": parent, "size": size}
        for layer, k, parent, size in [(2, 0, None, 5), (2, 1, None, 7), (3, 0, 0, 5), (3, 1, 1, 3), (3, 2, 1, 4)]
    ]
    roots = layer_tree(rows)
    assert [(n.row["cluster"], [p.row["cluster"] for p in n.parts]) for n in roots] == [(1, [2, 1]), (0, [0])]
    assert layer_tree(rows[:2]) == []
