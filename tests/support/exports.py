"""Exports in tests: a finished run to export, the command on it, and the files of a folder."""

from pathlib import Path

import yaml

from cpp.export.format import Format
from cpp.export.rows import Filter
from pipelines.commands.export import Summary, go
from pipelines.commands.export_plan import Wanted
from pipelines.config.load import load
from pipelines.run import Run
from tests.support.datasets import Dataset


def finish(dataset: Dataset) -> Dataset:
    """Run it to its end, with names for its clusters and a coarser layer that is too mixed for names."""
    config = yaml.safe_load(dataset.config.read_text())
    config |= {"fit": {"recipe": "discriminant"}, "partition": {"n_clusters": 4, "layers": [2]}, "evaluate": None}
    config["label"]["min_confidence"] = 0.2
    dataset.config.write_text(yaml.safe_dump(config))
    assert Run(load(dataset.config), local=True).go()
    return dataset


def export(dataset: Dataset, format: str, to: str = "out", layer: int | None = None, **more: object) -> Summary:
    flags = {name: bool(more.pop(name, False)) for name in ("links", "use_guess")}
    filter = Filter(**more)  # type: ignore[arg-type]
    wanted = Wanted(Format(format), f"{dataset.folder}/{to}", layer, filter, **flags)
    return go(load(dataset.config), wanted, local=True)


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
