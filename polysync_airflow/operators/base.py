"""
The base of what waits for the end of an execution, on the worker or in the triggerer.

When to poll again and when the wait is over is decided in ``execution/waiter.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property, partial, wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
    NamedTuple,
    NoReturn,
    Self,
    TypeVar,
    cast,
)

from polysync_airflow import get_provider_info
from polysync_airflow.airflow_compat import sdk, task_instances
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.supervisor import (
    exit_if_orphaned,
    exit_if_replaced,
)
from polysync_airflow.airflow_compat.teams import warn_of_hidden_connection
from polysync_airflow.aws.retry import Result, call_with_retry
from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.execution.parameters import (
    Flag,
    Options,
    Seconds,
    check_execution_arn,
    seconds,
)
from polysync_airflow.links import UrlLink
from polysync_airflow.retrying import (
    PolysyncRetryPolicy,
    forbids_retry,
    memoize_retry_policy,
)

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

    # Imported when a task runs, because they take time, and the hook imports boto3:
    # Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.prices import Spending
    from polysync_airflow.execution.steps.descriptions import StepDescription
    from polysync_airflow.execution.steps.progress import Progress
    from polysync_airflow.execution.waiter import (
        ExecutionEvent,
        ExecutionWaiter,
        Finish,
        LogLine,
        Polled,
        Wait,
    )
    from polysync_airflow.hooks import PolysyncSageMakerHook

    AfterPoll = Callable[[ExecutionWaiter, Polled], Sequence[StepDescription] | None]
    Estimate = Callable[[Sequence[StepDescription]], Spending]

Options_co = TypeVar("Options_co", bound=Options, covariant=True)
Method = TypeVar("Method", bound=Callable[..., Any])

DEFAULT_CONNECTION: Final = get_provider_info.DEFAULT_CONNECTION
DEFAULT_POLL_INTERVAL: Final = 30.0
DEFAULT_TIMEOUT: Final = 7 * 24 * 3600.0
MAX_TIMEOUT: Final = 10 * 365 * 24 * 3600.0
DEFAULT_DEFERRABLE: Final = sdk.conf.getboolean(
    "operators", "default_deferrable", fallback=False
)
# The members of ``ExecutionWaiter`` that are arguments of its trigger.
_WAITER_ARGUMENTS: Final = (
    "execution_arn",
    "pipeline_name",
    "poll_interval",
    "since",
    "deadline",
    "attempt",
    "cost_limit",
)
# The retry policy is not asked about these: a rescheduled sensor has not failed.
_NO_FAILURES: Final = (
    sdk.AirflowFailException,
    sdk.AirflowRescheduleException,
    sdk.AirflowSkipException,
)


class PolysyncOperator(sdk.BaseOperator):
    """
    Base of all operators: the retry policy.

    :param retry_policy: decides whether a failed try is followed by another one.
        Default: ``PolysyncRetryPolicy``.
    """

    def __init__(
        self, *, retry_policy: sdk.RetryPolicy | None = None, **kwargs: Any
    ) -> None:
        if CAPABILITIES.retry_policy:
            kwargs["retry_policy"] = retry_policy
        super().__init__(**kwargs)
        self.retry_policy = retry_policy or PolysyncRetryPolicy()

    def execute_failed(self, context: Context, event: Mapping[str, Any]) -> NoReturn:
        """
        Fail a task that has failed for good in the triggerer, without its retries.

        :raises AirflowFailException: always, with the text of the error.
        """
        raise sdk.AirflowFailException(event["error"])


# The arguments of a task that Airflow heeds on workers only. See
# ``docs/reference/sensors.md``.
ON_WORKERS_ONLY: Final = (
    "on_execute_callback",
    "on_success_callback",
    "on_skipped_callback",
    "email",
    "outlets",
    "_pre_execute_hook",
    "_post_execute_hook",
    "execution_timeout",
)


def apply_retry_policy(method: Method) -> Method:
    """
    Decorate a method that Airflow calls to run a task: the task's retry policy decides
    about retries, once for each failure.

    From Airflow 3.3 on, Airflow itself asks the policy. Before, an error that must not
    be retried becomes the cause of an ``AirflowFailException``. On Airflow 2, a process
    whose try was replaced reports nothing.

    :param method: a method of ``PolysyncOperator`` whose first argument is the context.
    """
    if CAPABILITIES.retry_policy:

        @wraps(method)
        def run_memoized(task: PolysyncOperator, *args: Any, **kwargs: Any) -> Any:
            memoize_retry_policy(task)
            return method(task, *args, **kwargs)

        return cast("Method", run_memoized)

    @wraps(method)
    def run(task: PolysyncOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        memoize_retry_policy(task)
        leave_if_replaced = partial(exit_if_replaced, context["ti"], task.log.warning)
        leave_if_replaced()
        try:
            result = method(task, context, *args, **kwargs)
        except Exception as error:
            leave_if_replaced()
            if isinstance(error, _NO_FAILURES):
                raise
            if not forbids_retry(task.retry_policy, error, context):
                raise
            raise sdk.AirflowFailException(
                f"{type(error).__name__}: {error}"
            ) from error
        leave_if_replaced()
        return result

    return cast("Method", run)


class LimitOptions(Options):
    """The options that each wait has."""

    deferrable: Flag
    timeout: Annotated[Seconds, seconds(1, MAX_TIMEOUT)]


class PollOptions(LimitOptions):
    """The options of a wait that polls at an interval of its own."""

    poll_interval: Annotated[
        Seconds, seconds(models.MIN_POLL_INTERVAL, models.MAX_POLL_INTERVAL)
    ]


class WaitOptions(PollOptions):
    """The options of a wait for the end of an execution."""

    wait_for_completion: Flag


class TryOptions(RecoveryOptions):
    """The options of the start and the recovery of an execution."""

    validate_parameters: Flag
    wait_for_completion: Flag
    wait_for_capacity: Flag


class ValidatedOptions(Generic[Options_co]):
    """The options of an operator, validated whenever they are read."""

    def __init__(self, model: type[Options_co]) -> None:
        self._model = model

    def __get__(self, operator: Any, owner: type) -> Options_co:
        if operator is None:
            return cast("Options_co", self)
        return self._model.of(operator._attributes(self._model.model_fields))


class WaitingOperator(PolysyncOperator):
    """Base of what waits for AWS: arguments, connection, and limit."""

    polysync_conn_id: str
    region_name: str | None
    options: ValidatedOptions[LimitOptions]

    def _attributes(self, names: Iterable[str]) -> dict[str, Any]:
        # The attributes, because Airflow renders them, and a cluster policy may change
        # them.
        return {name: getattr(self, name) for name in names}

    def _check_options(self) -> None:
        """
        Check the options, at the end of the constructor: all are attributes by then.

        :raises ParametersError: one is not valid.
        """
        if self.options.deferrable:
            # The triggerer needs the connection.
            warn_of_hidden_connection(self.polysync_conn_id)

    @cached_property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook for the task's connection and region."""
        from polysync_airflow.hooks import PolysyncSageMakerHook

        return PolysyncSageMakerHook(self.polysync_conn_id, self.region_name)

    def hook_for_region(self, region_name: str | None) -> PolysyncSageMakerHook:
        """
        Return the hook for the task's connection in a region.

        An execution stays in the region where it was started, even if ``region_name``
        of a later try renders to another value.

        :param region_name: AWS region; None for the task's own region.
        """
        if region_name in (None, self.hook.region_name):
            return self.hook
        return type(self.hook)(self.polysync_conn_id, region_name)

    @property
    def _timeout_seconds(self) -> float:
        timeout = self.options.timeout
        # As for Airflow, no time at all is no limit.
        if not self.execution_timeout:
            return timeout
        # Airflow's own timer for it does not run while a task is deferred.
        return min(timeout, self.execution_timeout.total_seconds())

    def _check_region(self, arn: str, kind: str) -> None:
        region = models.region_from_arn(arn)
        if self.region_name and self.region_name != region:
            raise ParametersError(
                f"region_name = {self.region_name!r:.100} is not the region of the"
                f" {kind}, {region}: correct region_name, or leave it out."
            )

    def _call_with_retry(self, call: Callable[[], Result]) -> Result:
        return call_with_retry(
            call, until=clock.time() + self._timeout_seconds, warn=self.log.warning
        )


class ExecutionOperator(WaitingOperator):
    """
    Base of what waits for the end of an execution.

    The task waits on the worker or defers to a trigger. Both modes end in
    ``execute_complete``.
    """

    def prepare_for_execution(self) -> Self:
        """
        Return the copy that Airflow executes. A button is added when its URL is known.
        """
        task = super().prepare_for_execution()
        task.operator_extra_links = [
            link for link in task.operator_extra_links if not isinstance(link, UrlLink)
        ]
        return task

    @property
    def _poll_seconds(self) -> float:
        """Seconds between two polls."""
        options: Any = self.options
        return float(options.poll_interval)

    def _check_execution(self, execution_arn: object) -> str:
        """
        Return the ARN of an execution that others have started.

        :raises ParametersError: it is not the ARN of an execution, or is of another
            region than ``region_name``.
        """
        arn = check_execution_arn(execution_arn)
        self._check_region(arn, "execution")
        return arn

    def _make_waiter(
        self,
        execution_arn: str,
        pipeline_name: str | None,
        *,
        cost_limit: str | None,
        started_at: datetime | None = None,
        attempt: int = 0,
    ) -> ExecutionWaiter:
        """
        Return the wait for an execution.

        :param cost_limit: what the task may spend, a ``CostLimit`` as JSON; None for no
            limit.
        """
        from polysync_airflow.execution.waiter import ExecutionWaiter

        since = clock.time()
        if started_at:
            since = started_at.timestamp()
        return ExecutionWaiter(
            execution_arn=execution_arn,
            cost_limit=cost_limit,
            pipeline_name=pipeline_name,
            poll_interval=self._poll_seconds,
            since=since,
            deadline=since + self._timeout_seconds,
            attempt=attempt,
        )

    def _wait_for_end(
        self,
        waiter: ExecutionWaiter,
        *,
        method_name: str = "execute_complete",
        after_poll: AfterPoll | None = None,
        kwargs: dict[str, Any] | None = None,
        trigger_timeout: timedelta | None = None,
        **trigger_arguments: Any,
    ) -> ExecutionEvent:
        """
        Wait on the worker and return the event, or defer the task.

        :param method_name: the method in which Airflow resumes a deferred task.
        :param after_poll: called on the worker with the response of each poll but the
            last. It returns the steps; None if they were not listed. Without it, they
            are listed if the task has a limit of its cost.
        :param kwargs: what that method gets beside the event.
        :param trigger_timeout: after which Airflow ends a deferral that no trigger has
            ended; None for never.
        :param trigger_arguments: those that do not follow from ``waiter``.
        """
        if self.options.deferrable:
            from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger

            trigger = PolysyncPipelineExecutionTrigger(
                **self._trigger_arguments(waiter, **trigger_arguments)
            )
            self.defer(
                trigger=trigger,
                method_name=method_name,
                kwargs=kwargs,
                timeout=trigger_timeout,
            )
        return self._wait_on_worker(waiter, after_poll)

    def _trigger_arguments(
        self,
        waiter: ExecutionWaiter,
        *,
        progress_interval: float | None = None,
        declared_steps: str | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        if progress_interval is None:
            # The trigger lists no steps.
            declared_steps = None
        return {
            **{name: getattr(waiter, name) for name in _WAITER_ARGUMENTS},
            "polysync_conn_id": self.polysync_conn_id,
            "region_name": models.region_from_arn(waiter.execution_arn),
            "progress_interval": progress_interval,
            "declared_steps": declared_steps,
            **arguments,
        }

    def _sleep(self, seconds: float) -> None:
        """Wait on the worker."""
        clock.sleep(seconds)

    def _estimator(self, hook: PolysyncSageMakerHook, limit: str) -> Estimate:
        """
        Return what estimates by a list of the steps what the task has spent.

        :param limit: its ``CostLimit``, as JSON.
        """
        raise NotImplementedError

    def _wait_on_worker(
        self, waiter: ExecutionWaiter, after_poll: AfterPoll | None
    ) -> ExecutionEvent:
        from polysync_airflow.aws.responses import time_limit
        from polysync_airflow.execution.steps.progress import Progress
        from polysync_airflow.execution.waiter import (
            LAST_POLL_SECONDS,
            Wait,
            after_estimate,
        )

        hook = self.hook_for_region(models.region_from_arn(waiter.execution_arn))
        result: Wait[ExecutionWaiter] | Finish[ExecutionEvent]
        result = waiter.first_wait(clock.time())
        parent = os.getppid()
        estimate: Estimate | None = None
        if waiter.cost_limit is not None:
            estimate = self._estimator(hook, waiter.cost_limit)
        progress = Progress.for_limit(waiter)
        if after_poll is None and progress:
            after_poll = partial(list_steps_of, hook, progress)
        try:
            while isinstance(result, Wait):
                self._sleep(result.seconds)
                seconds_left = max(0.0, waiter.deadline - clock.time())
                with time_limit(seconds_left + LAST_POLL_SECONDS):
                    polled = hook.poll_pipeline_execution(waiter.execution_arn)
                    exit_if_orphaned(parent, self.log.warning)
                    result = result.waiter.decide(polled, clock.time())
                    write_lines(self.log, result.log_lines)
                    if after_poll and isinstance(result, Wait):
                        steps = after_poll(result.waiter, polled)
                        if estimate and steps is not None:
                            end = after_estimate(result.waiter, estimate(steps))
                            result = end or result
        except sdk.AirflowTaskTimeout:
            # Airflow counts execution_timeout from the start of the task, so its timer
            # fires just before the waiter's deadline. The outcome must be the same as
            # that of a deferred task.
            if isinstance(result, Wait):
                result = result.waiter.time_out()
        return result.event


def trigger_timeout(deadline: float) -> timedelta:
    """
    Return after how long Airflow's scheduler returns a deferred task to a worker.

    :param deadline: when the trigger ends the wait, as Unix time.
    """
    from polysync_airflow.execution.lifecycle.ending import TRIGGER_GRACE_SECONDS

    seconds_left = max(deadline - clock.time(), 0)
    return timedelta(seconds=seconds_left + TRIGGER_GRACE_SECONDS)


class ListedSteps(NamedTuple):
    """
    A list of the steps between two polls.

    :param steps: AWS's list, or the error.
    :param log_lines: what the log of the task says of it.
    """

    steps: Sequence[StepDescription] | PolysyncError
    log_lines: Sequence[LogLine]


def list_steps_if_due(
    hook: PolysyncSageMakerHook,
    waiter: ExecutionWaiter,
    progress: Progress,
    polled: Polled,
) -> ListedSteps | None:
    """
    List the steps of an execution after a poll that has not ended the wait.

    :param progress: says when the steps are listed, and what the log says of them.
    :param polled: the response of the poll, or its error.
    :return: None if no list is due.
    :raises PolysyncError: the wait needs the steps, and they can never be listed.
    """
    poll_error = None
    if isinstance(polled, PolysyncError):
        poll_error = polled
    if not progress.after_poll(poll_error, clock.time()):
        return None
    steps: Sequence[StepDescription] | PolysyncError
    try:
        steps = hook.list_pipeline_execution_steps(waiter.execution_arn)
    except PolysyncError as error:
        steps = error
    return ListedSteps(steps, progress.after_list(waiter, steps, clock.time()))


def list_steps_of(
    hook: PolysyncSageMakerHook,
    progress: Progress,
    waiter: ExecutionWaiter,
    polled: Polled,
) -> Sequence[StepDescription] | None:
    """
    Return the steps after a poll that has not ended the wait, for a wait that shows
    none; None if they are not listed.
    """
    listed = list_steps_if_due(hook, waiter, progress, polled)
    if listed is None or isinstance(listed.steps, PolysyncError):
        return None
    return listed.steps


def pull_own(context: Context, key: str) -> Any:
    """
    Return an XCom of this task instance; None if there is none, ``UNREADABLE`` if
    Airflow cannot decode it.
    """
    ti = context["ti"]
    return task_instances.decoded(
        lambda: ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)
    )


def write_lines(log: Any, lines: Iterable[LogLine]) -> None:
    """Write log lines of the core to the log of a task."""
    for line in lines:
        log.log(line.level, "%s", line.text)
