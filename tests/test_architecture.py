"""The floor plan: every module is in a room, rooms import downwards only, and each foreign package has one door."""

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.support.source_tree import FILES, ROOT

# The modules that may import a foreign package. Packages that are not listed may be imported anywhere.
DOORS = {
    "duckdb": {"cpp.evaluation.overlaps"},
    "faiss": {"cpp.nearest"},
    "fsspec": {"cpp.files.filesystem", "cpp.files.http"},
    "matplotlib": {"cpp.report.charts"},
    "pillow_heif": {"cpp.encoding.images"},
    "open_clip": {"cpp.encoding.encoder", "cpp.encoding.open_clip_models", "cpp.encoding.pretrained", "cpp.demo.clip"},
    "ray": {f"pipelines.ray_backend.{name}" for name in ("cluster", "metrics", "pool", "train", "worker")},
    "urllib3": {"cpp.naming.chat"},
    "webdataset": {"cpp.export.webdataset"},
}
FEATURES = {"cpp.files", "cpp.store", "cpp.sources", "cpp.encoding"}
CLUSTERS = {"cpp.nearest", "cpp.rate_reduction", "cpp.clustering", "cpp.curation"}
LIBRARY = FEATURES | CLUSTERS | {"cpp.naming", "cpp.evaluation", "cpp.report", "cpp.export"}
ENGINE = {"pipelines.config", "pipelines.engine"}
RUN = ENGINE | {
    "pipelines.stages",
    "pipelines.ray_backend",
    "pipelines.graph",
    "pipelines.curation_graph",
    "pipelines.run",
}
# Every room (a folder, or a module that is one by itself) and the rooms that it may import.
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
    "cpp.report": FEATURES | CLUSTERS | {"cpp.naming"},
    "cpp.export": FEATURES | CLUSTERS,
    "cpp.demo": FEATURES,
    "cpp.estimator": CLUSTERS | {"cpp.naming"},
    "pipelines": set(),
    "pipelines.config": LIBRARY,
    "pipelines.engine": LIBRARY | {"pipelines.config"},
    "pipelines.stages": LIBRARY | ENGINE,
    "pipelines.ray_backend": LIBRARY | ENGINE,
    "pipelines.curation_graph": LIBRARY | ENGINE | {"pipelines.stages"},
    "pipelines.graph": LIBRARY | ENGINE | {"pipelines.stages", "pipelines.curation_graph"},
    "pipelines.run": LIBRARY | RUN,
    "pipelines.estimate": LIBRARY | RUN,
    "pipelines.commands": LIBRARY | RUN | {"pipelines.estimate"},
    "pipelines.__main__": LIBRARY | RUN | {"pipelines.estimate", "pipelines.commands", "cpp.demo"},
}


def name_of(path: Path) -> str:
    """The dotted name of a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in FILES}


def room_of(name: str) -> str | None:
    """The room of a module: the module by itself, or its folder. `cpp` and `pipelines` hold their `__init__` only."""
    folder = name.rpartition(".")[0]
    return name if name in MAY_IMPORT else folder if folder in MAY_IMPORT and "." in folder else None


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
    assert room_of(name), f"{name} is in no room: add its folder to MAY_IMPORT, or move it"


@pytest.mark.parametrize("name", MODULES)
def test_rooms_import_downwards_only(name: str) -> None:
    room = room_of(name)
    assert room
    for other in ours(MODULES[name]):
        there = room_of(other)
        assert there == room or there in MAY_IMPORT[room], f"{name} is in {room}, which may not import {other}"


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "pipelines.stages"])
def test_stages_share_artifacts_and_schemas_only(name: str) -> None:
    others = {other for other in ours(MODULES[name]) if room_of(other) == "pipelines.stages"}
    assert others <= {"pipelines.stages.artifacts", "pipelines.stages.schemas", "pipelines.stages.curation_schemas"}, (
        f"{name} imports {others}"
    )


def test_modules_import_each_other_in_no_circle() -> None:
    edges = {name: set(ours(path)) - {name} for name, path in MODULES.items()}
    while leaves := {name for name, below in edges.items() if not below & edges.keys()}:
        edges = {name: below for name, below in edges.items() if name not in leaves}
    assert not edges, f"these modules import each other, or one that is in a circle: {sorted(edges)}"


@pytest.mark.parametrize("name", MODULES)
def test_foreign_packages_come_in_by_their_door(name: str) -> None:
    for package in {other.split(".")[0] for other in imported(MODULES[name])} & set(DOORS):
        assert name in DOORS[package], f"{name} imports {package}; its door is {', '.join(DOORS[package]) or 'closed'}"


def test_every_room_is_there() -> None:
    assert {room_of(name) for name in MODULES} == set(MAY_IMPORT)


def test_every_door_is_used() -> None:
    for package, doors in DOORS.items():
        for name in doors:
            assert package in {other.split(".")[0] for other in imported(MODULES[name])}, f"{name}: {package}"


def test_files_have_300_lines_at_most() -> None:
    assert {name: n for name, path in MODULES.items() if (n := len(path.read_text().splitlines())) > 300} == {}


def test_functions_have_50_lines_at_most() -> None:
    long = {
        f"{name}.{node.name}": n
        for name, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and (n := 1 + (node.end_lineno or 0) - node.lineno) > 50
    }
    assert long == {}


@pytest.mark.parametrize("name", [name for name in MODULES if room_of(name) == "pipelines.stages"])
def test_a_stage_that_works_on_a_device_says_that_it_needs_a_gpu(name: str) -> None:
    for stage in (node for node in ast.parse(MODULES[name].read_text()).body if isinstance(node, ast.ClassDef)):
        body = "\n".join(ast.unparse(part) for part in stage.body[1:])  # without the docstring
        assert ("context.device" in body) == ("gpu = True" in body), stage.name
