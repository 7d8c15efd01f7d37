"""The files of open_clip's models: configurations and weights, without open_clip, whose import takes three seconds.

Knows no vectors. What is not recognised here may still be known to open_clip: see `cpp.encoding.pretrained`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

from cpp.encoding.weights import SUFFIXES


def read_configs(path: str) -> list[Path]:
    """The JSON files of model configurations at a path: it or all in its folder. ValueError for other files."""
    files = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise ValueError(f"the folder {path} has no .json files with model configurations")
    for file in files:
        try:
            missing = {"embed_dim", "vision_cfg", "text_cfg"} - json.loads(file.read_text()).keys()
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"{file} is not a model configuration: {error}") from error
        if missing:
            raise ValueError(f"{file} is not a model configuration: it lacks {', '.join(sorted(missing))}")
    return files


def weights_file(model: str, pretrained: str | None, configs: str | None) -> str | None:
    """The path of a model's file of weights; None if the model or the file is not recognised here.

    `configs` as in `read_configs`.
    """
    if not (pretrained and pretrained.endswith(SUFFIXES) and Path(pretrained).is_file()):
        return None
    names = {file.stem for file in [*_own_configs(), *(read_configs(configs) if configs else [])]}
    return pretrained if model in names else None


def _own_configs() -> list[Path]:
    """The configurations of open_clip itself, whose place can be asked for without importing it."""
    spec = importlib.util.find_spec("open_clip")
    folders = (spec.submodule_search_locations if spec else None) or []
    return [file for folder in folders for file in Path(folder, "model_configs").glob("*.json")]
