"""How well attention segments photographs: `python -m tests.bench.attention MODEL WEIGHTS [MODEL WEIGHTS ...]`.

Mean IoU of the segments that the page outlines with COCO's masks, on `coco-mini` of CPP_TEST_DATA, in the part of each
photograph that the encoder sees: with all objects together, and with the object that fits best. `random` is the same
architecture with random weights; the first rows are masks without a model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import timm
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from cpp.encoding import attention, pretrained
from cpp.encoding.crate import Crate
from cpp.encoding.encoder import Encoder
from cpp.encoding.images import Limits, decode
from cpp.report.heat_maps import segment
from tests.bench import heading

Mask = NDArray[np.bool_]
View = tuple[float, float, float, float]
WITHOUT_MODEL = {"all": (0.0, 1.0), "the middle, half of the sides": (0.25, 0.75), "the middle, 3/4": (0.125, 0.875)}


class Photograph(NamedTuple):
    """A photograph with the masks of its objects, `[height, width]` each."""

    image: Image.Image
    objects: list[Mask]


def photographs(folder: Path) -> Iterator[Photograph]:
    """The photographs of a COCO folder; crowds are left out."""
    content = json.loads((folder / "annotations/instances_val2017.json").read_text())
    polygons: dict[int, list[Any]] = {}
    for annotation in content["annotations"]:
        if not annotation["iscrowd"]:
            polygons.setdefault(annotation["image_id"], []).append(annotation["segmentation"])
    for entry in content["images"]:
        image = decode((folder / "val2017" / entry["file_name"]).read_bytes(), Limits())
        yield Photograph(image, [_mask(image.size, parts) for parts in polygons.get(entry["id"], [])])


def _mask(size: tuple[int, int], polygons: list[list[float]]) -> Mask:
    mask = Image.new("1", size)
    for polygon in polygons:
        ImageDraw.Draw(mask).polygon(polygon, fill=1)
    return np.asarray(mask)


def scores(segment: Mask, photograph: Photograph, view: View) -> tuple[float, float]:
    """IoU of a segment `[rows, columns]` of the view with all objects, and with the object that fits best."""
    width, height = photograph.image.size
    left, top, right, bottom = view
    x, inside_x = _places(width, left, right, segment.shape[1])
    y, inside_y = _places(height, top, bottom, segment.shape[0])
    found = segment[np.ix_(y, x)]
    objects = [mask[np.ix_(inside_y, inside_x)] for mask in photograph.objects]
    seen = [mask for mask in objects if mask.any()]
    if not seen:
        return np.nan, np.nan
    return _iou(found, np.logical_or.reduce(seen)), max(_iou(found, mask) for mask in seen)


def _places(pixels: int, start: float, stop: float, n: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The place of each pixel inside the view, and which pixels are inside."""
    at = np.floor(((np.arange(pixels) + 0.5) / pixels - start) / (stop - start) * n).astype(np.intp)
    inside = (at >= 0) & (at < n)
    return at[inside], inside


def _iou(a: Mask, b: Mask) -> float:
    return float((a & b).sum() / (a | b).sum())


def measure(encoder: Encoder, photos: list[Photograph]) -> tuple[float, ...]:
    """Mean IoU with all objects and with the best object, of the mean over heads, and of the best head of each."""
    layout = attention.layout(encoder)
    rows = []
    for photo in photos:
        (heads,) = attention.attention(encoder, layout, [encoder.preprocess(photo.image)])
        view = attention.view(encoder.preprocess, *photo.image.size)
        of_heads = np.array([scores(segment(heat), photo, view) for heat in heads])
        rows.append([*scores(segment(heads.mean(0)), photo, view), *of_heads.max(0)])
    return tuple(np.nanmean(rows, axis=0))


def random_weights(encoder: Encoder, seed: int, folder: Path) -> str:
    """A file of random weights for the model of an encoder, as its library draws them."""
    torch.manual_seed(seed)
    name, module = encoder.identity.model, encoder.model.module
    created: Any = Crate(module.shape) if isinstance(module, Crate) else None
    if created is None:
        created = timm.create_model(name[5:]) if name.startswith("timm/") else open_clip.create_model(name)
    file = folder / f"random-{seed}.safetensors"
    save_file({key: value.contiguous() for key, value in created.state_dict().items()}, file)
    return str(file)


def table(models: list[tuple[str, str]], seeds: int, photos: list[Photograph], show: Callable[[str], None]) -> None:
    """The lines of a Markdown table."""
    show(f"{heading()}, {len(photos)} photographs, IoU in percent\n")
    show("| segment | all objects | best object | best head, all objects | best head, best object |")
    show("|---|---|---|---|---|")
    for name, (start, stop) in WITHOUT_MODEL.items():
        side = (np.arange(16) + 0.5) / 16
        inside = (side > start) & (side < stop)
        square = np.outer(inside, inside)
        rows = [scores(square, photo, attention.view(square_of, *photo.image.size)) for photo in photos]
        show(_line(f"{name} of the central square", np.nanmean(rows, axis=0)))
    for model, weights in models:
        encoder = Encoder(model, weights, "cpu", "fp32")
        show(_line(f"{model}, {Path(weights).name}", measure(encoder, photos)))
        with tempfile.TemporaryDirectory() as folder:
            files = [random_weights(encoder, seed, Path(folder)) for seed in range(seeds)]
            drawn = [measure(Encoder(model, file, "cpu", "fp32"), photos) for file in files]
        show(_line(f"{model}, random, mean of {seeds}", np.mean(drawn, axis=0)))


def square_of(image: Image.Image) -> NDArray[np.uint8]:
    """The transform of most encoders: the square in the middle."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def _line(name: str, values: Any) -> str:
    cells = [f"{100 * value:.1f}" for value in values] + ["–"] * (4 - len(values))
    return f"| {name} | {' | '.join(cells)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="+", help="MODEL WEIGHTS ...")
    parser.add_argument("--configs", help="folder with definitions of open_clip models")
    parser.add_argument("--seeds", type=int, default=3, help="draws of random weights")
    arguments = parser.parse_args()
    data = os.environ.get("CPP_TEST_DATA") or sys.exit("set CPP_TEST_DATA to the folder of real data")
    if arguments.configs:
        pretrained.register(arguments.configs)
    pairs = list(zip(arguments.models[::2], arguments.models[1::2], strict=True))
    table(pairs, arguments.seeds, list(photographs(Path(data, "coco-mini"))), lambda line: print(line, flush=True))
