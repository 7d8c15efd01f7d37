"""Whether a file of a run is whole, from its ends: a crash of the machine or a bad copy can cut off one that was."""

from __future__ import annotations

import json
from pathlib import PurePosixPath

from cpp.files import filesystem

PARQUET, TAIL = b"PAR1", 64


def damage(path: str) -> str | None:
    """What is wrong with a file, None where nothing is or its kind has no ends to tell by. It may be remote."""
    try:
        with filesystem.open_file(path) as file:
            size = file.seek(0, 2)
            file.seek(0)
            head = bytes(file.read(8))
            file.seek(max(0, size - TAIL))
            tail = bytes(file.read(TAIL))
            match PurePosixPath(path).suffix:
                case ".parquet":
                    whole = size > 12 and head.startswith(PARQUET) and tail.endswith(PARQUET)
                case ".safetensors":
                    file.seek(8)
                    length = int.from_bytes(head, "little")
                    whole = 8 + length <= size and _arrays_end(bytes(file.read(length))) == size - 8 - length
                case ".json":
                    whole = tail.rstrip().endswith((b"}", b"]"))
                case ".html":
                    whole = tail.rstrip().endswith(b"</html>")
                case _:
                    whole = True
    except (OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    return None if whole else f"it is cut off or overwritten, at {size:,} bytes"


def _arrays_end(header: bytes) -> int:
    """Where the last array of a safetensors file ends."""
    return max(
        (about["data_offsets"][1] for name, about in json.loads(header).items() if name != "__metadata__"), default=0
    )
