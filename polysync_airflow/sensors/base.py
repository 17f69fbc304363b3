"""
What the sensors have in common: how they wait in each mode, and after which errors they
are skipped.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
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
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.reschedules import is_rescheduled
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.exceptions import (
    ModelApprovalError,
    ParametersError,
    PipelineExecutionError,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import MAX_POLL_INTERVAL, MIN_POLL_INTERVAL
from polysync_airflow.execution.parameters import Seconds, seconds
from polysync_airflow.execution.waiter import LAST_POLL_SECONDS, Finish, Wait, Waiter
from polysync_airflow.operators import base
from polysync_airflow.retrying import PolysyncRetryPolicy

# The class path that Airflow stores of the trigger that runs a whole task.
_TRIGGERER_TASK: Final = "polysync_airflow.start_in_triggerer.PolysyncTaskTrigger"


class SensorOptions(base.LimitOptions):
    """The options of the wait of a sensor."""

    poke_interval: Annotated[Seconds, seconds(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)]
    timeout: Annotated[Seconds, seconds(0, base.MAX_TIMEOUT)]


class _StartTriggerArgs:
    """
    How a sensor starts in the triggerer. It follows from the attributes that the sensor
    has when Airflow serializes it.
    """

    def __get__(self, sensor: Any, owner: type) -> StartTriggerArgs | None:
        if sensor is None or not sensor.start_from_trigger:
            return None
        fields = sensor._attributes(
            (*sensor.template_fields, "soft_fail", "never_fail")
        )
        for name, value in fields.items():
            if not isinstance(value, XComArg):
                continue
            if name == "parameters" or not str(value).startswith("{{"):
                # Any other one is stored as a template, which renders to a text.
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
        return StartTriggerArgs(_TRIGGERER_TASK, "execute_failed", trigger_kwargs)


class PolysyncSensor(base.WaitingOperator, BaseSensorOperator):
    """
    Base of the sensors. A subclass polls, defers, and says what an end of the wait
    means.
    """

    ui_color = "#e6f1f2"
    options = base.ValidatedOptions(SensorOptions)
    # ``soft_fail`` skips the task after these: AWS has answered, and what is waited for
    # is not there. It does not hide other errors.
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

    def _check_options(self) -> None:
        """
        Check the options, and whether the task can start and end in the triggerer, if
        it has ``start_from_trigger``.

        :raises ParametersError: an option is not valid; or Airflow is too old, or would
            not do what an argument says.
        """
        super()._check_options()
        if not self.start_from_trigger:
            return
        if not CAPABILITIES.start_from_trigger:
            raise ParametersError(
                "start_from_trigger = True needs Airflow 3.3 or newer: before, a"
                " triggerer knows no task whose templates it could render. Leave it"
                " out, and set deferrable = True."
            )
        worker_arguments = {name: getattr(self, name) for name in base.ON_WORKERS_ONLY}
        if self.retry_policy != PolysyncRetryPolicy():
            worker_arguments["retry_policy"] = self.retry_policy
        for name, value in worker_arguments.items():
            if not value:
                continue
            raise ParametersError(
                f"{name.removeprefix('_').removesuffix('_hook')} = {value!r:.100} is"
                " for workers only, and with start_from_trigger = True the task has"
                " none: leave out one of them. deferrable = True waits in the"
                " triggerer, too, and timeout limits the wait in place of"
                " execution_timeout."
            )

    @property
    def _is_rescheduled(self) -> bool:
        """
        Whether each poll is made by another process, which does not know what was seen
        before.
        """
        return self.mode == "reschedule" and not self.options.deferrable

    @property
    def _timeout_seconds(self) -> float:
        if self._is_rescheduled:
            # Airflow counts execution_timeout for each session of it.
            return self.options.timeout
        return super()._timeout_seconds

    @property
    def _deadline(self) -> float:
        return self._began_at.timestamp() + self._timeout_seconds

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """Wait on the worker, or poll once and then defer."""
        with self.soft_failures():
            began_at = None
            if self._is_rescheduled or is_rescheduled(context):
                began_at = task_instances.first_session(context)
            self._began_at = (began_at or clock.now()).astimezone(UTC)
            self._check_arguments(context)
            # A poll goes on after an error that may pass, and so without a connection.
            _ = self.hook.region_name
            if self.options.deferrable:
                return self._end_or_defer(context)
            return self._end(context, self._poke_until_end(context))

    def _decide(self, waiter: Waiter[Any, Any], polled: Any) -> Wait[Any] | Finish[Any]:
        """
        Decide after a poll, write the log lines, and return whether to wait, or how the
        wait has ended.
        """
        result = waiter.decide(polled, clock.time())
        base.write_lines(self.log, result.log_lines)
        return result

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. Airflow calls this; the value is how the wait has ended."""
        end = self._poll(context)
        return PokeReturnValue(is_done=end is not None, xcom_value=end)

    def _end_or_defer(self, context: Context) -> str:
        # The first poll may be made in a triggerer, where many tasks start at the same
        # time. It shares the limiter with them, and with the pollers.
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

        limits: tuple[type[BaseException], ...] = (sdk.AirflowSensorTimeout,)
        if not self._is_rescheduled:
            limits = (sdk.AirflowSensorTimeout, sdk.AirflowTaskTimeout)
        try:
            return task_instances.poke_until_done(self, context)
        except limits:
            # The outcome must be that of a deferred task, whose last poll is at its
            # deadline. That comes in a moment, unless Airflow counts the timeout of a
            # rescheduled task from an earlier try.
            seconds_left = max(0.0, self._deadline - clock.time())
            clock.sleep(min(seconds_left, LAST_POLL_SECONDS))
            with time_limit(LAST_POLL_SECONDS):
                end = self._poll(context)
            if end is None:
                raise
            return end

    @contextmanager
    def soft_failures(self) -> Iterator[None]:
        """
        Skip the task after an error in the block, if ``soft_fail`` or ``never_fail``
        say so.

        Airflow's own rules differ between a worker and the triggerer: after a deferral,
        ``soft_fail`` would hide a broken connection. These are the same in all modes.
        """
        try:
            yield
        except (sdk.AirflowSkipException, sdk.AirflowRescheduleException):
            raise
        except (Exception, sdk.AirflowTaskTimeout) as error:
            is_skipped = self.never_fail
            if self.soft_fail and isinstance(error, self.negative_errors):
                is_skipped = True
            if not is_skipped:
                raise
            raise sdk.AirflowSkipException(str(error)) from error

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
