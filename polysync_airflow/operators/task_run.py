"""
What runs a task: the base of the objects that operators make for a run.

A *run* is one session of a task in one process: from ``execute``, or from the method in
which Airflow goes on with a deferred task, until the task ends or defers. All its state
is here; the operator only has its arguments.

When to poll again and when the wait is over is decided in ``execution/waiter.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple

from airflow.providers.common.compat.sdk import Context

from polysync_airflow.airflow_compat import sdk, supervisor
from polysync_airflow.aws.responses import time_limit
from polysync_airflow.aws.retry import Result, call_with_retry
from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution import clock, models, parameters, prices
from polysync_airflow.execution.lifecycle.ending import TRIGGER_GRACE_SECONDS
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.trigger_arguments import TriggerArguments, arguments_of
from polysync_airflow.execution.waiter import (
    LAST_POLL_SECONDS,
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    LogLine,
    Polled,
    Wait,
    after_estimate,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger

if TYPE_CHECKING:
    from polysync_airflow.operators import base

AfterPoll = Callable[[ExecutionWaiter, Polled], Sequence[StepDescription] | None]
Estimate = Callable[[Sequence[StepDescription]], prices.Spending]


class TaskRun:
    """
    Base of all runs that wait for AWS: the context, the connection, and the limit.

    :param task: the operator, whose templates are rendered.
    """

    task: base.WaitingOperator
    options: base.LimitOptions

    def __init__(self, task: base.WaitingOperator, context: Context) -> None:
        self.task = task
        self.context = context
        self.ti: Any = context["ti"]
        self.log = task.log
        # Now, because Airflow renders the attributes, and a cluster policy may change
        # them.
        self.options = task.options

    @cached_property
    def hook(self) -> PolysyncSageMakerHook:
        """The hook for the task's connection and region."""
        return PolysyncSageMakerHook(self.task.polysync_conn_id, self.task.region_name)

    def hook_for_region(self, region_name: str | None) -> PolysyncSageMakerHook:
        """
        Return the hook for the task's connection in a region.

        An execution stays in the region where it was started, even if ``region_name``
        of a later try renders to another value.

        :param region_name: AWS region; None for the task's own region.
        """
        if region_name in (None, self.hook.region_name):
            return self.hook
        return PolysyncSageMakerHook(self.task.polysync_conn_id, region_name)

    @property
    def timeout_seconds(self) -> float:
        """How many seconds the task may take."""
        timeout = self.options.timeout
        # As for Airflow, no time at all is no limit.
        if not self.task.execution_timeout:
            return timeout
        # Airflow's own timer for it does not run while a task is deferred.
        return float(min(timeout, self.task.execution_timeout.total_seconds()))

    def check_region(self, arn: str, kind: str) -> None:
        """
        Check that an ARN is of the region of the task, if the task has one.

        :raises ParametersError: it is not.
        """
        region = models.region_from_arn(arn)
        if self.task.region_name and self.task.region_name != region:
            raise ParametersError(
                f"region_name = {self.task.region_name!r:.100} is not the region of the"
                f" {kind}, {region}: correct region_name, or leave it out."
            )

    def call_with_retry(self, call: Callable[[], Result]) -> Result:
        """Call AWS again after transient errors, as long as the task may take."""
        return call_with_retry(
            call, until=clock.time() + self.timeout_seconds, warn=self.log.warning
        )


class ExecutionRun(TaskRun):
    """
    Base of what waits for the end of an execution, on the worker or in the triggerer.
    """

    def check_execution(self, execution_arn: object) -> str:
        """
        Return the ARN of an execution that others have started.

        :raises ParametersError: it is not the ARN of an execution, or is of another
            region than ``region_name``.
        """
        arn = parameters.check_execution_arn(execution_arn)
        self.check_region(arn, "execution")
        return arn

    def make_waiter(
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
        since = clock.time()
        if started_at:
            since = started_at.timestamp()
        return ExecutionWaiter(
            execution_arn=execution_arn,
            cost_limit=cost_limit,
            pipeline_name=pipeline_name,
            poll_interval=self.options.poll_seconds,
            since=since,
            deadline=since + self.timeout_seconds,
            attempt=attempt,
        )

    def wait_for_end(
        self,
        waiter: ExecutionWaiter,
        arguments: TriggerArguments,
        *,
        method_name: str = "execute_complete",
        after_poll: AfterPoll | None = None,
        kwargs: dict[str, Any] | None = None,
        timeout: timedelta | None = None,
    ) -> ExecutionEvent:
        """
        Wait on the worker and return the event, or defer the task.

        :param arguments: those of the trigger of a deferred task.
        :param method_name: the method in which Airflow goes on with a deferred task.
        :param after_poll: called on the worker with the response of each poll but the
            last. It returns the steps; None if they were not listed. Without it, they
            are listed if the task has a limit of its cost.
        :param kwargs: what that method gets beside the event.
        :param timeout: as for ``defer``.
        """
        if self.options.deferrable:
            trigger = PolysyncPipelineExecutionTrigger(**arguments.kwargs())
            self.task.defer(
                trigger=trigger, method_name=method_name, kwargs=kwargs, timeout=timeout
            )
        return self.wait_on_worker(waiter, after_poll)

    def trigger_arguments(self, waiter: ExecutionWaiter) -> TriggerArguments:
        """Return the arguments of the trigger that goes on with a wait."""
        return arguments_of(waiter, self.task.polysync_conn_id)

    def sleep(
        self, seconds: float, listed: Sequence[StepDescription] | None = None
    ) -> None:
        """
        Wait on the worker.

        :param listed: the steps, if they were listed since the last poll.
        """
        clock.sleep(seconds)

    def estimate_of(
        self, waiter: ExecutionWaiter, hook: PolysyncSageMakerHook
    ) -> Estimate | None:
        """
        Return what estimates by a list of the steps what the task has spent; None if
        the wait has no limit of the cost.
        """
        return None

    def wait_on_worker(
        self, waiter: ExecutionWaiter, after_poll: AfterPoll | None
    ) -> ExecutionEvent:
        """
        Poll the execution until the wait ends.

        :param after_poll: as for ``wait_for_end``.
        """
        hook = self.hook_for_region(models.region_from_arn(waiter.execution_arn))
        result: Wait[ExecutionWaiter] | Finish[ExecutionEvent]
        steady = clock.SteadyTime()
        result = waiter.first_wait(steady.time())
        parent = os.getppid()
        estimate = self.estimate_of(waiter, hook)
        progress = Progress.for_limit(waiter)
        if after_poll is None and progress:
            after_poll = partial(list_steps_of, hook, progress)
        steps = None
        try:
            while isinstance(result, Wait):
                self.sleep(result.seconds, steps)
                steps = None
                seconds_left = max(0.0, waiter.deadline - steady.time())
                with time_limit(seconds_left + LAST_POLL_SECONDS):
                    polled = hook.poll_pipeline_execution(waiter.execution_arn)
                    supervisor.exit_if_orphaned(parent, self.log.warning)
                    if not isinstance(polled, PolysyncError):
                        steady.accept()
                    result = result.waiter.decide(polled, steady.time())
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
    # Not the Unix time, which may be set back.
    now = clock.monotonic()
    if not progress.after_poll(poll_error, now):
        return None
    steps: Sequence[StepDescription] | PolysyncError
    try:
        steps = hook.list_pipeline_execution_steps(waiter.execution_arn)
    except PolysyncError as error:
        steps = error
    return ListedSteps(steps, progress.after_list(waiter, steps, now))


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


def write_lines(log: Any, lines: Iterable[LogLine]) -> None:
    """Write log lines of the core to the log of a task."""
    for line in lines:
        log.log(line.level, "%s", line.text)
