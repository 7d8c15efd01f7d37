"""Checks from both ends of a file that it is complete: a crash of the machine or a bad copy can truncate it."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from cpp.files import filesystem

PARQUET, TAIL = b"PAR1", 64


def damage(path: str) -> str | None:
    """The damage of a local or remote file, or None; kinds without a recognizable end always pass."""
    try:
        with filesystem.open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = bytes(file.read(8))
            file.seek(max(0, size - TAIL))
            tail = bytes(file.read(TAIL))
            match PurePosixPath(path).suffix:
                case ".parquet":
                    complete = size > 12 and head.startswith(PARQUET) and tail.endswith(PARQUET)
                case ".safetensors":
                    file.seek(8)
                    length = int.from_bytes(head, "little")
                    complete = 8 + length <= size and _arrays_end(bytes(file.read(length))) == size - 8 - length
                case ".json":
                    complete = tail.rstrip().endswith((b"}", b"]"))
                case ".html":
                    complete = tail.rstrip().endswith(b"</html>")
                case _:
                    complete = True
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    return None if complete else f"it is cut off or overwritten, at {size:,} bytes"


def _arrays_end(header: bytes) -> int:
    """The offset at which the last array of a safetensors file ends."""
    arrays = (entry for name, entry in json.loads(header).items() if name != "__metadata__")
    return max((entry["data_offsets"][1] for entry in arrays), default=0)
