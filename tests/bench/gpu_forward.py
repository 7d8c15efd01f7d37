"""Other ways to encode and to decode on a GPU, beside those in use, for `make bench-gpu`. Knows no stage.

Not in use until a GPU has shown that they help: channels last, torch.compile, and torchvision's decoder. The copy
from pinned memory is in use; its baseline is one from pageable memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cosine_similarity
from torchvision.io import ImageReadMode, decode_jpeg
from torchvision.transforms.v2 import functional as transforms

from cpp.encoding import images
from cpp.encoding.encoder import Encoder

Seconds = Callable[[Callable[[], object]], float]  # the time of a call
LIMITS = images.Limits()


class Way(NamedTuple):
    """Seconds of one way and of the one in use, or of the baseline; and 1 - cosine of their results, at worst."""

    what: str
    seconds: float
    baseline: str
    compared: float
    difference: float | None = None


@torch.inference_mode()
def forward_ways(encoder: Encoder, ready: Tensor, seconds: Seconds) -> Iterator[Way]:
    """Forward passes of a batch of normalised pixels; on a GPU also compiled, and copies of a batch to it."""
    plain = encoder.model.encode_image
    expected, contiguous = plain(ready), seconds(lambda: plain(ready))
    last = ready.contiguous(memory_format=torch.channels_last)
    encoder.model.module.to(memory_format=torch.channels_last)
    difference = worst(plain(last), expected)
    yield Way("forward pass, channels last", seconds(lambda: plain(last)), "in use", contiguous, difference)
    encoder.model.module.to(memory_format=torch.contiguous_format)
    if not ready.is_cuda:
        return
    pageable = torch.zeros((len(ready), *encoder.preprocess.size, 3), dtype=torch.uint8)
    pinned = pageable.pin_memory()
    yield Way(
        "copy of a batch to the GPU, pinned",
        seconds(lambda: pinned.to(ready.device, non_blocking=True)),
        "pageable",
        seconds(lambda: pageable.to(ready.device)),
    )
    compiled: Any = torch.compile(plain)
    difference = worst(compiled(ready), expected)
    yield Way("forward pass, torch.compile", seconds(lambda: compiled(ready)), "in use", contiguous, difference)


@torch.inference_mode()
def decode_ways(encoder: Encoder, files: Sequence[bytes], threads: int, seconds: Seconds) -> Iterator[Way]:
    """JPEGs decoded, scaled and cropped on the device by torchvision, against Pillow in threads."""
    height, width = encoder.preprocess.size
    encoded = [torch.frombuffer(bytearray(data), dtype=torch.uint8) for data in files]
    bicubic = transforms.InterpolationMode.BICUBIC

    def by_torchvision() -> list[NDArray[np.uint8]]:
        decoded = decode_jpeg(encoded, ImageReadMode.RGB, device=str(encoder.device))
        scaled = (transforms.resize(one, [height], bicubic, antialias=True) for one in decoded)
        pixels = torch.stack([transforms.center_crop(one, [height, width]) for one in scaled])
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())

    def by_pillow() -> list[NDArray[np.uint8]]:
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(lambda data: encoder.preprocess(images.decode(data, LIMITS)), files))

    # pixels around grey and not vectors, because random weights hide small differences
    pixels = [torch.from_numpy(np.stack(rows)).flatten(1).float() - 127.5 for rows in (by_torchvision(), by_pillow())]
    yield Way(
        f"{len(files)} JPEGs to pixels by torchvision",
        seconds(by_torchvision),
        f"Pillow in {threads} threads, in use",
        seconds(by_pillow),
        worst(*pixels),
    )


def worst(one: Tensor, other: Tensor) -> float:
    """1 - cosine of the rows of two matrices, at worst."""
    return float(1 - cosine_similarity(one.float(), other.float()).min())
