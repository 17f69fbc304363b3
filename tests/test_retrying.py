"""The retry policy: what it decides by the error and the task's own delays, and that it can be stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.models.taskinstance import TaskInstance
from airflow.sdk import BaseOperator, RetryAction, RetryDecision

from polysync_airflow.exceptions import (
    ALIASES,
    HINTS,
    SIGN_IN_HINTS,
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
from polysync_airflow.retrying import PolysyncRetryPolicy

RETRIES = 3
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def refused(code: str, operation: str = "StartPipelineExecution") -> SageMakerApiError:
    """Make the error that the hook makes of a code."""
    return SageMakerApiError("no", error_code=code, operation=operation, permanent=hint_for(code).permanent)


def decision(
    error: BaseException,
    policy: PolysyncRetryPolicy | None = None,
    *,
    try_number: int = 1,
    **task: Any,
) -> RetryDecision:
    """Ask a policy, the default one if none is given, about a task whose own delay is a second by default."""
    operator = BaseOperator(task_id="t", retries=RETRIES, **{"retry_delay": SECOND, **task})
    context: Any = {"task": operator}
    return (policy or PolysyncRetryPolicy()).evaluate(error, try_number, RETRIES, context)


def execution_error(kind: type[PipelineExecutionError], **members: Any) -> PipelineExecutionError:
    """Make an error about an execution."""
    return kind("no", execution_arn="arn", status=None, **members)


FAIL, RETRY, DEFAULT = RetryAction.FAIL, RetryAction.RETRY, RetryAction.DEFAULT


@pytest.mark.parametrize(
    ("error", "action", "delay", "reason"),
    [
        (refused("AccessDeniedException"), FAIL, None, "AccessDeniedException: trying again cannot cure it"),
        (refused("AccessDenied"), FAIL, None, "AccessDenied: trying again cannot cure it"),
        (refused("ValidationException"), FAIL, None, "ValidationException: trying again cannot cure it"),
        (refused("ResourceNotFound"), FAIL, None, "ResourceNotFound: trying again cannot cure it"),
        (refused("ParamValidationError"), FAIL, None, "ParamValidationError: trying again cannot cure it"),
        (ParametersError("no"), FAIL, None, "ParametersError: trying again cannot cure it"),
        (CredentialsError("no"), FAIL, None, "CredentialsError: trying again cannot cure it"),
        (
            execution_error(PipelineExecutionError, permanent=True),
            FAIL,
            None,
            "PipelineExecutionError: trying again cannot cure it",
        ),
        (
            refused("ResourceLimitExceeded"),
            RETRY,
            10 * MINUTE,
            "ResourceLimitExceeded: next try after 600 s",
        ),
        (refused("ThrottlingException"), RETRY, MINUTE, "ThrottlingException: next try after 60 s"),
        (refused("Throttling"), RETRY, MINUTE, "Throttling: next try after 60 s"),
        (refused("ConflictException"), DEFAULT, None, None),
        (refused("ExpiredTokenException"), DEFAULT, None, None),
        (refused("EndpointConnectionError"), DEFAULT, None, None),
        (refused("SomethingNew"), DEFAULT, None, None),
        (CredentialsError("no answer", permanent=False), DEFAULT, None, None),
        (TriggerEventError("no"), DEFAULT, None, None),
        (execution_error(PipelineExecutionFailedError), DEFAULT, None, None),
        (execution_error(PipelineExecutionTimeoutError), DEFAULT, None, None),
        (execution_error(PipelineExecutionCancelledError), DEFAULT, None, None),
        (ValueError("foreign"), DEFAULT, None, None),
        (KeyboardInterrupt(), DEFAULT, None, None),
    ],
    ids=lambda value: (
        getattr(value, "error_code", type(value).__name__) if isinstance(value, BaseException) else None
    ),
)
def test_the_error_decides(
    error: BaseException, action: RetryAction, delay: timedelta | None, reason: str | None
) -> None:
    """What lasts fails, what has a delay worth waiting waits for it, all else is the task's own retries."""
    assert decision(error) == RetryDecision(action, delay, reason)


def test_no_task_at_hand_is_no_hindrance() -> None:
    """Without a context, or with one that names no task, the table's delay is all there is."""
    nothing: Any = {}
    for context in (None, nothing):
        decided = PolysyncRetryPolicy().evaluate(refused("ThrottlingException"), 1, RETRIES, context)
        assert decided.retry_delay == MINUTE


@pytest.mark.parametrize(
    ("task", "try_number", "delay"),
    [
        ({"retry_delay": 59 * SECOND}, 1, MINUTE),
        ({"retry_delay": MINUTE}, 1, None),
        ({"retry_delay": 5 * MINUTE}, 1, None),
        ({"retry_delay": SECOND, "max_retry_delay": 30 * SECOND}, 1, 30 * SECOND),
        ({"retry_delay": 30.0, "max_retry_delay": 30.0}, 1, None),
        # Airflow waits from 10 to 20 s, 20 to 40, 40 to 80, 80 to 160.
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2}, 1, MINUTE),
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2}, 2, MINUTE),
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2}, 3, 80 * SECOND),
        ({"retry_delay": 10 * SECOND, "retry_exponential_backoff": True}, 3, 80 * SECOND),
        (
            {"retry_delay": 10 * SECOND, "retry_exponential_backoff": 2, "max_retry_delay": 70 * SECOND},
            3,
            70 * SECOND,
        ),
        ({"retry_delay": 20 * SECOND, "retry_exponential_backoff": 4}, 2, None),
        ({"retry_delay": SECOND, "retry_exponential_backoff": 1e200}, 3, None),
    ],
)
def test_no_delay_is_shorter_than_the_tasks_own(
    task: dict[str, Any], try_number: int, delay: timedelta | None
) -> None:
    """None leaves it to Airflow, which waits longer; ``max_retry_delay`` has the last word."""
    decided = decision(refused("ThrottlingException"), try_number=try_number, **task)

    assert decided.retry_delay == delay
    assert decided.action is (RETRY if delay else DEFAULT)


@pytest.mark.parametrize("factor", [0, 1, 1.5, 2, 10])
@pytest.mark.parametrize("longest", [None, 45 * SECOND, 5 * MINUTE])
@pytest.mark.parametrize("own", [SECOND, 20 * SECOND, 2 * MINUTE])
def test_airflows_own_reckoning_is_never_undercut(
    own: timedelta, longest: timedelta | None, factor: float
) -> None:
    """Beside ``next_retry_datetime`` itself: at least as long as it, and as the table, or the author's longest."""
    task: dict[str, Any] = {
        "retry_delay": own,
        "retry_exponential_backoff": factor,
        "max_retry_delay": longest,
    }
    now = datetime.now(UTC)
    reckon: Any = TaskInstance.next_retry_datetime
    for try_number in range(1, RETRIES + 1):
        decided = decision(refused("ThrottlingException"), try_number=try_number, **task).retry_delay
        ti: Any = SimpleNamespace(
            retry_delay_override=None,
            task=BaseOperator(task_id="t", **task),
            end_date=now,
            try_number=try_number,
            dag_id="d",
            task_id="t",
            logical_date=now,
        )
        airflows = reckon(ti) - now

        assert (decided or airflows) >= airflows
        assert (decided or airflows) >= min(MINUTE, longest or MINUTE)


def test_the_last_try_speaks_of_no_next_one() -> None:
    """With no retries left only what cannot be cured is told as such."""
    assert decision(refused("ThrottlingException"), try_number=RETRIES + 1) == RetryDecision.default()
    assert decision(refused("ValidationException"), try_number=RETRIES + 1).action is FAIL


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (
            "ResourceLimitExceeded",
            RetryDecision.retry(2 * SECOND, "ResourceLimitExceeded: next try after 2 s"),
        ),
        ("Throttling", RetryDecision.retry(3 * SECOND, "Throttling: next try after 3 s")),
        ("AccessDeniedException", RetryDecision.retry(MINUTE, "AccessDeniedException: next try after 60 s")),
        ("ResourceNotFound", RetryDecision.default()),
        ("SomethingNew", RetryDecision.retry(MINUTE, "SomethingNew: next try after 60 s")),
        ("ValidationException", RetryDecision.fail("ValidationException: trying again cannot cure it")),
    ],
)
def test_an_author_knows_better(code: str, expected: RetryDecision) -> None:
    """A delay of one's own goes before the table's, under any of a code's names, also for what lasts."""
    policy = PolysyncRetryPolicy(
        retry_after={
            "ResourceLimitExceeded": 2 * SECOND,
            "ThrottlingException": 3 * SECOND,
            "AccessDeniedException": MINUTE,
            "ResourceNotFound": 0 * SECOND,
            "SomethingNew": MINUTE,
        }
    )

    assert decision(refused(code), policy) == expected


@pytest.mark.parametrize("delay", [60, None, "60", timedelta(seconds=-1)])
def test_a_delay_is_a_timedelta(delay: Any) -> None:
    """A bare number could mean anything; the error names the code."""
    with pytest.raises(ParametersError, match=r"retry_after\['ThrottlingException'\] = "):
        PolysyncRetryPolicy(retry_after={"ThrottlingException": delay})


@pytest.mark.parametrize(
    "policy", [PolysyncRetryPolicy(), PolysyncRetryPolicy(retry_after={"SomethingNew": 1.5 * MINUTE})]
)
def test_a_policy_survives_json(policy: PolysyncRetryPolicy) -> None:
    """What ``serialize`` returns is JSON, and makes the same policy again."""
    stored = json.loads(json.dumps(policy.serialize()))

    assert stored["__type"] == "PolysyncRetryPolicy"
    assert PolysyncRetryPolicy.deserialize(stored) == policy


def test_the_table_of_hints_does_not_contradict_itself() -> None:
    """What lasts neither passes nor is worth a delay, and every alias leads to an entry."""
    for hint in (*HINTS.values(), *SIGN_IN_HINTS.values()):
        assert not hint.permanent or (not hint.transient and hint.retry_delay is None)
    assert set(ALIASES.values()) <= set(HINTS)
    assert not SageMakerApiError(
        "no", error_code="x", operation="y", permanent=True, transient=True
    ).transient
