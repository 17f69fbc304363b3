"""The classes and functions of Airflow that have other places, or do not exist, in some versions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    MappedOperator,
    conf,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES

if TYPE_CHECKING or CAPABILITIES.task_sdk:
    from airflow.sdk.exceptions import AirflowRescheduleException
else:
    from airflow.exceptions import AirflowRescheduleException

if TYPE_CHECKING or CAPABILITIES.retry_policy:
    from airflow.sdk import RetryAction, RetryDecision, RetryPolicy
else:
    from polysync_airflow.airflow_compat.retry_policy import RetryAction, RetryDecision, RetryPolicy

__all__ = [
    "AirflowFailException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseOperator",
    "RetryAction",
    "RetryDecision",
    "RetryPolicy",
    "api_status_code",
    "conf",
    "is_mapped",
]


def is_mapped(task: Any) -> bool:
    """
    Return whether a task is still mapped: not yet that of one map index.

    :param task: the ``task`` of a context.
    """
    return isinstance(task, MappedOperator)


def api_status_code(error: Exception) -> Any:
    """Return the HTTP status with which Airflow's API server refused a request; None for other errors."""
    response = getattr(error, "error", None)
    detail = getattr(response, "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None
