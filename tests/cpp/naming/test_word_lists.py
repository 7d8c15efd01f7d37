"""Lists of words that come with the program."""

import shutil
from pathlib import Path

import pytest

from cpp.naming import word_lists


@pytest.mark.parametrize(
    ("name", "least", "example"),
    [
        ("imagenet1k", 1000, "tench"),
        ("coco", 80, "traffic light"),
        ("wordnet", 20_000, "airliner"),
        ("objects", 6000, "alarm clock"),
        ("people", 150, "firefighter"),
        ("scenes", 300, "coral reef"),
        ("actions", 300, "playing football"),
        ("materials", 150, "brick wall"),
        ("styles", 150, "watercolour painting"),
    ],
)
def test_lists_are_complete(name: str, least: int, example: str) -> None:
    words = word_lists.words(name)
    assert len(words) >= least
    assert example in words
    assert all(word.strip() == word != "" for word in words)
    assert len(set(words)) == len(words) or name == "imagenet1k"  # which has two classes "missile"
    assert word_lists.edition(name)


def test_coco_has_80_categories_and_imagenet_1000() -> None:
    words = word_lists.words("coco")
    assert (len(words), words[0], words[-1]) == (80, "person", "toothbrush")
    assert len(set(words)) == 80
    assert len(word_lists.words("imagenet1k")) == 1000


def test_photographs_have_the_words_of_all_parts_once() -> None:
    words = word_lists.words("photographs")
    assert {*words} == {word for part in ("imagenet1k", *word_lists.FILES) for word in word_lists.words(part)}
    assert 8000 < len(words) == len(set(words)) < 12_000


def test_an_edition_changes_with_a_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = {name: word_lists.edition(name) for name in ("photographs", "scenes", "people")}
    shutil.copytree(word_lists.FOLDER, tmp_path, dirs_exist_ok=True)
    (tmp_path / "scenes.txt").write_text("harbour\n")
    monkeypatch.setattr(word_lists, "FOLDER", tmp_path)
    changed = {name for name in before if word_lists.edition(name) != before[name]}
    assert changed == {"photographs", "scenes"}
