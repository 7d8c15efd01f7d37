"""Sizes, durations and shares as text for people."""

from __future__ import annotations


def format_bytes(n: float) -> str:
    """Bytes with three digits and a decimal unit, such as 1.5 GB."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 999.5 or unit == "TB":
            break
        n /= 1000
    return f"{n:.3g} {unit}" if unit != "B" else f"{n:.0f} B"


def format_duration(seconds: float) -> str:
    """Seconds with a fitting unit: < 1 s, 4 s, 3 min, 2 h 05 min, 3 days 4 h."""
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 1 else "< 1 s"
    if minutes < 100:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} days {hours % 24} h"


def format_percent(share: float) -> str:
    """A share with two digits, never a rounded 0 % or 100 %: 1.2 %, 50 %, < 0.1 %."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", "\u202f%")
    if share < 0.001 or share > 0.999:
        return "< 0.1\u202f%" if share < 0.5 else "> 99.9\u202f%"
    return f"{100 * share:.{1 if share < 0.1 or share > 0.99 else 0}f}\u202f%"
