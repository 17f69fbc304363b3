"""The operators validate the event that resumes a deferred task."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import TriggerEventError
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from tests.tasks import TaskInstance

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
VALID_EVENT = {
    "outcome": "ended",
    "execution_arn": ARN,
    "pipeline_name": "fanout",
    "status": "Succeeded",
    "message": None,
    "started_at": None,
    "ended_at": None,
}


@pytest.mark.parametrize(
    "operator",
    [
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout"),
        PolysyncStopPipelineOperator(task_id="t", execution_arn=ARN),
    ],
    ids=["start", "stop"],
)
@pytest.mark.parametrize(
    "event",
    [
        None,
        {},
        {"status": "success", "value": ARN},
        {**VALID_EVENT, "outcome": "finished"},
        {**VALID_EVENT, "status": None},
        {**VALID_EVENT, "execution_arn": "fanout"},
        {**VALID_EVENT, "surprise": 1},
        {**VALID_EVENT, "attempt": -1},
        {**VALID_EVENT, "attempt": 2**31},
        {**VALID_EVENT, "started_at": "0001-01-01T00:00:00+14:00"},
        {**VALID_EVENT, "ended_at": "9999-12-31T23:59:59-14:00"},
    ],
)
def test_invalid_event_is_refused(operator: Any, event: Any) -> None:
    """A missing, foreign, incomplete or contradictory event fails the task."""
    context = {"ti": TaskInstance("t")}

    with pytest.raises(TriggerEventError, match="not this provider's event"):
        operator.execute_complete(context, event)

    assert context["ti"].xcoms == {}
