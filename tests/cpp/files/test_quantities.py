"""Numbers in words."""

import pytest

from cpp.files.quantities import format_bytes, format_duration, format_percent


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "< 1 s"), (90, "90 s"), (600, "10 min"), (7500, "2 h 05 min"), (2e5, "2 days 7 h")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_bytes() -> None:
    assert [format_bytes(n) for n in (12, 1500, 999_600, 3.2e15)] == ["12 B", "1.5 kB", "1 MB", "3.2e+03 TB"]


def test_a_share_is_never_rounded_to_nothing_or_all() -> None:
    assert [format_percent(x) for x in (0, 1, 0.0001, 0.99995, 0.0123, 0.5, 0.991)] == [
        "0\u202f%", "100\u202f%", "< 0.1\u202f%", "> 99.9\u202f%", "1.2\u202f%", "50\u202f%", "99.1\u202f%",
    ]  # fmt: skip
