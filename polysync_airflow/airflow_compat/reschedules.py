"""Reschedules of a task: its try is not over, and runs again in a new session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC
from typing import Any

from polysync_airflow.airflow_compat.sdk import RetryDecision
from polysync_airflow.execution import clock


def is_rescheduled(context: Mapping[str, Any]) -> bool:
    """
    Return whether an earlier session of this try has ended with a reschedule. For a
    worker.

    The number of the try and the id of the task instance stay; its XComs are deleted.
    """
    return _count(context) > 0


def _count(context: Mapping[str, Any]) -> int:
    # Airflow 2 does not tell it.
    return int(context.get("task_reschedule_count") or 0)


def is_reschedule(decision: RetryDecision) -> bool:
    """Return whether a retry policy says that the task is rescheduled."""
    return bool(decision.action.value == "reschedule")


def reschedule(*, max_reschedules: int, reason: str) -> RetryDecision:
    """
    Return the decision to reschedule a task after its ``retry_delay``.

    :param max_reschedules: for one try. After them, its retries apply.
    """
    decision: Any = RetryDecision
    rescheduled: RetryDecision = decision.reschedule(
        max_reschedules=max_reschedules, reason=reason
    )
    return rescheduled


def settled(decision: RetryDecision, context: Mapping[str, Any]) -> RetryDecision:
    """
    Return a decision of a retry policy whose bounds are met or not, once and for all:
    Airflow looks at them a moment later, and must come to the same result.

    As ``_handle_current_task_failed`` in airflow/sdk/execution_time/task_runner.py of
    Airflow 3.4.

    :param context: the context of the task on a worker.
    :raises Exception: Airflow does not respond.
    """
    if not is_reschedule(decision):
        return decision
    count = _count(context)
    bounds: Any = decision
    limit = _reached(bounds, context, count)
    if limit is None:
        most = bounds.max_reschedules or count + 1
        changes: Any = {"max_reschedules": most, "reschedule_timeout": None}
        return replace(decision, **changes)
    reason = f"Reschedule limit reached ({limit})"
    if decision.reason:
        reason = f"{reason}: {decision.reason}"
    return RetryDecision.retry(reason=reason)


def _reached(bounds: Any, context: Mapping[str, Any], count: int) -> str | None:
    """Return the bound that a further reschedule would exceed; None if none would."""
    if bounds.max_reschedules is not None and count >= bounds.max_reschedules:
        return f"max_reschedules={bounds.max_reschedules}"
    if bounds.reschedule_timeout is None:
        return None
    first = context["ti"].get_first_reschedule_date(context)
    if first is None or clock.now() - first.astimezone(UTC) < bounds.reschedule_timeout:
        return None
    return f"reschedule_timeout={bounds.reschedule_timeout}"
