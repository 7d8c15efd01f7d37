"""The demonstration's small CLIP: two towers of open_clip, trained on drawings with open_clip's own loss.

Knows no shards and no stages. After `register()`, open_clip's
`create_model_and_transforms(MODEL, pretrained=str(WEIGHTS))` and `get_tokenizer(MODEL)` work as for any other model.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import open_clip
import torch
import typer
from numpy.random import Generator
from PIL import Image
from safetensors.torch import save_file
from timm.optim import param_groups_weight_decay  # type: ignore[attr-defined]  # timm does not list its exports
from torch import Tensor
from torch.nn.functional import normalize, pad

from cpp.demo.dataset import ASSETS, MODEL, jpeg
from cpp.demo.drawing import KINDS, draw, draw_nothing

WEIGHTS = ASSETS / f"{MODEL}.safetensors"
SEED = 20_000  # of the training and its drawings; the demonstration's images have another seed
CAPTIONED = 0.2  # share of the texts that are captions; the others only name the kind
DRAWINGS, EPOCHS, RATE = 1500, 12, 3e-3  # drawings of each kind, epochs, highest learning rate
UNSEEN_WORD = "zebra"  # represents every word that does not occur in training
NAMING = ("{}", "a {}", "the {}", "a drawing of a {}", "a picture of a {}", "a cartoon of a {}", "clip art of a {}")
TEXTS: list[Callable[[str], str]] = [*open_clip.OPENAI_IMAGENET_TEMPLATES, *(text.format for text in NAMING * 4)]


def register() -> None:
    """Register the model's configuration with open_clip. Repeated calls have no effect."""
    if MODEL not in open_clip.list_models():
        open_clip.add_model_config(WEIGHTS.with_suffix(".json"))


class TrainingSet(NamedTuple):
    """Drawings to train on, `n` of each of `k` classes; the last class is empty scenes.

    `pixels` is uint8 `[k, n, 3, side, side]`. `captions` `[k, n, context]` are the tokens of the captions of the
    drawings, `names` `[k, texts, context]` those of the texts that only name the class.
    """

    pixels: Tensor
    captions: Tensor
    names: Tensor


def training_set(n: int, rng: Generator, preprocess: Callable[[Image.Image], Tensor]) -> TrainingSet:
    """`n` new drawings of every kind, and `n` empty scenes, which are captioned with `UNSEEN_WORD`.

    `preprocess` is open_clip's transform up to the tensor, without the normalisation.
    """
    tokenizer = open_clip.get_tokenizer(MODEL)
    pixels, captions = [], []
    for kind in [*KINDS, None]:
        for _ in range(n):
            image, caption = draw(kind, rng) if kind else draw_nothing(UNSEEN_WORD, rng)
            with Image.open(io.BytesIO(jpeg(image, int(rng.integers(50, 95))))) as decoded:
                pixels.append((preprocess(decoded) * 255).round().to(torch.uint8))
            captions.append(caption)
    names = [an(text(word)) for word in [*KINDS, UNSEEN_WORD] for text in TEXTS]
    k = len(KINDS) + 1
    caption_tokens, name_tokens = tokenizer([*captions, *names]).split([n * k, len(names)])
    return TrainingSet(
        torch.stack(pixels).unflatten(0, (k, n)), caption_tokens.unflatten(0, (k, n)), name_tokens.unflatten(0, (k, -1))
    )


def an(text: str) -> str:
    """Replace the article "a" before a vowel by "an"."""
    return re.sub(r"\b([Aa]) (?=[aeiou])", r"\1n ", text)


def train(
    n: int, epochs: int, groups: int, lr: float, seed: int, on_epoch: Callable[[int, float], None]
) -> dict[str, Tensor]:
    """Train the model from scratch on `n` drawings of each kind, and return its weights in fp16.

    open_clip's loss is computed over groups with one drawing of each class, `groups` of them in a step, so that no two
    drawings of a group match one text. Most texts only name the kind; otherwise the model would learn colours and
    places sooner than shapes. The embeddings of unseen words are zero, and empty scenes are paired with such a word.
    `on_epoch` is called with the number of the epoch and its mean loss.
    """
    register()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # open_clip initialises its towers from the global generator
        model, _, preprocess = open_clip.create_model_and_transforms(MODEL)
    normalise = preprocess.transforms.pop()  # it is applied to whole batches
    generator = torch.Generator().manual_seed(seed)
    data = training_set(n, np.random.default_rng(seed), preprocess)
    zero_unseen(model.token_embedding.weight, data)
    fast = torch.cpu.get_capabilities().get("amx_bf16", False)  # bfloat16 is faster with this
    weights = param_groups_weight_decay(model, 0.05)  # as in CLIP's training, not of biases, gains and the logit scale
    # half of the parameters embed unseen words; fusing saves much of their time
    optimizer = torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.98), fused=True)
    loss_of, steps = open_clip.ClipLoss(), n // groups
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps, pct_start=0.15)
    model.train().to(memory_format=torch.channels_last)
    classes = torch.arange(len(data.pixels))
    for epoch in range(epochs):
        total = 0.0
        order = torch.stack([torch.randperm(n, generator=generator) for _ in classes], dim=1)
        for rows in order.split(groups)[:steps]:
            pixels, texts = _batch(data, rows, generator)
            with torch.autocast("cpu", torch.bfloat16, enabled=fast):
                features = model.encode_image(normalise(pixels).contiguous(memory_format=torch.channels_last))
            encoded = (normalize(features.float(), dim=-1), model.encode_text(texts, normalize=True))
            pairs = zip(*(vectors.split(len(classes)) for vectors in encoded), strict=True)
            loss = torch.stack([loss_of(*pair, model.logit_scale.exp()) for pair in pairs]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, math.log(100))
            total += loss.item()
        on_epoch(epoch, total / steps)
    half = {name: value.half() if value.is_floating_point() else value for name, value in model.state_dict().items()}
    return {name: value.contiguous() for name, value in half.items()}


def _batch(data: TrainingSet, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Pixels from 0 to 1 and tokens of the drawings `rows` `[groups, classes]`, augmented and captioned at random."""
    classes = torch.arange(len(data.pixels))
    pixels = augment(data.pixels[classes, rows].flatten(0, 1), generator) / 255
    text = torch.randint(data.names.shape[1], rows.shape, generator=generator)
    captioned = torch.rand(rows.shape, generator=generator)[..., None] < CAPTIONED
    texts = torch.where(captioned, data.captions[classes, rows], data.names[classes, text]).flatten(0, 1)
    return pixels, texts


def zero_unseen(weight: Tensor, data: TrainingSet) -> None:
    """Fix the embeddings of words that are not in the texts at zero; the file of weights compresses better then."""
    seen = torch.zeros(len(weight), 1)
    seen[torch.cat([data.captions.unique(), data.names.unique()])] = 1
    seen[open_clip.get_tokenizer(MODEL)(UNSEEN_WORD)[0, 1]] = 0
    with torch.no_grad():
        weight.mul_(seen)
    weight.register_hook(lambda gradient: gradient * seen)


def augment(pixels: Tensor, generator: torch.Generator, by: int = 4) -> Tensor:
    """Shift images `[m, 3, side, side]` by up to `by` pixels, repeating edges, and mirror half of them."""
    side = pixels.shape[-1]
    padded = pad(pixels.float(), (by,) * 4, mode="replicate")
    offsets = torch.randint(2 * by + 1, (len(pixels), 2), generator=generator).tolist()
    out = torch.stack([p[:, y : y + side, x : x + side] for p, (x, y) in zip(padded, offsets, strict=True)])
    mirrored = torch.rand(len(out), generator=generator) < 0.5
    return torch.where(mirrored[:, None, None, None], out.flip(-1), out)


def main(out: Path = WEIGHTS, groups: int = 4, seed: int = SEED) -> None:
    """Train the small CLIP of the demonstration and write its weights to OUT."""
    losses = "epoch {} of {}: loss {:.3f}"
    weights = train(DRAWINGS, EPOCHS, groups, RATE, seed, lambda i, loss: print(losses.format(i + 1, EPOCHS, loss)))
    save_file(weights, out)


if __name__ == "__main__":
    typer.run(main)
