"""
What the sensors have in common: how they wait in each mode, and after which errors they
are skipped.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, NoReturn

from airflow.providers.common.compat.sdk import (
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    XComArg,
)
from airflow.triggers.base import StartTriggerArgs

from polysync_airflow.airflow_compat import sdk, task_instances
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.exceptions import (
    ModelApprovalError,
    ParametersError,
    PipelineExecutionError,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import MAX_POLL_INTERVAL, MIN_POLL_INTERVAL
from polysync_airflow.execution.outcome import refusal_error
from polysync_airflow.execution.parameters import Seconds, seconds
from polysync_airflow.execution.waiter import (
    LAST_POLL_SECONDS,
    Finish,
    ResourceWaiter,
    Waiter,
    check_event,
)
from polysync_airflow.operators import base

# The class path that Airflow stores of the trigger that runs a whole task.
_TRIGGER_OF_WHOLE_TASK: Final = (
    "polysync_airflow.start_in_triggerer.PolysyncTaskTrigger"
)


class SensorOptions(base.LimitOptions):
    """What the DAG author chose for the wait of a sensor."""

    poke_interval: Annotated[Seconds, seconds(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)]
    timeout: Annotated[Seconds, seconds(0, base.MAX_TIMEOUT)]


class _StartTriggerArgs:
    """
    How a sensor starts in the triggerer: by its attributes when Airflow serializes it.
    """

    def __get__(self, sensor: Any, owner: type) -> StartTriggerArgs | None:
        if sensor is None or not sensor.start_from_trigger:
            return None
        fields = sensor._attributes(
            (*sensor.template_fields, "soft_fail", "never_fail")
        )
        for name, value in fields.items():
            # A plain one is a template as a text, which renders to a text.
            if isinstance(value, XComArg) and (
                name == "parameters" or not str(value).startswith("{{")
            ):
                raise ParametersError(
                    f"{name} = {value!r:.100} cannot be rendered in the triggerer: give"
                    " a template, or leave out start_from_trigger."
                )
        arguments = json.dumps(
            {**fields, **sensor.options.model_dump(mode="json")}, default=str
        )
        trigger_kwargs = {
            "task_class": type(sensor).__name__,
            "arguments": json.loads(arguments),
        }
        return StartTriggerArgs(
            _TRIGGER_OF_WHOLE_TASK, "execute_failed", trigger_kwargs
        )


class PolysyncSensor(base.WaitingOperator, BaseSensorOperator):
    """
    Base of the sensors. A subclass polls, defers, and says what an end of the wait
    means.
    """

    ui_color = "#e6f1f2"
    options = base.ValidatedOptions(SensorOptions)
    # AWS has answered, and what is waited for is not there. ``soft_fail`` would hide
    # all other errors.
    negative_errors: ClassVar[tuple[type[BaseException], ...]] = (
        PipelineExecutionError,
        ModelApprovalError,
        sdk.AirflowSensorTimeout,
    )
    # When this try began.
    _began_at: datetime
    start_trigger_args: Any = _StartTriggerArgs()

    @abstractmethod
    def _check_arguments(self, context: Context) -> None:
        """Check the rendered arguments before AWS is called."""

    @abstractmethod
    def _poll(self, context: Context) -> Any:
        """Poll once; return how the wait has ended, None if it goes on."""

    @abstractmethod
    def _defer(self) -> NoReturn:
        """Let a trigger go on with the polls."""

    @abstractmethod
    def _end(self, context: Context, end: Any) -> str:
        """
        Push how the wait has ended, and return the value of the task, or raise its
        error.
        """

    @property
    def _is_rescheduled(self) -> bool:
        """
        Whether each poll is made by another process, which does not know what was seen
        before.
        """
        return self.mode == "reschedule" and not self.options.deferrable

    @property
    def _timeout_seconds(self) -> float:
        # Airflow counts execution_timeout for each session of a rescheduled task.
        return (
            self.options.timeout if self._is_rescheduled else super()._timeout_seconds
        )

    @property
    def _deadline(self) -> float:
        return self._began_at.timestamp() + self._timeout_seconds

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """Wait on the worker, or poll once and then defer."""
        with self.soft_failures():
            began_at = (
                task_instances.first_session(context) if self._is_rescheduled else None
            )
            self._began_at = (began_at or clock.now()).astimezone(UTC)
            self._check_arguments(context)
            # A poll goes on after an error that may pass, and so without a connection.
            _ = self.hook.region_name
            if not self.options.deferrable:
                return self._end(context, self._poke_until_end(context))
            return self._end_or_defer(context)

    def _decide(self, waiter: Waiter[Any, Any], response: Any) -> Any:
        """
        Let the decision core decide after a poll, write its log lines, and return its
        instruction.
        """
        step = waiter.decide(response, clock.time())
        base.write_lines(self.log, step.log_lines)
        return step

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. Airflow calls this; the value is how the wait has ended."""
        end = self._poll(context)
        return PokeReturnValue(is_done=end is not None, xcom_value=end)

    def _end_or_defer(self, context: Context) -> str:
        # In a triggerer, those of all tasks that start at the same time, and of the
        # pollers.
        limiter = rate_limiter_for(
            (self.polysync_conn_id, self.hook.region_name), clock.monotonic()
        )
        limiter.acquire()
        end = self._poll(context)
        if end is None:
            self._defer()
        return self._end(context, end)

    def _poke_until_end(self, context: Context) -> Any:
        from polysync_airflow.aws.responses import time_limit

        limits = (
            sdk.AirflowSensorTimeout,
            *(() if self._is_rescheduled else (sdk.AirflowTaskTimeout,)),
        )
        try:
            return task_instances.poke_until_done(self, context)
        except limits:
            # The outcome must be that of a deferred task, whose last poll is at its
            # deadline. That comes in a moment, unless Airflow counts the timeout of a
            # rescheduled task from an earlier try.
            clock.sleep(min(max(0.0, self._deadline - clock.time()), LAST_POLL_SECONDS))
            with time_limit(LAST_POLL_SECONDS):
                end = self._poll(context)
            if end is None:
                raise
            return end

    @contextmanager
    def soft_failures(self) -> Iterator[None]:
        """
        Skip the task if an error in a block is one for which ``soft_fail`` or
        ``never_fail`` say so.

        Airflow's own rules differ between a worker and the triggerer: after a deferral,
        ``soft_fail`` would hide a broken connection. These are the same in all modes.
        """
        try:
            yield
        except (sdk.AirflowSkipException, sdk.AirflowRescheduleException):
            raise
        except (Exception, sdk.AirflowTaskTimeout) as error:
            if self.never_fail or (
                self.soft_fail and isinstance(error, self.negative_errors)
            ):
                raise sdk.AirflowSkipException(str(error)) from error
            raise

    def resume_execution(
        self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context
    ) -> Any:
        """
        Continue after a deferral. Each method that is called has its own
        ``soft_failures``, too.
        """
        with self.soft_failures():
            return sdk.BaseOperator.resume_execution(
                self, next_method, next_kwargs, context
            )


class ResourceSensor(PolysyncSensor):
    """
    Base of a sensor that waits for a resource which one operation of AWS describes.
    """

    waiter_class: ClassVar[type[ResourceWaiter[Any]]]
    # Returns how the wait has ended, in one line.
    message_of: ClassVar[Callable[[Any], str]]
    # In one process only: a rescheduled sensor begins anew.
    _wait: ResourceWaiter[Any] | None = None

    @abstractmethod
    def _resource(self, context: Context) -> str:
        """Return the name or ARN of the resource, after ``_check_arguments``."""

    @abstractmethod
    def _make_trigger(self, resource: str, **arguments: Any) -> Any:
        """
        Return the trigger that goes on with the wait; the arguments are those of all
        triggers.
        """

    @abstractmethod
    def _succeed(self, context: Context, end: Any, message: str) -> str:
        """
        Return the value of the task for an end that AWS has described, or raise its
        error.
        """

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Finish the task when the trigger's wait has ended.

        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        with self.soft_failures():
            return self._end(context, check_event(self.waiter_class.event_model, event))

    def _poll(self, context: Context) -> Any:
        from polysync_airflow.hooks.executions import describe, result_or_error

        wait = self._wait or self.waiter_class(
            resource=self._resource(context),
            poll_interval=self.options.poke_interval,
            since=self._began_at.timestamp(),
            deadline=self._deadline,
        )
        step = self._decide(
            wait, result_or_error(describe, self.hook, self.waiter_class, wait.resource)
        )
        if isinstance(step, Finish):
            return step.event
        self._wait = step.waiter
        return None

    def _defer(self) -> NoReturn:
        wait = self._wait
        if wait is None:
            raise RuntimeError("the first look has not begun the wait")
        trigger = self._make_trigger(
            wait.resource,
            polysync_conn_id=self.polysync_conn_id,
            region_name=self.hook.region_name,
            poll_interval=wait.poll_interval,
            since=wait.since,
            deadline=wait.deadline,
        )
        self.defer(trigger=trigger, method_name="execute_complete")

    def _end(self, context: Context, end: Any) -> str:
        message = type(self).message_of(end)
        if end.outcome not in ("timed_out", "refused"):
            return self._succeed(context, end, message)
        if end.outcome == "refused" or end.error_code:
            raise refusal_error(end, message)
        raise sdk.AirflowSensorTimeout(message)
