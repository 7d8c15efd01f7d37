"""What needs no computation starts quickly: it loads neither torch nor FAISS."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.datasets import Dataset

HEAVY = "sorted({'torch', 'faiss', 'sklearn', 'ray', 'open_clip'} & set(sys.modules))"


@pytest.mark.parametrize("module", ["pipelines.config", "pipelines.config.load"])
def test_a_configuration_loads_without_torch(module: str) -> None:
    program = f"import sys, {module}; print({HEAVY})"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["schema"], ["init"], ["validate"]])
def test_commands_that_compute_nothing_start_without_torch(
    arguments: list[str], dataset: Dataset, tmp_path: Path
) -> None:
    needed = {"init": [str(dataset.folder / "data/images"), "--to", f"{tmp_path}/new.yaml"]}
    arguments = [*arguments, *needed.get(arguments[0], [str(dataset.config)] if arguments == ["validate"] else [])]
    call = f"from pipelines.__main__ import app; app({arguments}, standalone_mode=False)"
    program = f"import sys; {call}; print({HEAVY})"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output.splitlines()[-1] == "[]"
