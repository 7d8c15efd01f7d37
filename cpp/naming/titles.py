"""The text that stands for a cluster wherever people see it, and the forms that names are made of.

The forms are safe in file names, CSV and YAML. Brackets are left to vocabularies, which mark the sense of a word with
them: "pitcher (vessel for liquid)". This module reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence

PARTS = 3  # parts of a coarse cluster that its title lists


def title(name: str | None, guess: str | None, status: str | None, otherwise: str, parts: Sequence[str] = ()) -> str:
    """The title of a cluster with this name, guess and status (`cpp.naming.names.Name`).

    It is `leopard` if it is named, `bird · lorikeet?` if only the general word is sure, `lorikeet?` if nothing is. The
    names of the `parts` of a coarse cluster, the largest first, say more than its guess: `animal · leopard, flamingo`.
    A cluster without a guess has the title `otherwise`.
    """
    if name and status != "general":
        return name
    listed = ", ".join(parts[:PARTS]) + (" …" if len(parts) > PARTS else "")
    doubtful = listed or (f"{guess}?" if guess else "")
    return " · ".join(filter(None, (name, doubtful))) or otherwise


def with_addition(name: str, word: str) -> str:
    """A name with a word that tells its cluster apart from others of the name."""
    return f"{name} + {word}"


def numbered(name: str, number: int) -> str:
    """A name with a number that tells its cluster apart from others of the name."""
    return f"{name} {number}"
