"""The lock file without CUDA is the lock file, with the same versions."""

import subprocess

from tests.support.source_tree import ROOT


def versions(name: str) -> dict[str, str]:
    lines = (line.partition(" ;")[0] for line in (ROOT / name).read_text().splitlines())
    return dict(line.split("==") for line in lines)


def test_cpu_installation_has_the_locked_versions_without_cuda() -> None:
    lock = "build/requirements-cpu.lock"
    subprocess.run(["make", "--what-if=requirements.lock", lock], cwd=ROOT, capture_output=True, check=True)
    cpu, whole = versions(lock), versions("requirements.lock")
    assert not [name for name in cpu if name.startswith(("nvidia", "cuda", "triton", "faiss-gpu"))]
    assert cpu.items() <= whole.items()
    assert {"torch", "torchvision", "faiss-cpu", "ray"} <= cpu.keys()


def test_cpu_installation_selects_the_cpu_builds_of_torch() -> None:
    program = ["make", "--dry-run", "--always-make", "install", "CPU=1"]
    recipe = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--requirements build/requirements-cpu.lock --torch-backend cpu" in recipe
