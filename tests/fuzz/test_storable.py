"""
What Airflow's encoder and PostgreSQL do with values: the reasons for the changes that
``storable`` makes.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given

from polysync_airflow.execution.texts import storable
from tests.fakes.airflow_encoding import pulled
from tests.strategies import json_values


def is_same(read: Any, stored: Any) -> bool:
    """
    Return whether values are the same. PostgreSQL makes an integer of a float of more
    than 16 digits.
    """
    if isinstance(stored, dict):
        return read.keys() == stored.keys() and all(
            is_same(read[name], stored[name]) for name in stored
        )
    if isinstance(stored, list):
        return len(read) == len(stored) and all(map(is_same, read, stored))
    return bool((float(read) if isinstance(stored, float) else read) == stored)


@given(json_values)
def test_what_is_storable_comes_back(value: Any) -> None:
    """Through Airflow's encoder and PostgreSQL, another task gets the same value."""
    stored = storable(value, [])

    assert is_same(pulled(stored), stored)
