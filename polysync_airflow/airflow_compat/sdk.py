"""The classes and functions of Airflow that have other places, or do not exist, in some versions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowNotFoundException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseOperator,
    BaseOperatorLink,
    conf,
    literal,
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
    "AirflowException",
    "AirflowFailException",
    "AirflowNotFoundException",
    "AirflowRescheduleException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "AirflowTaskTimeout",
    "BaseOperator",
    "BaseOperatorLink",
    "RetryAction",
    "RetryDecision",
    "RetryPolicy",
    "api_status_code",
    "conf",
    "is_mapped",
    "is_xcom_arg",
    "literal",
    "make_task",
    "metrics_are_on",
    "metrics_have_tags",
    "metrics_sender",
]


def is_mapped(task: Any) -> bool:
    """
    Return whether a task is still mapped: not yet that of one map index.

    :param task: the ``task`` of a context.
    """
    # Imported here, because Airflow parses a DAG file every 30 seconds.
    from airflow.providers.common.compat.sdk import MappedOperator

    return isinstance(task, MappedOperator)


def is_xcom_arg(value: Any) -> bool:
    """Return whether a value is the output of a task."""
    from airflow.providers.common.compat.sdk import XComArg

    return isinstance(value, XComArg)


def make_task(function: Callable[..., Any], task_id: str) -> Callable[..., Any]:
    """Return a TaskFlow task, as the decorator ``@task`` makes it. A call adds it to the current DAG."""
    from airflow.providers.common.compat.sdk import task

    made: Callable[..., Any] = task(task_id=task_id)(function)
    return made


def api_status_code(error: Exception) -> Any:
    """Return the HTTP status with which Airflow's API server refused a request; None for other errors."""
    response = getattr(error, "error", None)
    detail = getattr(response, "detail", None)
    return detail.get("status_code") if isinstance(detail, dict) else None


def metrics_are_on() -> bool:
    """Return whether the deployment sends metrics anywhere: to StatsD, Datadog or OpenTelemetry."""
    return any(_metrics_option(name) for name in ("statsd_datadog_enabled", "statsd_on", "otel_on"))


def metrics_have_tags() -> bool:
    """
    Return whether the metrics of the deployment keep their tags. Plain StatsD has none.

    If several are on, Airflow takes the first one, in this order.
    """
    if _metrics_option("statsd_datadog_enabled"):
        return _metrics_option("statsd_datadog_metrics_tags", default=True)
    if _metrics_option("statsd_on"):
        return _metrics_option("statsd_influxdb_enabled")
    return True


def _metrics_option(name: str, *, default: bool = False) -> bool:
    return bool(conf.getboolean("metrics", name, fallback=default))


def metrics_sender() -> Any:
    """
    Return what sends metrics: Airflow's ``Stats``, with ``incr`` and ``gauge``.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
    """
    # The process of a task initialises it. That of a triggerer does when it reads the arguments of its first
    # trigger: Airflow's serializers send metrics, too.
    from airflow.providers.common.compat.sdk import Stats

    return Stats
