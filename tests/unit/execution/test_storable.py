"""
What Airflow can store: numbers become texts, and names are left out, before Airflow or
a database refuses them.
"""

from __future__ import annotations

from typing import Annotated, Any

import pytest
from hypothesis import given
from pydantic import TypeAdapter, ValidationError

from polysync_airflow.execution.texts import (
    Count,
    NotReserved,
    is_storable_text,
    storable,
    storable_number,
    storable_xcom,
)
from tests.strategies import json_values


def test_number_that_airflow_cannot_store_becomes_a_text() -> None:
    """
    What has more than 64 bits, or is no number of JSON, is the text that AWS would get.
    """
    for value, stored in (
        (2**64 - 1, 2**64 - 1),
        (2**64, "18446744073709551616"),
        (-(2**63), -(2**63)),
        (-(2**63) - 1, "-9223372036854775809"),
        (1.5e19, 1.5e19),
        (1e30, "1e+30"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
        (True, True),
    ):
        assert storable_number(value) == stored
        assert type(storable_number(value)) is type(stored)


def test_json_is_changed_where_it_must_be() -> None:
    """Each change is one short sentence that says where it was made."""
    changes: list[str] = []
    report = {
        "rows": 10**30,
        "runs": [1, {"loss": 1e300, "__type": "x", "__var": {"a": 1}}],
        "__id__": 1,
        "by\x00": "a\ud800b",
        "long" * 1000: 10**4000,
    }

    value = storable({"Evaluate": report, "__classname__": "x"}, changes)

    assert value == {
        "Evaluate": {
            "rows": "1" + "0" * 30,
            "runs": [1, {"loss": "1e+300", "__type": "x"}],
            "by\N{REPLACEMENT CHARACTER}": "a\N{REPLACEMENT CHARACTER}b",
            "long" * 1000: "1" + "0" * 4000,
        }
    }
    *known, long, last = changes
    assert [*known, last] == [
        f"Evaluate.rows = {10**30} is a text, because the number is too large.",
        "Evaluate.runs[1].loss = 1e+300 is a text, because the number is too large.",
        "Evaluate.runs[1] lacks __var, because Airflow reserves this name.",
        "Evaluate lacks __id__, because Airflow reserves this name.",
        "It lacks __classname__, because Airflow reserves this name.",
    ]
    assert len(long) < 1000


def test_count_of_another_form_is_left_out() -> None:
    """A count that is not as AWS documents it does not hide the other members."""
    for value, count in (
        (3, 3),
        (10**30, None),
        (-1, None),
        ("x", None),
        (2**64 - 1, 2**64 - 1),
    ):
        adapter: TypeAdapter[Any] = TypeAdapter(Count)

        assert adapter.validate_python(value) == count


@given(json_values)
def test_nothing_is_changed_twice(value: Any) -> None:
    """What has been made storable is."""
    stored = storable(value, [])

    changes: list[str] = []
    assert storable(stored, changes) == stored
    assert changes == []


def test_text_with_nul_or_half_a_surrogate_is_not_storable() -> None:
    """PostgreSQL stores neither NUL nor half of a surrogate pair."""
    for text in ("", "a\nb\u200d\U0001f600"):
        assert is_storable_text(text)
    for text in ("\x00", "a\udfff"):
        assert not is_storable_text(text)


def test_name_that_airflow_reserves_is_refused() -> None:
    """The error says why the name cannot be used."""
    problem = "Value error, is a name that Airflow reserves"
    with pytest.raises(ValidationError, match=problem):
        TypeAdapter(Annotated[str, NotReserved]).validate_python("__var")


def test_xcom_is_stored_as_far_as_it_can_be() -> None:
    """A warning names the XCom, and each place in it that differs."""
    warnings: list[str] = []

    assert storable_xcom("run", {"a": 1}, warnings.append) == {"a": 1}
    assert warnings == []

    large = {"a": 2**64, "b": [1e30]}
    stored = storable_xcom("run", large, warnings.append)
    assert stored == {"a": str(2**64), "b": ["1e+30"]}
    changes: list[str] = []
    storable(large, changes)
    first, second = changes
    text = f"Airflow cannot store the XCom run as it is:\n- {first}\n- {second}"
    assert warnings == [text]
