"""The source files of both packages."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]


FILES = sorted(path for folder in ("cpp", "pipelines") for path in (ROOT / folder).rglob("*.py"))
