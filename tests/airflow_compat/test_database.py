"""The command's access to Airflow's database, with a real one."""

from __future__ import annotations

import pytest

from polysync_airflow.airflow_compat.database import (
    dag_run_state,
    delete_variables,
    variables_with_prefix,
)


@pytest.mark.usefixtures("airflow_database")
def test_variables_are_found_by_prefix_and_deleted() -> None:
    """The prefix is not a pattern: ``_`` and ``%`` stand for themselves."""
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    values = {"a_b.1": "one", "a_b.2": "two", "axb.3": "three", "a%b.4": "four"}
    with create_session() as session:
        for key, value in values.items():
            session.add(Variable(key=key, val=value))  # type: ignore[no-untyped-call]

    assert variables_with_prefix("a_b.") == [("a_b.1", "one"), ("a_b.2", "two")]
    assert variables_with_prefix("a%") == [("a%b.4", "four")]
    delete_variables(["a_b.1", "a%b.4"])
    assert variables_with_prefix("a") == [("a_b.2", "two"), ("axb.3", "three")]
    delete_variables(["a_b.2", "axb.3"])
    assert variables_with_prefix("a") == []


@pytest.mark.usefixtures("airflow_database")
def test_state_of_an_unknown_dag_run() -> None:
    """Without a DAG run there is no state."""
    assert dag_run_state("no_such_dag", "no_such_run") is None
