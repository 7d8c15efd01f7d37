"""What every family of models offers an encoder: the identity of its weights, and a loaded model. Knows no family."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor  # which commands that compute nothing do not load


class Transform(Protocol):
    """An image to pixels uint8 `[height, width, 3]`, which the device normalises by `mean` and `std`; hashable."""

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""

    @property
    def mean(self) -> tuple[float, float, float]: ...

    @property
    def std(self) -> tuple[float, float, float]: ...

    def __call__(self, image: Image.Image) -> NDArray[np.uint8]: ...


@dataclass(frozen=True)
class Identity:
    """An encoder: the model, the tag or file name of its weights, their SHA-256, and `pool` if it is set."""

    model: str
    pretrained: str
    sha256: str
    pool: str | None = None

    def as_dict(self) -> dict[str, str]:
        """The fields that are not None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class TextTower(NamedTuple):
    """`tokenize` gives the tokens of texts `[n, length]`, `encode` their vectors `[n, d]` on the model's device."""

    tokenize: Callable[[Sequence[str]], Tensor]
    encode: Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LoadedModel:
    """A model on its device in eval mode. `text` is None if it encodes images only.

    `encode_image` maps normalised pixels `[n, 3, height, width]`, in the dtype of the precision, to vectors `[n, d]`.
    """

    module: Any
    transform: Transform
    encode_image: Callable[[Tensor], Tensor]
    text: TextTower | None = None


class Family(Protocol):
    """The models that share a prefix of their names, as a module with these functions.

    `pool` is how the tokens of an image become one vector: "token", "mean", or None as the model was published.
    `precision` is "fp32", "bf16" or "fp16". All raise WeightsError if the model or its weights are missing or wrong.
    """

    def identity(self, model: str, pretrained: str | None) -> Identity:
        """The identity of a model with its weights, which are downloaded if necessary."""

    def weights_file(self, model: str, pretrained: str | None) -> str:
        """The path of the file of the model's weights, which is downloaded if necessary."""

    def load(self, model: str, pretrained: str | None, pool: str | None, device: str, precision: str) -> LoadedModel:
        """Load the model with its weights onto a device."""
