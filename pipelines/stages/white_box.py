"""The stage `white_box`: what each block of a CRATE encoder does to the tokens of a sample of images.

The two curves of arXiv 2306.01129, section 3.1: the coding rate of the tokens by the block's own subspaces, which its
attention lowers, and the share of the entries of its sparse code that are not zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from cpp.encoding import images
from cpp.files import tables
from cpp.files.iterables import batched
from cpp.files.tables import Counts
from cpp.sources.shards import select_samples
from cpp.store.results import Product
from pipelines.engine.stage import Context, Inputs, Outputs, Stage
from pipelines.stages.artifacts import Model
from pipelines.stages.schemas import WHITE_BOX

if TYPE_CHECKING:  # which load torch
    from torch import Tensor

    from cpp.encoding.crate import Crate
    from cpp.encoding.encoder import Encoder

IMAGES, SHARDS = 256, 8  # most images of the sample, and shards that it is drawn from, which are read for it
DISTORTION = 0.01  # squared, of the rates, as in the authors' measurement


class WhiteBox(Stage):
    """A sample of FEATURES -> rates and sparsity by block, for every CRATE among the encoders."""

    version = 1
    products = (Product("white_box"),)
    whole = ("features",)
    gpu = True
    encoders: Mapping[str, Model]  # by column
    seed: int
    max_bytes: int
    max_pixels: int
    max_aspect: float

    def work(self, context: Context, files: Inputs, out: Outputs) -> Counts:
        limits = images.Limits(self.max_bytes, self.max_pixels, self.max_aspect)
        shown = _sample(context, self.seed)
        rows: list[dict[str, Any]] = []
        for column, settings in self.encoders.items():
            encoder = settings.model_copy(update={"compile": False}).open(context.device)
            of_blocks = measure(encoder.model.module, _pixels(encoder, shown, limits, context))
            rows += [{"column": column, "model": settings.model, **row} for row in of_blocks]
        tables.write(pa.Table.from_pylist(rows, WHITE_BOX), out["white_box"])
        return Counts(len(rows), len(rows))


def measure(encoder: Crate, batches: Iterable[Tensor]) -> list[dict[str, Any]]:
    """For each block of the encoder, means over the images `[b, 3, side, side]` of the batches.

    `rate_before` and `rate` are R^c of the tokens before and after the block's attention, in nats, by the subspaces of
    the block; `nonzero` is the share of the entries of its sparse code that are not zero.
    """
    import torch

    from cpp.rate_reduction.coding_rate import subspace_rate

    sums, n = np.zeros((encoder.shape.depth, 3)), 0
    with torch.inference_mode():
        for pixels in batches:
            for block, step in enumerate(encoder.steps(pixels)):
                rates = (subspace_rate(W.float(), DISTORTION).sum() for W in (step.before, step.after))
                sums[block] += [*map(float, rates), len(pixels) * float((step.code != 0).float().mean())]
            n += len(pixels)
    names = "rate_before", "rate", "nonzero"
    return [
        {"block": block, **dict(zip(names, of_block / n, strict=True)), "images": n}
        for block, of_block in enumerate(sums, 1)
    ]


def _sample(context: Context, seed: int) -> dict[str, list[str]]:
    """Keys of at most `IMAGES` images by shard, from at most `SHARDS` shards that have any."""
    paths = context.whole["features"]
    drawn: list[str] = []
    for i in np.random.default_rng(seed).permutation(len(paths)):
        if len(drawn) < SHARDS and tables.read_footer(paths[i]).num_rows:
            drawn.append(paths[i])
    keys: dict[str, list[str]] = {}
    for batch in tables.sample_batches(sorted(drawn), ["key", "image_shard"], IMAGES, seed, context.prefetch):
        for row in batch.to_pylist():
            keys.setdefault(row["image_shard"], []).append(row["key"])
    return keys


def _pixels(
    encoder: Encoder, keys: Mapping[str, list[str]], limits: images.Limits, context: Context
) -> Iterator[Tensor]:
    """The normalised pixels of the images, in batches."""
    samples = (
        sample
        for shard, of_shard in keys.items()
        for sample in select_samples(shard, frozenset(of_shard), limits.max_bytes)
    )
    prepared = images.prepare(samples, [encoder.preprocess], limits, context.threads, 2 * context.image_batch)
    for batch in batched((image.pixels[0] for image in prepared if image.pixels), context.image_batch):
        yield encoder.normalised(batch)
