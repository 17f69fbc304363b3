"""
What runs the sensor for executions.

What it looks for is decided in ``execution/search.py``. The report of the end is that
of the Start operator (``operators/reporting.py``), for an execution or for one step of
it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from airflow.providers.common.compat.sdk import Context

from polysync_airflow import exceptions, triggers
from polysync_airflow.execution import clock, cost, models, outcome, search
from polysync_airflow.execution.lifecycle.plans import Does, NextSession
from polysync_airflow.execution.steps import progress
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    check_event,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import reporting, results, task_run
from polysync_airflow.sensors.sensor_run import SensorRun
from polysync_airflow.states import PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from polysync_airflow.sensors import pipeline

PipelineEnd = ExecutionEvent | progress.StepEndedEvent


class Found(NamedTuple):
    """
    An execution, for the end of which the next poll begins to wait.

    :param began_at: when this try began.
    """

    arn: str
    began_at: datetime


@dataclass(frozen=True)
class Waiting:
    """
    The wait for the end of an execution.

    :param hook: the hook for its region.
    :param is_described: whether the XCom ``run`` was pushed.
    """

    waiter: ExecutionWaiter
    hook: PolysyncSageMakerHook
    reporter: results.StepReporter
    is_described: bool = False


class PipelineSensorRun(SensorRun[PipelineEnd], reporting.ReportingRun):
    """One session of the sensor: it searches, finds, and waits."""

    task: pipeline.PolysyncPipelineSensor
    options: pipeline.PipelineSensorOptions
    trigger_classes = (
        triggers.PolysyncPipelineSearchTrigger,
        triggers.PolysyncPipelineExecutionTrigger,
        triggers.PolysyncPipelineStepTrigger,
    )
    _wait: search.SearchWaiter | Found | Waiting

    def execute_found(self, event: Mapping[str, object] | None) -> str:
        """
        Wait for the end of the execution that the search trigger has found.

        :raises TriggerEventError: ``event`` is not an event of the search trigger.
        """
        self._wait = _found_by(check_event(search.SearchEvent, event))
        return self.end_or_defer()

    def complete(self, event: Mapping[str, object] | None) -> str:
        step_end = progress.parse_step_ended(event)
        if step_end:
            return self.end(step_end)
        return self.end(check_event(ExecutionEvent, event))

    @property
    def list_seconds(self) -> float | None:
        """
        Seconds between two lists of the steps while the task waits; None for none.
        """
        if self.task.step_name:
            return max(self.options.poke_interval, models.MIN_PROGRESS_INTERVAL)
        return super().list_seconds

    def begin(self, began_at: datetime) -> None:
        self.task.check_combination(bool)
        if self.task.step_name:
            progress.check_step_name(self.task.step_name)
        if self.task.execution_arn:
            arn = self.check_execution(self.task.execution_arn)
            self._wait = Found(arn, began_at)
            return
        arguments = self.task.attributes(search.SEARCH_ARGUMENTS)
        window = default_window(self.context)
        criteria = search.make_search(arguments, window, began_at)
        self._wait = search.SearchWaiter(
            search=criteria,
            poll_interval=self.options.poke_interval,
            since=began_at.timestamp(),
            deadline=self.deadline_from(began_at),
            is_repeated=self.is_rescheduled,
        )
        self.log.info("Looking for %s", search.describe_search(criteria))

    # ---- the wait

    def poll(self) -> PipelineEnd | None:
        if isinstance(self._wait, search.SearchWaiter):
            self._wait = self._search_once(self._wait)
        if isinstance(self._wait, Found):
            self._wait = self._begin_wait(self._wait)
        if isinstance(self._wait, Waiting):
            return self._poll_execution(self._wait)
        return None

    def defer_wait(self) -> NoReturn:
        wait = self._wait
        if isinstance(wait, search.SearchWaiter):
            search_trigger = triggers.PolysyncPipelineSearchTrigger(
                search=wait.search.model_dump(mode="json"),
                polysync_conn_id=self.task.polysync_conn_id,
                region_name=self.hook.region_name,
                poll_interval=wait.poll_interval,
                listed_until=wait.listed_until,
                deadline=wait.deadline,
            )
            self.task.defer(trigger=search_trigger, method_name="execute_found")
        if isinstance(wait, Found):
            raise RuntimeError("the first poll has not begun the wait")
        arguments = self.trigger_arguments(wait.waiter).listing(
            self.list_seconds, wait.reporter.declared_steps
        )
        trigger: triggers.PolysyncPipelineExecutionTrigger
        if self.task.step_name:
            trigger = triggers.PolysyncPipelineStepTrigger(
                step_name=self.task.step_name, **arguments.kwargs()
            )
        else:
            trigger = triggers.PolysyncPipelineExecutionTrigger(**arguments.kwargs())
        self.task.defer(trigger=trigger, method_name="execute_complete")

    def _search_once(self, waiter: search.SearchWaiter) -> search.SearchWaiter | Found:
        """
        List the executions once; return the search, which goes on, or what it has
        found.

        :raises PolysyncError: the search has ended without an execution.
        """
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
        result = waiter.decide(page, clock.time())
        task_run.write_lines(self.log, result.log_lines)
        if isinstance(result, Finish):
            return _found_by(result.event)
        return result.waiter

    def _begin_wait(self, found: Found) -> Waiting:
        """
        Push the links to the execution and its steps, so that they are there while it
        runs.
        """
        arn = found.arn
        pipeline_name = self._pipeline_of(arn)
        hook = self.hook_for_region(models.region_from_arn(arn))
        self.ti.xcom_push("execution_arn", arn)
        reporting.push_links(self.context, self.hook, arn, pipeline_name, self.log)
        reporter = self.step_reporter(
            arn,
            None,
            is_repeated=self.is_rescheduled,
            is_awaited=bool(self.task.step_name),
        )
        # A rescheduled sensor spares the calls for what it would show only until its
        # next session.
        if not self.is_rescheduled:
            declared = reporter.push_declared()
            if self.task.step_name:
                progress.check_step_declared(self.task.step_name, declared)
        waiter = self.make_waiter(
            arn, pipeline_name, cost_limit=None, started_at=found.began_at
        )
        return Waiting(waiter, hook, reporter)

    def _poll_execution(self, waiting: Waiting) -> PipelineEnd | None:
        arn = waiting.waiter.execution_arn
        polled = waiting.hook.poll_pipeline_execution(arn)
        if not isinstance(polled, exceptions.PolysyncError):
            if not waiting.is_described:
                self._push_summary(waiting.hook, polled)
            waiting = replace(waiting, is_described=True)
        result = waiting.waiter.decide(polled, clock.time())
        task_run.write_lines(self.log, result.log_lines)
        if isinstance(result, Finish):
            return result.event
        self._wait = replace(waiting, waiter=result.waiter)
        steps = waiting.reporter.after_poll(result.waiter, polled)
        if not self.task.step_name:
            return None
        return progress.ended_step(steps, self.task.step_name, arn)

    def _push_summary(
        self, hook: PolysyncSageMakerHook, description: models.ExecutionDescription
    ) -> None:
        arn = description.execution_arn
        parameters: Mapping[str, str] | None = None
        if not self.is_rescheduled or has_ended(description.status):
            try:
                parameters = hook.list_pipeline_parameters_for_execution(arn)
            except exceptions.PolysyncError as error:
                self.log.info(
                    "The parameters of the execution are not shown: %s", error
                )
        summary = outcome.described(
            description, pipeline_name=self._pipeline_of(arn), parameters=parameters
        )
        reporting.push_summary(self.context, summary)

    # ---- the end

    def _pipeline_of(self, arn: str) -> str:
        """
        Return the name of an execution's pipeline, lower-case in older ARNs; the ARN of
        a managed one.
        """
        name_in_arn = models.pipeline_name_of(arn)
        pipeline = self.task.pipeline_name or ""
        name = models.pipeline_name_of(pipeline)
        if name.lower() != name_in_arn.lower():
            return name_in_arn
        return models.name_or_arn(name, pipeline)

    def end(self, end: PipelineEnd) -> str:
        arn = end.execution_arn
        if not isinstance(end, ExecutionEvent):
            report = self.report_steps(arn, cost.Basis())
            row = progress.row_of(end, report.rows)
        elif self.task.step_name:
            report = self.report_end(end, cost.Basis())
            ended_row = progress.ended_row(report.rows, self.task.step_name)
            row = ended_row or self._fail_without_step(end, report)
        else:
            report = self.report_end(end, cost.Basis())
            return self.finish(end, report, note=_note(end))
        pipeline_name = self._pipeline_of(arn)
        error = self.outcome_error(
            progress.end_of_step(arn, pipeline_name, row),
            partial(outcome.step_message, arn, pipeline_name, row),
            report.notes,
            report,
        )
        if error:
            raise error
        self.publish(arn, pipeline_name, report.model_package_arns)
        return arn

    def _fail_without_step(
        self, end: ExecutionEvent, report: results.StepReport
    ) -> NoReturn:
        """Raise the error of an end without the awaited step."""
        if report.error:
            # Nobody knows how the step has ended.
            raise report.error
        note = f"Step {self.task.step_name}, for which this task waits, has not ended."
        message = reporting.message_about(end, report)
        notes = (*report.notes, note, _note(end))
        error = self.outcome_error(end, message, notes, report)
        raise error or exceptions.PipelineExecutionFailedError(
            message(notes=notes),
            execution_arn=end.execution_arn,
            status=end.status,
            permanent=True,
        )

    def make_error(
        self, end: ExecutionEvent, message: str, *, is_own_stop: bool
    ) -> Exception | None:
        """Return the error that fails or skips the task; None if the task succeeds."""
        if end.outcome != "timed_out":
            return super().make_error(end, message, is_own_stop=is_own_stop)
        if end.error_code:
            # The last poll has failed.
            return outcome.refusal_error(end, message)
        # As Airflow's sensors, which do not retry after their timeout.
        return exceptions.PipelineExecutionTimeoutError(
            message, execution_arn=end.execution_arn, status=end.status, permanent=True
        )

    def following(
        self, end: ExecutionEvent, retry: NextSession | None, *, by_fail_step: bool
    ) -> reporting.Following:
        text = None
        planned = None
        if retry:
            does: Does = "continue"
            again = "waits for the same execution"
            if self.task.pipeline_name:
                does = "search"
                again = "looks for an execution again"
            planned = retry.planned(does, clock.now())
            text = f"Next: {retry.text} {retry.subject} {again}."
        elif end.outcome == "ended" and state_of(end.status) is PolysyncState.FAILED:
            text = (
                "Next: mend the cause, and start or resume the execution where it was"
                " started.\n  Then clear this task."
            )
        return reporting.Following(text, reporting.plan_of(self.context, retry=planned))


def _found_by(end: search.SearchEvent) -> Found:
    """
    Return the execution that a search has found.

    :raises PolysyncError: it has found none.
    """
    if end.execution_arn is None:
        raise outcome.search_error(end)
    return Found(end.execution_arn, end.began_at)


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
    begin = context.get("data_interval_start")
    if begin is not None:
        end = context.get("data_interval_end")
        if end and end > begin:
            return begin, end
        return begin, None
    dag_run = context.get("dag_run")
    # Airflow 2 has no ``run_after``, but always an interval.
    begin = getattr(dag_run, "run_after", None) or getattr(dag_run, "start_date", None)
    return begin or clock.now(), None
