"""The data that a page records decisions with: the run, its state, and titles and typical members of its clusters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup


def data(run: str, state: str, clusters: Iterable[Mapping[str, Any]]) -> Markup:
    """The data as JSON for the script. `clusters` are rows of `clusters.parquet` of the main layer, or cards."""
    entries = {
        cluster["cluster"]: {"members": list(cluster.get("examples") or ()), "title": cluster["title"]}
        for cluster in clusters
    }
    return htmlsafe_json_dumps({"run": run, "state": state, "clusters": entries}, separators=(",", ":"))
