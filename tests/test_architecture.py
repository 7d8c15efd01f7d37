"""Arrows point down only, and each foreign package has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted([*(ROOT / "cpp").glob("*.py"), *(ROOT / "pipelines").glob("*.py")])
DOORS = {
    "faiss": {"cpp/assign.py"},
    "fsspec": {"cpp/remote.py", "cpp/web.py"},
    "open_clip": {"cpp/encoder.py", "cpp/demo_model.py"},
    "ray": {"pipelines/cluster.py", "pipelines/runner.py", "pipelines/ranks.py"},
    "webdataset": set(),  # tars are untrusted and are read under limits of our own; see cpp/tars.py
}
# From the bottom to the top: a module imports from rows above its own, or from its own row.
ROWS = [
    {"web", "ahead"},
    {"remote"},
    {"scratch", "lease", "damage"},
    {"objects"},
    {"tables", "store", "bucket"},
    {"listing", "samples", "weights", "wordnet", "textcache"},
    {"folders", "tars", "coco", "rows", "vectors"},
    {"sources", "images", "encoder", "vocabulary", "phrases"},
    {"wordlists"},
    {"rate", "sinkhorn", "assign", "forest"},
    {"discriminant", "head"},
    {
        "fit",
        "partition",
        "label",
        "metrics",
        "growth",
        "quality",
        "outliers",
        "balance",
        "diverse",
        "curation",
        "duplicates",
        "duplicate_groups",
    },
    {"export_classes", "export_filter", "export_folder", "export_bucket"},
    {"export_rows", "export_tar"},
    {"export_tables"},
    {"copies"},
    {"curve", "examples", "thumbnails", "plane", "figures", "summary"},
    {"cards"},
    {"confusion"},
    {"report", "estimator", "export"},
    {"plots", "curation_page"},
    {"outliers_page", "balance_page", "growth_page"},
]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_foreign_packages_come_in_by_their_door(path: Path) -> None:
    here = str(path.relative_to(ROOT))
    for package in {name.split(".")[0] for name in imported(path)} & set(DOORS):
        assert here in DOORS[package], f"{here} imports {package}"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "cpp"], ids=lambda path: path.stem)
def test_the_library_knows_nothing_above_it(path: Path) -> None:
    assert not {name for name in imported(path) if name.split(".")[0] in {"ray", "pipelines"}}
    row = {name: i for i, names in enumerate(ROWS) for name in names}
    below = {name.split(".")[1] for name in imported(path) if name.startswith("cpp.")} & set(row)
    if path.stem in row:
        assert all(row[name] <= row[path.stem] for name in below), f"{path.stem} imports upwards: {below}"


def test_files_stay_small() -> None:
    assert {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 320} == {}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "pipelines"], ids=lambda path: path.stem)
def test_a_stage_that_works_on_a_device_says_that_it_needs_a_gpu(path: Path) -> None:
    for stage in (node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)):
        body = "\n".join(ast.unparse(part) for part in stage.body[1:])  # without the docstring
        assert ("given.device" in body) == ("gpu = True" in body), stage.name
