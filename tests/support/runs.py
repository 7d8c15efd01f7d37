"""Runs in tests: start one, list what it computed, read its files, call the command line."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from pipelines.__main__ import app
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset

STATE = re.compile(rb'(data-state=|"state": ?)"[0-9a-f]+"')


def go(dataset: Dataset, *overrides: str, **kwargs: object) -> Run:
    run = Run(load(dataset.config, overrides), local=True, **kwargs)  # type: ignore[arg-type]
    run.go()
    return run


def computed(run: Run) -> dict[str, int]:
    """Shards that were worked on, by step."""
    return {name: o.done - o.reused for name, o in run.outcomes.items() if o.done - o.reused}


def files(root: Path) -> dict[str, bytes]:
    """What a person opens, but for logs and the page, which tell the time, and the state of the clusters in pages."""
    told = {"run.json", "run.log", "events.jsonl", "report.html"}
    found = (p for p in root.rglob("*") if p.is_file() and "cache" not in p.parts and p.name not in told)
    return {str(p.relative_to(root)): STATE.sub(b"", p.read_bytes()) for p in found}


QUICK = ["fit={recipe: discriminant}", "partition.layers=[2]", "evaluate=null"]


def call(*args: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(arg) for arg in args])
    return result.exit_code, result.output
