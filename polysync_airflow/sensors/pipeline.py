"""
The sensor that waits for an execution which somebody else has started, or for one step
of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from polysync_airflow import exceptions
from polysync_airflow.execution.lifecycle.options import OnCompletedWithFailures
from polysync_airflow.execution.models import Which
from polysync_airflow.execution.outcome import OnCancelled
from polysync_airflow.execution.parameters import storable_parameters
from polysync_airflow.operators import base
from polysync_airflow.sensors.base import PolysyncSensor, SensorOptions

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow.sdk import Context, XComArg

    from polysync_airflow.sensors.pipeline_run import PipelineSensorRun

# The arguments that describe what is looked for. ``which`` has a default.
_SEARCH_TEMPLATES: Final = (
    "pipeline_name",
    "created_after",
    "created_before",
    "display_name_pattern",
    "parameters",
)


class PipelineSensorOptions(SensorOptions, base.ReportOptions):
    """The options of the sensor."""

    which: Which


class PolysyncPipelineSensor(PolysyncSensor, base.ReportingOperator):
    """
    Wait for an execution of a SageMaker pipeline that somebody else has started, or for
    one step of it.

    The sensor waits for the execution of ``execution_arn``, or looks for one of
    ``pipeline_name`` that is created in a window of time. It never stops or resumes the
    execution.

    ``mode`` and ``deferrable`` say how it waits; the outcome is the same. The XComs,
    buttons, asset events and errors are those of ``PolysyncStartPipelineOperator``, as
    soon as an execution is found. Once found, it stays the one of this try. A retry
    looks again. API:
    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and the other arguments of
    Airflow's ``BaseSensorOperator`` apply. With ``soft_fail``, the task is skipped if
    no execution is found, if it fails, is stopped, or takes too long, but not after an
    error of the arguments, the connection or AWS.

    :param execution_arn: the ARN of the execution (templated). Give either this or
        ``pipeline_name``.
    :param pipeline_name: name or ARN of the pipeline of which to look for an execution
        (templated).
    :param created_after: where the window begins: a datetime, or an ISO 8601 text; UTC
        if it has no offset (templated). Default: the data interval of the DAG run, both
        begin and end.
    :param created_before: where the window ends (templated). Default: no end, if
        ``created_after`` is given, or if the data interval has no length.
    :param which: ``first``: the oldest execution in the window; ``latest``: the newest
        that exists when the try begins, or else the first one after that.
    :param display_name_pattern: a pattern of the display name, such as ``nightly-*``
        (templated).
    :param parameters: the values that parameters of the execution must have, as
        ``str(value)``; others do not count (templated). This costs a call for each
        execution in the window.
    :param step_name: wait for the end of this step only, which decides the outcome
        (templated). What a ForEach step runs for its first item is ``Score-0`` for a
        step ``Score`` of its body.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or
        ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :param deferrable: wait in the triggerer instead of on a worker, whatever ``mode``
        is. Default: ``[operators] default_deferrable``.
    :param start_from_trigger: start, wait and end in the triggerer, without a worker;
        ``deferrable`` is then True. From Airflow 3.3 on; the reference says what
        Airflow does not do for such a task.
    :param on_completed_with_failures: ``fail`` or ``succeed`` when AWS reports
        CompletedWithFailures.
    :param on_cancelled: when somebody stopped the execution: ``fail`` without using
        retries, ``skip``, or ``retry`` (an ordinary failure, which uses retries).
    :param progress_interval: seconds, or a timedelta, between two lists of the steps
        while the task waits, at least 10 seconds; None for none.
    :param property_files: read the JSON files that processing steps declare into
        ``outputs``: True for all, or the names of some.
    :return: the ARN of the execution (XCom ``return_value``).
    :raises ParametersError: an argument is not valid, or the window has too many
        executions.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
    :raises PipelineExecutionNotFoundError: the window has closed without an execution
        that matches.
    :raises PipelineExecutionFailedError: the execution, or the step, failed; or the
        step was not run.
    :raises PipelineExecutionCancelledError: somebody stopped the execution.
    :raises PipelineExecutionTimeoutError: no execution was found in time, or it did not
        end in time.
    """

    template_fields: Sequence[str] = (
        "execution_arn",
        *_SEARCH_TEMPLATES,
        "step_name",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}
    options = base.ValidatedOptions(PipelineSensorOptions)

    def __init__(  # noqa: PLR0913 (for DAG authors)
        self,
        *,
        execution_arn: str | XComArg | None = None,
        pipeline_name: str | XComArg | None = None,
        created_after: datetime | str | XComArg | None = None,
        created_before: datetime | str | XComArg | None = None,
        which: Which = "first",
        display_name_pattern: str | XComArg | None = None,
        parameters: Mapping[str, Any] | XComArg | None = None,
        step_name: str | XComArg | None = None,
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        deferrable: bool = base.DEFAULT_DEFERRABLE,
        start_from_trigger: bool = False,
        on_completed_with_failures: OnCompletedWithFailures = "fail",
        on_cancelled: OnCancelled = "fail",
        progress_interval: (float | timedelta | None) = base.DEFAULT_PROGRESS_INTERVAL,
        property_files: bool | Sequence[str] = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        # Airflow replaces an XComArg by the rendered text before it calls execute.
        self.execution_arn = cast("str | None", execution_arn)
        self.pipeline_name = cast("str | None", pipeline_name)
        self.created_after = created_after
        self.created_before = created_before
        self.which = which
        self.display_name_pattern = display_name_pattern
        self.parameters = parameters
        self.step_name = cast("str | None", step_name)
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.deferrable = deferrable or start_from_trigger
        self.on_completed_with_failures = on_completed_with_failures
        self.on_cancelled = on_cancelled
        self.progress_interval = progress_interval
        self.property_files = property_files
        self.start_from_trigger = start_from_trigger
        self._check_options()
        self.check_combination(is_given=lambda value: value is not None)

    @property
    def parameters(self) -> Any:
        """
        The parameters of the execution. A number that is too large for Airflow's
        database is a text, as AWS has it.
        """
        return self._parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        self._parameters = storable_parameters("parameters", values)

    def check_combination(self, is_given: Callable[[object], bool]) -> None:
        """
        Check that an execution is either given or looked for.

        :param is_given: returns whether an argument has this value because it is given.
        :raises ParametersError: both, or neither.
        """
        names = [name for name in _SEARCH_TEMPLATES if is_given(getattr(self, name))]
        by_arn = is_given(self.execution_arn)
        by_name = "pipeline_name" in names
        if by_arn == by_name:
            both = "are both missing"
            if by_arn:
                both = "are both given"
            raise exceptions.ParametersError(
                f"execution_arn and pipeline_name {both}: give one of them."
            )
        if by_arn and names:
            raise exceptions.ParametersError(
                f"{', '.join(names)}: an execution with an execution_arn is not looked"
                " for. Leave out one of them."
            )

    def _run_in(self, context: Context) -> PipelineSensorRun:
        from polysync_airflow.sensors.pipeline_run import PipelineSensorRun

        return PipelineSensorRun(self, context)

    @base.apply_retry_policy
    def execute_found(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Wait for the end of the execution that the search trigger has found.

        :raises TriggerEventError: ``event`` is not an event of the search trigger.
        """
        with self.soft_failures():
            return self._run_in(context).execute_found(event)
