"""The example DAGs that delete old records, and stop executions that are left."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.documentation.examples.test_example_dags import states_of, xcom


@pytest.fixture(autouse=True)
def _connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the tasks reach Airflow's database, and find the command."""
    from airflow.configuration import conf

    connection = {
        "conn_type": "generic",
        "password": conf.get("database", "sql_alchemy_conn"),
    }
    monkeypatch.setenv("AIRFLOW_CONN_AIRFLOW_METADATA", json.dumps(connection))
    monkeypatch.setenv(
        "PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )


@pytest.mark.documentation
def test_delete_old_records_runs_the_command(example: Any) -> None:
    """
    The task reaches Airflow's database by the connection, and deletes an old record
    there.
    """
    from airflow.models.variable import Variable
    from airflow.utils.session import create_session

    record = {
        "task": {
            "dag_id": "gone",
            "run_id": "gone",
            "task_id": "train",
            "map_index": -1,
        },
        "record": {
            "incarnation": {
                "dag_run_started_at": "2026-01-01T00:00:00Z",
                "clear_number": 0,
            }
        },
    }
    with create_session() as session:
        session.add(Variable(key="polysync_execution.old", val=json.dumps(record)))  # type: ignore[no-untyped-call]
    run = example("delete_old_records")

    assert states_of(run) == [("delete", -1, "success")]
    assert xcom(run, "delete", "return_value") == "1 Variables deleted."


@pytest.mark.documentation
def test_stop_orphans_runs_the_command(example: Any) -> None:
    """The task reaches Airflow's database by the connection, and reads all records."""
    run = example("stop_orphans")

    assert states_of(run) == [("stop", -1, "success")]
    assert xcom(run, "stop", "return_value").endswith(
        "records: 0 executions stopped, 0 failed, 0 ignored."
    )
