"""
The base of what waits for the end of an execution, on the worker or in the triggerer.

When to poll again and when the wait is over is decided in ``execution/waiter.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial, wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    Generic,
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
    parent_process,
)
from polysync_airflow.aws.retry import Result, call_with_retry
from polysync_airflow.exceptions import ParametersError
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
from polysync_airflow.retrying import PolysyncRetryPolicy, forbids_retry

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.sdk import Context

    # Imported when a task runs, because they take time, and the hook imports boto3:
    # Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.waiter import (
        ExecutionEvent,
        ExecutionWaiter,
        Finish,
        LogLine,
        Polled,
    )
    from polysync_airflow.hooks import PolysyncSageMakerHook

    AfterPoll = Callable[[Polled], object]

Options_co = TypeVar("Options_co", bound=Options, covariant=True)
Method = TypeVar("Method", bound=Callable[..., Any])

DEFAULT_CONNECTION: Final = get_provider_info.DEFAULT_CONNECTION
DEFAULT_POLL_INTERVAL: Final = 30.0
DEFAULT_TIMEOUT: Final = 7 * 24 * 3600.0
MAX_TIMEOUT: Final = 10 * 365 * 24 * 3600.0
DEFAULT_DEFERRABLE: Final = sdk.conf.getboolean(
    "operators", "default_deferrable", fallback=False
)
# The members of a wait that are arguments of its trigger.
_OF_THE_WAIT: Final = (
    "execution_arn",
    "pipeline_name",
    "poll_interval",
    "since",
    "deadline",
    "attempt",
)
# What a retry policy is not asked about: a rescheduled sensor has not failed.
_NOT_RETRIED: Final = (
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


# What Airflow does on workers only. See ``docs/reference/sensors.md``.
ON_WORKERS_ONLY: Final = (
    *(
        "on_execute_callback",
        "on_success_callback",
        "on_skipped_callback",
        "email",
        "outlets",
    ),
    *("_pre_execute_hook", "_post_execute_hook", "execution_timeout"),
)


def check_start_in_triggerer(task: PolysyncOperator) -> None:
    """
    Check that a task can start and end in the triggerer, if it shall.

    :raises ParametersError: Airflow is too old, or would not do what an argument says.
    """
    if not task.start_from_trigger:
        return
    if not CAPABILITIES.start_from_trigger:
        raise ParametersError(
            "start_from_trigger = True needs Airflow 3.3 or newer: before, a triggerer"
            " knows no task whose templates it could render. Leave it out, and set"
            " deferrable = True."
        )
    given = {name: value for name in ON_WORKERS_ONLY if (value := getattr(task, name))}
    if task.retry_policy != PolysyncRetryPolicy():
        given["retry_policy"] = task.retry_policy
    for name, value in given.items():
        raise ParametersError(
            f"{name.removeprefix('_').removesuffix('_hook')} = {value!r:.100} is for"
            " workers only, and with start_from_trigger = True the task has none:"
            " leave out one of them. deferrable = True waits in the triggerer, too,"
            " and timeout limits the wait in place of execution_timeout."
        )


def apply_retry_policy(method: Method) -> Method:
    """
    Decorate a method that Airflow calls to run a task: the task's retry policy decides
    about retries.

    From Airflow 3.3 on, Airflow itself asks the policy. Before, an error that must not
    be retried becomes the cause of an ``AirflowFailException``. On Airflow 2, a process
    whose try was replaced reports nothing.

    :param method: a method of ``PolysyncOperator`` whose first argument is the context.
    """
    if CAPABILITIES.retry_policy:
        return method

    @wraps(method)
    def run(task: PolysyncOperator, context: Context, *args: Any, **kwargs: Any) -> Any:
        leave_if_replaced = partial(exit_if_replaced, context["ti"], task.log.warning)
        leave_if_replaced()
        try:
            result = method(task, context, *args, **kwargs)
        except Exception as error:
            leave_if_replaced()
            is_final = isinstance(error, _NOT_RETRIED)
            if is_final or not forbids_retry(task.retry_policy, error, context):
                raise
            raise sdk.AirflowFailException(
                f"{type(error).__name__}: {error}"
            ) from error
        leave_if_replaced()
        return result

    return cast("Method", run)


class LimitOptions(Options):
    """How a task waits, and for how long."""

    deferrable: Flag
    timeout: Annotated[Seconds, seconds(1, MAX_TIMEOUT)]


class PollOptions(LimitOptions):
    """What the DAG author chose about polls."""

    poll_interval: Annotated[
        Seconds, seconds(models.MIN_POLL_INTERVAL, models.MAX_POLL_INTERVAL)
    ]


class WaitOptions(PollOptions):
    """What the DAG author chose about the wait for the end of an execution."""

    wait_for_completion: Flag


class TryOptions(RecoveryOptions):
    """What the DAG author chose about the executions of a task's tries."""

    validate_parameters: Flag
    wait_for_completion: Flag


class ValidatedOptions(Generic[Options_co]):
    """What the DAG author chose for an operator, validated whenever it is read."""

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
        # Airflow's timer for execution_timeout does not run while a task is deferred.
        timeout = self.options.timeout
        return (
            min(timeout, self.execution_timeout.total_seconds())
            if self.execution_timeout
            else timeout
        )

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
        links = task.operator_extra_links
        task.operator_extra_links = [
            link for link in links if not isinstance(link, UrlLink)
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
        started_at: datetime | None = None,
        attempt: int = 0,
    ) -> ExecutionWaiter:
        from polysync_airflow.execution.waiter import ExecutionWaiter

        since = started_at.timestamp() if started_at else clock.time()
        return ExecutionWaiter(
            execution_arn=execution_arn,
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
        **more: Any,
    ) -> ExecutionEvent:
        """
        Wait on the worker and return the event, or defer the task.

        :param method_name: the method in which Airflow resumes a deferred task.
        :param after_poll: called on the worker with the response of each poll but the
            last.
        :param kwargs: what that method gets beside the event.
        :param more: further arguments of the trigger.
        """
        if self.options.deferrable:
            from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger

            trigger = PolysyncPipelineExecutionTrigger(
                **self._trigger_arguments(waiter, **more)
            )
            self.defer(trigger=trigger, method_name=method_name, kwargs=kwargs)
        return self._wait_on_worker(waiter, after_poll)

    def _trigger_arguments(
        self, waiter: ExecutionWaiter, *, declared_steps: str | None = None, **more: Any
    ) -> dict[str, Any]:
        return {
            **{name: getattr(waiter, name) for name in _OF_THE_WAIT},
            "polysync_conn_id": self.polysync_conn_id,
            "region_name": models.region_from_arn(waiter.execution_arn),
            "declared_steps": declared_steps if more.get("progress_interval") else None,
            **more,
        }

    def _sleep(self, seconds: float) -> None:
        """Wait on the worker."""
        clock.sleep(seconds)

    def _wait_on_worker(
        self, waiter: ExecutionWaiter, after_poll: AfterPoll | None
    ) -> ExecutionEvent:
        from polysync_airflow.aws.responses import time_limit
        from polysync_airflow.execution.waiter import LAST_POLL_SECONDS, Wait

        hook = self.hook_for_region(models.region_from_arn(waiter.execution_arn))
        step: Wait[ExecutionWaiter] | Finish[ExecutionEvent] = waiter.first_wait(
            clock.time()
        )
        parent = parent_process()
        try:
            while isinstance(step, Wait):
                self._sleep(step.seconds)
                with time_limit(
                    max(0.0, waiter.deadline - clock.time()) + LAST_POLL_SECONDS
                ):
                    result = hook.poll_pipeline_execution(waiter.execution_arn)
                    exit_if_orphaned(parent, self.log.warning)
                    step = step.waiter.decide(result, clock.time())
                    write_lines(self.log, step.log_lines)
                    if after_poll and isinstance(step, Wait):
                        after_poll(result)
        except sdk.AirflowTaskTimeout:
            # Airflow counts execution_timeout from the start of the task, so its timer
            # fires just before the waiter's deadline. The outcome must be the same as
            # that of a deferred task.
            if isinstance(step, Wait):
                step = step.waiter.time_out()
        return step.event


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
    """Write the lines of a decision to the log of a task."""
    for line in lines:
        log.log(line.level, "%s", line.text)
