"""Finds the family of a model by the prefix of its name: `timm/NAME`, `crate/NAME`; without one open_clip's.

A family is imported when it is asked for, because its libraries take seconds.
"""

from __future__ import annotations

from pathlib import Path

from cpp.encoding import open_clip_files
from cpp.encoding.model import Family, Identity
from cpp.encoding.weights import sha256

TIMM = "timm"
CRATE = ("crate", "crate-alpha", "crate-alpha-clip")


def family(model: str) -> Family:
    """The family of a model. open_clip's takes all names without a prefix of another family."""
    if _prefix(model) == TIMM:
        from cpp.encoding import timm_models

        return timm_models
    if is_white_box(model):
        from cpp.encoding import crate_models

        return crate_models
    from cpp.encoding import open_clip_models

    return open_clip_models


def identity(model: str, pretrained: str | None, configs: str | None = None) -> Identity:
    """The identity of a model with its weights, which are downloaded if necessary. WeightsError without them.

    `configs` has further models for open_clip, which are registered: a JSON file or a folder. ValueError for others.
    """
    if path := _local_file(model, pretrained, configs):
        return Identity(model, Path(path).name, sha256(path))
    return _registered(model, configs).identity(model, pretrained)


def weights_file(model: str, pretrained: str | None, configs: str | None = None) -> str:
    """The path of the file of a model's weights, which is downloaded if necessary. `configs` and errors as above."""
    return _local_file(model, pretrained, configs) or _registered(model, configs).weights_file(model, pretrained)


def has_text_tower(model: str) -> bool:
    """Whether a model encodes words into the space of its image vectors, which only those of open_clip do."""
    return _prefix(model) not in (TIMM, *CRATE)


def is_white_box(model: str) -> bool:
    """Whether a model is a CRATE."""
    return _prefix(model) in CRATE


def _local_file(model: str, pretrained: str | None, configs: str | None) -> str | None:
    """The file of weights of a model of open_clip, if it is known without importing open_clip."""
    return open_clip_files.weights_file(model, pretrained, configs) if has_text_tower(model) else None


def _registered(model: str, configs: str | None) -> Family:
    """The family of a model, after the further models in `configs` are registered."""
    if configs:
        from cpp.encoding import pretrained

        pretrained.register(configs)
    return family(model)


def _prefix(model: str) -> str:
    return model.partition("/")[0]
