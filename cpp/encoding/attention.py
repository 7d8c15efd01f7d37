"""What an encoder attends to: the attention of its class token to the patches of a picture, in the last layer.

It is the attention of the model's own forward pass, whatever the model does to queries and keys (norms, rotary
positions, biases): PyTorch passes every call of attention to a function mode, which keeps the arguments of the last.
Knows no files and no pages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import multi_head_attention_forward, scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from cpp.encoding.encoder import Encoder

LEAST = 4  # places along a side; fewer show nothing
RAMP = 512  # pixels of the longer side of the picture that `view` transforms, at most


class NoAttentionError(ValueError):
    """The encoder has no attention that could be shown. The message says why, as a clause about the encoder."""


class Layout(NamedTuple):
    """The places of the patches, in `rows` and `columns`, and the `query` that attends to them, in words."""

    rows: int
    columns: int
    query: str


def layout(encoder: Encoder) -> Layout:
    """The layout of the attention of an encoder. NoAttentionError if it has none that could be shown.

    The query is the class token; the probe of a model that pools by attention (SigLIP), or its first of several (CoCa);
    or the mean of the places for CLIP's ResNets, which pool by attention too. Mean-pooled models without a class token
    (DINOv2 and DINOv3 have one), windows (Swin) and plain convolutions have none of these.
    """
    rows, columns, query = _layout(encoder.model.module)
    if min(rows, columns) < LEAST:
        raise NoAttentionError(f"its {rows} x {columns} places are too few for a heat map")
    keys = _last_attention(encoder, [np.zeros((*encoder.preprocess.size, 3), np.uint8)]).shape[-1]
    if keys < rows * columns:
        raise NoAttentionError("its last attention is not one to all patches")
    return Layout(rows, columns, query)


def _layout(module: Any) -> Layout:
    tower = getattr(module, "visual", module)  # of open_clip
    tower = getattr(tower, "trunk", tower)  # of timm within open_clip
    if pool := getattr(tower, "attnpool", None):
        side = int((len(pool.positional_embedding) - 1) ** 0.5)
        return Layout(side, side, "mean of all places, by which it pools")
    grid: tuple[int, int] | None = getattr(tower, "grid_size", None) or getattr(
        getattr(tower, "patch_embed", None), "grid_size", None
    )
    if grid is None:
        raise NoAttentionError("it is not a Vision Transformer")
    if getattr(tower, "attn_pool", None) is not None:
        return Layout(grid[0], grid[1], "query by which it pools")
    if getattr(tower, "cls_token", getattr(tower, "class_embedding", None)) is None:
        raise NoAttentionError("it has no class token")
    return Layout(grid[0], grid[1], "class token")


@torch.inference_mode()
def attention(encoder: Encoder, places: Layout, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The attention of the query to the patches, for every head: float32 `[n, heads, rows, columns]`.

    `pixels` `[height, width, 3]` come from the encoder's transform. Class and register tokens are left out, and each
    head's attention to the patches sums to 1.
    """
    to_patches = _last_attention(encoder, pixels)[..., -places.rows * places.columns :]
    normalised = to_patches / to_patches.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    result: NDArray[np.float32] = normalised.unflatten(-1, places[:2]).cpu().numpy()
    return result


class _LastAttention(TorchFunctionMode):
    """Keeps the arguments of the last attention that is computed while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.arguments: tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (scaled_dot_product_attention, multi_head_attention_forward):
            self.arguments = func, args, kwargs or {}
        return func(*args, **(kwargs or {}))


@torch.inference_mode()
def _last_attention(encoder: Encoder, pixels: Sequence[NDArray[np.uint8]]) -> Tensor:
    """The attention of the first query to all keys in the last attention, float32 `[n, heads, keys]`."""
    with _LastAttention() as last:
        encoder.begin(pixels)()
    if last.arguments is None:
        raise NoAttentionError("it computes no attention")
    function, args, kwargs = last.arguments
    if function is multi_head_attention_forward:
        kwargs = kwargs | {"need_weights": True, "average_attn_weights": False}
        weights: Any = function(args[0][:1], *args[1:], **kwargs)[1]  # queries are [length, n, d]
        of_first: Tensor = weights[:, :, 0].float()
        return of_first
    query, key, _, *rest = args
    logits: Tensor = query[:, :, :1].float() @ key.float().mT * (kwargs.get("scale") or query.shape[-1] ** -0.5)
    if (bias := rest[0] if rest else kwargs.get("attn_mask")) is not None:
        first = bias[..., :1, :]
        logits = logits.masked_fill(~first, -torch.inf) if first.dtype == torch.bool else logits + first
    return logits.softmax(-1)[:, :, 0]


def view(
    transform: Callable[[Image.Image], NDArray[np.uint8]], width: int, height: int
) -> tuple[float, float, float, float]:
    """The part of a picture that an encoder sees: left, top, right and bottom as shares of its width and height.

    A transform that pads sees more than the picture, and the values are below 0 or above 1. They are measured, within
    1%, on a picture whose colours are its coordinates.
    """
    scale = min(1, RAMP / max(width, height))
    w, h = (max(1, round(side * scale)) for side in (width, height))
    ramp = np.full((h, w, 3), 255, np.uint8)
    ramp[..., 0] = np.rint((np.arange(w) + 0.5) / w * 255)
    ramp[..., 1] = np.rint((np.arange(h) + 0.5) / h * 255)[:, None]
    seen = transform(Image.fromarray(ramp))
    inside = seen[..., 2] > 250  # not padding
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    part = seen[np.ix_(rows, columns)] / 255
    left, right = _ends(columns, part[..., 0].mean(0), seen.shape[1])
    top, bottom = _ends(rows, part[..., 1].mean(1), seen.shape[0])
    return left, top, right, bottom


def _ends(pixels: NDArray[np.intp], position: NDArray[np.float64], n: int) -> tuple[float, float]:
    """Where the first and the last of `n` pixels lie, by a line through the `position` of the middle ones."""
    middle = slice(len(pixels) // 4, len(pixels) - len(pixels) // 4)  # scaling blurs the edges
    slope, start = np.polyfit(pixels[middle] + 0.5, position[middle], 1)
    return float(start), float(start + slope * n)
