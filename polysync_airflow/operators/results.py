"""
Reports the steps of an execution while it runs, and reads the results of their jobs
when it has ended.

All permissions that this needs are optional: neither an error of AWS's nor a damaged
file fails the task, and a note says what is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final

from airflow.providers.common.compat.sdk import Context

from polysync_airflow.airflow_compat.task_instances import pull_own
from polysync_airflow.aws.retry import STEP_LISTING_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import (
    clock,
    cost,
    outcome,
    pipelines,
    prices,
    results,
    texts,
)
from polysync_airflow.execution.datasets import Datasets, datasets_of
from polysync_airflow.execution.steps import descriptions, progress
from polysync_airflow.execution.steps.descriptions import StepDescription, StepRow
from polysync_airflow.execution.waiter import ExecutionWaiter, KnownSteps, Polled
from polysync_airflow.hooks import PolysyncSageMakerHook, spending
from polysync_airflow.hooks.jobs import JobReader
from polysync_airflow.links import LOG_URL_XCOM_KEY, PolysyncFailedStepLogLink, push_url
from polysync_airflow.operators.task_run import list_steps_if_due, write_lines
from polysync_airflow.states import STATUS_STOPPING, PolysyncState

log = logging.getLogger(__name__)

# How many logs of failed steps are read: where everything fails at once, the cause is
# the same everywhere.
MAX_LOGS: Final = 5
# How many lines are read of each of these logs.
LOG_LINES: Final = 20


@dataclass(frozen=True)
class StepReport:
    """
    The steps when the wait has ended.

    :param rows: the rows of the XCom ``steps``.
    :param outputs: the XCom ``outputs``.
    :param jobs: the steps, each with its job as far as it could be described.
    :param added_up: what the execution has used and cost; None if that is not known.
    :param datasets: what the steps have read and written, for lineage.
    :param model_package_arns: the ARNs of the model packages that the execution has
        registered.
    :param notes: what is missing and why, as sentences.
    :param mlflow_resource_arn: the ARN of the MLflow app or tracking server; None if it
        is not known.
    :param error: why the steps could not be listed; None if they were.
    """

    rows: Sequence[StepRow] = ()
    outputs: dict[str, Any] = field(default_factory=dict)
    jobs: Sequence[results.JobOfStep] = ()
    added_up: prices.CostAndUsage | None = None
    datasets: Datasets = field(default_factory=Datasets)
    model_package_arns: Sequence[str] = ()
    notes: tuple[str, ...] = ()
    mlflow_resource_arn: str | None = None
    error: PolysyncError | None = None

    @property
    def failed(self) -> list[StepRow]:
        """The rows of the steps that failed."""
        return [row for row in self.rows if row.state == PolysyncState.FAILED.value]

    @property
    def has_fail_step(self) -> bool:
        """Whether a Fail step has ended the execution."""
        return any(row.type == descriptions.FAIL for row in self.failed)

    @property
    def job_facts(self) -> dict[str, Any]:
        """What one step cost, and what its job used, for the XCom ``step``."""
        facts: dict[str, Any] = {}
        if self.added_up and self.added_up.cost:
            facts["cost"] = self.added_up.cost.model_dump(mode="json")
        for _, job in self.jobs:
            if job:
                facts["image"] = job.image
                facts["inputs"] = [uri for uri in job.read_uris or () if uri]
        return facts

    @property
    def run_members(self) -> dict[str, Any]:
        """The members of the XCom ``run`` that say something of the steps."""
        return {
            "failed_steps": [
                outcome.FailedStep(name=row.name, reason=row.reason)
                for row in self.failed
            ],
            "mlflow_resource_arn": self.mlflow_resource_arn,
        }


@dataclass
class ResultReader:
    """
    Describes the jobs of one execution, and reads the property files that they wrote.

    :param hook: the hook for the execution's region.
    :param warn: called with a message about a call that fails.
    :param property_files: True for all property files, or the names of some.
    :param basis: what is known of its money.
    """

    hook: PolysyncSageMakerHook
    arn: str
    warn: Callable[[str], object]
    property_files: results.PropertyFiles
    basis: cost.Basis

    def __post_init__(self) -> None:
        self._jobs = JobReader(self.hook, self.warn)

    def read(self, steps: Sequence[StepDescription]) -> StepReport:
        """Return what the steps have made, used and cost."""
        outputs = descriptions.outputs_by_step(steps)
        with self._jobs.in_time():
            jobs = self._read_jobs(steps, outputs)
            added_up = spending.add_up(self._jobs, jobs, self.basis)
        read_uris: list[str | None] = []
        written_uris: list[str | None] = []
        for step, job in jobs:
            if job is None:
                continue
            if step.is_reused:
                # An earlier execution has written the result, which this one reads.
                read_uris += job.written_uris
                continue
            read_uris += job.read_uris or ()
            if step.state is PolysyncState.SUCCESS:
                # What a failed job should have written may be incomplete, or not there
                # at all.
                written_uris += job.written_uris

        reused = {step.name for step in steps if step.is_reused}
        packages = descriptions.model_package_arns(
            {step: values for step, values in outputs.items() if step not in reused}
        )
        reused_packages = descriptions.model_package_arns(
            {step: values for step, values in outputs.items() if step in reused}
        )
        return StepReport(
            outputs=outputs,
            jobs=jobs,
            added_up=added_up,
            datasets=datasets_of(read_uris, written_uris, packages, reused_packages),
            model_package_arns=packages,
            notes=self._jobs.notes(),
        )

    def _read_jobs(
        self, steps: Sequence[StepDescription], outputs: dict[str, dict[str, Any]]
    ) -> list[results.JobOfStep]:
        """
        Describe the jobs of the steps, and return each with its step.

        :param outputs: what each step has made, by its name. What the jobs and the
            property files say is added.
        """
        declared: Sequence[pipelines.DeclaredStep] = ()
        if self.property_files:
            declared = self._declared_steps()
        jobs: list[results.JobOfStep] = []
        for step, own_job in self._jobs.read(steps):
            job = own_job
            if isinstance(job, results.TuningJob) and job.best_training_job:
                name = job.best_training_job
                best = self._jobs.describe(step, results.TRAINING, name)
                job = job.with_best(best)
            jobs.append((step, job))
            if job is None:
                continue
            step_outputs = {**job.outputs, **outputs.get(step.name, {})}
            outputs[step.name] = step_outputs
            if step.state is PolysyncState.SUCCESS:
                declaration = pipelines.step_named(step.name, declared)
                files = results.files_to_read(declaration, self.property_files)
                self._add_files(step.name, files, job, step_outputs)
        return jobs

    def _declared_steps(self) -> Sequence[pipelines.DeclaredStep]:
        describe = partial(
            self.hook.describe_pipeline_definition_for_execution, self.arn
        )
        problem = "The definition, which names the property files, could not be read"
        declared = self._jobs.call(
            describe, problem, action="DescribePipelineDefinitionForExecution"
        )
        if declared is None:
            return ()
        missing = results.missing_names(declared, self.property_files)
        if missing:
            self._jobs.problems.append(
                f"The definition declares no property file {', '.join(missing)}."
            )
        return declared

    def _add_files(
        self,
        step: str,
        files: Sequence[pipelines.PropertyFile],
        job: results.JobDescription,
        step_outputs: dict[str, Any],
    ) -> None:
        """
        Add the property files that a step has written to its outputs.

        :param step_outputs: the outputs of the step, which this changes.
        """
        output_uris: Mapping[str, str | None] = {}
        if isinstance(job, results.ProcessingJob):
            output_uris = job.output_uris or {}
        for file in files:
            subject = f"Property file {file.name} of step {step}"
            if file.name in step_outputs:
                self._jobs.problems.append(
                    f"{subject} is left out: the step has another output of this name."
                )
                continue
            uri = results.uri_of(file, output_uris)
            if uri is None:
                self._jobs.problems.append(
                    f"{subject} is left out: the job has no output {file.output} in S3."
                )
                continue
            read = partial(self.hook.read_object, uri, results.MAX_BYTES + 1)
            content = self._jobs.call(read, f"{subject} could not be read")
            if content is None:
                continue
            try:
                step_outputs[file.name] = results.parse(content)
            except ValueError as error:
                self._jobs.problems.append(f"{subject} ({uri}) is left out: {error}.")


def with_logs(
    hook: PolysyncSageMakerHook,
    rows: Sequence[StepRow],
    steps: Sequence[StepDescription],
) -> tuple[list[StepRow], str | None]:
    """
    Return the rows with the last lines of the failed steps' logs, and a note if a log
    could not be read.
    """
    failed = [step for step in steps if step.state is PolysyncState.FAILED][:MAX_LOGS]
    logs: dict[str, list[str]] = {}
    note = None
    for step in failed:
        try:
            lines = hook.read_step_log(step, LOG_LINES)
        except PolysyncError as error:
            note = f"The log of step {step.name} could not be read: {error}"
            break
        logs[step.name] = descriptions.last_lines(lines, len(failed))
    rows = [
        row.model_copy(update={"log_lines": logs.get(row.name, [])}) for row in rows
    ]
    return rows, note


@dataclass
class StepReporter:
    """
    Lists the steps of an execution, writes their changes to the task's log and pushes
    the XComs ``steps`` and ``outputs``.

    :param hook: the hook for the execution's region.
    :param interval: seconds between two lists while the task waits; None for no lists.
    :param resumed_at: when the execution was resumed last; None if it was not.
    :param is_repeated: another process makes the next poll, and lists the steps again.
    :param is_awaited: whether the task waits for one of the steps.
    """

    hook: PolysyncSageMakerHook
    arn: str
    context: Context
    log: Any
    interval: float | None
    resumed_at: datetime | None
    is_repeated: bool = False
    is_awaited: bool = False
    _declared: Sequence[pipelines.DeclaredStep] = field(default=(), init=False)

    def __post_init__(self) -> None:
        # Without lists while the task waits, there is still one at the end.
        self._progress = progress.Progress(
            self.interval or 0,
            resumed_at=self.resumed_at,
            is_repeated=self.is_repeated,
            must_list=self.is_awaited,
        )

    def push_declared(
        self, selected: Sequence[str] | None = None
    ) -> Sequence[pipelines.DeclaredStep]:
        """
        Push the steps that the execution's definition declares, before AWS has begun
        them. After a resume, those that AWS has begun are listed and pushed with them:
        Airflow has deleted the XComs of the last try.

        :param selected: the steps that the execution runs; None for all.
        :return: these steps; none if AWS does not return the definition.
        """
        try:
            declared = self.hook.describe_pipeline_definition_for_execution(self.arn)
            self._declared = pipelines.mark_selection(declared, selected)
        except PolysyncError as error:
            self.log.info(
                "The steps are shown as soon as they begin, not before: %s", error
            )
        begun: Sequence[StepDescription] = ()
        if self.resumed_at:
            with suppress(PolysyncError):
                begun = self.hook.list_pipeline_execution_steps(self.arn)
        self._push_steps(descriptions.rows_of(begun, self._declared, self.arn))
        return self._declared

    @property
    def declared_steps(self) -> str | None:
        """
        The declared steps for a trigger; None if it must read them, because there are
        too many.
        """
        text = descriptions.order_text(self._declared)
        if len(text) > descriptions.MAX_ORDER_LENGTH:
            return None
        return text

    def after_poll(
        self, waiter: ExecutionWaiter, polled: Polled
    ) -> Sequence[StepDescription] | None:
        """
        Report the steps after a poll that has not ended the wait, if that is due, and
        return them; None if they are not listed.

        :raises PolysyncError: the steps are needed, and can never be listed.
        """
        if not isinstance(polled, PolysyncError) and polled.status == STATUS_STOPPING:
            self._push_stopping()
        if not self.interval:
            return None
        is_quiet = self._progress.is_quiet
        listed = list_steps_if_due(self.hook, waiter, self._progress, polled)
        if listed is None:
            return None
        write_lines(self.log, listed.log_lines)
        if isinstance(listed.steps, PolysyncError):
            return None
        if listed.log_lines or is_quiet:
            rows = descriptions.rows_of(listed.steps, self._declared, self.arn)
            self._push_steps(rows)
        return listed.steps

    def _push_stopping(self) -> None:
        """Push that AWS is stopping the execution, which nobody has told the task."""
        summary = outcome.parse_run_summary(
            pull_own(self.context, "run"), self.log.warning
        )
        if summary and summary.status != STATUS_STOPPING:
            run = {**summary.model_dump(mode="json"), "status": STATUS_STOPPING}
            self.context["ti"].xcom_push(
                "run", texts.storable_xcom("run", run, log.warning)
            )

    def report_end(
        self,
        basis: cost.Basis,
        *,
        files: results.PropertyFiles,
        with_mlflow: bool = False,
        before: tuple[str, KnownSteps] | None = None,
    ) -> StepReport:
        """
        List the steps when the wait has ended, and push the XComs.

        :param basis: what is known of the money of the execution.
        :param files: which property files to read.
        :param with_mlflow: whether to ask AWS where the MLflow experiment is, which
            costs a call.
        :param before: the declared steps, as ``order_text`` returns them, and the
            statuses that the trigger has logged; None to read the XCom ``steps``.
        """
        list_steps = partial(self.hook.list_pipeline_execution_steps, self.arn)
        until = clock.time() + STEP_LISTING_TIMEOUT_SECONDS
        try:
            steps = call_with_retry(list_steps, until=until, warn=self.log.warning)
        except PolysyncError as error:
            note = spending.steps_unknown(error)
            rows = self._pushed_rows()
            known = basis.last_estimate()
            return StepReport(rows, added_up=known, notes=(note,), error=error)

        order: Sequence[pipelines.DeclaredStep | StepRow]
        if before:
            declared_text, known_steps = before
            order = descriptions.order_of(declared_text)
            self._progress.logged_statuses = progress.lengthened(
                known_steps, declared_text
            )
        else:
            pushed = self._pushed_rows()
            order = pushed
            if not self.interval:
                # Without lists of the steps, the log has none of their statuses.
                pushed = []
            self._progress.logged_statuses = progress.logged_statuses_of(pushed)
        write_lines(self.log, self._progress.update(steps))
        rows = descriptions.rows_of(steps, order, self.arn)
        rows, log_note = with_logs(self.hook, rows, steps)
        self._write_logs(rows)

        reader = ResultReader(self.hook, self.arn, self.log.warning, files, basis)
        report = reader.read(steps)
        stored = texts.storable_xcom(
            descriptions.OUTPUTS_KEY, report.outputs, log.warning
        )
        outputs, outputs_note = descriptions.fit_outputs(stored)
        steps_note = self._push_steps(rows)
        ti = self.context["ti"]
        # Also if there are none: an XComArg fails where there is no XCom.
        ti.xcom_push(descriptions.OUTPUTS_KEY, outputs)
        mlflow_resource_arn = None
        if with_mlflow:
            mlflow_resource_arn = self._mlflow_resource_arn()
        notes = (log_note, steps_note, *report.notes, outputs_note)
        report = replace(
            report,
            rows=rows,
            outputs=outputs,
            notes=tuple(note for note in notes if note),
            mlflow_resource_arn=mlflow_resource_arn,
        )
        for row in report.failed:
            if row.log_url:
                link = PolysyncFailedStepLogLink()
                push_url(ti, LOG_URL_XCOM_KEY, row.log_url, link)
                break
        return report

    def _mlflow_resource_arn(self) -> str | None:
        try:
            return self.hook.describe_pipeline_execution(self.arn).mlflow_resource_arn
        except PolysyncError as error:
            self.log.info("AWS has not said where the MLflow experiment is: %s", error)
            return None

    def _pushed_rows(self) -> list[StepRow]:
        return descriptions.parse_rows(pull_own(self.context, descriptions.STEPS_KEY))

    def _push_steps(self, rows: Sequence[StepRow]) -> str | None:
        value, note = descriptions.fit_rows(rows)
        self.context["ti"].xcom_push(descriptions.STEPS_KEY, value)
        return note

    def _write_logs(self, rows: Sequence[StepRow]) -> None:
        """
        Write the lines of the failed steps' logs to the task's log. The error of the
        task has only the last of them, so that its verdict stays in sight.
        """
        for row in rows:
            if row.log_lines:
                self.log.error(
                    "Step %s: the last %d lines of its log\n%s",
                    row.name,
                    len(row.log_lines),
                    "\n".join(f"| {line}" for line in row.log_lines),
                )
