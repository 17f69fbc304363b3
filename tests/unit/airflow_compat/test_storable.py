"""
What Airflow's encoder and PostgreSQL do with values: the reasons for the changes that
``storable`` makes.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.texts import storable
from tests.fakes.airflow_encoding import delivered, pulled
from tests.strategies import json_values

needs_msgpack = pytest.mark.skipif(
    not CAPABILITIES.task_sdk, reason="Airflow 2 stores XComs as JSON in bytes"
)


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


@needs_msgpack
@pytest.mark.parametrize(
    "value",
    [
        2**64,
        -(2**63) - 1,
        1e30,
        float("nan"),
        "\x00",
        "\ud800",
        {"__id__": 1},
        {"__classname__": 1},
    ],
    ids=repr,
)
def test_airflow_refuses_the_rest(value: Any) -> None:
    """Without the change, the value does not come back."""
    assert storable(value, []) != value
    with pytest.raises((AttributeError, OverflowError, ValueError)):
        pulled([value])


@needs_msgpack
def test_old_names_would_become_something_else() -> None:
    """
    Airflow replaces such an object by what its member has, or by an object of a class
    that the member names.
    """
    assert pulled({"__type": "dict", "__var": {"a": 1}}) == {"a": 1}


@needs_msgpack
def test_events_go_through_the_encoder_too() -> None:
    """What a trigger or a resumed task gets has the same limits."""
    with pytest.raises(OverflowError):
        delivered({"a": 10**30})
