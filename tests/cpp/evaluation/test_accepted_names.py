"""Lists of accepted names: reading them, and errors that say what to change."""

from pathlib import Path

import pytest

from cpp.evaluation.accepted_names import accepted_names, check_classes, read_accepted


def test_classes_and_names_are_compared_in_normal_form(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('\ufeff{"Sea_Horses": ["Seahorse", "FISHES", " "], "brain": []}', "utf-8")
    accepted = read_accepted(str(tmp_path / "names.json"))
    assert accepted == {"sea horse": {"seahorse", "fish"}, "brain": frozenset()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cup: mug", 'names.json is not JSON in UTF-8 .*: write {"class"'),
        (b"\xff\xfe\xff", "names.json is not JSON in UTF-8"),
        ('["mug"]', "names.json holds a list, not classes with their names: write"),
        ('{"cup": "mug"}', "names.json: the value of 'cup' is 'mug', not a list of texts: write"),
        ('{"cup": ["mug", 3]}', r"names.json: the value of 'cup' is \['mug', 3\], not a list of texts"),
    ],
)
def test_a_bad_file_is_an_error_with_the_fix(tmp_path: Path, content: str | bytes, message: str) -> None:
    (tmp_path / "names.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        read_accepted(str(tmp_path / "names.json"))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the file .*gone.json does not exist"):
        read_accepted(str(tmp_path / "gone.json"))


def test_a_list_for_a_class_without_images_is_an_error() -> None:
    accepted = accepted_names({"cup": ["mug"], "cat": [], "dog": []})
    check_classes(accepted, ["Cups", "cat", "dog", "horse"])
    with pytest.raises(
        ValueError, match=r"no image has the class 'cup' \(2 such classes\): .* classes are cats, horse$"
    ):
        check_classes(accepted, ["cats", "horse"])
