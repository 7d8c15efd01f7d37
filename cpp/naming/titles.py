"""The text that stands for a cluster wherever people see it. This module reads no files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def title(name: str | None, guess: str | None, otherwise: str) -> str:
    """The name, else the guess with a question mark, else the third text."""
    return name or (f"{guess}?" if guess else otherwise)


def best_word(row: Mapping[str, Any]) -> str | None:
    """The word of a row of `clusters.parquet` that is its name, or would be if it were sure; None without names."""
    top = row.get("top")
    return top[0]["word"] if top else None


def row_title(row: Mapping[str, Any], otherwise: str | None = None) -> str:
    """The title of a row of `clusters.parquet`; without names it is `otherwise`, by default `cluster 17`."""
    return title(row.get("name"), best_word(row), f"cluster {row['cluster']}" if otherwise is None else otherwise)
