"""Cluster very large image collections by rate reduction of CLIP features, and name the clusters.

The library: pure functions over arrays and files, importable on a laptop. It knows nothing of Ray or of `pipelines`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpp.estimator import CPP

__all__ = ["CPP"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`cpp.CPP`, imported when it is asked for: scikit-learn would slow every worker's start."""
    if name == "CPP":
        from cpp.estimator import CPP

        return CPP
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
