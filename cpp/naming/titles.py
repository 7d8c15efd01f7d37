"""The text that stands for a cluster wherever people see it, and the forms that names are made of.

The forms are safe in file names, CSV and YAML. Brackets are left to vocabularies, which mark the sense of a word with
them: "pitcher (vessel for liquid)". This module reads no files.
"""

from __future__ import annotations

from collections.abc import Sequence

PARTS = 3  # parts of a coarse cluster that its title lists


def title(
    name: str | None, guess: str | None, status: str | None, otherwise: str, parts: Sequence[str | None] = ()
) -> str:
    """The title of a cluster with this name, guess and status (`cpp.naming.names.Name`).

    It is `leopard` if it is named, `bird · lorikeet?` if only the general word is sure, `lorikeet?` if nothing is. The
    sure names of the `parts` of a coarse cluster, the largest first, say more than its guess: `animal · cat, owl …`.
    A part is None if it has no sure name. A cluster without a guess has the title `otherwise`.
    """
    if name and status != "general":
        return name
    sure = [part for part in parts if part][:PARTS]
    listed = ", ".join(sure) + (" …" if sure and len(parts) > len(sure) else "")
    doubtful = listed or (f"{guess}?" if guess else "")
    return " · ".join(filter(None, (name, doubtful))) or otherwise


def with_addition(name: str, word: str) -> str:
    """A name with a word that tells its cluster apart from others of the name."""
    return f"{name} + {word}"


def numbered(name: str, number: int) -> str:
    """A name with a number that tells its cluster apart from others of the name."""
    return f"{name} {number}"
