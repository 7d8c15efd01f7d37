"""Lists of words that installed packages ship, which `label.vocabulary` can name instead of a file.

This module reads no files of a user.
"""

from __future__ import annotations

from importlib.metadata import version

from cpp.naming import wordnet

LISTS = {"imagenet1k": "open_clip_torch", "wordnet": "timm", "coco": "torchvision"}  # the package that ships each list


def words(name: str) -> list[str]:
    """The 1,000 ImageNet classes of open_clip, the nouns of WordNet, or the 80 categories of torchvision's detectors.

    KeyError for a name that is not in `LISTS`.
    """
    if name == "wordnet":
        return wordnet.nouns()
    if name == "coco":
        from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

        categories: list[str] = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return [category for category in categories if category not in ("__background__", "N/A")]
    from cpp.encoding.encoder import imagenet_classes

    return {"imagenet1k": imagenet_classes}[name]()


def edition(name: str) -> str:
    """The package that ships a list, and its version: the list changes only with these."""
    return f"{LISTS[name]} {version(LISTS[name])}"
