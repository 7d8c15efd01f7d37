"""Finds the family of a model by the prefix of its name: `timm/NAME`, `crate/NAME`; without one open_clip's.

A family is imported when it is asked for, because its libraries take seconds.
"""

from __future__ import annotations

from cpp.encoding import open_clip_files
from cpp.encoding.model import Family, Identity

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
    if has_text_tower(model) and (known := open_clip_files.identity(model, pretrained, configs)):
        return known
    if configs:
        from cpp.encoding import pretrained as open_clip_weights

        open_clip_weights.register(configs)
    return family(model).identity(model, pretrained)


def weights_file(model: str, pretrained: str | None) -> str:
    """The path of the file of a model's weights, which is downloaded if necessary. WeightsError without it."""
    return family(model).weights_file(model, pretrained)


def has_text_tower(model: str) -> bool:
    """Whether a model encodes words into the space of its image vectors, which only those of open_clip do."""
    return _prefix(model) not in (TIMM, *CRATE)


def is_white_box(model: str) -> bool:
    """Whether a model is a CRATE."""
    return _prefix(model) in CRATE


def _prefix(model: str) -> str:
    return model.partition("/")[0]
