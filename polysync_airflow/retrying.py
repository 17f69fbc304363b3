"""
The default retry policy of the operators: whether Airflow retries a failed task, and
after which delay.

``aws/retry.py`` is something else: it repeats single calls to AWS within a try.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    Context,
    conf,
)

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import RetryAction, RetryDecision, RetryPolicy
from polysync_airflow.execution.texts import format_seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class PolysyncRetryPolicy(RetryPolicy):
    """
    Fail the task without retries after a permanent error, and delay the retry after
    some other errors of AWS.

    The operators use this policy unless they get another ``retry_policy``, as an
    argument or in ``default_args``. It decides by the error's attribute ``permanent``
    and by ``exceptions.HINTS``. For errors of other libraries, and for executions that
    failed, were cancelled or timed out, the task's ``retries`` and ``retry_delay``
    apply. Before Airflow 3.3, a policy cannot change the delay, and the operators apply
    it: a permanent error becomes the cause of an ``AirflowFailException``.

    In Airflow, see
    https://airflow.apache.org/docs/apache-airflow/3.3.2/core-concepts/tasks.html and
    ``_handle_current_task_failed`` in airflow/sdk/execution_time/task_runner.py.

    :param retry_after: delays of the retry by AWS error code; they override those of
        ``exceptions.HINTS``. After an error with one of these codes the task is retried
        even if the error is permanent.
    :raises ParametersError: a delay is not a timedelta, or is negative.
    """

    retry_after: Mapping[str, timedelta] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for code, delay in self.retry_after.items():
            if not isinstance(delay, timedelta) or delay < timedelta(0):
                raise exceptions.ParametersError(
                    f"retry_after[{code!r}] = {delay!r} is not valid: give a timedelta"
                    " of zero or more."
                )

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
        :param context: the task's context; its task has the DAG author's
            ``retry_delay`` and backoff.
        """
        if not isinstance(exception, exceptions.PolysyncError):
            return RetryDecision.default()
        name = type(exception).__name__
        if isinstance(exception, exceptions.SageMakerApiError):
            name = exception.error_code
        min_delay = self._delay_after(exception)
        if min_delay is None and exception.permanent:
            return RetryDecision.fail(
                f"{name}: permanent error, a retry cannot succeed"
            )
        if min_delay is None:
            return RetryDecision.default()
        if try_number > max_tries:
            # There is no next try, so its delay must not be logged.
            return RetryDecision.default()
        delay: timedelta | None = min_delay
        if context and context.get("task"):
            task = cast("BaseOperator", context["task"])
            delay = _combine_with_task_delay(min_delay, task, try_number)
        if delay is None:
            return RetryDecision.default()
        return RetryDecision.retry(
            delay, f"{name}: next try after {format_seconds(delay.total_seconds())}"
        )

    def _delay_after(self, error: exceptions.PolysyncError) -> timedelta | None:
        """Return the minimum delay after an error; None for the task's own."""
        if not isinstance(error, exceptions.SageMakerApiError):
            return None
        for code in (error.error_code, error.canonical_code):
            if code in self.retry_after:
                return self.retry_after[code]
        return exceptions.hint_for(error.error_code, error.operation).retry_delay

    def serialize(self) -> dict[str, Any]:
        """Return this policy as a dict that can be stored as JSON."""
        seconds = {
            code: delay.total_seconds() for code, delay in self.retry_after.items()
        }
        return {"__type": type(self).__name__, "retry_after": seconds}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PolysyncRetryPolicy:
        """Return the policy that ``serialize`` returned as a dict."""
        delays = data["retry_after"].items()
        return cls(
            retry_after={code: timedelta(seconds=seconds) for code, seconds in delays}
        )


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
    if CAPABILITIES.retry_policy and decision.action is RetryAction.RETRY:
        chosen = decision.retry_delay
        if chosen is not None:
            return f"in {format_seconds(chosen.total_seconds())}"

    task = cast("BaseOperator", context["task"])
    delay = _own_delay(task, context["ti"].try_number)
    if _backoff(task) == 1:
        return f"in {format_seconds(delay.total_seconds())}"
    # Airflow adds up to as much again to a delay that grows.
    longest = conf.getint("core", "max_task_retry_delay", fallback=24 * 3600)
    shortest = min(delay, timedelta(seconds=longest), _max_delay(task))
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
    if type(policy) is PolysyncRetryPolicy:
        return bool(policy.retry_after)
    return True


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


def _backoff(task: BaseOperator) -> float:
    """Return the factor by which the delay grows with each try."""
    if task.retry_exponential_backoff is True:
        # It comes from Airflow 2.
        return 2.0
    return task.retry_exponential_backoff or 1.0


def _max_delay(task: BaseOperator) -> timedelta:
    return cast("timedelta | None", task.max_retry_delay) or timedelta.max


def _own_delay(task: BaseOperator, try_number: int) -> timedelta:
    # As ``next_retry_datetime`` in airflow/models/taskinstance.py, without its limits
    # and its jitter.
    try:
        return task.retry_delay * _backoff(task) ** (try_number - 1)
    except OverflowError:
        return timedelta.max


def _combine_with_task_delay(
    min_delay: timedelta, task: BaseOperator, try_number: int
) -> timedelta | None:
    """
    Return a delay that is at least ``min_delay`` and the task's own, but at most its
    ``max_retry_delay``.

    :return: the delay; None if the task's own delay is long enough, so that Airflow's
        default applies.
    """
    min_delay = min(min_delay, _max_delay(task))
    task_delay = _own_delay(task, try_number)
    if task_delay >= min_delay:
        return None
    if _backoff(task) == 1:
        return min_delay
    # Airflow's jitter is up to as long as the delay.
    return min(max(min_delay, 2 * task_delay), _max_delay(task))
