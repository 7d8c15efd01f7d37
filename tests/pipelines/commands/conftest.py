"""Fixtures of the tests of commands: finished runs to export."""

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.datasets import Dataset, write_dataset
from tests.support.exports import finish


@pytest.fixture(scope="session")
def finished_once(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return finish(write_dataset(tmp_path_factory.mktemp("once")))


@pytest.fixture
def done(finished_once: Dataset, tmp_path: Path) -> Dataset:
    """A finished run of three shards, not to be changed, and a folder of the test's own."""
    return replace(finished_once, folder=tmp_path)


@pytest.fixture
def mine(dataset: Dataset) -> Dataset:
    """A finished run that a test may change."""
    return finish(dataset)
