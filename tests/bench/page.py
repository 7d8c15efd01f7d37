"""How fast the page of a large run is in Chromium, against that of a run with 50 clusters in the same browser.

`python -m tests.bench.page`, part of `make bench`. Milliseconds: first contentful paint of the file, a filter with the
layout that follows, the frame after a scroll by 2,000 pixels, and each act of the workbench with the layout that
follows; medians. An act on all clusters is the worst case: all of them are selected or tagged at once, after four
earlier tags of each. The file then has five decisions per cluster.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

from tests.bench import heading
from tests.support.browser import opened
from tests.support.pages import made, written

SMALL, SIZES = 50, (500, 5000)
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
FILTER = """(value) => {
    const search = document.getElementById("search");
    const start = performance.now();
    search.value = value;
    search.dispatchEvent(new Event("input", { bubbles: true }));
    document.body.offsetHeight;  // lays out
    return performance.now() - start;
}"""
SCROLL = """() => new Promise((done) => {
    const start = performance.now();
    scrollBy(0, 2000);
    requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
})"""

ACT = """(act) => {
    const start = performance.now();
    ({ one: () => document.querySelector(".pick").click(),
          all: () => cpp.select([...cpp.byId.keys()]),
          tag: () => cpp.decide([{ action: "tag", clusters: [0], tag: String(start) }]),
          tag_all: () => cpp.decide([...cpp.byId.keys()].map(
              (k) => ({ action: "tag", clusters: [k], tag: String(start) }))),
          undo: () => cpp.decisions.undo(),
          undo_all: () => cpp.decisions.undo(),
          redo_all: () => cpp.decisions.redo(),
          store: () => cpp.decisions.store(),
          clear: () => cpp.select([]),
          open: () => document.querySelector(".card:not(.open) [data-key]").click(),
          yaml: () => cpp.decisions.yaml() })[act]();
    document.body.offsetHeight;  // lays out
    return performance.now() - start;
}"""
ACTS = {
    "one": "select one cluster", "tag": "tag one cluster", "undo": "undo", "open": "open a cluster",
    "all": "select all", "tag_all": "tag all", "undo_all": "undo it", "redo_all": "redo it", "yaml": "write the file",
    "store": "store in the browser, when idle", "clear": "deselect all",
}  # fmt: skip


def taken(clusters: int, folder: Path) -> dict[str, float]:
    """Milliseconds of each, on a page of so many clusters with 16 pictures each."""
    with opened(written(made(clusters), folder)) as tab:
        paints = []
        for _ in range(5):
            tab.page.reload()
            paints.append(tab.page.evaluate(PAINT))
        tab.page.evaluate("document.getElementById('clusters').scrollIntoView()")
        filters = [tab.page.evaluate(FILTER, value) for value in ("x", "thing 1", "thing", "", "guess", "")]
        scrolls = [tab.page.evaluate(SCROLL) for _ in range(9)]
        for _ in range(4):
            tab.page.evaluate(ACT, "tag_all")
        turns = []
        for _ in range(5):
            turns.append({name: tab.page.evaluate(ACT, act) for act, name in ACTS.items()})
            tab.page.evaluate(ACT, "undo_all")
    acts = {name: [turn[name] for turn in turns] for name in turns[0]}
    parts = {"first paint": paints, "a filter": filters[1:], "a scroll": scrolls, **acts}
    return {name: statistics.median(spent) for name, spent in parts.items()}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        small = taken(SMALL, Path(folder, str(SMALL)))
        print(f"{heading()}\n\n| clusters | what | ms | ms with {SMALL} | ratio |\n|---|---|---|---|---|")
        for n in SIZES:
            for name, spent in taken(n, Path(folder, str(n))).items():
                print(f"| {n:,} | {name} | {spent:.1f} | {small[name]:.1f} | {spent / small[name]:.2f} |", flush=True)
