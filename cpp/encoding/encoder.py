"""Encodes images and words as unit vectors with a model of any family. Knows no image files, shards or clusters."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from itertools import chain, islice

import numpy as np
import torch
from numpy.typing import NDArray
from open_clip import zero_shot_metadata
from torch import Tensor
from torch.nn.functional import normalize

from cpp.encoding import families
from cpp.encoding.weights import WeightsError
from cpp.files.iterables import batched

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Template = str | Callable[[str], str]


def templates(spec: str | Sequence[str]) -> Sequence[Template]:
    """A set of open_clip's templates by name (`openai_imagenet`, `simple_imagenet`), or texts with one `{}` each."""
    if isinstance(spec, str):
        sets = {name.lower(): value for name, value in vars(zero_shot_metadata).items() if name.endswith("_TEMPLATES")}
        if f"{spec}_templates" not in sets:
            names = ", ".join(name.removesuffix("_templates") for name in sets)
            raise ValueError(f"templates is {spec!r}, it must be one of {names}, or a list of texts")
        return tuple(sets[f"{spec}_templates"])
    if not spec:
        raise ValueError('templates is empty, it must have at least one text, such as "a photo of a {}."')
    if wrong := [text for text in spec if text.count("{}") != 1]:
        raise ValueError(f"the template {wrong[0]!r} must have exactly one {{}} for the word")
    return tuple(spec)


def template_texts(texts: Sequence[Template]) -> list[str]:
    """A set of templates as texts with `{}` in place of the word, which identify the set."""
    return [text if isinstance(text, str) else text("{}") for text in texts]


def imagenet_classes() -> list[str]:
    """open_clip's names of the 1,000 ImageNet classes, in their order."""
    return list(zero_shot_metadata.IMAGENET_CLASSNAMES)


class Encoder:
    """A model on a device that encodes to `dim` dimensions. `preprocess` is the transform that its images need."""

    def __init__(
        self,
        model: str,
        pretrained: str | None,
        device: str,
        precision: str,
        compiled: bool = False,
        pool: str | None = None,
    ) -> None:
        """`precision` is fp32, bf16, or fp16 (on a GPU); `pool` as in `cpp.encoding.model.Family`.

        ValueError for other precisions, WeightsError without weights.
        """
        if precision not in PRECISIONS or (precision == "fp16" and device == "cpu"):
            raise ValueError(f"encode.precision is {precision!r} on {device}, it must be fp32, bf16, or on a GPU fp16")
        self.identity = replace(families.identity(model, pretrained), pool=pool)
        self.device, self.dtype = torch.device(device), PRECISIONS[precision]
        self.model = families.family(model).load(model, pretrained, pool, device, precision)
        self.preprocess = self.model.transform
        self._encode = torch.compile(self.model.encode_image) if compiled else self.model.encode_image
        self._mean = torch.tensor(self.preprocess.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(self.preprocess.std, device=self.device).view(3, 1, 1)
        self.dim: int = self.begin([np.zeros((*self.preprocess.size, 3), np.uint8)])().shape[1]

    @torch.inference_mode()
    def begin(self, rows: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float16]]:
        """Start encoding pixels `[height, width, 3]` from `preprocess`; the returned function waits for the result.

        The result is float16 unit vectors `[n, d]`; a row is not finite if it overflows the precision.
        """
        vectors = normalize(self._encode(self.normalised(rows)).float()).half()
        if self.device.type != "cuda":
            return vectors.numpy
        result = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        result.copy_(vectors, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> NDArray[np.float16]:
            done.synchronize()
            return result.numpy()

        return wait

    def normalised(self, rows: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Pixels from `preprocess` on the device as the model takes them: `[n, 3, height, width]` in its dtype."""
        batch = torch.empty((len(rows), *rows[0].shape), dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        np.stack(rows, out=batch.numpy())
        pixels = batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2).contiguous().float()
        return pixels.div_(255).sub_(self._mean).div_(self._std).to(self.dtype)

    @torch.inference_mode()
    def words(self, words: Sequence[str], texts: Sequence[Template], batch: int) -> NDArray[np.float16]:
        """Float16 unit vectors `[n, d]`: the normalised mean over the templates of the unit vectors of their texts.

        As `open_clip.build_zero_shot_classifier`, but the mean is always taken in float32. All batches have one size,
        because the vector of a word must not depend on the words beside it. WeightsError without a text tower.
        """
        if self.model.text is None:
            raise WeightsError(f"{self.identity.model} has no text tower: name an encoder that has one")
        tower = self.model.text
        parts, size = [], max(1, batch // len(texts))
        for part in batched(words, size):
            padded = [*part, *part[:1] * (size - len(part))]
            filled = [text.format(word) if isinstance(text, str) else text(word) for word in padded for text in texts]
            tokens = tower.tokenize(filled).to(self.device)
            rows = torch.cat([normalize(tower.encode(rows).float()) for rows in tokens.split(batch)])
            vectors = normalize(rows.reshape(size, len(texts), -1).mean(1)).half().cpu().numpy()
            parts.append(vectors[: len(part)])
        return np.concatenate(parts)


def encode(
    encoders: Sequence[Encoder],
    images: Iterable[Sequence[NDArray[np.uint8]]],
    batch: int,
    turn: AbstractContextManager[object] = nullcontext(),  # noqa: B008  # it has no state
) -> Iterator[tuple[NDArray[np.float16], ...]]:
    """Encode a stream of images batch by batch, in order: for each encoder float16 unit vectors `[n, d]`.

    An image is given as the pixels for each encoder (`cpp.encoding.images.prepare`). The next batch is collected and
    started while the device works on the previous one. Streams that share the device, each in a thread, share the lock
    `turn`: it is taken when the first batch is ready, and released as soon as the last one has started.
    """
    pending: deque[list[Callable[[], NDArray[np.float16]]]] = deque()
    batches = batched(images, batch)
    first = list(islice(batches, 1))
    with turn:
        for rows in chain(first, batches):
            pending.append([encoder.begin([row[i] for row in rows]) for i, encoder in enumerate(encoders)])
            if len(pending) > 1:
                yield tuple(result() for result in pending.popleft())
    while pending:
        yield tuple(result() for result in pending.popleft())
