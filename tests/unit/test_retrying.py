"""
The retry policy: its decisions by error, its serialization, and which next try a
message announces.
"""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import (
    BaseOperator,
    ExceptionRetryPolicy,
    RetryAction,
    RetryDecision,
    RetryRule,
)

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
from polysync_airflow.retrying import (
    PolysyncRetryPolicy,
    may_retry_refusal,
    next_session,
)

RETRIES = 3
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def api_error(
    code: str, operation: str = "StartPipelineExecution"
) -> SageMakerApiError:
    """Return the error that the hook raises for an error code."""
    return SageMakerApiError(
        "no", error_code=code, operation=operation, permanent=hint_for(code).permanent
    )


def decision(error: BaseException, *, try_number: int = 1) -> RetryDecision:
    """Return the decision of the policy after a failed try."""
    return PolysyncRetryPolicy().evaluate(error, try_number, RETRIES)


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

    assert decision(error) == RetryDecision(RetryAction.FAIL, None, reason)
    assert decision(error, try_number=RETRIES + 1) == decision(error)


@pytest.mark.parametrize(
    "error",
    [
        api_error("ResourceLimitExceeded"),
        api_error("ThrottlingException"),
        api_error("ConflictException"),
        api_error("SomethingNew"),
        CredentialsError("no answer", permanent=False),
        TriggerEventError("no"),
        execution_error(PipelineExecutionFailedError),
        execution_error(PipelineExecutionTimeoutError),
        execution_error(PipelineExecutionCancelledError),
        ValueError("foreign"),
        KeyboardInterrupt(),
    ],
    ids=name_of,
)
def test_other_errors_use_the_retries_of_the_task(error: BaseException) -> None:
    """The delay is the task's own, too."""
    assert decision(error) == RetryDecision.default()


@pytest.mark.parametrize("most", [None, 3] if CAPABILITIES.reschedules else [None])
def test_policy_can_be_stored_as_json(most: int | None) -> None:
    """``serialize`` returns JSON, from which ``deserialize`` makes an equal policy."""
    policy = PolysyncRetryPolicy(max_reschedules=most)
    stored = json.loads(json.dumps(policy.serialize()))

    given = {"max_reschedules": most} if most else {}
    assert stored == {"__type": "PolysyncRetryPolicy", **given}
    assert PolysyncRetryPolicy.deserialize(stored) == policy


INVALID: list[tuple[Any, str]] = [
    (each, "give a whole number") for each in (0, True, 1.5, "3")
]
if not CAPABILITIES.reschedules:
    INVALID.append((3, "needs Airflow 3.4 or newer: .* wait_for_capacity = True"))


@pytest.mark.parametrize(("most", "cure"), INVALID)
def test_number_of_reschedules_is_checked(most: Any, cure: str) -> None:
    """The error names what was given, and what to do, also where Airflow is too old."""
    with pytest.raises(ParametersError, match=f"max_reschedules = {most!r} .*{cure}"):
        PolysyncRetryPolicy(max_reschedules=most)


FAILED = execution_error(PipelineExecutionFailedError)


def _when(policy: Any, error: Exception, context: Any) -> str | None:
    retry = next_session(policy, error, context)
    assert retry is None or not retry.is_same_try
    return retry and retry.when


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

    assert _when(PolysyncRetryPolicy(), error, context) == expected


@pytest.mark.parametrize(
    ("delay", "expected"), [(10 * MINUTE, "in 10 min"), (None, "in 1 s")]
)
def test_announced_retry_has_the_delay_of_the_policy(
    delay: timedelta | None, expected: str
) -> None:
    """If the policy of a DAG author has none, it is the task's own."""
    policy = ExceptionRetryPolicy(
        rules=[RetryRule(exception=SageMakerApiError, retry_delay=delay)]
    )

    error = api_error("ResourceLimitExceeded")

    assert _when(policy, error, context_of(1)) == expected


class PolicyOfAnAuthor(PolysyncRetryPolicy):
    """A policy that may retry anything."""


@pytest.mark.parametrize(
    ("policy", "may_retry"),
    [
        (PolysyncRetryPolicy(), False),
        (PolicyOfAnAuthor(), True),
        (None, True),
    ],
    ids=str,
)
def test_only_policies_of_authors_may_retry_a_refusal(
    policy: Any, may_retry: bool
) -> None:
    """
    Only of the provider's own policy is it known before that it retries none, and of
    the last try, which a policy may reschedule on Airflow 3.4.
    """
    ti = SimpleNamespace(try_number=RETRIES, max_tries=RETRIES)
    context: Any = {"ti": ti}
    assert may_retry_refusal(policy, context) is may_retry

    ti.try_number = RETRIES + 1
    reschedules = CAPABILITIES.reschedules and isinstance(policy, PolicyOfAnAuthor)
    assert may_retry_refusal(policy, context) is reschedules


def test_each_hint_agrees_with_the_kind_of_its_error() -> None:
    """A permanent error is not transient, and every alias has a hint."""
    for hint in (*HINTS.values(), *OPERATION_HINTS.values()):
        assert not (hint.permanent and hint.transient)
    assert set(ALIASES.values()) <= set(HINTS)
    assert not SageMakerApiError(
        "no", error_code="x", operation="y", permanent=True, transient=True
    ).transient
