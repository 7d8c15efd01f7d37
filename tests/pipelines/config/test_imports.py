"""What needs no computation starts quickly: it loads neither torch nor FAISS."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.datasets import Dataset
from tests.support.runs import QUICK, go

HEAVY = {"torch", "faiss", "sklearn", "scipy", "ray", "open_clip", "timm", "matplotlib"}


def loaded(program: str, packages: set[str]) -> set[str]:
    """Which of the packages a program in a new process has loaded at its end."""
    program = f"import sys; {program}; print(*{packages} & {{*sys.modules}}, sep='\\n')"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    return packages & {*output.splitlines()}


def command(*arguments: str) -> str:
    return f"from pipelines.__main__ import app; app({[*arguments]}, standalone_mode=False)"


@pytest.mark.parametrize("module", ["pipelines.config", "pipelines.config.load", "pipelines.graph", "pipelines.run"])
def test_a_configuration_and_the_graph_of_a_run_load_without_torch(module: str) -> None:
    assert loaded(f"import {module}", HEAVY) == set()


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"]])
def test_help_loads_no_library_for_data(arguments: list[str]) -> None:
    assert loaded(command(*arguments), {*HEAVY, "numpy", "pyarrow", "fsspec"}) == set()


@pytest.mark.parametrize("arguments", [["schema"], ["init"], ["validate"]])
def test_commands_that_compute_nothing_start_without_torch(
    arguments: list[str], dataset: Dataset, tmp_path: Path
) -> None:
    needed = {"init": [str(dataset.folder / "data/images"), "--to", f"{tmp_path}/new.yaml"]}
    arguments = [*arguments, *needed.get(arguments[0], [str(dataset.config)] if arguments == ["validate"] else [])]
    assert loaded(command(*arguments), HEAVY) == set()


def test_a_plan_of_images_and_local_weights_loads_without_torch(pictures: Dataset) -> None:
    assert loaded(command("plan", str(pictures.config), "--estimate"), HEAVY) == set()


def test_commands_on_a_finished_run_load_without_torch(pictures: Dataset) -> None:
    assert go(pictures, *QUICK).ok
    settings = [part for override in QUICK for part in ("--set", override)]
    for arguments in (["status"], ["plan", "--estimate"], ["names"], ["run", "--local"]):
        name, *options = arguments
        assert loaded(command(name, str(pictures.config), *options, *settings), HEAVY) == set(), arguments


def test_values_that_are_repeated_so_that_a_plan_starts_quickly_are_equal() -> None:
    from cpp.clustering import estimate_k
    from cpp.encoding import crate, families
    from pipelines.stages import fit

    assert families.CRATE == (crate.FIRST, crate.ALPHA, crate.CLIP)
    assert fit.ESTIMATE_ROWS == 4 * estimate_k.SAMPLE
