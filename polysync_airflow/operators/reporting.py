"""
Reports the end of an execution: XComs, log, asset events, and the error of the task.

Airflow's OpenLineage provider calls some methods when a task starts and ends: on the
worker, after the task's own code, in a process or a thread of its own that has limited
time. An error in them is written to the task's log and changes nothing else:
https://airflow.apache.org/docs/apache-airflow-providers-openlineage/stable/guides/developer.html.
"""

from __future__ import annotations

import logging
import re
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from airflow.providers.common.compat.sdk import Context, redact

from polysync_airflow import exceptions, links, retrying, states
from polysync_airflow.airflow_compat import sdk, task_instances
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import cost, models, outcome, prices, texts
from polysync_airflow.execution.console import execution_url, studio_url
from polysync_airflow.execution.datasets import Datasets
from polysync_airflow.execution.lifecycle.plans import NextSession, Plan
from polysync_airflow.execution.outcome import RunSummary
from polysync_airflow.execution.steps.descriptions import StepRow
from polysync_airflow.execution.waiter import ExecutionEvent, KnownSteps
from polysync_airflow.hooks import PolysyncSageMakerHook, spending
from polysync_airflow.metrics import EXECUTIONS_ENDED, WAITS_WITHOUT_TRIGGER, count
from polysync_airflow.operators.results import StepReport, StepReporter
from polysync_airflow.operators.task_run import ExecutionRun

if TYPE_CHECKING:
    from polysync_airflow.operators import base

log = logging.getLogger(__name__)

# What else resumes an execution, for the message of a failure.
RESUME_BUTTON = ""
if CAPABILITIES.react_apps:
    RESUME_BUTTON = 'or the tab\'s "Resume failed steps" '
# The XCom that says why a task has no execution.
ERROR_KEY: Final = "error"
_MAX_ERROR: Final = 2_000
MAX_MODEL_PACKAGES: Final = 100
_MODEL_PACKAGE_ARN: Final = re.compile(models.MODEL_PACKAGE_ARN_PATTERN)


def push_links(
    context: Context,
    hook: PolysyncSageMakerHook,
    execution_arn: str,
    pipeline_name: str,
    task_log: Any,
) -> None:
    """
    Push the links to an execution: ``console_url``, and ``studio_url`` and
    ``unified_studio_url`` if the connection names where people use Studio.

    :param hook: a hook with the task's connection.
    :param pipeline_name: the name or ARN of the pipeline.
    """
    urls = {links.CONSOLE_URL_XCOM_KEY: execution_url(execution_arn, pipeline_name)}
    connection = hook.credentials
    if connection:
        urls[links.STUDIO_URL_XCOM_KEY] = studio_url(
            execution_arn, pipeline_name, connection.studio_domain_id
        )
        urls[links.UNIFIED_STUDIO_URL_XCOM_KEY] = connection.unified_studio_url
    # Lines of their own: Airflow's log pane shows about 100 characters of a line.
    task_log.info("Execution: %s", execution_arn)
    for link in links.EXECUTION_LINKS:
        url = urls.get(link.key)
        if url:
            task_log.info("%s: %s", link.name.removeprefix("SageMaker "), url)
        # All buttons but "SageMaker Console" are there only if they have a URL.
        if url or link.key == links.CONSOLE_URL_XCOM_KEY:
            links.push_url(context["ti"], link.key, url, link)


def push_ended(
    context: Context,
    end: ExecutionEvent,
    report: StepReport | None = None,
    *,
    started: RunSummary | None = None,
) -> RunSummary:
    """
    Push ``state`` and ``run`` again when the wait has ended.

    :param report: the steps; None if the task does not report them.
    :param started: the XCom ``run``, if it was read; None to read it.
    :return: the XCom ``run``.
    """
    summary = summary_of(context, end.execution_arn, started).ended(end)
    if report:
        summary = summary.model_copy(update=report.run_members)
        summary = summary.with_cost(report.added_up, report.notes)
    push_summary(context, summary)
    return summary


def summary_of(
    context: Context, execution_arn: str, pushed: RunSummary | None = None
) -> RunSummary:
    """
    Return the XCom ``run`` of this try, or what is known of an execution without it.

    :param pushed: the XCom, if it was read; None to read it.
    """
    # Not the arguments of this session: their templates may render to other values
    # now, for example if they use the current time.
    if pushed is None:
        pushed = pull_summary(context)
    if pushed and pushed.execution_arn == execution_arn:
        return pushed
    return RunSummary(
        execution_arn=execution_arn,
        pipeline_name="",
        state=states.PolysyncState.UNKNOWN.value,
        parameters={},
    )


def pull_summary(context: Context) -> RunSummary | None:
    """
    Return this task's XCom ``run``; None if there is none, or if somebody has changed
    it to something else.
    """
    value = task_instances.pull_own(context, "run")
    return outcome.parse_run_summary(value, log.warning)


def push_summary(context: Context, summary: RunSummary) -> None:
    """Push ``state``, ``run`` and, if it has one, ``spending``."""
    ti = context["ti"]
    if summary.spending:
        # Before ``run``, which says that somebody has added up.
        ti.xcom_push(prices.SPENDING_KEY, summary.spending.model_dump(mode="json"))
    ti.xcom_push("state", summary.state)
    push_run(context, summary.model_dump(mode="json"))


def push_run(context: Context, run: Mapping[str, Any]) -> None:
    """Push ``run`` in a form that Airflow can store."""
    context["ti"].xcom_push("run", texts.storable_xcom("run", run, log.warning))


def push_error(context: Context, error: Exception) -> None:
    """Push why a try of the task has no execution. Raises no error itself."""
    # Airflow masks secrets in logs, but not in XComs.
    text = str(redact(str(error))) or type(error).__name__
    try:
        context["ti"].xcom_push(ERROR_KEY, texts.clean_value(text, _MAX_ERROR))
    except Exception as problem:
        # The task fails with its own error.
        log.warning("The XCom %s cannot be pushed: %s", ERROR_KEY, problem)


def plan_of(context: Context, **known: Any) -> Plan:
    """
    Return what a try knows of what comes next.

    :param known: the other members.
    """
    ti = context["ti"]
    return Plan(try_number=ti.try_number, max_tries=ti.max_tries, **known)


def push_plan(context: Context, summary: RunSummary, plan: Plan) -> RunSummary:
    """Push ``run`` with what comes next, and return it."""
    summary = summary.model_copy(update={"next": plan})
    push_run(context, summary.model_dump(mode="json"))
    return summary


def push_status(context: Context, execution_arn: str, status: str) -> None:
    """Push the status of an execution that has ended, if the task shows it."""
    summary = pull_summary(context)
    if summary and summary.execution_arn == execution_arn:
        changes = {"status": status, "state": states.state_of(status).value}
        push_summary(context, summary.model_copy(update=changes))


def raise_unless_ended(end: ExecutionEvent) -> None:
    """Raise an error if the execution of an earlier try may still be running."""
    if end.outcome == "ended":
        return
    notes = [
        "This is the execution of an earlier try. No new execution was started"
        " beside it."
    ]
    if end.stop:
        notes.append(end.stop.text)
    raise outcome.unended_error(end, outcome.outcome_message(end, notes=notes))


def report_missing_trigger(
    polysync_conn_id: str, region_name: str, warn: Callable[[str], object]
) -> None:
    """
    Tell and count that no trigger has ended a wait in time.

    :param warn: called with a message.
    """
    warn(
        "No trigger has ended the wait in time, so this worker goes on. Are there"
        " triggerers with free slots ([triggerer] capacity)? polysync check says so."
    )
    count(WAITS_WITHOUT_TRIGGER, connection=polysync_conn_id, region=region_name)


def execution_extra(
    execution_arn: str,
    pipeline_name: str | None,
    *,
    model_package_arns: Sequence[str] = (),
) -> dict[str, Any]:
    """
    Return what an asset event says about an execution: ``execution_arn``,
    ``console_url`` and ``model_package_arns``. Members without a value are left out.

    :param pipeline_name: name or ARN of its pipeline; None if it is not known.
    :param model_package_arns: the model packages that the execution registered, at most
        100. What is not the ARN of a model package is left out.
    """
    extra: dict[str, Any] = {"execution_arn": execution_arn}
    if pipeline_name:
        url = execution_url(execution_arn, pipeline_name)
        if url:
            extra["console_url"] = url
    arns = [
        arn
        for arn in dict.fromkeys(
            text for text in model_package_arns if isinstance(text, str)
        )
        if _MODEL_PACKAGE_ARN.fullmatch(arn)
    ]
    if arns:
        # Airflow stores it as a JSON list. Airflow 2 fails a task if the extra of an
        # alias holds a list, which cannot be hashed.
        extra["model_package_arns"] = tuple(arns[:MAX_MODEL_PACKAGES])
    return extra


def attach_to_outlets(
    context: Context, outlets: Iterable[Any], extra: Mapping[str, Any]
) -> None:
    """
    Add an extra to the asset events of a task. Raises no error: the execution has been
    paid.

    :param extra: JSON-able values by name; other members that the extra has already are
        kept.
    """
    for outlet in outlets:
        try:
            for event_extra in task_instances.outlet_event_extras(context, outlet):
                event_extra.update(extra)
        except Exception as error:
            # For example, Airflow does not know the asset to which an Asset.ref()
            # refers.
            log.warning(
                "The asset event of outlet %.200r does not name the execution: %s",
                outlet,
                error,
            )


def count_end(end: ExecutionEvent, connection_id: str) -> None:
    """Count the end of a wait in the metrics."""
    state = states.state_of(end.status).value
    if end.outcome == "timed_out":
        state = "TimedOut"
    elif end.outcome == "refused":
        state = "Refused"
    elif end.outcome == "too_expensive":
        state = "TooExpensive"
    count(
        EXECUTIONS_ENDED,
        state=state,
        connection=connection_id,
        region=models.region_from_arn(end.execution_arn),
    )


def message_about(end: ExecutionEvent, report: StepReport) -> Callable[..., str]:
    """
    Return a function that returns the message about an end, with the notes that it
    gets. The message about a failed execution has its failed steps.
    """
    failed_steps: Sequence[StepRow] = ()
    if states.state_of(end.status) is states.PolysyncState.FAILED:
        failed_steps = report.failed
    return partial(outcome.outcome_message, end, failed_steps=failed_steps)


# The declared steps, and the statuses that the trigger has logged.
StepsBefore = tuple[str, KnownSteps]


class BeforeDeferral(NamedTuple):
    """
    What a task has known before it was deferred, which Airflow has stored.

    :param summary: the XCom ``run``.
    """

    summary: RunSummary | None = None
    steps: StepsBefore | None = None


NOTHING_BEFORE: Final = BeforeDeferral()


class Known(NamedTuple):
    """
    What is known of the execution, for lineage.

    :param summary: the XCom ``run``, which this process has pushed or read; None while
        there is no execution.
    :param datasets: what the steps have read and written; None before the wait has
        ended.
    """

    summary: RunSummary | None = None
    datasets: Datasets | None = None


class Following(NamedTuple):
    """
    What comes next after the end of a wait.

    :param text: the last sentences of a failure's message; None if nothing is to be
        said.
    :param plan: the same for the XCom ``run``, without the steps.
    """

    text: str | None
    plan: Plan


class ReportingRun(ExecutionRun):
    """Base of what reports the end of an execution: of a Start task and of a sensor."""

    task: base.ReportingOperator
    options: base.ReportOptions
    known: Known = Known()

    @abstractmethod
    def following(
        self, end: ExecutionEvent, retry: NextSession | None, *, by_fail_step: bool
    ) -> Following:
        """
        Return what comes next after a failure.

        :param end: how the wait has ended.
        :param retry: how Airflow goes on with the task; None if it does not.
        :param by_fail_step: whether a Fail step has ended the execution.
        """

    def finish(
        self,
        end: ExecutionEvent,
        report: StepReport,
        *,
        note: str | None = None,
        is_own_stop: bool = False,
        refusal: exceptions.PolysyncError | None = None,
    ) -> str:
        """
        Return the ARN of the execution, or raise the error of the task.

        :param report: what ``report_end`` has returned.
        :param note: what became of the execution, as a sentence.
        :param is_own_stop: whether this try has stopped the execution.
        :param refusal: the error about which the retry policy was asked before; None if
            it was not.
        """
        error = self.outcome_error(
            end,
            message_about(end, report),
            (*report.notes, note),
            report,
            is_own_stop=is_own_stop,
            refusal=refusal,
        )
        if error:
            # Raised here, not in ``outcome_error``: Airflow's log pane has a line for
            # each function that raises it, and one more hides the verdict above.
            raise error
        self.publish(end.execution_arn, end.pipeline_name, report.model_package_arns)
        return end.execution_arn

    def report_end(
        self,
        end: ExecutionEvent,
        basis: cost.Basis,
        before: BeforeDeferral = NOTHING_BEFORE,
    ) -> StepReport:
        """
        Push steps and outputs, and the end of the execution.

        :param basis: what is known of its money.
        :param before: what was known before a deferral.
        """
        if end.outcome == "refused":
            # The calls for the steps would be refused as well.
            report = StepReport(added_up=basis.last_estimate())
        else:
            report = self.report_steps(
                end.execution_arn, basis, end.attempt_started_at, before.steps
            )
        started = None
        if end.outcome == "ended":
            # Otherwise a stop has changed ``run`` since it was read.
            started = before.summary
        summary = push_ended(self.context, end, report, started=started)
        self.known = Known(summary, report.datasets)
        return report

    def outcome_error(
        self,
        end: ExecutionEvent,
        message: Callable[..., str],
        notes: Sequence[str | None],
        report: StepReport,
        *,
        is_own_stop: bool = False,
        refusal: exceptions.PolysyncError | None = None,
    ) -> Exception | None:
        """
        Return the error that fails or skips the task, or log how the wait has ended.

        :param message: returns the text of the log line or of the error, with ``notes``
            at its end.
        :param report: what ``report_end`` has returned.
        :param refusal: as for ``finish``.
        """
        text = message(notes=notes)
        error = refusal or self.make_error(end, text, is_own_stop=is_own_stop)
        if error is None:
            level = logging.INFO
            if states.state_of(end.status) is states.PolysyncState.FAILED:
                level = logging.WARNING
            self.log.log(level, "%s", text)
            return None
        if not isinstance(error, exceptions.PolysyncError):
            return error
        # The retry policy needs the error to decide whether a retry follows, which the
        # message then says.
        retry = retrying.next_session(self.task.retry_policy, error, self.context)
        following = self.following(end, retry, by_fail_step=report.has_fail_step)
        if end.outcome == "too_expensive":
            following = following._replace(text=prices.NEXT_STEP)
        self._push_following(following.plan, report)
        # Change this error, about which the policy has decided, and make no other one.
        error.args = (message(notes=(*notes, following.text)),)
        return error

    def _push_following(self, plan: Plan, report: StepReport) -> None:
        summary = self.known.summary
        if summary is None:
            return
        rows = [row for row in report.rows if not row.is_left_out]
        if rows and plan.may_resume:
            left = [row for row in rows if row.state != states.PolysyncState.SUCCESS]
            plan = plan.model_copy(update={"repeats": len(left), "steps": len(rows)})
        try:
            self.known = self.known._replace(
                summary=push_plan(self.context, summary, plan)
            )
        except Exception as error:
            # The task fails with its own error.
            self.log.warning("The XCom run does not say what comes next: %s", error)

    def make_error(
        self, end: ExecutionEvent, message: str, *, is_own_stop: bool
    ) -> Exception | None:
        """
        Return the error that fails or skips the task; None if the task succeeds.

        :param is_own_stop: whether this try stopped the execution because its process
            was killed.
        """
        if end.outcome != "ended":
            return outcome.unended_error(end, message)
        state = states.state_of(end.status)
        if state is states.PolysyncState.SUCCESS:
            return None
        if state is states.PolysyncState.CANCELLED:
            return self._make_cancelled_error(end, message, is_own_stop=is_own_stop)
        if (
            end.status == states.STATUS_COMPLETED_WITH_FAILURES
            and self.options.on_completed_with_failures == "succeed"
        ):
            return None
        return exceptions.PipelineExecutionFailedError(
            message, execution_arn=end.execution_arn, status=end.status
        )

    def _make_cancelled_error(
        self, end: ExecutionEvent, message: str, *, is_own_stop: bool
    ) -> Exception:
        on_cancelled = self.options.on_cancelled
        if is_own_stop:
            # No user has decided to cancel the execution, so the task's retries apply.
            on_cancelled = "retry"
        if on_cancelled == "skip":
            return sdk.AirflowSkipException(message)
        error: type[exceptions.PipelineExecutionError]
        error = exceptions.PipelineExecutionCancelledFailError
        if on_cancelled == "retry":
            error = exceptions.PipelineExecutionCancelledError
        return error(message, execution_arn=end.execution_arn, status=end.status)

    def publish(self, arn: str, name: str | None, packages: Sequence[str] = ()) -> None:
        """
        Let the asset events of the task name the execution and its model packages.
        """
        attach_to_outlets(
            self.context,
            self.task.outlets,
            execution_extra(arn, name, model_package_arns=packages),
        )

    @property
    def list_seconds(self) -> float | None:
        """
        Seconds between two lists of the steps while the task waits; None for none.
        """
        return self.options.progress_interval

    def step_reporter(
        self,
        execution_arn: str,
        resumed_at: datetime | None,
        *,
        is_repeated: bool = False,
        is_awaited: bool = False,
    ) -> StepReporter:
        """
        Return what reports the steps of an execution.

        :param resumed_at: when it was resumed last; None if it was not.
        :param is_repeated: whether another process makes the next poll.
        :param is_awaited: whether the task waits for one of the steps.
        """
        return StepReporter(
            self.hook_for_region(models.region_from_arn(execution_arn)),
            execution_arn,
            self.context,
            self.log,
            interval=self.list_seconds,
            resumed_at=resumed_at,
            is_repeated=is_repeated,
            is_awaited=is_awaited,
        )

    def report_steps(
        self,
        execution_arn: str,
        basis: cost.Basis,
        resumed_at: datetime | None = None,
        before: StepsBefore | None = None,
    ) -> StepReport:
        """
        List the steps at the end of the wait, and push steps and outputs.

        :param before: what was known of them before a deferral; None to read the XCom
            ``steps``.
        """
        try:
            reporter = self.step_reporter(execution_arn, resumed_at)
        except exceptions.PolysyncError as error:
            # The connection may have been deleted meanwhile. The outcome is known
            # without it.
            note = spending.steps_unknown(error)
            known = basis.last_estimate()
            return StepReport(added_up=known, notes=(note,), error=error)
        return reporter.report_end(
            basis,
            files=self.options.property_files,
            with_mlflow=bool(self.task.mlflow_experiment_name),
            before=before,
        )
