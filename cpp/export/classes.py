"""The classes of an export: a number, a name and a folder for each cluster of a layer. Names are untrusted text.

`classes.csv` maps a number or a folder back to the cluster and its name. Knows no images.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

LONGEST = 120  # bytes of a folder's name; file systems take 255, and archivers and other systems less
NULLS = frozenset(  # read as a missing value in a CSV by pandas, and so by `datasets`
    {"", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>"}
    | {"n/a", "na", "none", "nan", "null"}
)
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])", re.IGNORECASE)  # on Windows these are devices


class Class(NamedTuple):
    """One class. `name` is None if the cluster has no sure name; `title` is then `cluster-17`.

    `status` and `guess` are those of `clusters.parquet`; a general name is a name like any other. `number` is the place
    of the folder among the sorted folders, as in torchvision's ImageFolder. `confidence` replaces that of the images if
    the class is named by a guess in place of a general name; else it is None.
    """

    number: int
    cluster: int
    name: str | None
    status: str | None
    guess: str | None
    title: str
    folder: str
    confidence: float | None = None


def classes(
    rows: Sequence[Mapping[str, Any]], only: Collection[int] | None = None, use_guess: bool = False
) -> list[Class]:
    """The classes of a layer, by number. `rows` come from `clusters.parquet`; empty clusters are left out.

    With `use_guess` the name of a class is the guess of its cluster unless the status is `named`. Titles are unique,
    and so are folders, even on a file system that ignores case.
    """
    kept = [row for row in rows if row["size"] and (only is None or row["cluster"] in only)]
    kept = [_guessed(row) for row in kept] if use_guess else kept
    kept.sort(key=lambda row: int(row["cluster"]))
    times = Counter(row["name"] for row in kept)
    titles, folders = set[str](), set[str]()
    entries = []
    for row in kept:
        name, plain = row["name"], f"cluster-{row['cluster']}"
        title = name or plain
        if times[title] > 1 or title.strip().casefold() in NULLS:
            title = f"{title} + {plain}"
        title = _unused(title, titles)
        safe = _unused(folder(title) or plain, folders)
        entries.append(
            Class(0, row["cluster"], name, row["status"], row["guess"], title, safe, row.get("replaced_confidence"))
        )
    entries.sort(key=lambda entry: entry.folder)
    return [entry._replace(number=number) for number, entry in enumerate(entries)]


def _guessed(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row with its guess as the name; the confidences of images of an `unsure` cluster are of the guess already."""
    general = row["status"] == "general"
    if not general and row["status"] != "unsure":
        return row
    return {**row, "name": row["guess"], "replaced_confidence": row["guess_confidence"] if general else None}


def renumbered(all_classes: Sequence[Class], clusters: Collection[int]) -> tuple[Class, ...]:
    """The classes of the given clusters, numbered anew without gaps."""
    kept = (c for c in all_classes if c.cluster in clusters)
    return tuple(c._replace(number=number) for number, c in enumerate(kept))


def folder(title: str) -> str:
    """A folder name for a title that is valid and visible on every file system; empty if no character is left.

    Letters, marks and digits of every script, spaces and `-_()',&+` stay; all others, dots and slashes too, become `_`.
    """
    text = unicodedata.normalize("NFC", title)
    text = "".join(c if c in " -_()',&+" or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    text = text.encode()[:LONGEST].decode(errors="ignore").rstrip(" ").lstrip(" -")
    if not text.strip("_ "):
        return ""
    return f"{text}_" if RESERVED.fullmatch(text) else text


def _unused(text: str, taken: set[str]) -> str:
    """The text, with a number if it is taken already; it is added to `taken`."""
    unused, times = text, 1
    while (same := unicodedata.normalize("NFKC", unused).casefold()) in taken:
        times += 1
        unused = f"{text} {times}"
    taken.add(same)
    return unused
