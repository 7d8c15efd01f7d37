"""Accepted names of the classes of a data set: a JSON file such as {"cup": ["mug", "teacup"], "yin_yang": []}.

An empty list says that no word is right for the class, so that silence is. The lists are used for scoring only.
Knows no clusters and no names of clusters.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping

from cpp.files import filesystem
from cpp.naming import wordnet

Accepted = Mapping[str, frozenset[str]]  # normal form of a class -> normal forms of its accepted names
NO_LISTS: Accepted = {}


def accepted_names(lists: Mapping[str, Collection[str]]) -> Accepted:
    """Accepted names by class, both in normal form: "Sea_Horses" and "sea horse" are one class."""
    return {wordnet.normal(kind): frozenset(map(wordnet.normal, names)) - {""} for kind, names in lists.items()}


def read_accepted(path: str) -> Accepted:
    """Read a file of accepted names. ValueError, with the fix, if it does not map classes to lists of texts."""
    example = 'write {"class": ["name", ...], ...}, with [] for a class that no word is right for'
    try:
        with filesystem.open_file(path) as file:
            content = json.loads(file.read().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ValueError(f"the file {path} does not exist") from None
    except ValueError as error:  # neither UTF-8 nor JSON
        raise ValueError(f"{path} is not JSON in UTF-8 ({error}): {example}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} holds a {type(content).__name__}, not classes with their names: {example}")
    for kind, names in content.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"{path}: the value of {kind!r} is {names!r}, not a list of texts: {example}")
    return accepted_names(content)


def check_classes(accepted: Accepted, classes: Iterable[str]) -> None:
    """ValueError if there are lists for classes that no image has."""
    existing = {wordnet.normal(kind): kind for kind in classes}
    if unknown := sorted(accepted.keys() - existing.keys()):
        raise ValueError(
            f"no image has the class {unknown[0]!r}"
            + (f" ({len(unknown)} such classes)" if len(unknown) > 1 else "")
            + f": correct or remove it; the classes are {', '.join(sorted(existing.values())[:10])}"
            + (" ..." if len(existing) > 10 else "")
        )
