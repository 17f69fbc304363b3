"""
What the sensors declare in common, and after which errors they are skipped.
``sensor_run.py`` has the base of what runs them.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final

from airflow.providers.common.compat.sdk import (
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    XComArg,
)
from airflow.triggers.base import StartTriggerArgs

from polysync_airflow import exceptions, retrying
from polysync_airflow.airflow_compat import sdk
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.models import MAX_POLL_INTERVAL, MIN_POLL_INTERVAL
from polysync_airflow.execution.parameters import Seconds, seconds
from polysync_airflow.operators import base

if TYPE_CHECKING:
    from polysync_airflow.sensors.sensor_run import SensorRun

# The class path that Airflow stores of the trigger that runs a whole task.
_TRIGGERER_TASK: Final = "polysync_airflow.start_in_triggerer.PolysyncTaskTrigger"


class SensorOptions(base.LimitOptions):
    """The options of the wait of a sensor."""

    poke_interval: Annotated[Seconds, seconds(MIN_POLL_INTERVAL, MAX_POLL_INTERVAL)]
    timeout: Annotated[Seconds, seconds(0, base.MAX_TIMEOUT)]

    @property
    def poll_seconds(self) -> float:
        """Seconds between two polls."""
        return self.poke_interval


class _StartTriggerArgs:
    """
    How a sensor starts in the triggerer. It follows from the attributes that the sensor
    has when Airflow serializes it.
    """

    def __get__(
        self, sensor: PolysyncSensor | None, owner: type
    ) -> StartTriggerArgs | None:
        if sensor is None or not sensor.start_from_trigger:
            return None
        fields = sensor.attributes((*sensor.template_fields, "soft_fail", "never_fail"))
        for name, value in fields.items():
            if not isinstance(value, XComArg):
                continue
            if name == "parameters" or not str(value).startswith("{{"):
                # Any other one is stored as a template, which renders to a text.
                raise exceptions.ParametersError(
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
    Base of the sensors.

    Airflow polls a sensor by its method ``poke``, so a sensor knows its run.
    """

    ui_color = "#e6f1f2"
    options = base.ValidatedOptions(SensorOptions)
    # ``soft_fail`` skips the task after these: AWS has answered, and what is waited for
    # is not there. It does not hide other errors.
    negative_errors: ClassVar[tuple[type[BaseException], ...]] = (
        exceptions.PipelineExecutionError,
        exceptions.ModelApprovalError,
        sdk.AirflowSensorTimeout,
    )
    # The run of this process, if it executes the task.
    current_run: SensorRun[Any]
    start_trigger_args: Any = _StartTriggerArgs()

    @abstractmethod
    def _run_in(self, context: Context) -> SensorRun[Any]:
        """Return what runs this task."""

    def _begin_run(self, context: Context) -> SensorRun[Any]:
        self.current_run = self._run_in(context)
        return self.current_run

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
            raise exceptions.ParametersError(
                "start_from_trigger = True needs Airflow 3.3 or newer: before, a"
                " triggerer knows no task whose templates it could render. Leave it"
                " out, and set deferrable = True."
            )
        worker_arguments = {name: getattr(self, name) for name in base.ON_WORKERS_ONLY}
        if self.retry_policy != retrying.PolysyncRetryPolicy():
            worker_arguments["retry_policy"] = self.retry_policy
        for name, value in worker_arguments.items():
            if not value:
                continue
            raise exceptions.ParametersError(
                f"{name.removeprefix('_').removesuffix('_hook')} = {value!r:.100} is"
                " for workers only, and with start_from_trigger = True the task has"
                " none: leave out one of them. deferrable = True waits in the"
                " triggerer, too, and timeout limits the wait in place of"
                " execution_timeout."
            )

    @base.apply_retry_policy
    def execute(self, context: Context) -> str:
        """Wait on the worker, or poll once and then defer."""
        with self.soft_failures():
            return self._begin_run(context).execute()

    def poke(self, context: Context) -> PokeReturnValue:
        """Poll once. Airflow calls this; the value is how the wait has ended."""
        end = self.current_run.poll()
        return PokeReturnValue(is_done=end is not None, xcom_value=end)

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Push how the wait has ended, and succeed, fail or skip accordingly.

        :raises TriggerEventError: ``event`` is not an event of this provider's
            triggers.
        """
        with self.soft_failures():
            return self._begin_run(context).complete(event)

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
