"""Finds the weights of an open_clip model on this machine, or downloads them. Knows no images and no vectors."""

from __future__ import annotations

import difflib
import functools
import os
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import open_clip
from open_clip import factory
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

from cpp.encoding.downloads import HOW, cached, download
from cpp.encoding.open_clip_files import read_configs
from cpp.encoding.weights import SUFFIXES, WeightsError


@functools.cache
def register(path: str) -> None:
    """Register the models of a JSON file, or of all in a folder, by their file names. ValueError for other files."""
    read_configs(path)
    open_clip.add_model_config(Path(path))


def find_weights(model: str, pretrained: str | None) -> str:
    """The file of the weights on this machine, downloaded if necessary. WeightsError if they cannot be found.

    `model` is a name that open_clip knows, with a tag or a file as `pretrained`; or `hf-hub:ORGANISATION/NAME` or
    `local-dir:FOLDER`, which include their weights. A server must answer within `PROBE` seconds.
    """
    kind, name = factory.parse_model_name(model)
    if kind == "local-dir":
        return _folder_weights(name)
    if kind == "hf-hub":
        return _from_hub(model, None, f"{name}/")
    if open_clip.get_model_config(name.replace("/", "-")) is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), 5, 0.4)
        raise WeightsError(
            f"encode.model is {model!r}, which open_clip does not know; the nearest are {', '.join(near) or 'none'}: "
            "use one of open_clip.list_models(), or name a folder of configurations in encode.configs"
        )
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise WeightsError(f"encode.pretrained is empty: set it to a tag of {model} ({tags}), {HOW}")
    config = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained)
    if not config:
        return _local_file(model, pretrained)
    if config.get("hf_hub"):
        return _from_hub(model, pretrained, config["hf_hub"])
    kept = Path("~/.cache/clip").expanduser() / config["url"].rpartition("/")[2]
    return str(kept) if kept.is_file() else _download(model, pretrained, config["url"], config)


def _local_file(model: str, pretrained: str) -> str:
    if Path(pretrained).suffix in SUFFIXES and Path(pretrained).is_file():
        return pretrained
    tags = open_clip.list_pretrained_tags_by_model(model)
    near = difflib.get_close_matches(pretrained, tags, 3, 0.4) or tags
    others = open_clip.list_pretrained_models_by_tag(pretrained)[:5]
    hint = f" ({pretrained} is a tag of {', '.join(others)})" if others else ""
    raise WeightsError(
        f"encode.pretrained is {pretrained!r}, which is neither a tag of {model} nor a file{hint}: "
        f"use a tag (the nearest: {', '.join(near) or 'none'}), {HOW}"
    )


def _folder_weights(folder: str) -> str:
    if not (Path(folder) / "open_clip_config.json").is_file():
        raise WeightsError(f"encode.model: the folder {folder} has no open_clip_config.json")
    path = factory._find_checkpoint_in_dir(Path(folder))  # the same choice as in create_model
    if path is None:
        raise WeightsError(f"encode.model: the folder {folder} has no weights (open_clip_model.safetensors)")
    return str(path)


def _from_hub(model: str, pretrained: str | None, location: str) -> str:
    """Weights at `ORGANISATION/NAME/FILE` (without FILE: open_clip's default name), preferably from the cache."""
    repository, file = os.path.split(location)
    names = [file.rpartition(".")[0] + ".safetensors", file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    return cached(repository, names) or _download(
        model, pretrained, hub.hf_hub_url(repository, names[-1]), {"hf_hub": location}
    )


def _download(model: str, pretrained: str | None, url: str, config: dict[str, Any]) -> str:
    tags = open_clip.list_pretrained_tags_by_model(model)
    return download(model, pretrained, url, lambda: str(open_clip.download_pretrained(config)), tags)
