"""
Retries in a real Airflow: which errors of a start are retried, and what the tab is told
of a retry that resumes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from tests.conftest import NEEDS_TABS
from tests.system.airflow.private_airflow import PrivateAirflow
from tests.system.emulator_process import EmulatorProcess
from tests.system.process.sessions import wait_until

pytestmark = pytest.mark.system

DAG_ID, OWN_POLICY_DAG_ID, TASK = (
    "rejected_starts",
    "rejected_starts_own_policy",
    "start",
)
TIMEOUT = 60.0


@pytest.fixture(autouse=True)
def _remove_faults(emulator: EmulatorProcess) -> Iterator[None]:
    yield
    emulator.control.remove_faults()


def reject_starts(emulator: EmulatorProcess, code: str, **members: Any) -> None:
    """Let the emulator respond to StartPipelineExecution with an error."""
    emulator.control.add_fault(
        "error", "StartPipelineExecution", code=code, message="no", **members
    )


def trigger(airflow: PrivateAirflow, dag_id: str) -> str:
    """Trigger a DAG run and return its id."""
    airflow.client.wait_for_dag(dag_id)
    run_id = airflow.client.trigger(dag_id)
    airflow.client.unpause(dag_id)
    return run_id


def test_access_denied_is_not_retried(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """
    The task fails after one call in the first of four tries, and its log has the
    reason.
    """
    reject_starts(emulator, "AccessDeniedException")
    before = len(emulator.control.calls("StartPipelineExecution"))
    run_id = trigger(airflow, DAG_ID)

    state = airflow.client.wait_for_run(DAG_ID, run_id, timeout=TIMEOUT)

    (task,) = airflow.client.tasks(DAG_ID, run_id)
    assert (state, task["state"], task["try_number"], task["max_tries"]) == (
        "failed",
        "failed",
        1,
        3,
    )
    assert len(emulator.control.calls("StartPipelineExecution")) == before + 1
    assert "sagemaker:StartPipelineExecution" in "\n".join(
        airflow.client.log(DAG_ID, run_id, TASK)
    )
    if CAPABILITIES.retry_policy:
        lines = airflow.client.log_content(DAG_ID, run_id, TASK)
        reasons = [
            line["reason"] for line in lines if line["event"] == "Retry policy decision"
        ]
        assert reasons == [
            "AccessDeniedException: permanent error, a retry cannot succeed"
        ]


def test_retry_policy_of_the_dag_author_is_used(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """With a policy that retries all errors, the second try starts and succeeds."""
    reject_starts(emulator, "AccessDeniedException", count=1)
    run_id = trigger(airflow, OWN_POLICY_DAG_ID)

    state = airflow.client.wait_for_run(OWN_POLICY_DAG_ID, run_id, timeout=TIMEOUT)

    (task,) = airflow.client.tasks(OWN_POLICY_DAG_ID, run_id)
    assert (state, task["state"], task["try_number"]) == ("success", "success", 2)
    assert "AccessDeniedException" in "\n".join(
        airflow.client.log(OWN_POLICY_DAG_ID, run_id, TASK)
    )


RESUMED_DAG_ID = "retried_retraining"
FAILS_ONCE = {"steps": {"ChurnEvaluate": {"fail": {"reason": "no data", "times": 1}}}}


@NEEDS_TABS
def test_retry_resumes_when_the_tab_was_told(
    airflow: PrivateAirflow, emulator: EmulatorProcess
) -> None:
    """
    Airflow has not begun it before, and begins it soon after. A DAG that is paused
    meanwhile has no time.
    """
    emulator.control.put_scenario(FAILS_ONCE)
    emulator.control.clear_calls()
    run_id = trigger(airflow, RESUMED_DAG_ID)
    path = f"/polysync-sagemaker/dags/{RESUMED_DAG_ID}/xcoms"
    query = {"run_id": run_id, "task_id": "retrain", "key": "run"}

    def said() -> list[dict[str, Any]]:
        answer: Any = airflow.client.get(path, **query)
        return list(answer["next"])

    def state() -> str:
        return airflow.client.task_states(RESUMED_DAG_ID, run_id)["retrain"]

    try:
        assert wait_until(lambda: state() == "up_for_retry", timeout=150)
        (before,) = said()
        airflow.client.pause(RESUMED_DAG_ID)
        (paused,) = said()
        airflow.client.unpause(RESUMED_DAG_ID)
        end = airflow.client.wait_for_run(RESUMED_DAG_ID, run_id, timeout=150)
    finally:
        emulator.control.put_scenario({})

    effect = before["text"].removeprefix("Try ").removesuffix(" at")
    assert effect.startswith("2 of 2 resumes the failed steps (")
    assert paused == {"text": f"When the DAG is unpaused, try {effect}", "at": None}
    (task,) = airflow.client.tasks(RESUMED_DAG_ID, run_id)
    begun_at = datetime.fromisoformat(task["start_date"])
    late = begun_at - datetime.fromisoformat(before["at"])
    assert timedelta(seconds=-1) < late < timedelta(seconds=60)
    assert (end, task["try_number"]) == ("success", 2)
    calls = [
        len(emulator.control.calls(name))
        for name in ("StartPipelineExecution", "RetryPipelineExecution")
    ]
    assert calls == [1, 1]
    assert said() == []
