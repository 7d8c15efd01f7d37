"""The run folder on two kinds of object stores."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cpp.files import filesystem
from cpp.store.local import Store
from cpp.store.object_store import open_store


@pytest.fixture(params=["s3", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "s3":
        request.getfixturevalue("s3")
    made = open_store(f"{request.param}://bucket/run")
    yield made
    if request.param == "memory":
        filesystem.connect("memory://bucket")[0].rm("/bucket", recursive=True)
