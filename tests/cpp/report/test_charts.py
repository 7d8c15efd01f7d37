"""Charts: their points worked out by hand, equal bytes for equal input, and elements that fit into a page."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from cpp.report.charts import ACCENT, HEIGHT, SOFT, Chart, chart, cluster_sizes, loss_curve, number_of_clusters

LEFT, RIGHT, TOP, BOTTOM = 104.0, 904.0, 14.0, HEIGHT - 62.0  # of the axes, in pixels


def paths(drawn: Chart, style: str) -> list[np.ndarray]:
    """The points `[n, 2]` of each path with this style, in pixels."""
    found = re.findall(rf'<path d="([^"]*)" style="[^"]*{style}[^"]*"', drawn.svg)
    return [np.array(re.findall(r"([\d.]+) ([\d.]+)", d), float) for d in found]


def labels(drawn: Chart) -> list[str]:
    return re.findall(r">([^<\n]+)</text>", drawn.svg)


def simple(**options: bool) -> Chart:
    return chart(line=([0, 1, 2], [4.0, 2.0, 0.0]), x_name="x", y_name="y", description="", mark=1, **options)


def test_a_curve_fills_its_box_and_a_mark_lies_within_it() -> None:
    (curve,) = paths(simple(), f"stroke: {ACCENT}")
    assert curve.tolist() == [[LEFT, TOP], [504, (TOP + BOTTOM) / 2], [RIGHT, BOTTOM]]
    (mark,) = paths(simple(), "stroke-dasharray")
    assert mark[:, 0].tolist() == [504, 504]


def test_bars_stand_on_the_axis_between_their_edges() -> None:
    drawn = chart(bars=([0, 1, 2], [1.0, 2.0]), x_name="x", y_name="y", description="")
    (bars,) = paths(drawn, f"fill: {ACCENT}")
    middle = (TOP + BOTTOM) / 2
    corners = [[LEFT, BOTTOM], [LEFT, middle], [504, middle], [504, TOP], [RIGHT, TOP], [RIGHT, BOTTOM]]
    assert bars[:6].tolist() == corners


def test_a_logarithmic_chart_has_powers_of_ten_and_zeros_on_the_axis() -> None:
    drawn = chart(line=([0, 1], [0, 1000]), x_name="x", y_name="y", description="", logarithmic=True)
    assert [text for text in labels(drawn) if text in ("1", "10", "100", "1,000")][-4:] == ["1", "10", "100", "1,000"]
    (curve,) = paths(drawn, f"stroke: {ACCENT}")
    assert curve.tolist() == [[LEFT, BOTTOM], [RIGHT, TOP]]


def test_one_value_of_x_is_a_chart() -> None:
    assert "<path" in chart(line=([3], [5]), x_name="x", y_name="y", description="").svg


def test_sizes_fall_from_left_to_right_and_an_empty_cluster_has_no_bar() -> None:
    drawn = cluster_sizes([1, 100, 10, 10, 0])
    assert drawn.description == "The clusters have 0 to 100 images; the median cluster has 10."
    assert cluster_sizes([300]).description == "The only cluster has 300 images."
    (bars,) = paths(drawn, f"fill: {ACCENT}")
    tops = bars[1::2, 1]
    assert (np.diff(tops) >= 0).all()
    assert tops[0] == TOP
    assert tops[1] - tops[0] == pytest.approx(tops[3] - tops[1], abs=0.11)  # a tenth is a tenth anywhere on the scale
    assert tops[4] == BOTTOM


def test_the_loss_by_k_fills_its_box_and_marks_the_estimate() -> None:
    K, scores = np.array([1, 2, 3, 4, 5, 6]), -np.array([9.0, 5, 1, 6, 7, 9])
    drawn = number_of_clusters(K, np.stack([scores, scores]), 3)
    assert drawn is not None
    (curve,) = (path for path in paths(drawn, f"stroke: {ACCENT}") if len(path) == len(K))
    assert curve[[0, -1]].tolist() == [[LEFT, TOP], [RIGHT, TOP]]
    assert curve[2].tolist() == [pytest.approx(LEFT + 800 * np.log(3) / np.log(6), abs=0.1), BOTTOM]
    assert len(paths(drawn, f'dasharray[^"]*stroke: {SOFT}')) == 1
    assert "The dashed line marks 3 clusters" in drawn.description
    assert len(paths(drawn, "opacity: 0.18")) == 1


def test_one_k_has_no_chart() -> None:
    assert number_of_clusters(np.array([1]), np.zeros((5, 1)), 1) is None


def test_a_loss_curve_skips_missing_values_and_marks_the_end_of_the_warm_up() -> None:
    (curve,) = paths(drawn := loss_curve([float("nan"), 1.0, 3.0], 1, "loss"), f"stroke: {ACCENT}")
    assert curve[:, 0].tolist() == [200, 396]
    assert curve[0, 1] > curve[1, 1]
    assert len(paths(drawn, "stroke-dasharray")) == 1
    assert not paths(loss_curve([1.0, 2.0], 0, ""), "stroke-dasharray")


def test_equal_input_gives_equal_bytes() -> None:
    assert simple() == simple()
    assert "20" not in re.sub(r"[\d.]+", "", simple().svg)


def test_an_inline_chart_has_the_colours_of_the_page_and_nothing_that_repeats() -> None:
    drawn = chart(line=([0, 1], [1, 2]), x_name="a", y_name="b", description="<script>")
    assert "<title>&lt;script&gt;</title>" in drawn.inline
    assert "stroke: var(--accent)" in drawn.inline
    assert not re.search(r"#|\bid=|xmlns|<style|<use|http", drawn.inline)
    root = ElementTree.fromstring(drawn.inline)  # noqa: S314 (our own)
    assert (root.tag, root.get("role")) == ("svg", "img")
