"""The configuration of a finished run, from the record in its folder: `cpp-at-scale names runs/coco`."""

from __future__ import annotations

import json
import os
from typing import Any

from cpp.files import filesystem
from pipelines.config.errors import ConfigError

RECORD = "run.json"  # which the engine writes


def is_folder(path: str) -> bool:
    """Whether a path names a run folder and no YAML file: a folder, or an address in a bucket."""
    return filesystem.is_remote(path) or os.path.isdir(path)


def read_config(folder: str) -> dict[str, Any]:
    """The configuration of the last run in a folder, with `root` where the folder is now.

    Relative paths start from the working directory of that run, `directory` in the record. ConfigError if the record
    cannot be read.
    """
    path = f"{folder.rstrip('/')}/{RECORD}"
    try:
        with filesystem.open_file(path) as file:
            record = json.load(file)
        config = {**record["config"], "root": folder}
        data = config["data"]
        if not filesystem.is_remote(data):
            config["data"] = os.path.join(record.get("directory", ""), data)
    except FileNotFoundError:
        raise ConfigError(f"{folder}: has no {RECORD}, so it is no run folder: give one, or a YAML file") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}): give the YAML file of the run") from error
    return config
