"""Numbers in words."""

import pytest

from cpp.files.quantities import format_bytes, format_duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "< 1 s"), (90, "90 s"), (600, "10 min"), (7500, "2 h 05 min"), (2e5, "2 days 7 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_bytes() -> None:
    assert [format_bytes(n) for n in (12, 1500, 999_600, 3.2e15)] == ["12 B", "1.5 kB", "1 MB", "3.2e+03 TB"]
