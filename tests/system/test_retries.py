"""Refused starts in a real Airflow: which of them use up retries, and how long it waits between the tries."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.system.local_emulator import LocalEmulator
from tests.system.private_airflow import PrivateAirflow

pytestmark = pytest.mark.system

DAG_ID, SOON_AGAIN, TASK = "refused_starts", "refused_starts_soon_again", "start"
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def _faultless_afterwards(emulator: LocalEmulator) -> Iterator[None]:
    yield
    emulator.control.remove_faults()


def refuse(emulator: LocalEmulator, code: str, **members: Any) -> None:
    """Let AWS refuse starts."""
    emulator.control.add_fault("error", "StartPipelineExecution", code=code, message="no", **members)


def begin(airflow: PrivateAirflow, dag_id: str) -> str:
    """Begin a run and return its id."""
    airflow.client.wait_for_dag(dag_id)
    run_id = airflow.client.trigger(dag_id)
    airflow.client.unpause(dag_id)
    return run_id


def next_try(airflow: PrivateAirflow, run_id: str) -> tuple[float | None, str | None]:
    """Tell what the policy decided on the next try; Airflow keeps it in its database and shows it nowhere."""
    query = "SELECT retry_delay_override, retry_reason FROM task_instance WHERE run_id = ?"
    with closing(sqlite3.connect(airflow.home / "airflow.db")) as database:
        delay, reason = database.execute(query, (run_id,)).fetchone()
    return delay, reason


def test_a_start_that_is_not_permitted_is_not_repeated(
    airflow: PrivateAirflow, emulator: LocalEmulator
) -> None:
    """The task fails after one try of four, after one call, and its log says why."""
    refuse(emulator, "AccessDeniedException")
    before = len(emulator.control.calls("StartPipelineExecution"))
    run_id = begin(airflow, DAG_ID)

    state = airflow.client.wait_for_run(DAG_ID, run_id, timeout=TIMEOUT)

    (task,) = airflow.client.tasks(DAG_ID, run_id)
    assert (state, task["state"], task["try_number"], task["max_tries"]) == ("failed", "failed", 1, 3)
    assert len(emulator.control.calls("StartPipelineExecution")) == before + 1
    assert "sagemaker:StartPipelineExecution" in "\n".join(airflow.client.log(DAG_ID, run_id, TASK))
    path = f"/api/v2/dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{TASK}/logs/1"
    lines = airflow.client.get(path, full_content=True)["content"]
    reasons = [line["reason"] for line in lines if line["event"] == "Retry policy decision"]
    assert reasons == ["AccessDeniedException: trying again cannot cure it"]


def test_a_used_up_quota_is_worth_ten_minutes(airflow: PrivateAirflow, emulator: LocalEmulator) -> None:
    """The task is up for retry, ten minutes from now though its own delay is a second."""
    refuse(emulator, "ResourceLimitExceeded")
    run_id = begin(airflow, DAG_ID)

    airflow.client.wait_for_task(DAG_ID, run_id, TASK, "up_for_retry", timeout=TIMEOUT)

    assert next_try(airflow, run_id) == (600, "ResourceLimitExceeded: next try after 600 s")
    airflow.client.mark_task(DAG_ID, run_id, TASK, "failed")
    airflow.client.wait_for_run(DAG_ID, run_id, timeout=TIMEOUT)


def test_the_authors_own_delay_is_kept(airflow: PrivateAirflow, emulator: LocalEmulator) -> None:
    """With two seconds in the DAG's policy, the second try comes at once and succeeds."""
    refuse(emulator, "ResourceLimitExceeded", count=1)
    run_id = begin(airflow, SOON_AGAIN)

    state = airflow.client.wait_for_run(SOON_AGAIN, run_id, timeout=TIMEOUT)

    (task,) = airflow.client.tasks(SOON_AGAIN, run_id)
    assert (state, task["state"], task["try_number"]) == ("success", "success", 2)
    assert "ResourceLimitExceeded" in "\n".join(airflow.client.log(SOON_AGAIN, run_id, TASK))
