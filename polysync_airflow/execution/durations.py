"""Durations as the log, errors and the tab show them. ``ui/static/format.js`` has the same function."""

from __future__ import annotations

from typing import Final

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def format_seconds(seconds: float) -> str:
    """Return a duration with at most two units, such as ``45 s``, ``38 min 6 s`` or ``2 h 5 min``."""
    if seconds < 1:
        return "< 1 s" if seconds > 0 else "0 s"
    rest, numbers = int(seconds + 0.5), []
    for size, unit in _UNITS:
        number, rest = divmod(rest, size)
        numbers.append((number, unit))
    first = next(index for index, (number, _) in enumerate(numbers) if number)
    return " ".join(f"{number} {unit}" for number, unit in numbers[first : first + 2] if number)
