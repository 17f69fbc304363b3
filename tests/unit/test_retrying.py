"""
The retry policy: its decisions by error and by the task's own delays, and its
serialization.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import BaseOperator, RetryAction, RetryDecision

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import AirflowFailException
from polysync_airflow.exceptions import (
    ALIASES,
    HINTS,
    OPERATION_HINTS,
    CredentialsError,
    ParametersError,
    PipelineExecutionCancelledError,
    PipelineExecutionError,
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
    SageMakerApiError,
    TriggerEventError,
    hint_for,
)
from polysync_airflow.retrying import PolysyncRetryPolicy, may_retry_refusal, next_retry

RETRIES = 3
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def api_error(
    code: str, operation: str = "StartPipelineExecution"
) -> SageMakerApiError:
    """Return the error that the hook raises for an error code."""
    return SageMakerApiError(
        "no", error_code=code, operation=operation, permanent=hint_for(code).permanent
    )


def decision(
    error: BaseException,
    policy: PolysyncRetryPolicy | None = None,
    *,
    try_number: int = 1,
    **task: Any,
) -> RetryDecision:
    """
    Return the decision of a policy for a task; its ``retry_delay`` is a second unless
    another is given.
    """
    policy = policy or PolysyncRetryPolicy()
    return policy.evaluate(error, try_number, RETRIES, context_of(try_number, **task))


def context_of(try_number: int, **task: Any) -> Any:
    """Return the context of a try of a task."""
    arguments = {"retries": RETRIES, "retry_delay": SECOND, **task}
    ti = SimpleNamespace(try_number=try_number, max_tries=RETRIES)
    return {"task": BaseOperator(task_id="t", **arguments), "ti": ti}


def backoff(
    delay: timedelta, factor: float, longest: timedelta | None = None
) -> dict[str, Any]:
    """Return the arguments of a task whose delays grow."""
    return {
        "retry_delay": delay,
        "retry_exponential_backoff": factor,
        "max_retry_delay": longest,
    }


def execution_error(
    kind: type[PipelineExecutionError], **members: Any
) -> PipelineExecutionError:
    """Return an error about an execution."""
    return kind("no", execution_arn="arn", status=None, **members)


FAIL, RETRY, DEFAULT = RetryAction.FAIL, RetryAction.RETRY, RetryAction.DEFAULT


def name_of(value: Any) -> str | None:
    """Return the name of an error in the id of a test."""
    if not isinstance(value, BaseException):
        return None
    return getattr(value, "error_code", None) or type(value).__name__


@pytest.mark.parametrize(
    "error",
    [
        api_error("AccessDeniedException"),
        ParametersError("no"),
        CredentialsError("no"),
        execution_error(PipelineExecutionError, permanent=True),
    ],
    ids=name_of,
)
def test_permanent_error_fails_the_task(error: Exception) -> None:
    """The reason names the error."""
    reason = f"{name_of(error)}: permanent error, a retry cannot succeed"

    assert decision(error) == RetryDecision(FAIL, None, reason)


@pytest.mark.parametrize(
    ("error", "action", "delay", "reason"),
    [
        (api_error("ResourceLimitExceeded"), RETRY, 10 * MINUTE, "after 10 min"),
        (api_error("ThrottlingException"), RETRY, MINUTE, "after 1 min"),
        (api_error("ConflictException"), DEFAULT, None, None),
        (api_error("SomethingNew"), DEFAULT, None, None),
        (CredentialsError("no answer", permanent=False), DEFAULT, None, None),
        (TriggerEventError("no"), DEFAULT, None, None),
        (execution_error(PipelineExecutionFailedError), DEFAULT, None, None),
        (execution_error(PipelineExecutionTimeoutError), DEFAULT, None, None),
        (execution_error(PipelineExecutionCancelledError), DEFAULT, None, None),
        (ValueError("foreign"), DEFAULT, None, None),
        (KeyboardInterrupt(), DEFAULT, None, None),
    ],
    ids=name_of,
)
def test_decision_depends_on_the_error(
    error: BaseException,
    action: RetryAction,
    delay: timedelta | None,
    reason: str | None,
) -> None:
    """Errors with a delay use it, and others use the task's own retries."""
    text = reason and f"{name_of(error)}: next try {reason}"

    assert decision(error) == RetryDecision(action, delay, text)


def test_delay_of_the_hint_is_used_without_a_task() -> None:
    """
    Without a context, or with a context without a task, the delay is that of the hint.
    """
    throttled = api_error("ThrottlingException")
    empty_context: Any = {}
    for context in (None, empty_context):
        result = PolysyncRetryPolicy().evaluate(throttled, 1, RETRIES, context)
        assert result.retry_delay == MINUTE


@pytest.mark.parametrize(
    ("task", "try_number", "delay"),
    [
        ({"retry_delay": 59 * SECOND}, 1, MINUTE),
        ({"retry_delay": MINUTE}, 1, None),
        ({"retry_delay": 5 * MINUTE}, 1, None),
        ({"retry_delay": SECOND, "max_retry_delay": 30 * SECOND}, 1, 30 * SECOND),
        ({"retry_delay": 30.0, "max_retry_delay": 30.0}, 1, None),
        # Airflow waits 10 to 20 s, 20 to 40 s, 40 to 80 s, 80 to 160 s.
        (backoff(10 * SECOND, 2), 1, MINUTE),
        (backoff(10 * SECOND, 2), 2, MINUTE),
        (backoff(10 * SECOND, 2), 3, 80 * SECOND),
        (backoff(10 * SECOND, True), 3, 80 * SECOND),
        (backoff(10 * SECOND, 2, 70 * SECOND), 3, 70 * SECOND),
        (backoff(20 * SECOND, 4), 2, None),
        (backoff(SECOND, 1e200), 3, None),
    ],
)
def test_delay_is_not_shorter_than_the_tasks_own(
    task: dict[str, Any], try_number: int, delay: timedelta | None
) -> None:
    """
    If Airflow's own delay is longer, it applies (None); no delay is longer than
    ``max_retry_delay``.
    """
    result = decision(api_error("ThrottlingException"), try_number=try_number, **task)

    assert result.retry_delay == delay
    assert result.action is (RETRY if delay else DEFAULT)


@pytest.mark.parametrize("factor", [0, 1, 1.5, 2, 10])
@pytest.mark.parametrize("longest", [None, 45 * SECOND, 5 * MINUTE])
@pytest.mark.parametrize("own", [SECOND, 20 * SECOND, 2 * MINUTE])
def test_delay_is_at_least_the_one_that_airflow_calculates(
    own: timedelta, longest: timedelta | None, factor: float
) -> None:
    """
    The delay is at least that of ``next_retry_datetime`` and that of the hint (or
    ``max_retry_delay``).
    """
    task = backoff(own, factor, longest)
    now = datetime.now(UTC)
    next_retry_datetime: Any = TaskInstance.next_retry_datetime
    for try_number in range(1, RETRIES + 1):
        throttled = api_error("ThrottlingException")
        delay = decision(throttled, try_number=try_number, **task).retry_delay
        ti: Any = SimpleNamespace(
            retry_delay_override=None,
            task=BaseOperator(task_id="t", **task),
            end_date=now,
            try_number=try_number,
            dag_id="d",
            task_id="t",
            logical_date=now,
            state="running",
        )
        airflow_delay = next_retry_datetime(ti) - now

        assert (delay or airflow_delay) >= airflow_delay
        assert (delay or airflow_delay) >= min(MINUTE, longest or MINUTE)


def test_no_delay_after_the_last_try() -> None:
    """
    After the last try the decision has no delay; a permanent error still fails the
    task.
    """
    throttled = decision(api_error("ThrottlingException"), try_number=RETRIES + 1)
    invalid = decision(api_error("ValidationException"), try_number=RETRIES + 1)

    assert throttled == RetryDecision.default()
    assert invalid.action is FAIL


@pytest.mark.parametrize(
    ("code", "delay", "text"),
    [
        ("ResourceLimitExceeded", 2 * SECOND, "2 s"),
        ("Throttling", 3 * SECOND, "3 s"),
        ("AccessDeniedException", MINUTE, "1 min"),
        ("SomethingNew", MINUTE, "1 min"),
        ("ResourceNotFound", None, None),
    ],
)
def test_retry_after_overrides_the_hint(
    code: str, delay: timedelta | None, text: str | None
) -> None:
    """
    ``retry_after`` overrides the hint of a code and its aliases, even for permanent
    errors.
    """
    policy = PolysyncRetryPolicy(
        retry_after={
            "ResourceLimitExceeded": 2 * SECOND,
            "ThrottlingException": 3 * SECOND,
            "AccessDeniedException": MINUTE,
            "ResourceNotFound": 0 * SECOND,
            "SomethingNew": MINUTE,
        }
    )

    expected = RetryDecision.default()
    if delay is not None:
        expected = RetryDecision.retry(delay, f"{code}: next try after {text}")
    assert decision(api_error(code), policy) == expected
    assert decision(api_error("ValidationException"), policy).action is FAIL


@pytest.mark.parametrize("delay", [60, None, "60", timedelta(seconds=-1)])
def test_retry_after_accepts_only_timedeltas(delay: Any) -> None:
    """
    A value of another type, or a negative one, raises an error that names the error
    code.
    """
    problem = r"retry_after\['ThrottlingException'\] = "
    with pytest.raises(ParametersError, match=problem):
        PolysyncRetryPolicy(retry_after={"ThrottlingException": delay})


@pytest.mark.parametrize(
    "policy",
    [
        PolysyncRetryPolicy(),
        PolysyncRetryPolicy(retry_after={"SomethingNew": 1.5 * MINUTE}),
    ],
)
def test_policy_can_be_stored_as_json(policy: PolysyncRetryPolicy) -> None:
    """``serialize`` returns JSON, from which ``deserialize`` makes an equal policy."""
    stored = json.loads(json.dumps(policy.serialize()))

    assert stored["__type"] == "PolysyncRetryPolicy"
    assert PolysyncRetryPolicy.deserialize(stored) == policy


FAILED = execution_error(PipelineExecutionFailedError)


@pytest.mark.parametrize(
    ("error", "task", "try_number", "expected"),
    [
        (FAILED, {"retry_delay": 5 * MINUTE}, 1, "in 5 min"),
        (FAILED, {"retry_delay": 90 * SECOND}, RETRIES, "in 1 min 30 s"),
        (FAILED, {"retry_delay": MINUTE, "max_retry_delay": SECOND}, 1, "in 1 min"),
        # After the last try, and after errors that a retry cannot cure.
        (FAILED, {}, RETRIES + 1, None),
        (AirflowFailException("no"), {}, 1, None),
        (api_error("AccessDeniedException"), {}, 1, None),
        # Airflow waits 60 to 120 s, 120 to 240 s ...
        (FAILED, backoff(MINUTE, 2), 1, "in at least 1 min"),
        (FAILED, backoff(MINUTE, True), 3, "in at least 4 min"),
        (FAILED, backoff(MINUTE, 2, 90 * SECOND), 3, "in at least 1 min 30 s"),
        # [core] max_task_retry_delay
        (FAILED, backoff(MINUTE, 1e200), 3, "in at least 1 d"),
    ],
    ids=str,
)
def test_message_of_a_failure_announces_the_next_try(
    error: Exception, task: dict[str, Any], try_number: int, expected: str | None
) -> None:
    """The message of a failure says when the next try begins."""
    context = context_of(try_number, **task)

    assert next_retry(PolysyncRetryPolicy(), error, context) == expected


def test_announced_retry_has_the_delay_of_the_policy() -> None:
    """Before Airflow 3.3, a policy cannot change it."""
    error = api_error("ResourceLimitExceeded")

    announced = next_retry(PolysyncRetryPolicy(), error, context_of(1))

    assert announced == ("in 10 min" if CAPABILITIES.retry_policy else "in 1 s")


class PolicyOfAnAuthor(PolysyncRetryPolicy):
    """A policy that may retry anything."""


@pytest.mark.parametrize(
    ("policy", "may_retry"),
    [
        (PolysyncRetryPolicy(), False),
        (PolysyncRetryPolicy(retry_after={"AccessDeniedException": MINUTE}), True),
        (PolicyOfAnAuthor(), True),
        (None, True),
    ],
    ids=str,
)
def test_retry_after_a_refusal(policy: Any, may_retry: bool) -> None:
    """
    Only of the provider's own policy is it known before that it retries none, and of
    the last try.
    """
    ti = SimpleNamespace(try_number=RETRIES, max_tries=RETRIES)
    context: Any = {"ti": ti}
    assert may_retry_refusal(policy, context) is may_retry

    ti.try_number = RETRIES + 1
    assert not may_retry_refusal(policy, context)


def test_each_hint_agrees_with_the_kind_of_its_error() -> None:
    """
    A permanent error is neither transient nor has a retry delay, and every alias has a
    hint.
    """
    for hint in (*HINTS.values(), *OPERATION_HINTS.values()):
        assert not hint.permanent or (not hint.transient and hint.retry_delay is None)
    assert set(ALIASES.values()) <= set(HINTS)
    assert not SageMakerApiError(
        "no", error_code="x", operation="y", permanent=True, transient=True
    ).transient
