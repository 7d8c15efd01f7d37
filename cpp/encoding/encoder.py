"""Images and words -> unit vectors, by any model of open_clip. The one door to open_clip.

Knows nothing of files of images, of shards or of clusters.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import json
import os
import urllib.error
import urllib.request
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub as hub
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip import factory, zero_shot_metadata
from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME
from torch.nn.functional import normalize

from cpp.encoding.images import Preprocess
from cpp.encoding.weights import SUFFIXES, WeightsError, sha256
from cpp.files.iterables import batched

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
PROBE = 10.0  # seconds to wait for a server that should have the weights
HOW = "or set encode.pretrained to the path of a file of weights (.safetensors, or .pt with a state dict)"

Template = str | Callable[[str], str]


@dataclass(frozen=True)
class Identity:
    """What vectors were made with: the model, the tag or file name of its weights, and the SHA-256 of those."""

    model: str
    pretrained: str
    sha256: str


@functools.cache
def register(path: str) -> None:
    """Make the models of a JSON file, or of all in a folder, known by their file names. ValueError for other files."""
    files = sorted(Path(path).glob("*.json")) if Path(path).is_dir() else [Path(path)]
    if not files:
        raise ValueError(f"the folder {path} has no .json files with configurations of models")
    for file in files:
        try:
            missing = {"embed_dim", "vision_cfg", "text_cfg"} - json.loads(file.read_text()).keys()
        except (OSError, ValueError, AttributeError) as error:
            raise ValueError(f"{file} is not the configuration of a model: {error}") from error
        if missing:
            raise ValueError(f"{file} is not the configuration of a model: it lacks {', '.join(sorted(missing))}")
    open_clip.add_model_config(Path(path))


def check(model: str, pretrained: str | None) -> str:
    """The file of the weights on this machine, fetched if need be. WeightsError where they cannot be had.

    `model` is a name that open_clip knows, with a tag or a file as `pretrained`; or `hf-hub:ORGANISATION/NAME` or
    `local-dir:FOLDER`, which have their own weights. It waits for a server that does not answer for seconds only.
    """
    kind, name = factory.parse_model_name(model)
    if kind == "local-dir":
        return _folder_weights(name)
    if kind == "hf-hub":
        return _from_hub(model, None, f"{name}/")
    if open_clip.get_model_config(name.replace("/", "-")) is None:
        near = difflib.get_close_matches(name, open_clip.list_models(), 5, 0.4)
        raise WeightsError(
            f"encode.model is {model!r}, which open_clip does not know; the nearest are {', '.join(near) or 'none'}: "
            "take one of open_clip.list_models(), or name a folder of configurations in encode.configs"
        )
    if not pretrained:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise WeightsError(f"encode.pretrained is empty: take a tag of {model} ({tags}), {HOW}")
    config = open_clip.get_pretrained_cfg(name.replace("/", "-"), pretrained)
    if not config:
        return _file(model, pretrained)
    if config.get("hf_hub"):
        return _from_hub(model, pretrained, config["hf_hub"])
    kept = Path("~/.cache/clip").expanduser() / config["url"].rpartition("/")[2]
    return str(kept) if kept.is_file() else _fetched(model, pretrained, config["url"], config)


def identity(model: str, pretrained: str | None) -> Identity:
    """What identifies the vectors that this model makes; equal weights in files of different kinds are equal."""
    path = Path(check(model, pretrained))
    known = bool(pretrained) and open_clip.is_pretrained_cfg(model.replace("/", "-"), pretrained)
    return Identity(model, str(pretrained) if known else path.name, sha256(str(path)))


def templates(which: str | Sequence[str]) -> Sequence[Template]:
    """A set of open_clip's templates by name (`openai_imagenet`, `simple_imagenet`), or texts with one `{}` each."""
    if isinstance(which, str):
        sets = {name.lower(): value for name, value in vars(zero_shot_metadata).items() if name.endswith("_TEMPLATES")}
        if f"{which}_templates" not in sets:
            known = ", ".join(name.removesuffix("_templates") for name in sets)
            raise ValueError(f"templates is {which!r}, it must be one of {known}, or a list of texts")
        return tuple(sets[f"{which}_templates"])
    if not which:
        raise ValueError('templates is empty, it must have at least one text, such as "a photo of a {}."')
    if wrong := [text for text in which if text.count("{}") != 1]:
        raise ValueError(f"the template {wrong[0]!r} must have one {{}}, where the word goes")
    return tuple(which)


def said_by(texts: Sequence[Template]) -> list[str]:
    """What identifies a set of templates: each of them, filled with `{}`."""
    return [text if isinstance(text, str) else text("{}") for text in texts]


def imagenet_classes() -> list[str]:
    """open_clip's names of the 1,000 classes of ImageNet, in their order."""
    return list(zero_shot_metadata.IMAGENET_CLASSNAMES)


class Encoder:
    """A model on a device, ready to encode to `dim` dimensions. `preprocess` is the transform that its images need."""

    def __init__(self, model: str, pretrained: str | None, device: str, precision: str, compiled: bool = False) -> None:
        """`precision` is fp32, bf16, or fp16 (not on a CPU). ValueError for another, WeightsError for the weights."""
        if precision not in PRECISIONS or (precision == "fp16" and device == "cpu"):
            raise ValueError(f"encode.precision is {precision!r} on {device}, it must be fp32, bf16, or on a GPU fp16")
        self.identity = identity(model, pretrained)
        self.device, self.dtype = torch.device(device), PRECISIONS[precision]
        self.model = _load(model, pretrained, device, precision)
        self.preprocess = _preprocess(self.model.visual.preprocess_cfg)
        self._name = model
        self._encode = torch.compile(self.model.encode_image) if compiled else self.model.encode_image
        self._mean = torch.tensor(self.preprocess.mean, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(self.preprocess.std, device=self.device).view(3, 1, 1)
        self.dim: int = self.begin([np.zeros((*self.preprocess.size, 3), np.uint8)])().shape[1]

    @torch.inference_mode()
    def begin(self, rows: Sequence[NDArray[np.uint8]]) -> Callable[[], NDArray[np.float16]]:
        """Encode pixels `[height, width, 3]` as `preprocess` makes them: starts the device, and what it returns waits.

        The result is unit vectors `[n, d]`, float16; a row is not finite where the precision does not suffice.
        """
        on_gpu = self.device.type == "cuda"
        batch = torch.empty((len(rows), *rows[0].shape), dtype=torch.uint8, pin_memory=on_gpu)
        np.stack(rows, out=batch.numpy())
        pixels = batch.to(self.device, non_blocking=True).permute(0, 3, 1, 2).contiguous().float()
        pixels = pixels.div_(255).sub_(self._mean).div_(self._std)
        vectors = normalize(self._encode(pixels.to(self.dtype)).float()).half()
        if not on_gpu:
            return vectors.numpy
        result = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
        result.copy_(vectors, non_blocking=True)
        done = torch.cuda.Event()
        done.record()

        def wait() -> NDArray[np.float16]:
            done.synchronize()
            return result.numpy()

        return wait

    @torch.inference_mode()
    def words(self, words: Sequence[str], texts: Sequence[Template], batch: int) -> NDArray[np.float16]:
        """Unit vectors `[n, d]`, float16: the normalised mean over the templates of the unit vectors of their texts.

        As `open_clip.build_zero_shot_classifier`, but the mean is taken in float32 whatever the precision. Every batch
        is of one size: the vector of a word must not depend on the words beside it.
        """
        tokenizer = _tokenizer(self._name)
        parts, size = [], max(1, batch // len(texts))
        for part in batched(words, size):
            some = [*part, *part[:1] * (size - len(part))]
            filled = [text.format(word) if isinstance(text, str) else text(word) for word in some for text in texts]
            tokens = tokenizer(filled).to(self.device)
            rows = torch.cat([normalize(self.model.encode_text(rows).float()) for rows in tokens.split(batch)])
            vectors = normalize(rows.reshape(size, len(texts), -1).mean(1)).half().cpu().numpy()
            parts.append(vectors[: len(part)])
        return np.concatenate(parts)


def encode(
    encoders: Sequence[Encoder], images: Iterable[Sequence[NDArray[np.uint8]]], batch: int
) -> Iterator[tuple[NDArray[np.float16], ...]]:
    """Unit vectors of a stream of images, batch by batch, in order: for each encoder `[n, d]`, float16.

    An image comes as the pixels for each encoder (`cpp.encoding.images.prepare`). The next batch is collected, and
    begun, while
    the device works on the last.
    """
    begun: deque[list[Callable[[], NDArray[np.float16]]]] = deque()
    for rows in batched(images, batch):
        begun.append([encoder.begin([row[i] for row in rows]) for i, encoder in enumerate(encoders)])
        if len(begun) > 1:
            yield tuple(result() for result in begun.popleft())
    while begun:
        yield tuple(result() for result in begun.popleft())


def _load(model: str, pretrained: str | None, device: str, precision: str) -> Any:
    path = check(model, pretrained)
    kind, name = factory.parse_model_name(model)
    settings: dict[str, Any] = {"require_pretrained": True}
    if kind is None:
        settings |= {"pretrained": path, **_as_trained(name.replace("/", "-"), str(pretrained))}
    try:
        loaded = open_clip.create_model(model, precision=precision, device=device, **settings)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # open_clip fails in many ways on weights of another model
        raise WeightsError(f"{path} does not load as weights of {model}: {str(error)[:500]}") from error
    return loaded.eval().requires_grad_(False)


def _as_trained(name: str, pretrained: str) -> dict[str, Any]:
    """Transform and activation that the weights were trained with, where open_clip's table says.

    A file has no entry there; it takes the transform on which all tags of the model agree (SigLIP's is not CLIP's).
    open_clip only warns of weights whose activation (QuickGELU) is not the configuration's; the vectors would be wrong.
    """
    keys = ("mean", "std", "interpolation", "resize_mode")
    entry = open_clip.get_pretrained_cfg(name, pretrained)
    tags = [open_clip.get_pretrained_cfg(name, tag) for tag in open_clip.list_pretrained_tags_by_model(name)]
    if not entry:
        transforms = [{key: tag[key] for key in keys if key in tag} for tag in tags]
        agreed = transforms and all(transform == transforms[0] for transform in transforms)
        return {"force_preprocess_cfg": transforms[0]} if agreed else {}
    transform = {key: entry[key] for key in keys if key in entry}
    return {"force_preprocess_cfg": transform, "quick_gelu": bool(entry.get("quick_gelu", False))}


def _preprocess(config: dict[str, Any]) -> Preprocess:
    def triple(value: Any) -> Any:
        return tuple(value) if isinstance(value, list | tuple) else (value,) * 3

    size = config["size"]
    return Preprocess(
        tuple(size) if isinstance(size, list | tuple) else (size, size),
        triple(config["mean"]),
        triple(config["std"]),
        config["interpolation"],
        config["resize_mode"],
        config["fill_color"],
    )


def _tokenizer(model: str) -> Any:
    try:
        return open_clip.get_tokenizer(model)
    except ImportError as error:
        raise WeightsError(f"the tokenizer of {model} needs a package that is not installed: {error}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"the tokenizer of {model} cannot be had: {str(error)[:500]}") from error


def _file(model: str, pretrained: str) -> str:
    if Path(pretrained).suffix in SUFFIXES and Path(pretrained).is_file():
        return pretrained
    tags = open_clip.list_pretrained_tags_by_model(model)
    near = difflib.get_close_matches(pretrained, tags, 3, 0.4) or tags
    others = open_clip.list_pretrained_models_by_tag(pretrained)[:5]
    of_others = f" ({pretrained} is a tag of {', '.join(others)})" if others else ""
    raise WeightsError(
        f"encode.pretrained is {pretrained!r}, which is neither a tag of {model} nor a file{of_others}: "
        f"take a tag (the nearest: {', '.join(near) or 'none'}), {HOW}"
    )


def _folder_weights(folder: str) -> str:
    if not (Path(folder) / "open_clip_config.json").is_file():
        raise WeightsError(f"encode.model: the folder {folder} has no open_clip_config.json")
    path = factory._find_checkpoint_in_dir(Path(folder))  # what create_model takes
    if path is None:
        raise WeightsError(f"encode.model: the folder {folder} has no weights (open_clip_model.safetensors)")
    return str(path)


def _from_hub(model: str, pretrained: str | None, where: str) -> str:
    """Weights at `ORGANISATION/NAME/FILE` (no FILE: open_clip's own name), from the cache where they are in it."""
    repository, file = os.path.split(where)
    names = [file.rpartition(".")[0] + ".safetensors", file] if file else [HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME]
    kept = (hub.try_to_load_from_cache(repository, name) for name in names)
    path = next((path for path in kept if isinstance(path, str)), None)
    return path or _fetched(model, pretrained, hub.hf_hub_url(repository, names[-1]), {"hf_hub": where})


def _fetched(model: str, pretrained: str | None, url: str, config: dict[str, Any]) -> str:
    try:
        if hub.constants.HF_HUB_OFFLINE:
            raise OSError("HF_HUB_OFFLINE is set")
        with contextlib.suppress(urllib.error.HTTPError):  # then it is there; what it lacks, the download will say
            request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - https, from open_clip's table
            urllib.request.urlopen(request, timeout=PROBE).close()  # noqa: S310
        return str(open_clip.download_pretrained(config))
    except Exception as error:  # of open_clip, huggingface_hub and urllib
        near = difflib.get_close_matches(str(pretrained), open_clip.list_pretrained_tags_by_model(model), 5, 0.0)
        raise WeightsError(
            f"the weights of {model}, pretrained {pretrained!r}, are not on this machine and cannot be downloaded "
            f"({str(error)[:300]}): connect this machine once, {HOW}. Other tags: {', '.join(near) or 'none'}"
        ) from error
