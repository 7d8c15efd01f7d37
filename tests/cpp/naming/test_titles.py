"""The text that stands for a cluster, and the forms of unique names."""

import pytest
import yaml

from cpp.export.classes import folder
from cpp.naming.titles import numbered, title, with_addition


@pytest.mark.parametrize(
    ("name", "guess", "status", "expected"),
    [
        ("leopard", "leopard", "named", "leopard"),
        ("leopard + cub", "leopard", "named", "leopard + cub"),
        ("bird", "lorikeet", "general", "bird · lorikeet?"),
        ("bird 2", "lorikeet", "general", "bird 2 · lorikeet?"),
        (None, "lorikeet", "unsure", "lorikeet?"),
        (None, None, "unsure", "cluster 7"),
        (None, None, None, "cluster 7"),
    ],
)
def test_a_title_says_what_is_sure_and_what_is_guessed(
    name: str | None, guess: str | None, status: str | None, expected: str
) -> None:
    assert title(name, guess, status, "cluster 7") == expected


def test_parts_say_more_than_a_guess_and_less_than_a_name() -> None:
    parts = ["leopard", "flamingo", "bonsai"]
    assert title(None, "lycaenid", "unsure", "cluster 7", parts) == "leopard, flamingo, bonsai"
    assert title(None, "lycaenid", "unsure", "cluster 7", [*parts, "anchor"]) == "leopard, flamingo, bonsai …"
    assert title(None, "lycaenid", "unsure", "cluster 7", [None, "bonsai"]) == "bonsai …"
    assert title(None, "lycaenid", "unsure", "cluster 7", [None]) == "lycaenid?"
    assert title("animal", "lycaenid", "general", "cluster 7", parts[:2]) == "animal · leopard, flamingo"
    assert title("cat", "cat", "named", "cluster 7", parts) == "cat"


@pytest.mark.parametrize("name", [with_addition("pitcher (vessel for liquid)", "glass"), numbered("airliner", 2)])
def test_unique_names_are_plain_in_csv_and_yaml(name: str) -> None:
    assert yaml.safe_load(f"- {name}") == [name]
    assert not set(name) & set(',";\n')


def test_unique_names_are_folders_as_they_are() -> None:
    assert folder(with_addition("airliner", "propeller")) == "airliner + propeller"
    assert folder(numbered("airliner", 2)) == "airliner 2"
