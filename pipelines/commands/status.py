"""Describe the state of a run from its files, while it is running, after its end or after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime

from cpp.files.integrity import damage
from cpp.store.object_store import open_store
from pipelines.config.load import Config
from pipelines.engine import event_log
from pipelines.engine.plan import Step

SHOWN = 20  # failed shards that are listed


def state(config: Config) -> Iterator[str]:
    """Whether the run is running, and the step that it is in or was in when it ended."""
    store = open_store(config.root)
    holder, record = store.holder(), event_log.read_run_record(store)
    activity = event_log.last_step(store.log("events.jsonl"))
    if holder:
        yield f"{config.name}: running ({holder})"
    elif record["state"] == "running":
        yield f"{config.name}: stopped; run the same command again to resume"
    else:
        yield f"{config.name}: {record['state']}"
    if activity and holder:
        yield activity.sentence()
    elif activity and record["state"] in ("running", "interrupted"):
        yield f"it ended at {activity.last:%Y-%m-%d %H:%M:%S} UTC in {activity.sentence(activity.last)}"


def stale(config: Config, steps: Sequence[Step]) -> Iterator[str]:
    """A warning if the run is done, but its configuration or inputs have changed since."""
    left = [step.name for step in steps if not step.complete]
    if left and event_log.read_run_record(open_store(config.root))["state"] == "done":
        yield (
            f"{len(left)} of {len(steps)} steps, from {left[0]} on, have shards to do: inputs or settings changed "
            "since the last run, or it ran other steps"
        )


def failures(config: Config) -> Iterator[str]:
    """The shards that failed in the last run, and if it is incomplete the run whose results are shown."""
    record, root = event_log.read_run_record(open_store(config.root)), config.root.rstrip("/")
    failed = record["failed"]
    for failure in failed[:SHOWN]:
        yield f"failed: {failure['step']} {failure['shard']}: {failure['error']}"
        yield f"        traceback in {root}/{failure['traceback']}"
    if len(failed) > SHOWN:
        yield f"failed: {len(failed) - SHOWN:,} more, see {root}/run.json"
    if (shown := record.get("shown")) and record["state"] != "done" and shown != record["started"]:
        yield f"{root} shows the run of {datetime.fromisoformat(shown):%Y-%m-%d %H:%M} UTC until one is complete"


def growth(config: Config) -> Iterator[str]:
    """How well appended images fit, and whether to fit again; `config` is that of the run in ROOT/appended."""
    path = open_store(config.root).log("growth.json")
    if not path.exists() or damage(str(path)):
        return
    drift = json.loads(path.read_text(encoding="utf-8"))
    fitted, appended = drift["fitted"], drift["appended"]
    yield f"{appended['images']:,} images appended to {fitted['images']:,}: see {config.root}/report.html"
    for reason in drift["reasons"]:
        yield f"refit is due: {reason}"
    if not drift["refit_due"]:
        yield "refit is not due"
