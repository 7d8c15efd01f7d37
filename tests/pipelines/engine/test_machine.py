"""What this machine has."""

from pathlib import Path

from pipelines.config.sections import Resources
from pipelines.engine import machine


def test_memory_and_free_space_are_positive(tmp_path: Path) -> None:
    assert machine.memory_bytes() > 0
    assert machine.free_bytes(str(tmp_path / "a/folder/that/does/not/exist/yet")) > 0


def test_missing_cpus_are_named_with_the_key_to_lower() -> None:
    (sentence,) = machine.missing_resources(Resources(workers=1, cpus=100_000))
    assert "100000 CPUs" in sentence
    assert "lower resources.workers (1)" in sentence
