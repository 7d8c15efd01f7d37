"""The classes of an export: a number, a name and a folder for each cluster of a layer. Names are untrusted text.

`classes.csv` leads back from a number or a folder to the cluster and its name. Knows no images.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

LONGEST = 120  # bytes of a folder's name; file systems take 255, and archivers and other systems less
NULLS = frozenset(  # what pandas, and with it `datasets`, takes for a missing value in a CSV
    {"", "#n/a", "#n/a n/a", "#na", "-1.#ind", "-1.#qnan", "-nan", "1.#ind", "1.#qnan", "<na>"}
    | {"n/a", "na", "none", "nan", "null"}
)
RESERVED = re.compile(r"(con|prn|aux|nul|(com|lpt)[0-9¹²³])", re.IGNORECASE)  # on Windows these are devices


class Class(NamedTuple):
    """One class. `name` is None where the cluster has none that is sure; `title` is then `cluster-17`.

    `number` counts the folders in the order in which `sorted` has them, as torchvision's ImageFolder does.
    """

    number: int
    cluster: int
    name: str | None
    title: str
    folder: str


def classes(rows: Sequence[Mapping[str, Any]], only: frozenset[int] | None = None) -> list[Class]:
    """The classes of a layer, by number. `rows` are those of `clusters.parquet`; empty clusters are left out.

    Titles are unique, and so are folders, even on a disk that does not tell `a` from `A`.
    """
    kept = [row for row in rows if row["size"] and (only is None or row["cluster"] in only)]
    kept.sort(key=lambda row: int(row["cluster"]))
    times = Counter(row["name"] for row in kept)
    titles, folders = set[str](), set[str]()
    found = []
    for row in kept:
        name, plain = row["name"], f"cluster-{row['cluster']}"
        title = name or plain
        if times[title] > 1 or title.strip().casefold() in NULLS:
            title = f"{title} ({plain})"
        title = _unused(title, titles)
        found.append((row["cluster"], name, title, _unused(folder(title) or plain, folders)))
    found.sort(key=lambda entry: entry[3])
    return [Class(number, *entry) for number, entry in enumerate(found)]


def renumbered(found: Sequence[Class], clusters: frozenset[int]) -> tuple[Class, ...]:
    """Those classes that are of one of the clusters, numbered again without gaps."""
    kept = (c for c in found if c.cluster in clusters)
    return tuple(c._replace(number=number) for number, c in enumerate(kept))


def folder(title: str) -> str:
    """A name that is one visible folder on every file system, as like the title as can be; empty where nothing is left.

    Letters, marks and numbers of every script, spaces and `-_()',&+` stay; dots and slashes are among what becomes `_`.
    """
    text = unicodedata.normalize("NFC", title)
    text = "".join(c if c in " -_()',&+" or unicodedata.category(c)[0] in "LMN" else "_" for c in text)
    text = text.encode()[:LONGEST].decode(errors="ignore").rstrip(" ").lstrip(" -")
    if not text.strip("_ "):
        return ""
    return f"{text}_" if RESERVED.fullmatch(text) else text


def _unused(text: str, taken: set[str]) -> str:
    """The text, with a number where it is taken already; then it is taken."""
    unused, times = text, 1
    while (same := unicodedata.normalize("NFKC", unused).casefold()) in taken:
        times += 1
        unused = f"{text} {times}"
    taken.add(same)
    return unused
