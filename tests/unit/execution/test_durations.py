"""
Durations have one form. The same cases hold for the tab, in
``tests/unit/ui/test_static_files.py``.
"""

from __future__ import annotations

from typing import Final

import pytest

from polysync_airflow.execution.texts import format_seconds

DURATIONS: Final = [
    (0, "0 s"),
    (0.4, "< 1 s"),
    (0.999, "< 1 s"),
    (1, "1 s"),
    (1.5, "2 s"),
    (2.5, "3 s"),
    (59.4, "59 s"),
    (59.5, "1 min"),
    (61.2, "1 min 1 s"),
    (2286, "38 min 6 s"),
    (3599.7, "1 h"),
    (3605, "1 h"),
    (7500, "2 h 5 min"),
    (86400, "1 d"),
    (86460, "1 d"),
    (604800, "7 d"),
    (788400, "9 d 3 h"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_duration_has_at_most_two_units(seconds: float, text: str) -> None:
    """At most two units, the largest first; the rest is rounded or left out."""
    assert format_seconds(seconds) == text
