"""
The sensor that waits for an execution which somebody else has started.

What it looks for is decided in ``execution/search/``; the wait is that of the operators, and so is the report
of the end (``operators/reporting.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution.lifecycle.recovery import OnCompletedWithFailures
from polysync_airflow.execution.models import ExecutionEvent, region_from_arn
from polysync_airflow.execution.outcome import OnCancelled, parse_event
from polysync_airflow.execution.parameters import MIN_PROGRESS_INTERVAL, storable_parameters
from polysync_airflow.execution.search.criteria import (
    SEARCH_ARGUMENTS,
    describe_search,
    make_search,
    parse_search_event,
)
from polysync_airflow.execution.search.models import Which
from polysync_airflow.operators.base import DEFAULT_CONNECTION, DEFAULT_DEFERRABLE, apply_retry_policy
from polysync_airflow.operators.outcome.xcoms import push_described, push_links
from polysync_airflow.operators.reporting import (
    DEFAULT_LOG_LINES,
    DEFAULT_PROGRESS_INTERVAL,
    ReportChoices,
)
from polysync_airflow.sensors.base import SensorChoices
from polysync_airflow.sensors.reporting import ReportingSensor
from polysync_airflow.sensors.window import default_window
from polysync_airflow.states import has_ended

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow.sdk import Context, XComArg

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.models import ExecutionDescription
    from polysync_airflow.execution.steps.awaited import StepEndedEvent
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.sensors.looking import WorkerSearch
    from polysync_airflow.sensors.watch import Watch


class PipelineSensorChoices(SensorChoices, ReportChoices):
    """What the DAG author chose for the sensor."""

    which: Which


class PolysyncPipelineSensor(ReportingSensor):
    """
    Wait for an execution of a SageMaker pipeline that somebody else has started, or for one step of it.

    The sensor waits for the execution of ``execution_arn``, or looks for one of ``pipeline_name`` that is
    created in a window of time. It never stops or resumes the execution.

    ``mode`` and ``deferrable`` say how it waits; the outcome is the same. The XComs, buttons, asset events
    and errors are those of ``PolysyncStartPipelineOperator``, as soon as an execution is found. Once found,
    it stays the one of this try. A retry looks again.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelineExecutions.html

    ``poke_interval``, ``timeout``, ``mode``, ``soft_fail`` and the other arguments of Airflow's
    ``BaseSensorOperator`` apply. With ``soft_fail``, the task is skipped if no execution is found, if it
    fails, is stopped, or takes too long, but not after an error of the arguments, the connection or AWS.

    :param execution_arn: the ARN of the execution (templated). Give either this or ``pipeline_name``.
    :param pipeline_name: name or ARN of the pipeline of which to look for an execution (templated).
    :param created_after: where the window begins: a datetime, or an ISO 8601 text; UTC if it has no offset
        (templated). Default: the data interval of the DAG run, both begin and end.
    :param created_before: where the window ends (templated). Default: no end, if ``created_after`` is given,
        or if the data interval has no length.
    :param which: ``first``: the oldest execution in the window; ``latest``: the newest that exists when the
        try begins, or else the first one after that.
    :param display_name_pattern: a pattern of the display name, such as ``nightly-*`` (templated).
    :param parameters: the values that parameters of the execution must have, as ``str(value)``; others do not
        count (templated). This costs a call for each execution in the window.
    :param step_name: wait for the end of this step only, which decides the outcome (templated).
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :param deferrable: wait in the triggerer instead of on a worker, whatever ``mode`` is.
        Default: ``[operators] default_deferrable``.
    :param on_completed_with_failures: ``fail`` or ``succeed`` when AWS reports CompletedWithFailures.
    :param on_cancelled: when somebody stopped the execution: ``fail`` without using retries, ``skip``, or
        ``retry`` (an ordinary failure, which uses retries).
    :param progress_interval: seconds, or a timedelta, between two lists of the steps while the task waits, at
        least 10 seconds; None for none.
    :param failed_step_log_lines: how many lines of the log of each failed step are logged; 0 for none.
    :param describe_jobs: describe the jobs of the steps at the end, for their metrics, artefacts and billable
        seconds in ``outputs`` and ``run``. That costs a call for each job.
    :param property_files: read the JSON files that processing steps declare into ``outputs``: True for all,
        or the names of some.
    :return: the ARN of the execution (XCom ``return_value``).
    :raises ParametersError: an argument is not valid, or the window has too many executions.
    :raises CredentialsError: the connection is missing or unusable.
    :raises SageMakerApiError: AWS refused a call.
    :raises PipelineExecutionNotFoundError: the window has closed without an execution that matches.
    :raises PipelineExecutionFailedError: the execution, or the step, failed; or the step was not run.
    :raises PipelineExecutionCancelledError: somebody stopped the execution.
    :raises PipelineExecutionTimeoutError: no execution was found in time, or it did not end in time.
    """

    template_fields: Sequence[str] = (
        "execution_arn",
        "pipeline_name",
        "created_after",
        "created_before",
        "display_name_pattern",
        "parameters",
        "step_name",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"parameters": "json"}
    # What is known in this process: the execution, or the search for it.
    _arn: str | None = None
    _search: WorkerSearch
    _watch: Watch | None = None

    def __init__(
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
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        deferrable: bool = DEFAULT_DEFERRABLE,
        on_completed_with_failures: OnCompletedWithFailures = "fail",
        on_cancelled: OnCancelled = "fail",
        progress_interval: float | timedelta | None = DEFAULT_PROGRESS_INTERVAL,
        failed_step_log_lines: int = DEFAULT_LOG_LINES,
        describe_jobs: bool = True,
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
        self.deferrable = deferrable
        self.on_completed_with_failures = on_completed_with_failures
        self.on_cancelled = on_cancelled
        self.progress_interval = progress_interval
        self.failed_step_log_lines = failed_step_log_lines
        self.describe_jobs = describe_jobs
        self.property_files = property_files
        _ = self.choices  # raises an error if one is not valid
        self._check_which_arguments(is_given=lambda value: value is not None)

    @property
    def choices(self) -> PipelineSensorChoices:
        """What the DAG author chose, validated."""
        return PipelineSensorChoices.of(self._attributes(PipelineSensorChoices.model_fields))

    @property
    def parameters(self) -> Any:
        """The parameters of the execution. A number that Airflow cannot store is the text that AWS has."""
        return self._parameters

    @parameters.setter
    def parameters(self, values: Any) -> None:
        self._parameters = storable_parameters("parameters", values)

    @property
    def _poll_seconds(self) -> float:
        return self.choices.poke_interval

    @property
    def _list_seconds(self) -> float | None:
        choices = self.choices
        if self.step_name:
            return max(choices.poke_interval, MIN_PROGRESS_INTERVAL)
        return choices.progress_interval

    def _check_which_arguments(self, is_given: Callable[[Any], bool]) -> None:
        given = [name for name in SEARCH_ARGUMENTS if name != "which" and is_given(getattr(self, name))]
        by_arn = is_given(self.execution_arn)
        if by_arn == ("pipeline_name" in given):
            both = "are both given" if by_arn else "are both missing"
            raise ParametersError(f"execution_arn and pipeline_name {both}: give one of them.")
        if by_arn and given:
            raise ParametersError(
                f"{', '.join(given)}: an execution with an execution_arn is not looked for. Leave out one of "
                "them."
            )

    @apply_retry_policy
    def execute_found(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Wait for the end of the execution that the search trigger has found.

        :raises TriggerEventError: ``event`` is not an event of the search trigger.
        """
        from polysync_airflow.sensors.looking import found

        with self.soft_failures():
            self.has_no_links = True
            end = parse_search_event(event)
            self._began_at, self._arn = end.began_at, found(end)
            return self._end_or_defer(context)

    @apply_retry_policy
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Push the outcome of the execution, and succeed, fail or skip accordingly.

        :raises TriggerEventError: ``event`` is not an event of this provider's triggers.
        """
        from polysync_airflow.execution.steps.awaited import parse_step_event

        with self.soft_failures():
            return self._end(context, parse_step_event(event) or parse_event(event))

    def _check_arguments(self, context: Context) -> None:
        self.has_no_links = True
        self._check_which_arguments(bool)
        if self.step_name:
            from polysync_airflow.execution.steps.awaited import check_step_name

            check_step_name(self.step_name)
        if self.execution_arn:
            self._arn = self._check_execution(self.execution_arn)
            return
        from polysync_airflow.execution.search.lookout import Lookout
        from polysync_airflow.sensors.looking import WorkerSearch

        arguments = self._attributes(SEARCH_ARGUMENTS)
        search = make_search(arguments, default_window(context), self._began_at)
        lookout = Lookout(search, self._deadline)
        self._search = WorkerSearch(self.hook, lookout, self.log, is_repeated=self._is_rescheduled)
        self.log.info("Looking for %s", describe_search(search))

    # ---- the wait

    def _defer(self) -> NoReturn:
        from polysync_airflow import triggers

        if self._watch is None:
            lookout = self._search.lookout
            trigger = triggers.PolysyncPipelineSearchTrigger(
                search=lookout.search.model_dump(mode="json"),
                polysync_conn_id=self.polysync_conn_id,
                region_name=self.hook.region_name,
                poll_interval=self._poll_seconds,
                listed_until=lookout.listed_until,
                deadline=lookout.deadline,
            )
            self.defer(trigger=trigger, method_name="execute_found")
        arguments = self._trigger_arguments(
            self._watch.waiter, stop_on_kill=False, progress_interval=self._list_seconds
        )
        make: Callable[..., triggers.PolysyncPipelineExecutionTrigger]
        make = triggers.PolysyncPipelineExecutionTrigger
        if self.step_name:
            make = partial(triggers.PolysyncPipelineStepTrigger, step_name=self.step_name)
        self.defer(trigger=make(**arguments), method_name="execute_complete")

    def _poll(self, context: Context) -> ExecutionEvent | StepEndedEvent | None:
        """Look for the execution, or poll it; return how the wait has ended, None if it goes on."""
        if self._watch is None:
            self._arn = self._arn or self._search.look()
            if self._arn is None:
                return None
            self._watch = self._begin_watch(context, self._arn)
        return self._watch.poll()

    def _begin_watch(self, context: Context, arn: str) -> Watch:
        """Push the links to the execution and its steps, so that they are there while it runs."""
        from polysync_airflow.execution.steps.awaited import check_step_declared
        from polysync_airflow.sensors.watch import Watch

        hook, name = self.hook_for_region(region_from_arn(arn)), self._pipeline_of(arn)
        context["ti"].xcom_push("execution_arn", arn)
        push_links(context, self.hook, arn, name, self.log)
        self.has_no_links = False
        reporter = self._step_reporter(context, arn, None)
        # A session that is followed by another one spares the calls for what it shows only until then.
        if not self._is_rescheduled:
            declared = reporter.push_declared()
            if self.step_name:
                check_step_declared(self.step_name, declared)
        return Watch(
            hook,
            self._make_waiter(arn, name, started_at=self._began_at),
            reporter,
            self.log,
            step_name=self.step_name,
            lists_always=self._is_rescheduled and self._list_seconds is not None,
            push=partial(self._push, context, hook, name),
        )

    def _push(
        self, context: Context, hook: PolysyncSageMakerHook, name: str, description: ExecutionDescription
    ) -> None:
        parameters: Mapping[str, str] | None = None
        if not self._is_rescheduled or has_ended(description.status):
            try:
                parameters = hook.list_pipeline_parameters_for_execution(description.execution_arn)
            except PolysyncError as error:
                self.log.info("The parameters of the execution are not shown: %s", error)
        push_described(context, description, pipeline_name=name, parameters=parameters)
