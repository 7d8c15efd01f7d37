"""Measurements of speed, memory and quality. Results are put into RESULTS.md by hand."""

import platform
from datetime import UTC, datetime

import torch


def heading() -> str:
    """The day and the machine."""
    machine = platform.processor() or platform.machine()
    return f"{datetime.now(UTC):%Y-%m-%d}, {machine}, {torch.get_num_threads()} threads"
