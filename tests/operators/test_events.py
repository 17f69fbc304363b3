"""The event that resumes a task is checked before anything is decided by it."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.exceptions import TriggerEventError
from polysync_airflow.operators import PolysyncStartPipelineOperator, PolysyncStopPipelineOperator
from tests.tasks import TaskInstance

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
GOOD = {
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
        {**GOOD, "outcome": "finished"},
        {**GOOD, "status": None},
        {**GOOD, "execution_arn": "fanout"},
        {**GOOD, "surprise": 1},
    ],
)
def test_what_is_no_event_of_ours_is_refused(operator: Any, event: Any) -> None:
    """A missing, foreign, incomplete or contradictory event fails the task instead of passing as success."""
    context = {"ti": TaskInstance("t")}

    with pytest.raises(TriggerEventError, match="not this provider's event"):
        operator.execute_complete(context, event)

    assert context["ti"].xcoms == {}
