"""Loads CRATE encoders, `crate/base` and its like, from local files as their authors publish them. Knows no vectors.

The name gives the dimensions, blocks and heads; the weights decide the sizes of patches and images.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from cpp.encoding.crate import ALPHA, CLIP, FIRST, Crate, Shape
from cpp.encoding.model import Identity, LoadedModel
from cpp.encoding.timm_models import DTYPES, TimmTransform
from cpp.encoding.weights import SUFFIXES, WeightsError, read_tensors, sha256

SIZES = {"tiny": (384, 12, 6), "small": (576, 12, 12), "base": (768, 12, 12), "large": (1024, 24, 16),
         "huge": (1280, 32, 16)}  # fmt: skip  # dimensions, blocks and heads
PUBLISHED = {FIRST: ("tiny", "small", "base", "large"), ALPHA: ("base", "large"), CLIP: ("large", "huge")}
MODELS = tuple(f"{variant}/{size}" for variant, sizes in PUBLISHED.items() for size in sizes)
CROPPED = {name for name in MODELS if not name.startswith(CLIP)}  # these see the centre: 224 of 256 pixels
CUSTOM = re.compile(r"(\d+)x(\d+)x(\d+)")  # another size: dimensions, blocks and heads
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels, for all variants

# Names in published state dicts -> the names in `Crate`. The image tower of a CLIP variant has the prefix `visual.`.
NAMES = [(re.compile(pattern), name) for pattern, name in {
    r"class_embedding": "cls_token",
    r"pos_embedding|positional_embedding": "position",
    r"to_patch_embedding\.(\d\.\w+)": r"patches.\1",
    r"conv1\.(\w+)": r"patches.0.\1",
    r"transformer\.layers\.(\d+)\.0\.norm\.(\w+)": r"blocks.\1.mssa.norm.\2",
    r"transformer\.layers\.(\d+)\.0\.fn\.qkv\.weight": r"blocks.\1.mssa.subspaces.weight",
    r"transformer\.layers\.(\d+)\.0\.fn\.to_out\.0\.(\w+)": r"blocks.\1.mssa.out.\2",
    r"transformer\.layers\.(\d+)\.1\.norm\.(\w+)": r"blocks.\1.ista.norm.\2",
    r"transformer\.layers\.(\d+)\.1\.fn\.(?:weight|D)": r"blocks.\1.ista.dictionary",
    r"transformer\.layers\.(\d+)\.1\.fn\.D1": r"blocks.\1.ista.decoder",
    r"transformer\.resblocks\.(\d+)\.ln_1\.(\w+)": r"blocks.\1.mssa.norm.\2",
    r"transformer\.resblocks\.(\d+)\.attn\.in_proj_weight": r"blocks.\1.mssa.subspaces.weight",
    r"transformer\.resblocks\.(\d+)\.attn\.out_proj\.(\w+)": r"blocks.\1.mssa.out.\2",
    r"transformer\.resblocks\.(\d+)\.ln_2\.(\w+)": r"blocks.\1.ista.norm.\2",
    r"transformer\.resblocks\.(\d+)\.mlp\.c_fc": r"blocks.\1.ista.dictionary",
    r"transformer\.resblocks\.(\d+)\.mlp\.c_proj": r"blocks.\1.ista.decoder",
    r"(?:mlp_head\.0|ln_post)\.(\w+)": r"norm.\1",
    r"proj": "projection",
}.items()]  # fmt: skip
CLASSIFIER = "mlp_head.1."


class Size(NamedTuple):
    """A model by its name: the variant, and the dimensions, blocks and heads."""

    variant: str
    dim: int
    depth: int
    heads: int


def identity(model: str, pretrained: str | None) -> Identity:
    """The identity of a model with its weights; equal weights in files of different formats are equal.

    The weights are loaded too, so that those of another model are an error before a run starts.
    """
    path = weights_file(model, pretrained)
    _module(model, path)
    return Identity(model, Path(path).name, sha256(path))


def load(model: str, pretrained: str | None, pool: str | None, device: str, precision: str) -> LoadedModel:
    """A model without its classifier. The vector is the class token or, with `pool` "mean", the mean of the patches."""
    module = _module(model, weights_file(model, pretrained)).to(device, DTYPES[precision]).eval().requires_grad_(False)
    side = module.shape.side
    crop = 0.875 if model in CROPPED else 1.0
    transform = TimmTransform((side, side), MEAN, STD, "bilinear", crop, "center")
    return LoadedModel(module, transform, functools.partial(module, pool=pool))


def _module(model: str, path: str) -> Crate:
    size, state = _size(model), _renamed(read_tensors(path), model, path)
    try:
        with torch.device("meta"):  # without memory or random numbers, until the weights are assigned
            module = Crate(_shape(size, state))
        module.load_state_dict(state, assign=True)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else str(error)[:500]
        raise WeightsError(
            f"{path} does not load as weights of {model}: {reason}; set encode.model to what the weights are of"
        ) from error
    return module


def _size(model: str) -> Size:
    """The size that a name stands for, such as `crate/base` or `crate/192x12x3`. WeightsError for other names."""
    variant, _, name = model.partition("/")
    if model in MODELS:
        return Size(variant, *SIZES[name])
    if not (custom := CUSTOM.fullmatch(name)):
        raise WeightsError(
            f"encode.model is {model!r}, which is no CRATE: use one of {', '.join(MODELS)}, or the dimensions, blocks "
            "and heads of other weights, such as crate/192x12x3"
        )
    size = Size(variant, *map(int, custom.groups()))
    if not (size.dim and size.depth and size.heads) or size.dim % size.heads:
        raise WeightsError(
            f"encode.model is {model!r}: its dimensions, blocks and heads must be at least 1, and the dimensions a "
            "multiple of the heads"
        )
    return size


def weights_file(model: str, pretrained: str | None) -> str:
    if pretrained and pretrained.endswith(SUFFIXES) and Path(pretrained).is_file():
        return pretrained
    raise WeightsError(
        f"encode.pretrained is {pretrained!r}, which is not a file of weights: {model} has no tags, download its "
        f"checkpoint (docs/encoders.md says from where) and set the path of the file ({', '.join(SUFFIXES)})"
    )


def _renamed(tensors: Mapping[str, Tensor], model: str, path: str) -> dict[str, Tensor]:
    """The tensors of the image tower by their names in `Crate`, without the classifier."""
    visual = {name.removeprefix("visual."): tensor for name, tensor in tensors.items() if name.startswith("visual.")}
    state: dict[str, Tensor] = {}
    for name, published in (visual or tensors).items():
        new = next((pattern.sub(to, name) for pattern, to in NAMES if pattern.fullmatch(name)), name)
        tensor = published.float()
        if name.endswith("in_proj_weight"):
            tensor = _shared_projection(tensor, name, model, path)
        elif new == "cls_token":
            tensor = tensor.flatten()  # published with leading dimensions of one
        elif new == "position":
            tensor = tensor.reshape(-1, tensor.shape[-1])
        if not name.startswith(CLASSIFIER):
            state[new] = tensor
    return state


def _shared_projection(weight: Tensor, name: str, model: str, path: str) -> Tensor:
    """The one projection of MSSA in a weight that repeats it for queries, keys and values."""
    projection, *others = weight.chunk(3)
    if not all(torch.equal(projection, other) for other in others):
        raise WeightsError(
            f"{path} does not load as weights of {model}: queries, keys and values differ in {name}, so that it is a "
            "vision transformer and no CRATE"
        )
    return projection


def _shape(size: Size, state: Mapping[str, Tensor]) -> Shape:
    """The shape of the weights. ValueError if it is not that of the size, KeyError if a tensor is missing."""
    dim = len(state["cls_token"])
    depth = len({name.split(".")[1] for name in state if name.startswith("blocks.")})
    if (dim, depth) != (size.dim, size.depth):
        fitting = [f"{size.variant}/{name}" for name, other in SIZES.items() if other[:2] == (dim, depth)]
        hint = f" (the size of {fitting[0]})" if fitting else ""
        raise ValueError(f"it has {dim} dimensions and {depth} blocks{hint}, not {size.dim} and {size.depth}")
    if size.variant == FIRST:
        patch = math.isqrt(len(state["patches.1.weight"]) // 3)
    else:
        patch = state["patches.0.weight"].shape[-1]
    side = math.isqrt(len(state["position"]) - 1) * patch
    out = state["projection"].shape[1] if size.variant == CLIP else 0
    return Shape(size.variant, dim, depth, size.heads, patch, side, out)
