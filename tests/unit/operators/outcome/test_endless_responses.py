"""
Slow and endless responses while a task waits on a worker, imports pipelines, or reports
a failure.
"""

from __future__ import annotations

import itertools
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
)
from polysync_airflow.execution import clock, waiter
from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.conftest import connection
from tests.fakes.fake_sagemaker import Body, answering
from tests.tasks import run_task

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abcdefghijkl"
DESCRIBE, LIST_STEPS = "DescribePipelineExecution", "ListPipelineExecutionSteps"


class Account:
    """An account whose responses a test changes; one execution runs in it."""

    def __init__(self) -> None:
        self.status = "Executing"
        self.members: dict[str, dict[str, Any]] = {
            LIST_STEPS: {"PipelineExecutionSteps": []},
            "ListPipelines": {"PipelineSummaries": []},
            "DescribeLogStreams": {"logStreams": []},
            "DescribeTrainingJob": {
                "TrainingJobArn": f"{ARN.partition('pipeline/')[0]}training-job/job"
            },
        }
        self.seconds: dict[str, float] = {}
        self.tokens: Iterator[Any] | None = None

    def respond(self, operation: str, _: Any) -> Body:
        """Respond to a request."""
        described = {
            "PipelineExecutionArn": ARN,
            "PipelineExecutionStatus": self.status,
        }
        members = self.members.get(operation, described)
        if operation.startswith("List") and self.tokens:
            members = {**members, "NextToken": next(self.tokens)}
        return Body(
            json.dumps(members).encode(), seconds=self.seconds.get(operation, 0)
        )


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Account, list[str]]]:
    """
    An account and the operations that were called. Polls begin at once, and end soon
    after a deadline.
    """
    monkeypatch.setattr(waiter, "FIRST_POLL_DELAY_SECONDS", 0.0)
    monkeypatch.setattr("polysync_airflow.execution.waiter.LAST_POLL_SECONDS", 0.5)
    # The shortest interval of the arguments is a second.
    sleep = clock.sleep
    monkeypatch.setattr(clock, "sleep", lambda seconds: sleep(seconds / 10))
    account = Account()
    with answering(account.respond) as (url, operations):
        monkeypatch.setenv(
            "AIRFLOW_CONN_POLYSYNC_DEFAULT", connection(endpoint_url=url)
        )
        yield account, operations


def start(**arguments: Any) -> PolysyncStartPipelineOperator:
    """Return a task that waits on its worker for three seconds, by default."""
    more = {"deferrable": False, "poll_interval": 1, "timeout": 3, **arguments}
    return PolysyncStartPipelineOperator(task_id="train", pipeline_name="churn", **more)


def test_timeout_ends_a_poll_that_does_not_end(
    account: tuple[Account, list[str]],
) -> None:
    """The task asks for the stop of the execution as after any other timeout."""
    aws, operations = account
    aws.seconds[DESCRIBE] = 0.5
    begin = time.monotonic()

    run = run_task(start(timeout=1))

    assert isinstance(run.error, PipelineExecutionTimeoutError), run.error
    message = " ".join(str(run.error).replace("|", " ").split())
    assert "the last poll failed: DescribePipelineExecution failed" in message
    assert "StopPipelineExecution" in operations
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize("tokens", ["a", None], ids=["repeated", "endless"])
def test_list_of_steps_without_end_fails_no_wait(
    account: tuple[Account, list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tokens: str | None,
) -> None:
    """Neither while the task waits nor at its end; the report says what is missing."""
    monkeypatch.setattr("polysync_airflow.aws.responses.MAX_PAGES", 20)
    aws, operations = account
    aws.tokens = itertools.cycle(tokens) if tokens else map(str, itertools.count())
    aws.status = "Failed"

    run = run_task(start(timeout=60))

    assert isinstance(run.error, PipelineExecutionFailedError)
    assert "could not be listed: ListPipelineExecutionSteps failed" in str(run.error)
    assert Counter(operations)[LIST_STEPS] == (2 if tokens else 20)


def test_logs_of_some_failed_steps_only_are_read(
    account: tuple[Account, list[str]],
) -> None:
    """If everything fails at once, five logs are enough; each step has its reason."""
    aws, operations = account
    aws.status = "Failed"
    aws.members[LIST_STEPS] = {
        "PipelineExecutionSteps": [
            {
                "StepName": f"Train{number}",
                "StepStatus": "Failed",
                "FailureReason": "no data",
                "Metadata": {
                    "TrainingJob": {
                        "Arn": f"{ARN.partition('pipeline/')[0]}training-job/{number}"
                    }
                },
            }
            for number in range(8)
        ]
    }

    run = run_task(start())

    assert Counter(operations)["DescribeLogStreams"] == 5
    assert [row["reason"] for row in run.xcoms["steps"]] == ["no data"] * 8
