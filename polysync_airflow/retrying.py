"""
The default retry policy of the operators: whether Airflow retries a failed task.

``aws/retry.py`` is something else: it repeats single calls to AWS within a try.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    Context,
    conf,
)

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.sdk import RetryAction, RetryDecision, RetryPolicy
from polysync_airflow.execution.texts import format_seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PolysyncRetryPolicy(RetryPolicy):
    """
    Fail the task without retries after a permanent error: one whose attribute
    ``permanent`` is True.

    The operators use this policy unless they get another ``retry_policy``, as an
    argument or in ``default_args``. For all other errors, and for executions that
    failed, were cancelled or timed out, the task's ``retries`` and ``retry_delay``
    apply. Before Airflow 3.3, the operators apply the policy: a permanent error becomes
    the cause of an ``AirflowFailException``.

    In Airflow, see
    https://airflow.apache.org/docs/apache-airflow/3.3.2/core-concepts/tasks.html and
    ``_handle_current_task_failed`` in airflow/sdk/execution_time/task_runner.py.
    """

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """
        Return the decision after a failed try. Airflow calls this in the task's
        process.

        :param try_number: number of the failed try, from 1.
        :param context: the task's context.
        """
        if not isinstance(exception, exceptions.PolysyncError):
            return RetryDecision.default()
        if not exception.permanent:
            return RetryDecision.default()
        name = type(exception).__name__
        if isinstance(exception, exceptions.SageMakerApiError):
            name = exception.error_code
        return RetryDecision.fail(f"{name}: permanent error, a retry cannot succeed")

    def serialize(self) -> dict[str, Any]:
        """Return this policy as a dict that can be stored as JSON."""
        return {"__type": type(self).__name__}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PolysyncRetryPolicy:
        """Return the policy that ``serialize`` returned as a dict."""
        return cls()


def forbids_retry(
    policy: RetryPolicy | None, error: Exception, context: Context
) -> bool:
    """Return whether a policy says that a task must not be retried."""
    return _decision(policy, error, context).action is RetryAction.FAIL


def next_retry(
    policy: RetryPolicy | None, error: Exception, context: Context
) -> str | None:
    """
    Return when Airflow starts another try after an error, such as ``in 5 min``; None if
    none follows.
    """
    if is_last_try(context) or isinstance(error, AirflowFailException):
        return None
    decision = _decision(policy, error, context)
    if decision.action is RetryAction.FAIL:
        return None
    if decision.action is RetryAction.RETRY and decision.retry_delay is not None:
        return f"in {format_seconds(decision.retry_delay.total_seconds())}"

    # As ``next_retry_datetime`` in airflow/models/taskinstance.py.
    task = cast("BaseOperator", context["task"])
    factor = task.retry_exponential_backoff or 1.0
    if factor is True:
        # It comes from Airflow 2.
        factor = 2.0
    if factor == 1:
        return f"in {format_seconds(task.retry_delay.total_seconds())}"
    try:
        delay = task.retry_delay * factor ** (context["ti"].try_number - 1)
    except OverflowError:
        delay = timedelta.max
    # Airflow adds up to as much again to a delay that grows.
    longest = conf.getint("core", "max_task_retry_delay", fallback=24 * 3600)
    max_delay = cast("timedelta | None", task.max_retry_delay) or timedelta.max
    shortest = min(delay, timedelta(seconds=longest), max_delay)
    return f"in at least {format_seconds(shortest.total_seconds())}"


def is_last_try(context: Context) -> bool:
    """Return whether Airflow starts no other try, whatever a retry policy says."""
    ti = context["ti"]
    return bool(ti.try_number > ti.max_tries)


def may_retry_refusal(policy: RetryPolicy | None, context: Context) -> bool:
    """
    Return whether a retry may follow if AWS refuses the polls of an execution for good.

    Nobody knows the error yet, so a policy of the DAG author's counts as one that
    retries.
    """
    if is_last_try(context):
        return False
    return type(policy) is not PolysyncRetryPolicy


def _decision(
    policy: RetryPolicy | None, error: Exception, context: Context
) -> RetryDecision:
    ti = context["ti"]
    if not policy:
        return RetryDecision.default()
    try:
        return policy.evaluate(error, ti.try_number, ti.max_tries, context)
    except Exception:
        # Airflow ignores a retry policy that raises and uses the task's retries. The
        # task must end with its own error, not with the policy's.
        log.exception("The task's retry_policy raised an error")
        return RetryDecision.default()
