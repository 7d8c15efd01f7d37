"""Comparison of pairs of rows."""

from __future__ import annotations

import numpy as np


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two numberings are of one partition."""
    pairs = {*zip(one.tolist(), other.tolist(), strict=True)}
    return len(pairs) == len({*one.tolist()}) == len({*other.tolist()})
