"""The measurements for a GPU, on the CPU with small sizes: the script works, and what is equal there is equal here."""

import json
import sys
from pathlib import Path

import pytest

from tests.bench import gpu


def test_small_sizes_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", str(tmp_path), "--small"])
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    gpu.main()
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    bounded = [row for row in rows if row["baseline"] == "at most"]
    assert len(bounded) == 7
    assert all(row["value"] <= row["compared"] for row in bounded)
    assert all(row["value"] > 0 for row in rows if row["unit"])
    assert len((tmp_path / "gpu.md").read_text().splitlines()) == len(rows) + 4


def test_a_difference_from_the_cpu_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    rate = gpu.coding_rate
    calls = iter((1.0, 1.01))
    monkeypatch.setattr(gpu, "coding_rate", lambda Z, e: rate(Z, e) * next(calls))
    first = next(gpu.equality("cpu"))
    assert first.value == pytest.approx(0.01, rel=1e-3)
    assert first.value > first.compared
