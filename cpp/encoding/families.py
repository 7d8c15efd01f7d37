"""Finds the family of a model by the prefix of its name: `timm/NAME`, `crate/NAME`; without one open_clip's."""

from __future__ import annotations

from cpp.encoding import crate_models, open_clip_models, timm_models
from cpp.encoding.crate import VARIANTS
from cpp.encoding.model import Family, Identity

FAMILIES: dict[str, Family] = {"timm": timm_models, **dict.fromkeys(VARIANTS, crate_models)}


def family(model: str) -> Family:
    """The family of a model. open_clip's takes all names without a prefix of `FAMILIES`."""
    return FAMILIES.get(model.partition("/")[0], open_clip_models)


def identity(model: str, pretrained: str | None) -> Identity:
    """The identity of a model with its weights, which are downloaded if necessary. WeightsError without them."""
    return family(model).identity(model, pretrained)


def has_text_tower(model: str) -> bool:
    """Whether a model encodes words into the space of its image vectors."""
    return family(model).has_text_tower(model)
