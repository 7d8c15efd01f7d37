"""What changed since the last run of a folder: settings, inputs and the program, as sentences for people."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.config.load import Config
from pipelines.engine import machine

SHOWN = 5  # changed settings that are named
MOVED = ("root", "resources")  # these change no result
FIRST = ("import", "encode")  # steps that read the inputs
PROGRAM = "cpp-at-scale"


def settings(record: Mapping[str, Any], config: Config) -> Iterator[str]:
    """A sentence on the settings, and one on the program, if they are not those of `record`, that of an earlier run."""
    before, now = _flat(record.get("config", {})), _flat(config.dump())
    changed = [
        f"{key} from {_text(before.get(key))} to {_text(now.get(key))}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key) and key.split(".")[0] not in MOVED
    ]
    if before and changed:
        more = f" and {len(changed) - SHOWN:,} more" if len(changed) > SHOWN else ""
        yield f"changed since the last run: {', '.join(changed[:SHOWN])}{more}"
    program, installed = record.get("versions", {}).get(PROGRAM), machine.versions().get(PROGRAM)
    if program and program != installed:
        yield f"the last run was made by {PROGRAM} {program}, this is {installed}"


def inputs(record: Mapping[str, Any], step: str, shards: int, reused: int) -> Iterator[str]:
    """A sentence if the inputs of the first step are not those of `record`: of its `shards`, some are `reused`.

    Nothing is yielded after a run that had not read all of its inputs, nor if all are read anew, as after a change of
    the encoder.
    """
    before = record.get("steps", {}).get(step, {})
    if step not in FIRST or not before or before["done"] < before["shards"] or not reused:
        return
    new, gone = shards - reused, before["shards"] - reused
    if new or gone:
        parts = [f"{new:,} new or changed"] * bool(new) + [f"{gone:,} gone or changed"] * bool(gone)
        keep = "; the command append takes in new ones and keeps the clusters" if not gone else ""
        yield f"input shards: {', '.join(parts)} since the last run, so clusters are fitted again{keep}"


def _flat(config: Mapping[str, Any], section: str = "") -> dict[str, Any]:
    """The values of a configuration by their dotted keys."""
    flat = dict[str, Any]()
    for name, value in config.items():
        key = f"{section}.{name}".lstrip(".")
        flat |= _flat(value, key) if isinstance(value, dict) else {key: value}
    return flat


def _text(value: Any) -> str:
    """A value as in a YAML file; a long one is cut off."""
    return textwrap.shorten(json.dumps(value), 60, placeholder=" ...")
