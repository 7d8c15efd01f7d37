"""Points of drawings, worked out by hand."""

import numpy as np

from cpp.report.charts import HEIGHT, WIDTH, line, sizes


def test_a_line_fills_its_frame_and_skips_what_is_missing() -> None:
    assert line([float("nan"), 1.0, 3.0], 100, 10) == "50.0,10.0 100.0,0.0"
    assert line([2.0], 100, 10) == "0.0,10.0"
    assert line([float("nan")], 100, 10) == ""


def test_sizes_fall_from_left_to_right_on_a_logarithmic_scale() -> None:
    found = sizes([1, 100, 10, 10])
    assert (found.largest, found.smallest, found.median) == (100, 1, 10)
    points = np.array([[float(v) for v in point.split(",")] for point in found.outline.split()])
    assert points[0].tolist() == [0, HEIGHT]
    assert points[-1].tolist() == [WIDTH, HEIGHT]
    tops = points[1:-1:2, 1]
    assert (np.diff(tops) >= 0).all()
    assert tops[1] - tops[0] == np.diff(tops)[2]  # a tenth is a tenth wherever it is
    assert [images for _, images in found.ticks] == [1, 10, 100]
    assert abs(found.ticks[1][0] - tops[1]) < 0.05


def test_an_empty_cluster_has_no_bar() -> None:
    assert sizes([5, 0]).outline.split()[-2] == f"{WIDTH:.1f},{HEIGHT:.1f}"
