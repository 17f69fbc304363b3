"""
The base of what reports the end of an execution: XComs, log, asset events, and the error of the task.

A subclass gets the execution, and waits for its end. Airflow's OpenLineage provider calls some methods when a
task starts and ends: on the worker, after the task's own code, in a process or a thread of its own that has
limited time. An error in them is written to the task's log and changes nothing else:
https://airflow.apache.org/docs/apache-airflow-providers-openlineage/stable/guides/developer.html.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from logging import INFO, WARNING
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field

from polysync_airflow import links
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.models import MAX_POLL_INTERVAL, ExecutionEvent, region_from_arn
from polysync_airflow.execution.outcome import FailedStep, outcome_message
from polysync_airflow.execution.parameters import MIN_PROGRESS_INTERVAL, Flag, Seconds, seconds
from polysync_airflow.execution.steps.descriptions import FAIL
from polysync_airflow.operators import outcome
from polysync_airflow.operators.base import ExecutionOperator, LimitChoices
from polysync_airflow.retrying import next_retry
from polysync_airflow.states import PolysyncState, state_of

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.providers.openlineage.extractors import OperatorLineage
    from airflow.sdk import Context

    from polysync_airflow.execution.outcome import ExecutionRecord
    from polysync_airflow.execution.results import Datasets
    from polysync_airflow.execution.steps.rows import StepRow
    from polysync_airflow.operators.results import StepReport, StepReporter


@dataclass(frozen=True, slots=True)
class KnownLineage:
    """
    What a process of a task knows of its execution.

    :param run: the XCom ``run``.
    :param datasets: what the steps have read and written; None before the wait has ended.
    """

    run: ExecutionRecord
    datasets: Datasets | None = None


class LineageMethods:
    """
    The OpenLineage methods of an operator that starts an execution.

    They make no call: the operator has set ``known_lineage`` in the same process.
    """

    # None while there is no execution.
    known_lineage: KnownLineage | None = None

    def get_openlineage_facets_on_start(self) -> OperatorLineage[Any, Any]:
        """Return what is known before the start: the pipeline and the parameters."""
        from polysync_airflow.lineage import before_start

        task: Any = self
        return before_start(task.pipeline_name, task.region_name, task.pipeline_parameters)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return what is known of the execution, and the datasets of its steps."""
        from polysync_airflow.lineage import of_execution

        task: Any = self
        known = self.known_lineage
        if known is None:
            return self.get_openlineage_facets_on_start()
        return of_execution(known.run, known.datasets, inlets=task.inlets, outlets=task.outlets)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Return the same for a task that has failed, perhaps before it had an execution."""
        return self.get_openlineage_facets_on_complete(task_instance)


DEFAULT_PROGRESS_INTERVAL: Final = 60.0
DEFAULT_LOG_LINES: Final = 20
MAX_LOG_LINES: Final = 200
MAX_FILES: Final = 50
FileName = Annotated[str, Field(min_length=1, max_length=256)]


class ReportChoices(LimitChoices, outcome.OutcomeChoices):
    """What the DAG author chose about the report of the end."""

    progress_interval: Annotated[Seconds | None, seconds(MIN_PROGRESS_INTERVAL, MAX_POLL_INTERVAL)]
    failed_step_log_lines: Annotated[
        int,
        Field(
            ge=0, le=MAX_LOG_LINES, strict=True, description=f"give a whole number from 0 to {MAX_LOG_LINES}"
        ),
    ]
    describe_jobs: Flag
    property_files: Annotated[
        Annotated[bool, Field(strict=True)] | Annotated[tuple[FileName, ...], Field(max_length=MAX_FILES)],
        Field(description=f"give True, False, or a list of at most {MAX_FILES} names of property files"),
    ]


class ReportingOperator(ExecutionOperator):
    """Base of the Start operator and of the sensor."""

    operator_extra_links = (
        links.PolysyncPipelineExecutionLink(),
        links.PolysyncStudioLink(),
        links.PolysyncFailedStepLogLink(),
    )
    ui_color = "#e5f1ff"
    # None while there is no execution.
    known_lineage: KnownLineage | None = None
    # The XCom ``run``, if this process has read it.
    started_run: ExecutionRecord | None = None

    @property
    @abstractmethod
    def choices(self) -> ReportChoices:
        """What the DAG author chose, validated."""

    @abstractmethod
    def _next_step(self, status: str | None, retry: str | None, *, by_fail_step: bool) -> str | None:
        """
        Return what comes next, as the last sentences of a failure's message; None if nothing is to be said.

        :param status: AWS status with which the execution has ended; None if it may still be running.
        :param retry: when Airflow starts another try, such as ``in 5 min``; None if none follows.
        :param by_fail_step: whether a Fail step has ended the execution.
        """

    def _finish(
        self,
        context: Context,
        end: ExecutionEvent,
        *,
        note: str | None = None,
        is_own_stop: bool = False,
        with_mlflow: bool = False,
    ) -> str:
        """
        Push the outcome of the execution, and return its ARN, or raise the error of the task.

        :param note: what became of the execution, as a sentence.
        :param is_own_stop: whether this try has stopped the execution.
        :param with_mlflow: whether to ask AWS where the MLflow experiment is.
        """
        report = self._report_end(context, end, with_mlflow=with_mlflow)
        failed_steps, notes = failed_rows(end, report), (*report.notes, note)
        message = partial(outcome_message, end, failed_steps=failed_steps)
        by_fail_step = any(row.type == FAIL for row in failed_steps)
        self._raise_outcome(context, end, message, notes, by_fail_step=by_fail_step, is_own_stop=is_own_stop)
        self._publish(context, end.execution_arn, end.pipeline_name, report)
        return end.execution_arn

    def _report_end(self, context: Context, end: ExecutionEvent, *, with_mlflow: bool = False) -> StepReport:
        """Push steps and outputs, and the end of the execution."""
        from polysync_airflow.operators.results import StepReport

        # The calls for the steps would be refused as well.
        report = StepReport()
        if end.outcome != "refused":
            report = self._report_steps(
                context, end.execution_arn, end.attempt_started_at, with_mlflow=with_mlflow
            )
        failed_steps = [FailedStep(name=row.name, reason=row.reason) for row in report.failed]
        results = report.billed, report.note, report.mlflow_resource_arn
        # A stop has changed what was read before it.
        started = self.started_run if end.outcome == "ended" else None
        run = outcome.push_ended(context, end, failed_steps, *results, started=started)
        self.known_lineage = KnownLineage(run, report.datasets)
        return report

    def _raise_outcome(
        self,
        context: Context,
        end: ExecutionEvent,
        message: Callable[..., str],
        notes: Sequence[str | None],
        *,
        by_fail_step: bool = False,
        is_own_stop: bool = False,
    ) -> None:
        """
        Raise the error that fails or skips the task, or log how the wait has ended.

        :param message: returns the text of the log line or of the error, with ``notes`` at its end.
        :param by_fail_step: whether a Fail step has ended the execution.
        """
        make_error = partial(self._make_error, end, is_own_stop=is_own_stop)
        error = make_error(message(notes=notes))
        if error is None:
            failed = state_of(end.status) is PolysyncState.FAILED
            self.log.log(WARNING if failed else INFO, "%s", message(notes=notes))
            return
        if not isinstance(error, PolysyncError):
            raise error
        # The retry policy needs the error to decide whether a retry follows.
        retry = next_retry(self.retry_policy, error, context)
        status = end.status if end.outcome == "ended" else None
        following = self._next_step(status, retry, by_fail_step=by_fail_step)
        raise make_error(message(notes=(*notes, following))) or error

    def _make_error(self, end: ExecutionEvent, message: str, *, is_own_stop: bool) -> Exception | None:
        return outcome.error_of(end, message, self.choices, is_own_stop=is_own_stop)

    def _publish(
        self, context: Context, execution_arn: str, pipeline_name: str | None, report: StepReport
    ) -> None:
        """Let the asset events of the task name the execution and its models."""
        extra = outcome.execution_extra(
            execution_arn, pipeline_name, model_package_arns=report.model_package_arns
        )
        outcome.attach_to_outlets(context, self.outlets, extra)

    @property
    def _list_seconds(self) -> float | None:
        """Seconds between two lists of the steps while the task waits; None for none."""
        return self.choices.progress_interval

    def _step_reporter(
        self, context: Context, execution_arn: str, resumed_at: datetime | None, **waits: bool
    ) -> StepReporter:
        from polysync_airflow.operators.results import StepReporter

        hook = self.hook_for_region(region_from_arn(execution_arn))
        interval = self._list_seconds
        return StepReporter(
            hook, execution_arn, context, self.log, interval=interval, resumed_at=resumed_at, **waits
        )

    def _report_steps(
        self,
        context: Context,
        execution_arn: str,
        resumed_at: datetime | None = None,
        *,
        with_mlflow: bool = False,
    ) -> StepReport:
        """List the steps at the end of the wait, and push steps and outputs."""
        from polysync_airflow.operators.results import StepReport

        try:
            reporter = self._step_reporter(context, execution_arn, resumed_at)
        except PolysyncError as error:
            # The connection may have been deleted meanwhile. The outcome is known without it.
            note = f"The steps of the execution could not be listed: {error}"
            return StepReport(notes=(note,), error=error)
        choices = self.choices
        return reporter.report_end(
            log_lines=choices.failed_step_log_lines,
            describe_jobs=choices.describe_jobs,
            files=choices.property_files,
            with_mlflow=with_mlflow,
        )


def failed_rows(end: ExecutionEvent, report: StepReport) -> Sequence[StepRow]:
    """Return the failed steps of an execution that has failed."""
    return report.failed if state_of(end.status) is PolysyncState.FAILED else ()
