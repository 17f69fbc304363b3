"""
The sensor that waits for an execution which somebody else has started.

What it looks for is decided in ``execution/search.py``; the wait is that of the
operators, and so is the report of the end (``operators/reporting.py``), for an
execution or for one step of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, cast

from polysync_airflow import exceptions
from polysync_airflow.execution import clock, models, outcome, search
from polysync_airflow.execution.lifecycle.options import OnCompletedWithFailures
from polysync_airflow.execution.outcome import OnCancelled
from polysync_airflow.execution.parameters import storable_parameters
from polysync_airflow.execution.search import Which
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    check_event,
)
from polysync_airflow.operators import base, reporting
from polysync_airflow.sensors.base import PolysyncSensor, SensorOptions
from polysync_airflow.states import PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from airflow.sdk import Context, XComArg

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.execution.lifecycle.next_session import NextSession
    from polysync_airflow.execution.steps.progress import StepEndedEvent
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.operators.results import StepReport, StepReporter


class PipelineSensorOptions(SensorOptions, reporting.ReportOptions):
    """The options of the sensor."""

    which: Which


class PolysyncPipelineSensor(PolysyncSensor, reporting.ReportingOperator):
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
    options = base.ValidatedOptions(PipelineSensorOptions)
    # Of this process: the ARN of the execution, or the search for it; and the wait for
    # it, once it is found.
    _arn: str | None = None
    _search: search.SearchWaiter
    _waiter: ExecutionWaiter | None = None
    _execution_hook: PolysyncSageMakerHook
    _reporter: StepReporter
    _is_described = False

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
        polysync_conn_id: str = base.DEFAULT_CONNECTION,
        region_name: str | None = None,
        deferrable: bool = base.DEFAULT_DEFERRABLE,
        start_from_trigger: bool = False,
        on_completed_with_failures: OnCompletedWithFailures = "fail",
        on_cancelled: OnCancelled = "fail",
        progress_interval: (
            float | timedelta | None
        ) = reporting.DEFAULT_PROGRESS_INTERVAL,
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
        self._check_combination(is_given=lambda value: value is not None)

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

    @property
    def _poll_seconds(self) -> float:
        return self.options.poke_interval

    @property
    def _list_seconds(self) -> float | None:
        if self.step_name:
            return max(self.options.poke_interval, models.MIN_PROGRESS_INTERVAL)
        return super()._list_seconds

    def _check_combination(self, is_given: Callable[[Any], bool]) -> None:
        names = [
            name
            for name in search.SEARCH_ARGUMENTS
            if name != "which" and is_given(getattr(self, name))
        ]
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

    @base.apply_retry_policy
    def execute_found(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Wait for the end of the execution that the search trigger has found.

        :raises TriggerEventError: ``event`` is not an event of the search trigger.
        """
        with self.soft_failures():
            end = check_event(search.SearchEvent, event)
            self._began_at = end.began_at
            self._arn = _arn_of(end)
            return self._end_or_defer(context)

    @base.apply_retry_policy
    def execute_complete(
        self, context: Context, event: dict[str, Any] | None = None
    ) -> str:
        """
        Push the outcome of the execution, and succeed, fail or skip accordingly.

        :raises TriggerEventError: ``event`` is not an event of this provider's
            triggers.
        """
        from polysync_airflow.execution.steps.progress import parse_step_ended

        with self.soft_failures():
            step_end = parse_step_ended(event)
            if step_end:
                return self._end(context, step_end)
            return self._end(context, check_event(ExecutionEvent, event))

    def _check_arguments(self, context: Context) -> None:
        self._check_combination(bool)
        if self.step_name:
            from polysync_airflow.execution.steps.progress import check_step_name

            check_step_name(self.step_name)
        if self.execution_arn:
            self._arn = self._check_execution(self.execution_arn)
            return
        arguments = self._attributes(search.SEARCH_ARGUMENTS)
        window = default_window(context)
        criteria = search.make_search(arguments, window, self._began_at)
        self._search = search.SearchWaiter(
            search=criteria,
            poll_interval=self._poll_seconds,
            since=self._began_at.timestamp(),
            deadline=self._deadline,
            is_repeated=self._is_rescheduled,
        )
        self.log.info("Looking for %s", search.describe_search(criteria))

    # ---- the wait

    def _defer(self) -> NoReturn:
        from polysync_airflow import triggers

        if self._waiter is None:
            waiter = self._search
            search_trigger = triggers.PolysyncPipelineSearchTrigger(
                search=waiter.search.model_dump(mode="json"),
                polysync_conn_id=self.polysync_conn_id,
                region_name=self.hook.region_name,
                poll_interval=waiter.poll_interval,
                listed_until=waiter.listed_until,
                deadline=waiter.deadline,
            )
            self.defer(trigger=search_trigger, method_name="execute_found")
        arguments = self._trigger_arguments(
            self._waiter,
            progress_interval=self._list_seconds,
            declared_steps=self._reporter.declared_steps,
        )
        trigger: triggers.PolysyncPipelineExecutionTrigger
        if self.step_name:
            trigger = triggers.PolysyncPipelineStepTrigger(
                step_name=self.step_name, **arguments
            )
        else:
            trigger = triggers.PolysyncPipelineExecutionTrigger(**arguments)
        self.defer(trigger=trigger, method_name="execute_complete")

    def _poll(self, context: Context) -> ExecutionEvent | StepEndedEvent | None:
        """
        Look for the execution, or poll it; return how the wait has ended, None if it
        goes on.
        """
        if self._waiter is None:
            self._arn = self._arn or self._search_once()
            if self._arn is None:
                return None
            self._waiter = self._begin_wait(context, self._arn)
        return self._poll_execution(context, self._waiter)

    def _search_once(self) -> str | None:
        """
        Return the ARN of the execution that is looked for; None if there is none yet.

        :raises PolysyncError: the search has ended without one.
        """
        waiter = self._search
        listed_at = clock.time()
        listed = self.hook.find_pipeline_executions(
            waiter.search.pipeline_name,
            created_after=waiter.list_after,
            created_before=waiter.search.created_before,
        )
        page = search.page_of(
            waiter.search,
            listed,
            self.hook.list_pipeline_parameters_for_execution,
            listed_at,
        )
        result = self._decide(waiter, page)
        if isinstance(result, Finish):
            return _arn_of(result.event)
        self._search = result.waiter
        return None

    def _begin_wait(self, context: Context, arn: str) -> ExecutionWaiter:
        """
        Push the links to the execution and its steps, so that they are there while it
        runs.
        """
        from polysync_airflow.execution.steps.progress import check_step_declared

        pipeline_name = self._pipeline_of(arn)
        self._execution_hook = self.hook_for_region(models.region_from_arn(arn))
        context["ti"].xcom_push("execution_arn", arn)
        reporting.push_links(context, self.hook, arn, pipeline_name, self.log)
        self._reporter = self._step_reporter(
            context,
            arn,
            None,
            is_repeated=self._is_rescheduled,
            is_awaited=bool(self.step_name),
        )
        # A rescheduled sensor spares the calls for what it would show only until its
        # next session.
        if not self._is_rescheduled:
            declared = self._reporter.push_declared()
            if self.step_name:
                check_step_declared(self.step_name, declared)
        return self._make_waiter(
            arn, pipeline_name, cost_limit=None, started_at=self._began_at
        )

    def _poll_execution(
        self, context: Context, waiter: ExecutionWaiter
    ) -> ExecutionEvent | StepEndedEvent | None:
        from polysync_airflow.execution.steps.progress import ended_step

        arn = waiter.execution_arn
        polled = self._execution_hook.poll_pipeline_execution(arn)
        if not isinstance(polled, exceptions.PolysyncError) and not self._is_described:
            self._push_summary(context, polled)
            self._is_described = True
        result = self._decide(waiter, polled)
        if isinstance(result, Finish):
            return cast("ExecutionEvent", result.event)
        self._waiter = result.waiter
        steps = self._reporter.after_poll(result.waiter, polled)
        if not self.step_name:
            return None
        return ended_step(steps, self.step_name, arn)

    def _push_summary(
        self, context: Context, description: models.ExecutionDescription
    ) -> None:
        arn = description.execution_arn
        parameters: Mapping[str, str] | None = None
        if not self._is_rescheduled or has_ended(description.status):
            try:
                parameters = (
                    self._execution_hook.list_pipeline_parameters_for_execution(arn)
                )
            except exceptions.PolysyncError as error:
                self.log.info(
                    "The parameters of the execution are not shown: %s", error
                )
        summary = outcome.described(
            description, pipeline_name=self._pipeline_of(arn), parameters=parameters
        )
        reporting.push_summary(context, summary)

    # ---- the end

    def _pipeline_of(self, arn: str) -> str:
        """
        Return the name of an execution's pipeline, lower-case in older ARNs; the ARN of
        a managed one.
        """
        name_in_arn = models.pipeline_name_of(arn)
        pipeline = self.pipeline_name or ""
        name = models.pipeline_name_of(pipeline)
        if name.lower() != name_in_arn.lower():
            return name_in_arn
        return models.name_or_arn(name, pipeline)

    def _end(self, context: Context, end: ExecutionEvent | StepEndedEvent) -> str:
        """
        Push the outcome, and return the ARN of the execution, or raise the error of the
        task.
        """
        from polysync_airflow.execution.cost import Basis
        from polysync_airflow.execution.steps import progress

        arn = end.execution_arn
        if not isinstance(end, ExecutionEvent):
            report = self._report_steps(context, arn, Basis())
            row = progress.row_of(end, report.rows)
        elif self.step_name:
            report = self._report_end(context, end, Basis())
            ended_row = progress.ended_row(report.rows, self.step_name)
            row = ended_row or self._fail_without_step(context, end, report)
        else:
            report = self._report_end(context, end, Basis())
            return self._finish(context, end, report, note=_note(end))
        pipeline_name = self._pipeline_of(arn)
        self._raise_outcome(
            context,
            progress.end_of_step(arn, pipeline_name, row),
            partial(outcome.step_message, arn, pipeline_name, row),
            report.notes,
        )
        self._publish(context, arn, pipeline_name, report.model_package_arns)
        return arn

    def _fail_without_step(
        self, context: Context, end: ExecutionEvent, report: StepReport
    ) -> NoReturn:
        """Raise the error of an end without the awaited step."""
        if report.error:
            # Nobody knows how the step has ended.
            raise report.error
        note = f"Step {self.step_name}, for which this task waits, has not ended."
        message = reporting.message_about(end, report)
        notes = (*report.notes, note, _note(end))
        self._raise_outcome(context, end, message, notes)
        raise exceptions.PipelineExecutionFailedError(
            message(notes=notes),
            execution_arn=end.execution_arn,
            status=end.status,
            permanent=True,
        )

    def _make_error(
        self, end: ExecutionEvent, message: str, *, is_own_stop: bool
    ) -> Exception | None:
        if end.outcome != "timed_out":
            return super()._make_error(end, message, is_own_stop=is_own_stop)
        if end.error_code:
            # The last poll has failed.
            return outcome.refusal_error(end, message)
        # As Airflow's sensors, which do not retry after their timeout.
        return exceptions.PipelineExecutionTimeoutError(
            message, execution_arn=end.execution_arn, status=end.status, permanent=True
        )

    def _next_step(
        self,
        context: Context,
        end: ExecutionEvent,
        retry: NextSession | None,
        *,
        by_fail_step: bool,
    ) -> str | None:
        if retry:
            again = "waits for the same execution"
            if self.pipeline_name:
                again = "looks for an execution again"
            return f"Next: {retry.text} {retry.subject} {again}."
        if end.outcome == "ended" and state_of(end.status) is PolysyncState.FAILED:
            return (
                "Next: mend the cause, and start or resume the execution where it was"
                " started.\n  Then clear this task."
            )
        return None


def _arn_of(end: search.SearchEvent) -> str:
    if end.execution_arn is None:
        raise outcome.search_error(end)
    return end.execution_arn


def _note(end: ExecutionEvent) -> str | None:
    if end.outcome == "ended":
        return None
    return "This task has not stopped it: it may still be running."


def default_window(context: Context) -> tuple[datetime, datetime | None]:
    """
    Return begin and end of the data interval of a DAG run. An interval without length
    has no end.

    Airflow 3 has intervals without length for cron timetables and for manual runs, and
    DAG runs without any, for example those that an asset starts. For these, the window
    begins when the DAG run was due.
    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/timetable.html
    """
    begin: Any = context.get("data_interval_start")
    if begin is not None:
        end = context.get("data_interval_end")
        if end and end > begin:
            return begin, end
        return begin, None
    dag_run = context.get("dag_run")
    # Airflow 2 has no ``run_after``, but always an interval.
    begin = getattr(dag_run, "run_after", None) or getattr(dag_run, "start_date", None)
    return begin or clock.now(), None
