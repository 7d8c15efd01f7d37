"""Loads timm's models, which encode images only, with the transforms that they were trained for. Knows no vectors.

The name is `timm/ARCHITECTURE` or `timm/ARCHITECTURE.TAG`; the weights are those of a tag, or a local file.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.config import resolve_model_data_config
from timm.data.transforms_factory import create_transform
from timm.models import PretrainedCfg, get_pretrained_cfg
from torch import Tensor

from cpp.encoding import downloads
from cpp.encoding.model import Identity, LoadedModel
from cpp.encoding.weights import SUFFIXES, WeightsError, read_tensors, sha256

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FILES = ["model.safetensors", "pytorch_model.bin"]  # timm's names of weights on the hub, in its order


@dataclass(frozen=True)
class TimmTransform:
    """timm's transform for inference (`timm.data.create_transform`) without the normalisation.

    `size` is (height, width). `mean` and `std` are used later, when the device normalises the pixels.
    """

    size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_pct: float
    crop_mode: str

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]:
        """Pixels uint8 `[height, width, 3]`. As in timm's data sets, the conversion to RGB comes first."""
        pixels: NDArray[np.uint8] = _compose(self)(image.convert("RGB")).permute(1, 2, 0).numpy()
        return pixels


@functools.cache
def _compose(settings: TimmTransform) -> Callable[[Image.Image], Tensor]:
    composed: Callable[[Image.Image], Tensor] = create_transform(
        input_size=(3, *settings.size),
        interpolation=settings.interpolation,
        mean=settings.mean,
        crop_pct=settings.crop_pct,
        crop_mode=settings.crop_mode,
        normalize=False,
    )
    return composed


def identity(model: str, pretrained: str | None) -> Identity:
    """The identity of a model with its weights; equal weights in files of different formats are equal."""
    name, config, path = _resolve(model, pretrained)
    return Identity(f"timm/{name}", str(config.tag) if _is_tag(pretrained) else Path(path).name, sha256(path))


def weights_file(model: str, pretrained: str | None) -> str:
    """The path of the file of the model's weights, which is downloaded if necessary."""
    return _resolve(model, pretrained)[2]


def load(model: str, pretrained: str | None, pool: str | None, device: str, precision: str) -> LoadedModel:
    """A model without its classifier. WeightsError if the weights are missing, are of another model, or lack a layer.

    `pool` "token" takes the class token, "mean" the mean of the tokens of patches. WeightsError if it has no such
    tokens.
    """
    name, config, path = _resolve(model, pretrained)
    tensors = read_tensors(path)
    try:
        module = _create(name, config, tensors)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # timm fails in many ways on weights of another model
        raise WeightsError(f"{path} does not load as weights of {model}: {str(error)[:500]}") from error
    module.reset_classifier(0)
    module = module.to(device, DTYPES[precision]).eval().requires_grad_(False)
    return LoadedModel(module, _transform(module), _pooling(model, module, pool))


def _create(name: str, config: PretrainedCfg, tensors: Mapping[str, Tensor]) -> Any:
    """The model with all weights. timm loads strictly only if the number of classes is that of the weights.

    This is read from the classifier; files with the original authors' names of layers have that of the tag.
    """
    classifier = config.classifier if isinstance(config.classifier, str) else (config.classifier or [""])[0]
    weight = tensors.get(f"{classifier}.weight")
    errors = list[Exception]()
    for classes in dict.fromkeys([0 if weight is None else len(weight), config.num_classes]):
        source = {"state_dict": dict(tensors), "custom_load": False, "num_classes": classes}
        try:
            module: Any = timm.create_model(
                name, pretrained=True, pretrained_cfg=config.tag, pretrained_cfg_overlay=source, num_classes=classes
            )
        except RuntimeError as error:
            errors.append(error)
        else:
            del module.pretrained_cfg["state_dict"]
            return module
    raise errors[0]


def _transform(module: Any) -> TimmTransform:
    config = resolve_model_data_config(module)
    keys = ("mean", "std", "interpolation", "crop_pct", "crop_mode")
    return TimmTransform(tuple(config["input_size"][1:]), **{key: config[key] for key in keys})


def _pooling(model: str, module: Any, pool: str | None) -> Callable[[Tensor], Tensor]:
    """Normalised pixels to a vector for each image: as the model does, or by its class token or mean patch token."""
    if pool is None:
        encode: Callable[[Tensor], Tensor] = module
        return encode
    prefix = getattr(module, "num_prefix_tokens", 0)  # class and register tokens stand before those of patches
    if not prefix:
        raise WeightsError(f"encode.pool is {pool!r}, and {model} has no class token: set it to null")
    norm = getattr(module, "fc_norm", torch.nn.Identity())

    def pooled(pixels: Tensor) -> Tensor:
        tokens = module.forward_features(pixels)
        vectors: Tensor = norm(tokens[:, 0] if pool == "token" else tokens[:, prefix:].mean(1))
        return vectors

    return pooled


def _is_tag(pretrained: str | None) -> bool:
    return not (pretrained and pretrained.endswith(SUFFIXES))


def _resolve(model: str, pretrained: str | None) -> tuple[str, PretrainedCfg, str]:
    """Architecture, timm's settings of its tag, and the file of weights, downloaded if necessary."""
    name, _, tag = model.removeprefix("timm/").partition(".")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), 5, 0.4)
        raise WeightsError(
            f"encode.model is {model!r}, which timm does not know; the nearest are "
            f"{', '.join(f'timm/{other}' for other in near) or 'none'}: use one of timm.list_models()"
        )
    tags = [other.partition(".")[2] for other in timm.list_pretrained(f"{name}.*")]
    if pretrained and _is_tag(pretrained):
        if tag not in ("", pretrained):
            raise WeightsError(
                f"encode.model is {model!r} and encode.pretrained is {pretrained!r}: name one tag of weights"
            )
        tag = pretrained
    if tag and tag not in tags:
        near = difflib.get_close_matches(tag, tags, 3, 0.0)
        raise WeightsError(
            f"{tag!r} is not a tag of timm/{name}: use one of {', '.join(near) or 'none'}, {downloads.HOW}"
        )
    config = get_pretrained_cfg(f"{name}.{tag}" if tag else name) or PretrainedCfg()
    if _is_tag(pretrained):
        return name, config, _published(name, config, tags)
    if not Path(str(pretrained)).is_file():
        raise WeightsError(f"encode.pretrained is {pretrained!r}, which is not a file: correct the path, or use a tag")
    return name, config, str(pretrained)


def _published(name: str, config: PretrainedCfg, tags: list[str]) -> str:
    if not config.hf_hub_id:
        raise WeightsError(
            f"timm has no weights of timm/{name} on the Hugging Face Hub: download them, {downloads.HOW}"
        )
    file = config.hf_hub_filename
    names = [f"{file.rpartition('.')[0]}.safetensors", file] if file else _FILES
    repository, url = config.hf_hub_id, hub.hf_hub_url(config.hf_hub_id, names[0])
    return downloads.cached(repository, names) or downloads.download(
        f"timm/{name}", config.tag, url, lambda: _fetch(repository, names), tags
    )


def _fetch(repository: str, names: list[str]) -> str:
    for name in names[:-1]:
        try:
            return str(hub.hf_hub_download(repository, name))
        except hub.errors.EntryNotFoundError:
            continue
    return str(hub.hf_hub_download(repository, names[-1]))
