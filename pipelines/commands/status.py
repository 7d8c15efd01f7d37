"""How a run is doing, in words, from its files: seen from any shell, while it works, afterwards, or after it died."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from cpp.files.integrity import damage
from cpp.store.connect import open_store
from pipelines.config.load import Config
from pipelines.engine import event_log
from pipelines.engine.plan import Step
from pipelines.engine.run_record import read_run_record

SHOWN = 20  # shards that failed are named, no more of them


def lines(config: Config) -> Iterator[str]:
    """Whether a run is going on, and what it is at or was at when it ended."""
    store = open_store(config.root)
    holder, found = store.holder(), read_run_record(store)
    doing = event_log.last_step(store.log("events.jsonl"))
    if holder:
        yield f"{config.name}: running ({holder})"
    elif found["state"] == "running":
        yield f"{config.name}: stopped; run the same command again to go on"
    else:
        yield f"{config.name}: {found['state']}"
    if doing and holder:
        yield doing.sentence()
    elif doing and found["state"] in ("running", "interrupted"):
        yield f"it ended at {doing.last:%Y-%m-%d %H:%M:%S} UTC in {doing.sentence(doing.last)}"


def stale(config: Config, steps: Sequence[Step]) -> Iterator[str]:
    """That a run which is done is not what its configuration and inputs ask for by now."""
    left = [step.name for step in steps if not step.complete]
    if left and read_run_record(open_store(config.root))["state"] == "done":
        yield (
            f"{len(left)} of {len(steps)} steps, from {left[0]} on, have shards to do: inputs or settings changed "
            "since the last run, or it was of other steps"
        )


def faults(config: Config) -> Iterator[str]:
    """The shards that failed in the last run, and which run's results are shown where it is not complete."""
    found, root = read_run_record(open_store(config.root)), config.root.rstrip("/")
    failed = found["failed"]
    for fault in failed[:SHOWN]:
        yield f"failed: {fault['step']} {fault['shard']}: {fault['error']}"
        yield f"        traceback in {root}/{fault['traceback']}"
    if len(failed) > SHOWN:
        yield f"failed: {len(failed) - SHOWN:,} more, see {root}/run.json"
    if (of := found.get("shown")) and found["state"] != "done" and of != found["started"]:
        yield f"{root} shows the run of {datetime.fromisoformat(of):%Y-%m-%d %H:%M} UTC until one is complete"


def growth(config: Config) -> Iterator[str]:
    """How well appended images fit, and whether to fit again; `config` is that of the run in ROOT/appended."""
    path = open_store(config.root).log("growth.json")
    if not path.exists() or damage(str(path)):
        return
    said = json.loads(path.read_text(encoding="utf-8"))
    fitted, appended = said["fitted"], said["appended"]
    yield f"{appended['images']:,} images appended to {fitted['images']:,}: see {config.root}/report.html"
    for reason in said["reasons"]:
        yield f"refit is due: {reason}"
    if not said["refit_due"]:
        yield "refit is not due"
