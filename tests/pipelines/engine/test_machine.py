"""What this machine has."""

from pathlib import Path

from pipelines.config.sections import Resources
from pipelines.engine import machine


def test_memory_and_free_space_are_positive(tmp_path: Path) -> None:
    assert machine.memory_bytes() > 0
    assert machine.free_bytes(str(tmp_path / "a/folder/that/does/not/exist/yet")) > 0


def test_missing_cpus_are_named_with_the_key_to_lower() -> None:
    (sentence,) = machine.missing_resources(Resources(workers=1, cpus=100_000))
    assert "need 100000 CPUs" in sentence
    assert "lower resources.workers (1) or resources.cpus (100000), or join a cluster" in sentence
    *_, sentence = machine.missing_resources(Resources(workers=1, gpus=0.5, cpu_workers=9000))
    assert machine.n_gpus() or "lower resources.workers (1) or resources.gpus (0.5), or join" in sentence
    sentence = next(machine.missing_resources(Resources(workers=1, gpus=0.5, cpu_workers=9000)))
    assert "need 9000 CPUs" in sentence  # each of which is one CPU
    assert "lower resources.cpu_workers (9000), or join" in sentence
