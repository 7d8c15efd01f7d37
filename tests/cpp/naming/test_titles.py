"""The text that stands for a cluster."""

import pytest

from cpp.naming.titles import row_title


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"name": "cat", "top": [{"word": "cat"}]}, "cat"),
        ({"name": None, "top": [{"word": "dog"}, {"word": "cat"}]}, "dog?"),
        ({"name": None, "top": []}, "cluster 7"),
        ({}, "cluster 7"),
    ],
)
def test_a_title_is_the_name_or_the_guess_or_the_number(row: dict[str, object], expected: str) -> None:
    assert row_title({"cluster": 7, **row}) == expected


def test_the_title_without_names_can_be_chosen() -> None:
    assert row_title({"cluster": 7, "top": None}, "") == ""
