"""Counts the files of an input that are left out, by reason, and recognises results of runs, which are no inputs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable

from cpp.files import filesystem

HIDDEN = "hidden (the name begins with a dot)"
SYSTEM = "folder of a system, with no pictures of yours"
RESULT = "result of a run or an export"
LISTED = "link to a folder that is listed already"
LINK = "broken link"
REPEATED = "another path of a file that is named already"
SPECIAL = "pipe or device"
FOLDER = "folder with the name of a file"
SUB_FOLDER = "sub-folder, which images.path must name too"
NO_PICTURE = "no picture"
NO_ROWS = "table without rows"
UNREADABLE_NAME = "no picture, and its name is not UTF-8"

SHOWN = 8  # reasons that are listed

SYSTEM_FOLDERS = {"lost+found", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "@eaDir", "#recycle"}

_RECORDS = ("run.json", "events.jsonl")  # of a run, in its folder
_RUN_FOLDERS = {"cache", "export", "appended", "failed"}  # besides those of its products, which are in `cache` too
_EXPORT = "export.json"


class FileCounts:
    """The number of `files` of an input, and of those `ignored` by reason, with the `first` for each reason.

    A folder that is ignored counts as one file.
    """

    def __init__(self) -> None:
        self.files = 0
        self.ignored = Counter[str]()
        self.first: dict[str, str] = {}

    @property
    def used(self) -> int:
        """The number of files that are not ignored."""
        return self.files - self.ignored.total()

    def ignore(self, reason: str, path: str) -> None:
        """Count a file or folder that is left out."""
        reason, path = (text.encode(errors="backslashreplace").decode() for text in (reason, path))
        self.files += 1
        self.ignored[reason] += 1
        self.first.setdefault(reason, path)

    def lines(self) -> list[str]:
        """A line for each of the most frequent reasons, with the first file, and one for the number of the others."""
        shown = self.ignored.most_common(SHOWN)
        lines = [f"ignored: {n:,} x {reason}; the first is {self.first[reason]}" for reason, n in shown]
        more = self.ignored.total() - sum(n for _, n in shown)
        return [*lines, f"ignored: {more:,} more, for {len(self.ignored) - SHOWN:,} other reasons"] if more else lines


def is_result(folder: str, exists: Callable[[str], bool]) -> bool:
    """Whether a run or an export wrote this folder; `exists` tells whether a path exists."""
    parent, _, name = folder.rpartition("/")
    if all(exists(f"{parent}/{record}") for record in _RECORDS):
        return name in _RUN_FOLDERS or exists(f"{parent}/cache/{name}")
    return exists(f"{folder}/{_EXPORT}") and _is_export(f"{folder}/{_EXPORT}")


def _is_export(path: str) -> bool:
    try:
        with filesystem.open_file(path) as file:
            record = json.loads(file.read(1 << 20))
    except (OSError, ValueError):
        return False
    return isinstance(record, dict) and {"state", "format"} <= record.keys()
