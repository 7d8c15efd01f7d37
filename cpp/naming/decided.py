"""What a person decided about the clusters of the main layer: names, tags, and clusters that are dropped.

DECISIONS is the table of all decisions; the rows with `applied` count, in order. Knows no files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import pyarrow as pa

from cpp.naming import titles
from cpp.naming.names import EMPTY, Name

DROPPED = "dropped"  # the reason of a drop without a reason
DECISIONS = pa.schema(
    {
        "file": "string",
        "number": "int32",
        "action": "string",
        "cluster": "int32",
        "title": "string",
        "name": "string",
        "tag": "string",
        "images": pa.list_(pa.string()),
        "reason": "string",
        "date": "string",
        "by": "string",
        "clusters": pa.list_(pa.int32()),
        "applied": "bool",
        "effect": "string",
    }
)


class Decided(NamedTuple):
    """By cluster of the main layer: its name, its tags, and why it is dropped, as far as a person decided on them."""

    names: dict[int, str]
    tags: dict[int, list[str]]
    dropped: dict[int, str]

    @classmethod
    def of(cls, decisions: Iterable[Mapping[str, Any]]) -> Decided:
        """What the rows of DECISIONS say together: the last name of a cluster counts, and all of its tags."""
        decided = cls({}, {}, {})
        for row in decisions:
            for k in row["clusters"] if row["applied"] else ():
                if row["name"]:
                    decided.names[k] = row["name"]
                if row["action"] == "drop":
                    decided.dropped[k] = row["reason"] or DROPPED
                if row["tag"] and row["tag"] not in decided.tags.setdefault(k, []):
                    decided.tags[k].append(row["tag"])
        return decided

    def rename(self, names: Sequence[Name] | None, n_clusters: int) -> Sequence[Name] | None:
        """The names of the clusters, with those that a person gave; other clusters of such a name get a number."""
        if not self.names:
            return names
        result, taken = list(names or [EMPTY] * n_clusters), {*self.names.values()}
        for k, name in enumerate(result):
            if k in self.names:
                result[k] = replace(name, name=self.names[k], status="decided", confidence=1.0, general=None)
            elif name.name in taken:
                taken |= {other.name for other in result if other.name}
                number = next(n for n in range(2, len(taken) + 3) if titles.numbered(name.name, n) not in taken)
                result[k] = replace(name, name=titles.numbered(name.name, number))
        return result
