"""Lists of words that installed packages ship, which `label.vocabulary` can name instead of a file.

This module reads no files of a user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version

from cpp.naming import wordnet


def imagenet1k() -> list[str]:
    """open_clip's names of the 1,000 ImageNet classes."""
    from cpp.encoding.encoder import imagenet_classes

    return imagenet_classes()


def coco() -> list[str]:
    """The 80 categories of COCO, as in torchvision's detectors."""
    from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

    named: list[str] = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return [name for name in named if name not in ("__background__", "N/A")]


LISTS: Mapping[str, tuple[Callable[[], list[str]], str]] = {
    "imagenet1k": (imagenet1k, "open_clip_torch"),
    "wordnet": (wordnet.nouns, "timm"),
    "coco": (coco, "torchvision"),
}  # by name: the function that returns it, and the package that ships it


def words(name: str) -> list[str]:
    """The words of a list. KeyError for a name that is not in `LISTS`."""
    return LISTS[name][0]()


def edition(name: str) -> str:
    """The package that ships a list, and its version: the list changes only with these."""
    package = LISTS[name][1]
    return f"{package} {version(package)}"
