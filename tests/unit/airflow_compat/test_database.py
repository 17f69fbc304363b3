"""The command's access to Airflow's database, with a real one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.airflow_compat.database import stored_variable, variable_keys
from tests.fakes.airflow_rows import add_variable

VALUES = {"a_b.1": "one", "a_b.2": "two", "axb.3": "three", "a%b.4": "four"}


@pytest.fixture
def variables(airflow_database: None) -> Iterator[None]:
    """Store some Variables, and delete them afterwards."""
    for key, value in VALUES.items():
        add_variable(key, value)
    yield
    for key in variable_keys("a"):
        with stored_variable(key, lock=True) as variable:
            variable.delete()
    assert variable_keys("a") == []


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize(
    ("prefix", "keys"),
    [("a_b.", ["a_b.1", "a_b.2"]), ("a%", ["a%b.4"]), ("a", sorted(VALUES))],
)
def test_keys_are_found_by_prefix(prefix: str, keys: list[str]) -> None:
    """The prefix is not a pattern: ``_`` and ``%`` stand for themselves."""
    assert variable_keys(prefix) == keys


@pytest.mark.usefixtures("variables")
def test_deletion_is_undone_by_an_error() -> None:
    """The look and the deletion are one transaction."""

    def fail(variable: Any) -> None:
        variable.delete()
        raise RuntimeError("after the deletion")

    with pytest.raises(RuntimeError), stored_variable("a_b.1", lock=True) as variable:
        fail(variable)

    with stored_variable("a_b.1", lock=False) as variable:
        assert variable.value == "one"


@pytest.mark.usefixtures("airflow_database")
def test_unknown_dag_run_has_no_state() -> None:
    """It was deleted."""
    with stored_variable("none", lock=False) as variable:
        assert not variable.exists
        assert variable.dag_run("no_such_dag", "no_such_run") == (None, None)
