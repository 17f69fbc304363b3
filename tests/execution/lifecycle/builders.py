"""What the tests of an execution's life are made of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from polysync_airflow.execution.lifecycle.recovery import RecoveryChoices
from polysync_airflow.execution.models import ExecutionDescription, StartRequest
from polysync_airflow.execution.record import Incarnation, StoredExecution

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
START_TOKEN, RESUME_TOKEN = "polysync-".ljust(40, "0"), "polysync-".ljust(40, "1")
NOW, EARLIER = datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
INCARNATION = Incarnation(dag_run_started_at=EARLIER)
REQUEST = StartRequest(
    pipeline_name="fanout",
    pipeline_parameters={},
    execution_display_name="nightly",
    client_request_token=START_TOKEN,
)


def choose(**choices: Any) -> RecoveryChoices:
    """Return the operator's defaults, except for some choices."""
    defaults = {
        "retry_mode": "new",
        "on_clear": "new",
        "on_completed_with_failures": "fail",
        "stop_on_kill": True,
    }
    return RecoveryChoices.model_validate({**defaults, **choices})


def stored(**changes: Any) -> StoredExecution:
    """Return the record of try 2 in epoch 2, whose execution has an ARN, except for some changes."""
    record = StoredExecution(
        epoch=2,
        incarnation=INCARNATION,
        region_name="us-east-1",
        request=REQUEST,
        execution_arn=ARN,
        try_number=2,
    )
    return record.model_copy(update=changes)


def resumed(**changes: Any) -> StoredExecution:
    """Return a record whose first resume has no response yet, except for some changes."""
    return stored(**{"resumes": 1, "resume_token": RESUME_TOKEN, **changes})


def describe(status: str) -> ExecutionDescription:
    """Return AWS's description of the execution."""
    return ExecutionDescription.model_validate(
        {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": status, "CreationTime": EARLIER}
    )
