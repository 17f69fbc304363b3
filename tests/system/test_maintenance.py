"""
The example DAG that deletes old records, in a supervised worker of a real Airflow.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.pool import NullPool

from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.records.keys import variable_key
from tests.system.airflow.private_airflow import PrivateAirflow

pytestmark = [pytest.mark.system, pytest.mark.nightly]

DAG_ID, TASK, MAINTENANCE = "failed_retraining", "retrain", "delete_old_records"
CONNECTION = "airflow_metadata"
TIMEOUT = 60.0
AGE = text("UPDATE dag_run SET end_date = :ended_at WHERE run_id = :run_id")
KEYS = text("SELECT key FROM variable")


@pytest.fixture
def metadata_db(airflow: PrivateAirflow) -> Iterator[Engine]:
    """Airflow's database, to which also the connection of the DAG leads."""
    url = airflow.env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    airflow.client.create_connection(
        CONNECTION, {"conn_type": "generic", "password": url}
    )
    yield create_engine(url, poolclass=NullPool)
    airflow.client.delete_connection(CONNECTION)


def test_only_the_old_record_is_deleted(
    airflow: PrivateAirflow, metadata_db: Engine
) -> None:
    """
    Of two tasks that have failed, the one whose DAG run ended 31 days ago loses its
    record.
    """
    airflow.client.wait_for_dag(DAG_ID)
    airflow.client.unpause(DAG_ID)
    runs = [airflow.client.trigger(DAG_ID) for _ in range(2)]
    for run_id in runs:
        airflow.client.wait_for_task(DAG_ID, run_id, TASK, "deferred", timeout=TIMEOUT)
        airflow.client.mark_task(DAG_ID, run_id, TASK, "failed")
        assert airflow.client.wait_for_run(DAG_ID, run_id, timeout=TIMEOUT) == "failed"
    old, young = (variable_key(TaskKey(DAG_ID, run_id, TASK, -1)) for run_id in runs)
    with metadata_db.begin() as connection:
        connection.execute(
            AGE, {"ended_at": datetime.now(UTC) - timedelta(days=31), "run_id": runs[0]}
        )
        assert {old, young} <= set(connection.execute(KEYS).scalars())

    airflow.client.wait_for_dag(MAINTENANCE)
    airflow.client.unpause(MAINTENANCE)
    run_id = airflow.client.trigger(MAINTENANCE)

    log = "no log"
    if airflow.client.wait_for_run(MAINTENANCE, run_id, timeout=TIMEOUT) != "success":
        log = "\n".join(airflow.client.log(MAINTENANCE, run_id, "delete"))
    assert (
        airflow.client.xcom(MAINTENANCE, run_id, "delete", "return_value")
        == "1 Variables deleted."
    ), log
    with metadata_db.connect() as connection:
        left = set(connection.execute(KEYS).scalars())
    assert (old in left, young in left) == (False, True)
