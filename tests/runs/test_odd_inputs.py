"""Random odd inputs lose and mix up nothing; `make fuzz` tries many more."""

from pathlib import Path

import pytest

from tests.runs.fuzz_inputs import check


@pytest.mark.parametrize("seed", range(24))
def test_every_picture_is_a_row_with_its_caption_or_is_rejected(tmp_path: Path, seed: int) -> None:
    (tmp_path / "input").mkdir()
    check(tmp_path / "input", seed)
