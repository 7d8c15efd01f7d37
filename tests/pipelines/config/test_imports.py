"""Reading a configuration is quick: it loads neither torch nor FAISS."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["pipelines.config", "pipelines.config.load"])
def test_a_configuration_loads_without_torch(module: str) -> None:
    program = f"import sys, {module}; print(sorted({{'torch', 'faiss', 'sklearn', 'ray'}} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert output == "[]\n"
