"""Lists of words that packages have."""

import pytest

from cpp.naming import word_lists


@pytest.mark.parametrize(
    ("name", "least", "some"),
    [("imagenet1k", 1000, "tench"), ("coco", 80, "traffic light"), ("wordnet", 20_000, "airliner")],
)
def test_lists_are_whole(name: str, least: int, some: str) -> None:
    words = word_lists.words(name)
    assert len(words) >= least
    assert some in words
    assert all(word.strip() == word != "" for word in words)
    assert word_lists.edition(name).split()[1][0].isdigit()


def test_cocos_categories_are_its_80() -> None:
    words = word_lists.words("coco")
    assert (len(words), words[0], words[-1]) == (80, "person", "toothbrush")
    assert len(set(words)) == 80
    assert len(word_lists.words("imagenet1k")) == 1000
