"""The floor plan: every module is in a room, rooms import downwards only, and each foreign package has one door."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted(path for folder in ("cpp", "pipelines") for path in (ROOT / folder).rglob("*.py"))
# The modules that may import a foreign package. Packages that are not listed may be imported anywhere.
DOORS = {
    "faiss": {"cpp.assign"},
    "fsspec": {"cpp.remote", "cpp.web"},
    "open_clip": {"cpp.encoder", "cpp.demo_model"},
    "ray": {"pipelines.cluster", "pipelines.runner", "pipelines.ranks"},
    "webdataset": set[str](),
}
# The modules of each room, and below the rooms that it may import.
ROOMS = {
    "cpp": "__init__",
    "cpp.files": "remote web scratch tables damage ahead",
    "cpp.store": "store links bucket objects lease",
    "cpp.sources": "sources tars folders coco rows vectors samples listing",
    "cpp.encoding": "images encoder weights textcache",
    "cpp.nearest": "assign",
    "cpp.rate_reduction": "rate sinkhorn head discriminant fit",
    "cpp.clustering": "partition coding tree choice beside layers quality growth",
    "cpp.curation": "duplicates duplicate_groups forest copies outliers balance diverse curation",
    "cpp.naming": "wordnet wordlists vocabulary votes naming phrases label search",
    "cpp.evaluation": "metrics namescore",
    "cpp.report": "cards figures curve plane confusion summary examples thumbnails plots curation_page duplicates_page "
    "outliers_page balance_page growth_page report",
    "cpp.export": "export export_classes export_filter export_rows export_folder export_bucket export_tables "
    "export_tar",
    "cpp.demo": "demo demo_model drawings draw_pen draw_made draw_nature draw_scenes",
    "cpp.estimator": "estimator",
    "pipelines": "__init__",
    "pipelines.config": "settings config",
    "pipelines.engine": "stage shards inputs attempt machine accounts events progress plan state",
    "pipelines.stages": "encoding stages grouping wording naming scoring duplicating deduplicating outlying curating "
    "curation_pages picturing reporting growing",
    "pipelines.ray_backend": "runner ranks cluster",
    "pipelines.graph": "",
    "pipelines.run": "run",
    "pipelines.estimate": "estimate estimating calibrating manifest",
    "pipelines.commands": "appending exporting predicting cleaning looking finished",
    "pipelines.__main__": "__main__",
}
FEATURES = {"cpp.files", "cpp.store", "cpp.sources", "cpp.encoding"}
CLUSTERS = {"cpp.nearest", "cpp.rate_reduction", "cpp.clustering", "cpp.curation"}
LIBRARY = {room for room in ROOMS if room.startswith("cpp.")}
ENGINE = {"pipelines.config", "pipelines.engine"}
RUN = ENGINE | {"pipelines.stages", "pipelines.ray_backend", "pipelines.graph", "pipelines.run"}
MAY_IMPORT: Mapping[str, set[str]] = {
    "cpp": {"cpp.estimator"},
    "cpp.files": set(),
    "cpp.store": {"cpp.files"},
    "cpp.sources": {"cpp.files", "cpp.store"},
    "cpp.encoding": {"cpp.files", "cpp.store", "cpp.sources"},
    "cpp.nearest": set(),
    "cpp.rate_reduction": {"cpp.nearest"},
    "cpp.clustering": {"cpp.nearest", "cpp.rate_reduction"},
    "cpp.curation": {"cpp.nearest", "cpp.rate_reduction", "cpp.clustering"},
    "cpp.naming": FEATURES | CLUSTERS,
    "cpp.evaluation": FEATURES | CLUSTERS | {"cpp.naming"},
    "cpp.report": FEATURES | CLUSTERS,
    "cpp.export": FEATURES | CLUSTERS,
    "cpp.demo": FEATURES,
    "cpp.estimator": CLUSTERS,
    "pipelines": set(),
    "pipelines.config": LIBRARY,
    "pipelines.engine": LIBRARY | {"pipelines.config"},
    "pipelines.stages": LIBRARY | ENGINE,
    "pipelines.ray_backend": LIBRARY | ENGINE,
    "pipelines.graph": LIBRARY | ENGINE | {"pipelines.stages"},
    "pipelines.run": LIBRARY | RUN,
    "pipelines.estimate": LIBRARY | RUN,
    "pipelines.commands": LIBRARY | RUN | {"pipelines.estimate"},
    "pipelines.__main__": LIBRARY | RUN | {"pipelines.estimate", "pipelines.commands"},
}
# Imports that the move into rooms ends.
UNTIL_THE_MOVE = {("pipelines.plan", "pipelines.stages")}
CIRCLES_UNTIL_THE_MOVE = {("cpp.bucket", "cpp.store"), ("cpp.export_bucket", "cpp.export_folder")}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}
ROOM_OF = {
    name: room
    for room, modules in ROOMS.items()
    for name in (room if m == "__init__" else f"{room.split('.')[0]}.{m}" for m in modules.split())
}


def imported(path: Path) -> set[str]:
    """The dotted names that a module imports, anywhere in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            of = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = {name for name in of if name in MODULES}
            names |= inner | ({node.module} if of - inner else set())
    return names


def ours(path: Path) -> Iterator[str]:
    """The modules of the tree that a module imports."""
    yield from (name for name in imported(path) if name.split(".")[0] in {"cpp", "pipelines"})


def test_the_tree_is_found() -> None:
    assert len(MODULES) > 100
    assert {"cpp", "pipelines"} <= {name.split(".")[0] for name in MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_every_module_is_in_a_room(name: str) -> None:
    assert name in ROOM_OF, f"{name} is in no room: add it to ROOMS, or move it"


@pytest.mark.parametrize("name", MODULES)
def test_rooms_import_downwards_only(name: str) -> None:
    room = ROOM_OF[name]
    for other in ours(MODULES[name]):
        there = ROOM_OF[other]
        allowed = there == room or there in MAY_IMPORT[room] or (name, there) in UNTIL_THE_MOVE
        assert allowed, f"{name} is in {room}, which may not import {there} ({other})"


def test_modules_import_each_other_in_no_circle() -> None:
    edges = {name: set(ours(path)) - {name} for name, path in MODULES.items()}
    for a, b in CIRCLES_UNTIL_THE_MOVE:
        edges[a] -= {b}
        edges[b] -= {a}
    while leaves := {name for name, below in edges.items() if not below & edges.keys()}:
        edges = {name: below for name, below in edges.items() if name not in leaves}
    assert not edges, f"these modules import each other, or one that is in a circle: {sorted(edges)}"


@pytest.mark.parametrize("name", MODULES)
def test_foreign_packages_come_in_by_their_door(name: str) -> None:
    for package in {other.split(".")[0] for other in imported(MODULES[name])} & set(DOORS):
        assert name in DOORS[package], f"{name} imports {package}; its door is {', '.join(DOORS[package]) or 'closed'}"


def test_every_door_is_used() -> None:
    for package, doors in DOORS.items():
        for name in doors:
            assert package in {other.split(".")[0] for other in imported(MODULES[name])}, f"{name}: {package}"


def test_files_stay_small() -> None:
    assert {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 320} == {}


@pytest.mark.parametrize("name", [name for name in MODULES if ROOM_OF.get(name) == "pipelines.stages"])
def test_a_stage_that_works_on_a_device_says_that_it_needs_a_gpu(name: str) -> None:
    for stage in (node for node in ast.parse(MODULES[name].read_text()).body if isinstance(node, ast.ClassDef)):
        body = "\n".join(ast.unparse(part) for part in stage.body[1:])  # without the docstring
        assert ("given.device" in body) == ("gpu = True" in body), stage.name
