"""Lists of words that come with the program, which `label.vocabulary` can name instead of a file.

`photographs` is the vocabulary for photographs of any kind. Its parts are files in this package, one word a line, and
open_clip's class names. This module reads no files of a user.

Sources: `objects` was chosen from the nouns of WordNet 3.0, the other files were written for this package, see
docs/names.md; `imagenet1k` is from open_clip, after Radford et al., arXiv 2103.00020, and `coco` from torchvision.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from pathlib import Path

from cpp.naming import wordnet

PHOTOGRAPHS = "photographs"
FILES = ("objects", "people", "scenes", "actions", "materials", "styles")
LISTS = (PHOTOGRAPHS, *FILES, "imagenet1k", "wordnet", "coco")
PARTS = {PHOTOGRAPHS: ("imagenet1k", *FILES)}
FOLDER = Path(__file__).parent / "data" / "words"


def words(name: str) -> list[str]:
    """The words of a list, in order, each once. KeyError for a name that is not in `LISTS`."""
    if name in PARTS:
        return list(dict.fromkeys(word for part in PARTS[name] for word in words(part)))
    if name in FILES:
        return _file(name).read_text("utf-8").splitlines()
    if name == "wordnet":
        return wordnet.nouns()
    if name == "coco":
        from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

        categories: list[str] = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
        return [category for category in categories if category not in ("__background__", "N/A")]
    from cpp.encoding.encoder import imagenet_classes

    return {"imagenet1k": imagenet_classes}[name]()


def edition(name: str) -> str:
    """A text that changes when a list may change: the checksum of its file, or the package that ships it."""
    if name in PARTS:
        return ", ".join(edition(part) for part in PARTS[name])
    if name in FILES:
        return f"{name} {hashlib.sha256(_file(name).read_bytes()).hexdigest()[:16]}"
    package = {"imagenet1k": "open_clip_torch", "wordnet": "timm", "coco": "torchvision"}[name]
    return f"{package} {version(package)}"


def _file(name: str) -> Path:
    return FOLDER / f"{name}.txt"
