"""Loads open_clip's models: image and text tower, transform and tokenizer. Knows no images and no vectors."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip import factory

from cpp.encoding.images import Preprocess
from cpp.encoding.model import Identity, LoadedModel, TextTower
from cpp.encoding.pretrained import find_weights
from cpp.encoding.weights import WeightsError, sha256


def identity(model: str, pretrained: str | None) -> Identity:
    """The identity of a model with its weights; equal weights in files of different formats are equal."""
    path = Path(weights_file(model, pretrained))
    is_tag = bool(pretrained) and open_clip.is_pretrained_cfg(model.replace("/", "-"), pretrained)
    return Identity(model, str(pretrained) if is_tag else path.name, sha256(str(path)))


def weights_file(model: str, pretrained: str | None) -> str:
    """The path of the file of the model's weights, which is downloaded if necessary."""
    return find_weights(model, pretrained)


def load(model: str, pretrained: str | None, pool: str | None, device: str, precision: str) -> LoadedModel:
    """A model with its weights. WeightsError if they are missing or of another model, or for a `pool`."""
    if pool:
        raise WeightsError(f"encode.pool is {pool!r}, and {model} of open_clip pools in its own way: set it to null")
    module = _load(model, pretrained, device, precision)
    text = TextTower(functools.partial(_tokenize, model), module.encode_text)
    return LoadedModel(module, _preprocess(module.visual.preprocess_cfg), module.encode_image, text)


def _load(model: str, pretrained: str | None, device: str, precision: str) -> Any:
    path = find_weights(model, pretrained)
    kind, name = factory.parse_model_name(model)
    settings: dict[str, Any] = {"require_pretrained": True}
    if kind is None:
        settings |= {"pretrained": path, **_as_trained(name.replace("/", "-"), str(pretrained))}
    try:
        loaded = open_clip.create_model(model, precision=precision, device=device, **settings)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # open_clip fails in many ways on weights of another model
        raise WeightsError(f"{path} does not load as weights of {model}: {str(error)[:500]}") from error
    return loaded.eval().requires_grad_(False)


def _as_trained(name: str, pretrained: str) -> dict[str, Any]:
    """The transform and activation that the weights were trained with, according to open_clip's table.

    A local file has no entry; it gets the transform on which all tags of the model agree (SigLIP's differs from
    CLIP's). If the activation of the weights (QuickGELU) differs from the configuration, open_clip only warns; the
    vectors would be wrong.
    """
    keys = ("mean", "std", "interpolation", "resize_mode")
    entry = open_clip.get_pretrained_cfg(name, pretrained)
    tags = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    if not entry:
        transforms = [{key: tag[key] for key in keys if key in tag} for tag in tags]
        agreed = transforms and all(transform == transforms[0] for transform in transforms)
        return {"force_preprocess_cfg": transforms[0]} if agreed else {}
    transform = {key: entry[key] for key in keys if key in entry}
    return {"force_preprocess_cfg": transform, "quick_gelu": bool(entry.get("quick_gelu", False))}


def _preprocess(config: dict[str, Any]) -> Preprocess:
    def triple(value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else (value,) * 3

    size = config["size"]
    return Preprocess(
        tuple(size) if isinstance(size, list | tuple) else (size, size),
        triple(config["mean"]),
        triple(config["std"]),
        config["interpolation"],
        config["resize_mode"],
        config["fill_color"],
    )


def _tokenize(model: str, texts: Sequence[str]) -> torch.Tensor:
    tokens: torch.Tensor = _tokenizer(model)(texts)
    return tokens


@functools.cache  # loaded only when words are encoded, because it may be downloaded
def _tokenizer(model: str) -> Any:
    try:
        return open_clip.get_tokenizer(model)
    except ImportError as error:
        raise WeightsError(f"the tokenizer of {model} needs a package that is not installed: {error}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"the tokenizer of {model} cannot be loaded: {str(error)[:500]}") from error
