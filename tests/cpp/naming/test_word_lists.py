"""Lists of words that installed packages ship."""

import pytest

from cpp.naming import word_lists


@pytest.mark.parametrize(
    ("name", "least", "example"),
    [("imagenet1k", 1000, "tench"), ("coco", 80, "traffic light"), ("wordnet", 20_000, "airliner")],
)
def test_lists_are_complete(name: str, least: int, example: str) -> None:
    words = word_lists.words(name)
    assert len(words) >= least
    assert example in words
    assert all(word.strip() == word != "" for word in words)
    assert word_lists.edition(name).split()[1][0].isdigit()


def test_coco_has_80_categories_and_imagenet_1000() -> None:
    words = word_lists.words("coco")
    assert (len(words), words[0], words[-1]) == (80, "person", "toothbrush")
    assert len(set(words)) == 80
    assert len(word_lists.words("imagenet1k")) == 1000
