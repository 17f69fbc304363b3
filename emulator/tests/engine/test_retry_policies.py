"""Tests of the retry policies of steps."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.execution import Execution
from tests.builders import FOREVER, execution, timeline

INTERNAL = {
    "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"],
    "IntervalSeconds": 10,
    "BackoffRate": 3,
}


def failing(
    times: int | None, *policies: dict[str, Any], kind: str = "Processing", **fail: Any
) -> Execution:
    """Return an execution of two steps, the first of which fails."""
    text = definition(
        step("A", kind, RetryPolicies=list(policies)), step("B", "Model", "A")
    )
    scenario = {"steps": {"A": {"duration": 100, "fail": {"times": times, **fail}}}}
    return execution(text, scenario)


def attempts(engine: Execution) -> list[tuple[float, float | None, str]]:
    """Return the start, the end and the status of each attempt of the step A."""
    return [(a.started_at, a.ended_at, a.status) for a in engine.runs["A"].attempts]


def test_failed_step_is_tried_again_with_backoff() -> None:
    """
    A step that fails twice has three attempts, with a growing delay between them, and
    then succeeds.
    """
    engine = failing(2, INTERNAL)
    engine.advance(105)
    assert (
        engine.status,
        engine.runs["A"].status,
        engine.runs["A"].failure_reason,
    ) == (
        "Executing",
        "Executing",
        None,
    )
    engine.advance(FOREVER)
    assert attempts(engine) == [
        (2, 102, "Failed"),
        (112, 212, "Failed"),
        (242, 342, "Succeeded"),
    ]
    assert timeline(engine) == {
        "A": (2, 342, "Succeeded"),
        "B": (344, 347, "Succeeded"),
    }
    assert (engine.runs["A"].attempt, engine.status) == (3, "Succeeded")


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({}, 6),
        ({"MaxAttempts": 2}, 3),
        ({"ExpireAfterMin": 5}, 3),
        ({"ExpireAfterMin": 0}, 1),
    ],
)
def test_retries_end(limits: dict[str, int], count: int) -> None:
    """
    A step that never succeeds fails after the maximum number of retries, or when the
    policy expires.
    """
    engine = failing(
        None,
        {**INTERNAL, "BackoffRate": 1, **limits},
        reason="InternalServerError: try again",
    )
    engine.advance(FOREVER)
    assert len(attempts(engine)) == count
    assert (engine.status, engine.runs["A"].failure_reason) == (
        "Failed",
        "InternalServerError: try again",
    )


@pytest.mark.parametrize(
    ("fail", "retried"),
    [
        ({}, True),
        ({"reason": "InternalServerError: please retry"}, True),
        ({"reason": "AlgorithmError: exit code 1"}, False),
        ({"reason": "CapacityError: no instance"}, False),
        (
            {
                "reason": "AlgorithmError",
                "exception_type": "SageMaker.JOB_INTERNAL_ERROR",
            },
            True,
        ),
        ({"exception_type": "SageMaker.RESOURCE_LIMIT"}, False),
        ({"reason": "ClientError: The account-level service limit 'x' is 0"}, False),
    ],
)
def test_only_exceptions_of_the_policy_are_retried(
    fail: dict[str, str], retried: bool
) -> None:
    """The exception type of the failure must be in the policy."""
    engine = failing(1, INTERNAL, **fail)
    engine.advance(FOREVER)
    assert (len(attempts(engine)) == 2) is retried
    assert engine.status == ("Succeeded" if retried else "Failed")


def test_first_matching_policy_applies() -> None:
    """Of several policies, the first one that lists the exception type decides."""
    capacity = {"ExceptionType": ["SageMaker.CAPACITY_ERROR"], "IntervalSeconds": 50}
    engine = failing(1, INTERNAL, capacity, reason="CapacityError: no instance")
    engine.advance(FOREVER)
    assert [start for start, _, _ in attempts(engine)] == [2, 152]


@pytest.mark.parametrize("kind", ["Lambda", "Tuning"])
def test_step_types_without_support_are_not_retried(kind: str) -> None:
    """A Lambda step has no retry policy, and a tuning step none for internal errors."""
    engine = failing(
        1, INTERNAL, kind=kind, exception_type="SageMaker.JOB_INTERNAL_ERROR"
    )
    engine.advance(FOREVER)
    assert (engine.status, len(attempts(engine))) == ("Failed", 1)


def test_stop_between_two_attempts() -> None:
    """
    A step that waits for its next attempt is stopped with the execution, also if jobs
    of its type are not.
    """
    engine = failing(1, {**INTERNAL, "IntervalSeconds": 500}, kind="Model")
    engine.stop(200)
    assert engine.runs["A"].status == "Stopping"
    engine.advance(FOREVER)
    assert (engine.status, timeline(engine)["A"]) == ("Stopped", (2, 220, "Stopped"))
    assert len(attempts(engine)) == 1


def test_failure_during_a_stop_is_not_retried() -> None:
    """A step that fails while the execution is stopping has no further attempt."""
    engine = failing(1, INTERNAL)
    engine.stop(95)
    engine.advance(FOREVER)
    assert (engine.status, timeline(engine)["A"]) == ("Failed", (2, 102, "Failed"))


def test_attempts_go_on_after_a_retry_of_the_execution() -> None:
    """
    The retries of a policy start again with a retry of the execution; the attempts are
    counted on.
    """
    engine = failing(3, {**INTERNAL, "MaxAttempts": 1})
    engine.advance(1000)
    assert (engine.status, engine.runs["A"].attempt) == ("Failed", 2)
    engine.retry(1000, engine.scenario, inf)
    engine.advance(FOREVER)
    assert (engine.status, engine.runs["A"].attempt) == ("Succeeded", 4)
    assert [run.attempt for run in engine.history] == [2, 4, 1]
