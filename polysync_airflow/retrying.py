"""
The default retry policy of the operators: whether Airflow retries a failed task.

``aws/retry.py`` is something else: it repeats single calls to AWS within a try.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, cast

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    Context,
    conf,
)

from polysync_airflow import exceptions
from polysync_airflow.airflow_compat import reschedules
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import RetryAction, RetryDecision, RetryPolicy
from polysync_airflow.execution.lifecycle.plans import NextSession

log = logging.getLogger(__name__)

# Airflow asks no policy about these: ``_run_task_and_map_outcome`` in
# airflow/sdk/execution_time/task_runner.py.
_NOT_ASKED: Final = (AirflowFailException, AirflowSensorTimeout, AirflowSkipException)


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

    :param max_reschedules: how often Airflow 3.4 reschedules a try whose start, or
        resume, AWS refuses for a quota that is used up: it comes after ``retry_delay``,
        uses no retry, and holds no slot meanwhile. A task with ``wait_for_capacity``
        waits itself, and is not rescheduled. Default: never.
    :raises ParametersError: it is not a whole number from 1 on, or Airflow is too old.

    In Airflow, see
    https://airflow.apache.org/docs/apache-airflow/3.3.2/core-concepts/tasks.html and
    ``_handle_current_task_failed`` in airflow/sdk/execution_time/task_runner.py.
    """

    max_reschedules: int | None = None

    def __post_init__(self) -> None:
        most: Any = self.max_reschedules
        if most is None:
            return
        given = f"max_reschedules = {most!r:.100}"
        if type(most) is not int or most < 1:
            raise exceptions.ParametersError(
                f"{given} is not valid: give a whole number from 1 on, or leave it out."
            )
        if not CAPABILITIES.reschedules:
            raise exceptions.ParametersError(
                f"{given} needs Airflow 3.4 or newer: leave it out, and give the task"
                " wait_for_capacity = True."
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
        :param context: the task's context.
        """
        if not isinstance(exception, exceptions.PolysyncError):
            return RetryDecision.default()
        if self.max_reschedules and _lacks_quota(exception, context):
            return reschedules.reschedule(
                max_reschedules=self.max_reschedules,
                reason=f"{exceptions.RESOURCE_LIMIT}: AWS may accept it later",
            )
        if not exception.permanent:
            return RetryDecision.default()
        name = type(exception).__name__
        if isinstance(exception, exceptions.SageMakerApiError):
            name = exception.error_code
        return RetryDecision.fail(f"{name}: permanent error, a retry cannot succeed")

    def serialize(self) -> dict[str, Any]:
        """Return this policy as a dict that can be stored as JSON."""
        stored: dict[str, Any] = {"__type": type(self).__name__}
        if self.max_reschedules:
            stored["max_reschedules"] = self.max_reschedules
        return stored

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> PolysyncRetryPolicy:
        """Return the policy that ``serialize`` returned as a dict."""
        return cls(data.get("max_reschedules"))


def _lacks_quota(error: exceptions.PolysyncError, context: Context | None) -> bool:
    """
    Return whether AWS has refused a request of a task for a quota that is used up, and
    the task does not wait for that itself.
    """
    from polysync_airflow.execution.lifecycle.capacity import is_hopeless

    if not exceptions.has_code(error, exceptions.RESOURCE_LIMIT):
        return False
    if is_hopeless(str(error)):
        return False
    waits = context is not None and getattr(context["task"], "wait_for_capacity", False)
    return not waits


class MemoizedRetryPolicy(RetryPolicy):
    """
    Asks the policy of a task once for each failure.

    Airflow asks it after the error of a try. What becomes of the execution, and what
    the message says, is decided before, so the operators ask it as well. They and
    Airflow must get the same decision, also from a policy that asks a model, or draws
    lots, and also if time passes between.

    It takes the place of the policy in the copy of the task that a process executes.
    The task of the DAG keeps the policy: Airflow serializes and shows that one.

    :param policy: the task's own policy.
    """

    def __init__(self, policy: RetryPolicy) -> None:
        self.policy = policy
        self._failure: BaseException | None = None
        self._decision = RetryDecision.default()

    def evaluate(
        self,
        exception: BaseException,
        try_number: int,
        max_tries: int,
        context: Context | None = None,
    ) -> RetryDecision:
        """Return the decision about a failure, which the first call makes."""
        if exception is self._failure:
            return self._decision
        try:
            decision = self.policy.evaluate(
                exception=exception,
                try_number=try_number,
                max_tries=max_tries,
                context=context,
            )
            known_context = cast("Mapping[str, Any]", context or {})
            self._decision = reschedules.settled(decision, known_context)
        except Exception:
            # Airflow ignores a retry policy that raises, or returns no decision, and
            # uses the task's retries. The task must end with its own error, not with
            # the policy's.
            log.exception("The task's retry_policy raised an error")
            self._decision = RetryDecision.default()
        self._failure = exception
        return self._decision


def memoize_retry_policy(task: Any) -> None:
    """
    Let the policy of a task be asked once for each failure.

    :param task: the copy that this process executes. For a mapped task, Airflow calls
        no ``prepare_for_execution`` that could do this.
    """
    policy = task.retry_policy
    if policy is None or isinstance(policy, MemoizedRetryPolicy):
        return
    task.retry_policy = MemoizedRetryPolicy(policy)


def forbids_retry(
    policy: RetryPolicy | None, error: Exception, context: Context
) -> bool:
    """Return whether a policy says that a task must not be retried."""
    return _decision(policy, error, context).action is RetryAction.FAIL


def next_session(
    policy: RetryPolicy | None, error: Exception, context: Context
) -> NextSession | None:
    """
    Return how Airflow goes on with a task after an error; None if it does not.

    :param policy: the policy of the task, which is asked once for an error.
    """
    if isinstance(error, _NOT_ASKED):
        return None
    decision = _decision(policy, error, context)
    task = cast("BaseOperator", context["task"])
    if reschedules.is_reschedule(decision):
        delay = decision.retry_delay
        if delay is None:
            delay = task.retry_delay
        return NextSession(delay, is_same_try=True)
    if is_last_try(context) or decision.action is RetryAction.FAIL:
        return None
    if decision.action is RetryAction.RETRY and decision.retry_delay is not None:
        return NextSession(decision.retry_delay)

    # As ``next_retry_datetime`` in airflow/models/taskinstance.py.
    factor = task.retry_exponential_backoff or 1.0
    if factor is True:
        # It comes from Airflow 2.
        factor = 2.0
    if factor == 1:
        return NextSession(task.retry_delay)
    try:
        delay = task.retry_delay * factor ** (context["ti"].try_number - 1)
    except OverflowError:
        delay = timedelta.max
    # Airflow adds up to as much again to a delay that grows.
    longest = conf.getint("core", "max_task_retry_delay", fallback=24 * 3600)
    max_delay = cast("timedelta | None", task.max_retry_delay) or timedelta.max
    shortest = min(delay, timedelta(seconds=longest), max_delay)
    return NextSession(shortest, is_earliest=True)


def is_last_try(context: Context) -> bool:
    """Return whether Airflow starts no other try, whatever a retry policy says."""
    ti = context["ti"]
    return bool(ti.try_number > ti.max_tries)


def may_run_again(policy: RetryPolicy | None, context: Context) -> bool:
    """
    Return whether Airflow may run the task again after an error that nobody knows yet.

    From Airflow 3.4 on, a policy of the DAG author's may reschedule the last try.
    """
    if not is_last_try(context):
        return True
    return CAPABILITIES.reschedules and _is_of_author(policy)


def may_retry_refusal(policy: RetryPolicy | None, context: Context) -> bool:
    """
    Return whether Airflow may run the task again if AWS refuses the polls of an
    execution for good.

    Nobody knows the error yet, so a policy of the DAG author's counts as one that
    retries.
    """
    if not may_run_again(policy, context):
        return False
    return policy is None or _is_of_author(policy)


def _is_of_author(policy: RetryPolicy | None) -> bool:
    if isinstance(policy, MemoizedRetryPolicy):
        policy = policy.policy
    return policy is not None and type(policy) is not PolysyncRetryPolicy


def _decision(
    policy: RetryPolicy | None, error: Exception, context: Context
) -> RetryDecision:
    ti = context["ti"]
    if policy is None:
        return RetryDecision.default()
    if not isinstance(policy, MemoizedRetryPolicy):
        policy = MemoizedRetryPolicy(policy)
    return policy.evaluate(error, ti.try_number, ti.max_tries, context)
