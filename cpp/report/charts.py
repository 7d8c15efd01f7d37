"""Charts as SVG, drawn by matplotlib: cluster sizes, the number of clusters, loss, curves, histograms and the map.

This module knows no run and no page. Equal input gives equal bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from markupsafe import escape
from numpy.typing import ArrayLike, NDArray

from cpp.report.tsne_map import SIDE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 930, 236  # pixels of a chart with its labels
SOFT, LINE, ACCENT, AMBER = "#566170", "#dfe4ea", "#1f64a8", "#8a5300"
VARIABLES = {SOFT: "var(--soft)", LINE: "var(--line)", ACCENT: "var(--accent)", AMBER: "var(--amber)"}  # of report.css
DASHED: dict[str, Any] = {"color": SOFT, "linewidth": 1.5, "linestyle": (0, (5, 4)), "clip_on": False}
K_RANGE = 8.0  # the curve is shown from an eighth of the best K to eight times it
EMPTY = 0.8  # the lower edge of a logarithmic axis of counts
MAP_NAMES, MAP_LETTERS = 40, 40  # names on the map, and characters of a name
HUES = ("#3b6fd4", "#d1495b", "#3a9a5b", "#b8862b", "#8a5cc9", "#1f9aa6", "#d0507f", "#6a8f2a", "#7d6fd6", "#c4632d",
        "#2f87c0", "#b04fa6")  # fmt: skip


class Chart(NamedTuple):
    """A chart. `description` is its text alternative; `svg` is a complete SVG file in colours for a light ground."""

    description: str
    svg: str

    @property
    def inline(self) -> str:
        """The SVG as an element of a page of this room: its colours and fonts are those of the page's style."""
        text = re.sub(r"<defs>.*?</defs>|<!--.*?-->", "", self.svg, flags=re.DOTALL)
        text = re.sub(r' (xmlns(:xlink)?|id|version)="[^"]*"|font-(size|family|weight): [^;"]*;? ?', "", text)
        for colour, variable in VARIABLES.items():
            text = text.replace(colour, variable)
        return text


def chart(
    *,
    x_name: str,
    y_name: str,
    description: str,
    bars: tuple[ArrayLike, ArrayLike] | None = None,
    line: tuple[ArrayLike, ArrayLike] | None = None,
    mark: float | None = None,
    logarithmic: bool = False,
) -> Chart:
    """Bars, a line or both, with values from 0 on.

    `bars` are edges and heights, `line` is its `x` and `y`, and `mark` is an x within their range where an upright
    line stands. A `logarithmic` y axis is for counts.
    """
    axes = _axes(x_name, y_name)
    bottom = EMPTY if logarithmic else 0.0
    if bars is not None:
        heights = np.maximum(bars[1], bottom)
        axes.stairs(heights, bars[0], baseline=bottom, fill=True, color=ACCENT, alpha=0.75, linewidth=0, clip_on=False)
    if line is not None:
        axes.plot(line[0], np.maximum(line[1], bottom), color=AMBER if bars else ACCENT, linewidth=2, clip_on=False)
    if mark is not None:
        axes.axvline(mark, **DASHED)
    axes.set_yscale("log" if logarithmic else "linear")
    axes.margins(0)
    axes.set_ylim(bottom, max(axes.dataLim.y1, 10.0 if logarithmic else 1e-9))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    return _chart(axes, description)


def cluster_sizes(sizes: Sequence[int], kept: Sequence[int] | None = None) -> Chart:
    """The sizes of clusters as bars from the largest to the smallest, and a line through the `kept` images of each."""
    order = np.argsort(-np.asarray(sizes), kind="stable")
    y, edges = np.asarray(sizes)[order], np.arange(len(sizes) + 1)
    description = f"The clusters have {y[-1]:,} to {y[0]:,} images; the median cluster has {y[(len(y) - 1) // 2]:,}."
    if len(y) == 1:
        description = f"The only cluster has {y[0]:,} image{'' if y[0] == 1 else 's'}."
    if kept is not None:
        description = "The bars show all images of each cluster, the line the kept ones."
    return chart(
        bars=(edges, y),
        line=None if kept is None else (edges[1:] - 0.5, np.asarray(kept)[order]),
        x_name="clusters, the largest first",
        y_name="images, logarithmic",
        description=description,
        logarithmic=True,
    )


def number_of_clusters(K: NDArray[np.int64], scores: NDArray[np.float64], best: int) -> Chart | None:
    """What cuts into `K` clusters lose, ascending, from `scores` `[samples, len(K)]` in nats, which are large if good.

    The loss of each sample is that above its least. None if there is only one K near `best`.
    """
    shown = (best / K_RANGE <= K) & (best * K_RANGE >= K)
    if shown.sum() < 2:
        return None
    K, loss = K[shown], (scores.max(1, keepdims=True) - scores)[:, shown]
    mean = scores.mean(0)
    line = (mean.max() - mean)[shown]
    top = max(float(line.max()), 1e-12)
    axes = _axes("number of clusters, logarithmic", "nats lost")
    axes.set_xscale("log")
    axes.set(xlim=(K[0], K[-1]), ylim=(0, top))
    low, high = (np.minimum(edge(loss, axis=0), top) for edge in (np.min, np.max))
    # A polygon: `fill_between` would define its path once and refer to it by an id, which pages do not keep.
    band = np.concatenate([K, K[::-1]]), np.concatenate([low, high[::-1]])
    axes.fill(*band, color=ACCENT, alpha=0.18, linewidth=0, clip_on=False)
    axes.plot(K, line, color=ACCENT, linewidth=2, clip_on=False)
    axes.axvline(best, **DASHED)
    ticks = np.unique(np.geomspace(K[0], K[-1], 6).round().astype(int)).tolist()
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_yticks([0, top], ["0", f"{top:.2g}"])
    axes.minorticks_off()
    return _chart(
        axes,
        "The curve is how much less a cut into more or fewer clusters says about an image than the best cut, in nats. "
        f"The dashed line marks {best:,} cluster{'s' * (best != 1)}; the band is the range of samples of the images.",
    )


def rates_by_block(before: Sequence[float], after: Sequence[float]) -> Chart:
    """Coding rates of tokens in nats by block of an encoder, `before` its attention, which is dashed, and `after`."""
    axes = _axes("block", "nats")
    blocks = np.arange(1, len(after) + 1)
    axes.plot(blocks, before, **DASHED)
    axes.plot(blocks, after, color=ACCENT, linewidth=2, clip_on=False)
    axes.set_xticks(blocks)
    axes.margins(0.02, 0.05)
    axes.yaxis.set_major_formatter("{x:,g}")
    return _chart(axes, "Coding rate of the tokens by the block's own subspaces, before (dashed) and after attention.")


def sparsity_by_block(nonzero: Sequence[float]) -> Chart:
    """The share of entries of the sparse codes that are not zero, 0 to 1, by block of an encoder."""
    return chart(
        line=(np.arange(1, len(nonzero) + 1), 100 * np.asarray(nonzero)),
        x_name="block",
        y_name="%",
        description="Share of the entries of the block's sparse code that are not zero: low is sparse.",
    )


def loss_curve(values: Sequence[float], warmup: int, description: str) -> Chart:
    """A quantity over the steps of training, scaled to fill its box, with a line after the steps of the warm-up."""
    axes = _axes("", "", size=(400, 100), box=(4, 4, 392, 92))
    axes.set_axis_off()
    axes.set_xlim(0, max(len(values) - 1, 1))
    if warmup:
        axes.axvline(warmup, **DASHED)
    axes.plot(values, color=ACCENT, linewidth=2, clip_on=False)
    return _chart(axes, description)


def scatter(plane: Mapping[str, Any], titles: Mapping[int, str]) -> Chart:
    """The map: a point for each image in the colour of its cluster, and the names of the clusters with most points."""
    size = SIDE + 60
    axes = _axes("", "", size=(size, size), box=(30, 30, SIDE, SIDE), ground="white")
    axes.set(xlim=(0, SIDE), ylim=(SIDE, 0))
    axes.set_axis_off()
    colours = {centre["cluster"]: HUES[centre["colour"] % len(HUES)] for centre in plane["centres"]}
    points = [colours[cluster] for cluster in plane["cluster"]]
    axes.scatter(plane["x"], plane["y"], s=49, c=points, alpha=0.7, linewidths=0, clip_on=False)
    for centre in plane["centres"][:MAP_NAMES]:
        name = "".join(filter(str.isprintable, titles[centre["cluster"]][:MAP_LETTERS]))
        ground = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1}
        axes.text(centre["x"], centre["y"], name, parse_math=False, ha="center", va="center", fontsize=15,
                  weight="bold", color="#1c232d", bbox=ground)  # fmt: skip
    return _chart(axes, f"Map of {len(points):,} images in {len(colours):,} clusters.")


def _axes(
    x_name: str,
    y_name: str,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    box: tuple[int, int, int, int] = (104, 62, 800, 160),
    ground: str = "none",
) -> Axes:
    """Empty axes in a figure of `size` pixels; `box` is their left, bottom, width and height."""
    from matplotlib import figure as mpl  # takes half a second, and most steps draw nothing

    width, height = size
    figure = mpl.Figure(figsize=(width / 72, height / 72), facecolor=ground)
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height), facecolor="none")
    axes.spines[["left", "right", "top"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(which="both", left=False, bottom=False, labelcolor=SOFT, labelsize=17)
    axes.grid(axis="y", color=LINE, linewidth=1, clip_on=False)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_name, color=SOFT, fontsize=17)
    axes.yaxis.set_label_coords(-88 / box[2], 0.5)
    axes.set_ylabel(y_name, color=SOFT, fontsize=17)
    return axes


def _chart(axes: Axes, description: str) -> Chart:
    """The figure as a file with a text alternative: coordinates to a tenth of a pixel, no date, fonts of the system."""
    import matplotlib

    text, figure = io.StringIO(), cast("Figure", axes.figure)
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "cpp"}):
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it is only measured: an SVG has text
            figure.savefig(text, format="svg", metadata=no_metadata)
    svg = text.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r'\b[dxy]="[^"]*"', lambda m: re.sub(r"(\.\d)\d+", r"\1", m[0]).replace("\n", ""), svg)
    svg = re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r"\n\s*", "\n", svg)
    opening, rest = svg.split(">", 1)
    return Chart(description, f'{opening} class="figure" role="img"><title>{escape(description)}</title>{rest}')
