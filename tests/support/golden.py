"""The golden files: the loss curve of a small training, and the command line, each with what computes it."""

from __future__ import annotations

from pathlib import Path

import typer.main

from cpp.rate_reduction.recipes import Paper
from pipelines.__main__ import app

FOLDER = Path(__file__).parents[1] / "golden"
LOSS, COMMAND_LINE = FOLDER / "loss.json", FOLDER / "cli.json"
TRAINING = Paper(hidden=64, dim=16, batch=128, epochs=6, warmup_steps=6, lr=0.02, lr_cluster=0.02, eta=0.1)


def command_line() -> dict[str, object]:
    """Every command with its parameters."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    return {
        name: [[p.param_type_name, p.name, list(p.opts), p.required, p.nargs] for p in command.params]
        for name, command in commands.items()
    }
