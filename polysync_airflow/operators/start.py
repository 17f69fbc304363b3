"""
The operator that starts an execution of a pipeline.

How a try gets its execution is in ``starter.py``, the wait in ``base.py``, the stop of the execution in
``on_kill.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, cast

from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import (
    MAX_POLL_INTERVAL,
    ExecutionEvent,
    FailedStep,
    region_from_arn,
)
from polysync_airflow.execution.outcome import (
    OnCancelled,
    OnCompletedWithFailures,
    outcome_message,
    parse_event,
)
from polysync_airflow.execution.parameters import (
    MAX_LOG_LINES,
    MIN_PROGRESS_INTERVAL,
    check_choice,
    check_count,
    check_flag,
    check_seconds,
)
from polysync_airflow.execution.recovery import NEXT_STEP, OnClear, RetryMode
from polysync_airflow.execution.waiter import Finish
from polysync_airflow.links import PolysyncFailedStepLogLink, PolysyncPipelineExecutionLink
from polysync_airflow.operators.base import (
    DEFAULT_CONNECTION,
    DEFAULT_DEFERRABLE,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    apply_retry_policy,
)
from polysync_airflow.operators.on_kill import StopOnKillOperator
from polysync_airflow.operators.outcome.asset_events import attach_to_outlets, execution_extra
from polysync_airflow.operators.outcome.errors import OutcomeRules, raise_unless_ended
from polysync_airflow.operators.outcome.xcoms import push_ended, push_started
from polysync_airflow.states import PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.operators.outcome.steps import StepReport, StepReporter
    from polysync_airflow.operators.starter import StartResult


DEFAULT_PROGRESS_INTERVAL: Final = 60.0
DEFAULT_LOG_LINES: Final = 20
# The pipeline's name, which is the end of its ARN.
MAP_INDEX_TEMPLATE: Final = "{{ task.pipeline_name.rsplit('/')[-1] }}"


class PolysyncStartPipelineOperator(StopOnKillOperator):
    """
    Start an execution of a SageMaker pipeline and, by default, wait until it has ended.

    At most one execution runs for one task instance. A retry continues with the execution of the previous
    try, even if that try died before it received the ARN. After a clear, the next try stops the old
    execution before it starts a new one, or resumes it if it has failed (``on_clear``).

    The task pushes the XComs ``execution_arn``, ``console_url``, ``state`` (a Polysync state), ``run`` and
    ``steps`` as soon as the execution exists. It pushes the last three again when the wait has ended, even if
    the task then fails, and ``outputs``: what each step made. The events of assets in ``outlets`` get the
    extra ``execution_arn``, ``console_url`` and ``model_package_arns``. See docs/reference/xcoms.md.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html

    :param pipeline_name: the name or ARN of the pipeline (templated).
    :param pipeline_parameters: parameter values by name: strings, numbers or booleans, sent as ``str(value)``
        (templated).
    :param execution_display_name: 1 to 82 letters, digits and hyphens (templated). Default: a unique name
        made from DAG, task, run and try.
    :param execution_description: at most 3,072 characters (templated).
    :param max_parallel_steps: how many steps may run at the same time, at least 1 (templated).
    :param execution_role_arn: the role under which the execution runs (templated). Needs boto3 1.44; AWS
        accepts it only for pipelines that AWS manages. Default: the role of the connection.
    :param pipeline_version_id: the pipeline version to run, at least 1 (templated). Default: the latest.
    :param polysync_conn_id: Airflow connection of type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; overrides the region of the connection (templated).
    :param wait_for_completion: whether to wait for the end of the execution.
    :param deferrable: wait in the triggerer instead of on a worker.
        Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between two polls.
    :param timeout: seconds that the execution may take, counted from its start; ``execution_timeout`` applies
        if it is shorter.
    :param stop_on_kill: stop the execution when the task ends before it: the task is killed, marked as
        success or failed, cleared, failed with its DAG run, or out of time.
    :param on_completed_with_failures: ``fail`` or ``succeed`` when AWS reports CompletedWithFailures.
    :param on_cancelled: when somebody else stopped the execution: ``fail`` without using retries, ``skip``,
        or ``retry`` (an ordinary failure, which uses retries).
    :param retry_mode: what a retry does when the previous execution failed: ``new`` starts another execution,
        ``resume`` continues the execution from the failed steps (RetryPipelineExecution).
    :param on_clear: what a cleared task does if its execution has failed: ``new`` or ``resume``. If the
        execution runs, succeeded or was stopped, a new one starts (after the stop of the one that runs).
    :param progress_interval: seconds between two lists of the steps while the task waits, at least 10; None
        for none. Their changes are written to the task's log.
    :param failed_step_log_lines: how many lines of the log of each failed step are logged; 0 for none.
    :param validate_parameters: compare the parameters with the pipeline's definition before a new execution
        starts, which costs one DescribePipeline. Without it they are compared only if AWS refuses the start.
    :return: the ARN of the execution (XCom ``return_value``).
    :raises ParametersError: an argument is not valid; no execution was started.
    :raises CredentialsError: the connection is missing or unusable; no execution was started.
    :raises StoredRecordError: the record that earlier tries stored is damaged, or was not written by this
        task; no execution was started, stopped or continued.
    :raises SageMakerApiError: AWS refused a call.
    :raises PipelineExecutionFailedError: the execution failed; the message has the failed steps' reasons.
    :raises PipelineExecutionCancelledError: somebody stopped the execution.
    :raises PipelineExecutionTimeoutError: the execution did not end in time.
    """

    template_fields: Sequence[str] = (
        "pipeline_name",
        "pipeline_parameters",
        "execution_display_name",
        "execution_description",
        "max_parallel_steps",
        "execution_role_arn",
        "pipeline_version_id",
        "polysync_conn_id",
        "region_name",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"pipeline_parameters": "json"}
    operator_extra_links = (PolysyncPipelineExecutionLink(), PolysyncFailedStepLogLink())
    ui_color = "#e5f1ff"

    def __init__(
        self,
        *,
        pipeline_name: str | XComArg,
        pipeline_parameters: Mapping[str, Any] | XComArg | None = None,
        execution_display_name: str | None = None,
        execution_description: str | None = None,
        max_parallel_steps: int | str | None = None,
        execution_role_arn: str | None = None,
        pipeline_version_id: int | str | None = None,
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = DEFAULT_DEFERRABLE,
        poll_interval: float = DEFAULT_POLL_INTERVAL,
        timeout: float = DEFAULT_TIMEOUT,
        stop_on_kill: bool = True,
        on_completed_with_failures: OnCompletedWithFailures = "fail",
        on_cancelled: OnCancelled = "fail",
        retry_mode: RetryMode = "new",
        on_clear: OnClear = "new",
        progress_interval: float | None = DEFAULT_PROGRESS_INTERVAL,
        failed_step_log_lines: int = DEFAULT_LOG_LINES,
        validate_parameters: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            polysync_conn_id=polysync_conn_id,
            region_name=region_name,
            wait_for_completion=wait_for_completion,
            deferrable=deferrable,
            poll_interval=poll_interval,
            timeout=timeout,
            stop_on_kill=stop_on_kill,
            **kwargs,
        )
        check_choice("on_completed_with_failures", on_completed_with_failures, OnCompletedWithFailures)
        check_choice("on_cancelled", on_cancelled, OnCancelled)
        check_choice("retry_mode", retry_mode, RetryMode)
        check_choice("on_clear", on_clear, OnClear)
        if progress_interval is not None:
            check_seconds(
                "progress_interval",
                progress_interval,
                minimum=MIN_PROGRESS_INTERVAL,
                maximum=MAX_POLL_INTERVAL,
            )
        check_count("failed_step_log_lines", failed_step_log_lines, maximum=MAX_LOG_LINES)
        check_flag("validate_parameters", validate_parameters)
        # Airflow replaces XComArgs by the rendered values before it calls execute.
        self.pipeline_name = cast("str", pipeline_name)
        self.pipeline_parameters = pipeline_parameters
        self.execution_display_name = execution_display_name
        self.execution_description = execution_description
        self.max_parallel_steps = max_parallel_steps
        self.execution_role_arn = execution_role_arn
        self.pipeline_version_id = pipeline_version_id
        self.on_completed_with_failures = on_completed_with_failures
        self.on_cancelled = on_cancelled
        self.retry_mode = retry_mode
        self.on_clear = on_clear
        self.progress_interval = progress_interval
        self.failed_step_log_lines = failed_step_log_lines
        self.validate_parameters = validate_parameters

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Name mapped tasks by their pipelines if these differ, and the author has set no other template."""
        if "pipeline_name" not in kwargs:
            kwargs.setdefault("map_index_template", MAP_INDEX_TEMPLATE)
        return super().partial(**kwargs)

    @apply_retry_policy
    def execute(self, context: Context) -> str:
        """Start or reattach to an execution, push its XComs and, by default, wait for its end."""
        self.executes_here = True
        with self._stop_on_final_failure(context):
            result = self._start_or_reattach(context)
            push_started(context, result.record, self.log)
            if not self.wait_for_completion:
                pipeline_name = result.record.request.pipeline_name
                attach_to_outlets(context, self.outlets, execution_extra(result.record.arn, pipeline_name))
                return result.record.arn
            event = self._wait_for_execution(context, result)
        return self.execute_complete(context, event.model_dump(mode="json"))

    @apply_retry_policy
    def execute_after_end(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Execute the task now that the execution of an earlier try has ended.

        :param context: the task's context.
        :param event: the payload of the trigger's event.
        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        raise_unless_ended(parse_event(event))
        return self.execute(context)

    @apply_retry_policy
    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Push the outcome of the execution, and succeed, fail or skip accordingly.

        :param context: the task's context.
        :param event: the payload of the trigger's event.
        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        self.executes_here = True
        end = parse_event(event)
        if self._was_stopped_by_earlier_try(context, end):
            return self.execute(context)
        self.execution_handled = end.outcome == "ended"
        stop_result = None if self.execution_handled else self._stop_after_wait(context, end)
        # From here on, a kill has nothing to stop.
        self._starter = None
        report = self._report_steps(context, end)
        failed_steps = [FailedStep(name=row.name, reason=row.reason) for row in report.failed]
        push_ended(context, end, failed_steps, "\n".join(report.notes) or None)
        failed = state_of(end.status) is PolysyncState.FAILED
        message = outcome_message(
            end,
            failed_steps=report.failed if failed else (),
            notes=(*report.notes, stop_result, NEXT_STEP[self.on_clear] if failed else None),
        )
        rules = OutcomeRules(self.on_completed_with_failures, self.on_cancelled, killed=self._killed)
        rules.raise_for(end, message, self.log)
        attach_to_outlets(
            context,
            self.outlets,
            execution_extra(
                end.execution_arn,
                end.pipeline_name,
                model_package_arns=report.model_package_arns,
            ),
        )
        return end.execution_arn

    def _was_stopped_by_earlier_try(self, context: Context, end: ExecutionEvent) -> bool:
        """
        Return whether an earlier try of this task stopped the execution, after this try had gone on with it.

        That try may have been cut off from Airflow between its decision and its request. It is no decision of
        a user, so the task goes on with a new execution.
        """
        if end.outcome != "ended" or state_of(end.status) is not PolysyncState.CANCELLED:
            return False
        try:
            store, record = self._own_record(context)
        except StoredRecordError as error:
            # Only a proven record lets a new execution start. Without one, the cancellation is somebody's.
            self.log.warning("%s", error)
            return False
        stopped_by = record.stop_requested_by if record else None
        if stopped_by is None or stopped_by >= store.try_number:
            return False
        self.log.warning(
            "Execution %s: try %s of this task had requested its stop before try %s reattached to it. A new "
            "execution is started.",
            end.execution_arn,
            stopped_by,
            store.try_number,
        )
        return True

    def _start_or_reattach(self, context: Context) -> StartResult:
        from polysync_airflow.operators.request import build_request
        from polysync_airflow.operators.starter import ExecutionStarter
        from polysync_airflow.records.store import record_store

        starter = self._starter = ExecutionStarter(
            hook_for_region=self.hook_for_region,
            store=record_store(context),
            log=self.log,
            epoch=context["ti"].max_tries,
            deadline=clock.time() + self._timeout_seconds,
            retry_mode=self.retry_mode,
            on_clear=self.on_clear,
            failures_succeed=self.on_completed_with_failures == "succeed",
            stop_on_kill=self.stop_on_kill,
            validate_parameters=self.validate_parameters,
            raise_if_killed=self._raise_if_killed,
        )
        # The request is made only if a new execution is needed: arguments that are no longer valid must not
        # keep a try from reattaching to the running execution.
        make_request = partial(build_request, self, context)
        result = starter.start_or_reattach(make_request)
        while result.blocked:
            self._raise_if_killed()
            record = result.record
            waiter = self._make_waiter(record.arn, record.request.pipeline_name, attempt=record.resumes)
            raise_unless_ended(
                self._wait_for_end(waiter, method_name="execute_after_end", stop_on_kill=self.stop_on_kill)
            )
            starter.deadline = clock.time() + self._timeout_seconds
            result = starter.start_or_reattach(make_request)
        self._raise_if_killed()
        return result

    def _wait_for_execution(self, context: Context, result: StartResult) -> ExecutionEvent:
        record = result.record
        reporter = self._step_reporter(context, record.arn)
        reporter.push_declared()
        waiter = self._make_waiter(
            record.arn,
            record.request.pipeline_name,
            started_at=result.attempt_started_at,
            attempt=record.resumes,
        )
        if result.description and has_ended(result.description.status):
            step = waiter.decide(result.description, clock.time())
            if isinstance(step, Finish):
                return step.event
        self._raise_if_killed()
        return self._wait_for_end(
            waiter,
            stop_on_kill=self.stop_on_kill,
            progress_interval=self.progress_interval,
            after_poll=reporter.after_poll,
        )

    def _step_reporter(self, context: Context, execution_arn: str) -> StepReporter:
        from polysync_airflow.operators.outcome.steps import StepReporter

        hook = self.hook_for_region(region_from_arn(execution_arn))
        return StepReporter(hook, execution_arn, context, self.log, interval=self.progress_interval)

    def _report_steps(self, context: Context, end: ExecutionEvent) -> StepReport:
        from polysync_airflow.operators.outcome.steps import StepReport

        if end.outcome == "refused":
            # Its calls would be refused as well.
            return StepReport()
        try:
            reporter = self._step_reporter(context, end.execution_arn)
        except PolysyncError as error:
            # The connection may have been deleted meanwhile. The outcome is known without it.
            return StepReport(notes=(f"The steps of the execution could not be listed: {error}",))
        return reporter.report_end(log_lines=self.failed_step_log_lines)
