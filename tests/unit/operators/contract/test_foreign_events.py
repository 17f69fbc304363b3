"""
The event that resumes a deferred task comes from Airflow's database, where others can
edit it: no task ends by one of another form.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from polysync_airflow.exceptions import TriggerEventError
from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from sagemaker_emulator import EmulatorServer
from tests.conftest import ARN
from tests.tasks import TaskInstance

VERSION = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"
ENDED = {
    "outcome": "ended",
    "execution_arn": ARN,
    "pipeline_name": "fanout",
    "status": "Succeeded",
    "message": None,
    "started_at": None,
    "ended_at": None,
}
STEP_CHANGED = {"outcome": "step_changed", "since": 1.7e9, "deadline": 1.8e9}
OF_EXECUTIONS: list[Any] = [
    None,
    {},
    {"status": "success", "value": ARN},
    {**ENDED, "outcome": "finished"},
    {**ENDED, "status": None},
    {**ENDED, "execution_arn": "fanout"},
    {**ENDED, "surprise": 1},
    {**ENDED, "attempt": 2**31},
    {**ENDED, "started_at": "0001-01-01T00:00:00+14:00"},
]
OF_SENSORS: list[Any] = [
    None,
    {"outcome": "ended", "execution_arn": ARN},
    {"outcome": "found", "execution_arn": ARN, "began_at": "2026-01-01"},
]
OF_APPROVALS: list[Any] = [
    None,
    {"outcome": "approved", "model_package_arn": "x"},
]
OF_CALLBACKS: list[Any] = [
    None,
    {},
    {"outcome": "step_changed"},
    {**STEP_CHANGED, "deadline": float("nan")},
    {**STEP_CHANGED, "since": -1},
    {**STEP_CHANGED, "token": "x"},
]
callback = partial(PolysyncCallbackStepOperator, step_name="Ask", python_callable=print)
EVENTS: dict[str, tuple[Any, dict[str, Any], list[Any]]] = {
    "start": (
        PolysyncStartPipelineOperator,
        {"pipeline_name": "fanout"},
        # Without an event, it goes on with its execution.
        [event for event in OF_EXECUTIONS if event is not None],
    ),
    "stop": (PolysyncStopPipelineOperator, {"execution_arn": ARN}, OF_EXECUTIONS),
    "sensor": (PolysyncPipelineSensor, {"execution_arn": ARN}, OF_SENSORS),
    "approval": (
        PolysyncModelApprovalSensor,
        {"model_package_arn": VERSION},
        OF_APPROVALS,
    ),
    "callback": (callback, {"execution_arn": ARN}, OF_CALLBACKS),
}


@pytest.mark.parametrize(
    ("name", "event"),
    [(name, event) for name, (*_, events) in EVENTS.items() for event in events],
)
def test_foreign_event_fails_the_task(
    name: str, event: Any, emulator: EmulatorServer
) -> None:
    """A missing, foreign, incomplete or contradictory event ends no other way."""
    make, arguments, _ = EVENTS[name]
    task = make(task_id="t", **arguments)
    ti = TaskInstance("t")

    with pytest.raises(TriggerEventError, match="not this provider's event"):
        task.execute_complete(ti.context(task), event)

    assert ti.xcoms == {}
    assert emulator.control.calls() == []
