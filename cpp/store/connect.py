"""Opens the store of a run folder by its path or address."""

from __future__ import annotations

from pathlib import Path

from cpp.files import filesystem
from cpp.store.local import Store
from cpp.store.object_store import Bucket


def open_store(root: str) -> Store:
    """The store at a path of a local disk, or at the address of a folder in a bucket."""
    return Bucket(root) if filesystem.is_remote(root) else Store(Path(root))
