"""Slow and endless responses while a task waits on a worker, or reports a failure."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import pytest

from polysync_airflow.exceptions import (
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
)
from polysync_airflow.execution import waiter
from tests.fakes.fake_sagemaker import answering, connected
from tests.unit.operators.outcome.ended_account import Account, start
from tests.world import DESCRIBE, LIST_STEPS, STOP


def test_timeout_ends_a_poll_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The task asks for the stop of the execution as after any other timeout."""
    monkeypatch.setattr(waiter, "FIRST_POLL_DELAY_SECONDS", 0.0)
    monkeypatch.setattr(waiter, "LAST_POLL_SECONDS", 0.5)
    account = Account()
    account.seconds[DESCRIBE] = 0.5
    begin = time.monotonic()

    with connected(answering(account.respond)) as operations:
        run = start(False, poll_interval=1, timeout=1)

    assert isinstance(run.error, PipelineExecutionTimeoutError), run.error
    message = " ".join(str(run.error).replace("|", " ").split())
    assert "the last poll failed: DescribePipelineExecution failed" in message
    assert STOP in operations
    assert time.monotonic() - begin < 8


@pytest.mark.parametrize(
    ("tokens", "pages"),
    [(itertools.repeat("a"), 2), (map(str, itertools.count()), 20)],
    ids=["repeated", "endless"],
)
def test_list_of_steps_without_end_fails_no_wait(
    tokens: Iterator[str], pages: int, aws: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither while the task waits nor at its end; the report says what is missing."""
    monkeypatch.setattr("polysync_airflow.aws.responses.MAX_PAGES", 20)
    aws.tokens = tokens
    aws.status = "Failed"

    run = start(False)

    assert isinstance(run.error, PipelineExecutionFailedError)
    assert "could not be listed: ListPipelineExecutionSteps failed" in str(run.error)
    assert aws.operations.count(LIST_STEPS) == pages


def test_logs_of_some_failed_steps_only_are_read(aws: Account) -> None:
    """If everything fails at once, five logs are enough; each step has its reason."""
    aws.status = "Failed"
    failed = {"StepStatus": "Failed", "FailureReason": "no data"}
    for number in range(8):
        aws.add("TrainingJob", f"Train{number}", **failed)

    run = start(False)

    assert aws.operations.count("DescribeLogStreams") == 5
    assert [row["reason"] for row in run.xcoms["steps"]] == ["no data"] * 8
