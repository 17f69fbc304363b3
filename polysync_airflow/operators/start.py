"""
The operator that starts an execution of a pipeline.

How a try gets its execution is in ``starter.py``, the wait in ``base.py``, the stop of the execution in
``on_kill.py``.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from polysync_airflow.airflow_compat.sdk import AirflowSkipException
from polysync_airflow.aws.retry import STEP_LISTING_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import (
    PipelineExecutionCancelledError,
    PipelineExecutionCancelledFailError,
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
    PolysyncError,
    StoredRecordError,
)
from polysync_airflow.execution.models import (
    ExecutionEvent,
    FailedStep,
    StartRequest,
    StoredExecution,
    region_from_arn,
)
from polysync_airflow.execution.outcome import outcome_message, parse_event, refusal_error
from polysync_airflow.execution.parameters import build_start_request, check_choice, default_display_name
from polysync_airflow.execution.recovery import RetryMode
from polysync_airflow.execution.waiter import Finish
from polysync_airflow.links import PolysyncPipelineExecutionLink
from polysync_airflow.operators.base import (
    DEFAULT_CONNECTION,
    DEFAULT_DEFERRABLE,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    apply_retry_policy,
)
from polysync_airflow.operators.on_kill import KEPT, StopOnKillOperator
from polysync_airflow.operators.xcoms import push_ended, push_started
from polysync_airflow.records.ownership import Owner
from polysync_airflow.states import STATUS_COMPLETED_WITH_FAILURES, PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    # Imported when a task runs: Airflow parses a DAG file every 30 seconds.
    from polysync_airflow.operators.starter import StartResult
    from polysync_airflow.records.port import RecordStore
    from polysync_airflow.records.proof import OwnTarget

OnCompletedWithFailures = Literal["fail", "succeed"]
OnCancelled = Literal["fail", "skip", "retry"]


class PolysyncStartPipelineOperator(StopOnKillOperator):
    """
    Start an execution of a SageMaker pipeline and, by default, wait until it has ended.

    At most one execution runs for one task instance. A retry continues with the execution of the previous
    try, even if that try died before it received the ARN. After a clear, the next try stops the old
    execution before it starts a new one.

    The task pushes the XComs ``execution_arn``, ``console_url``, ``state`` (a Polysync state) and ``run`` as
    soon as the execution exists. It pushes ``state`` and ``run`` again when the wait has ended, even if the
    task then fails. ``run`` is a dict: execution_arn, pipeline_name, state, status, message, started_at,
    ended_at, seconds, parameters, resumes, failed_steps.
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
    operator_extra_links = (PolysyncPipelineExecutionLink(),)
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

    @apply_retry_policy
    def execute(self, context: Context) -> str:
        """Start or reattach to an execution, push its XComs and, by default, wait for its end."""
        self.executes_here = True
        with self._stop_on_final_failure(context):
            result = self._start_or_reattach(context)
            push_started(context, result.record)
            if not self.wait_for_completion:
                return result.record.arn
            event = self._wait_for_execution(result)
        return self.execute_complete(context, event.model_dump(mode="json"))

    @apply_retry_policy
    def execute_after_end(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Execute the task now that the execution of an earlier try has ended.

        :param context: the task's context.
        :param event: the payload of the trigger's event.
        :raises TriggerEventError: ``event`` is not an event of this provider's trigger.
        """
        self._raise_unless_ended(parse_event(event))
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
        failed_steps, listing_error = self._list_failed_steps(end)
        push_ended(context, end, failed_steps)
        message = outcome_message(end, failed_steps=failed_steps, notes=(listing_error, stop_result))
        if end.outcome == "refused":
            raise refusal_error(end, message)
        if end.outcome == "timed_out":
            raise PipelineExecutionTimeoutError(message, execution_arn=end.execution_arn, status=end.status)
        self._raise_for_outcome(end, message)
        return end.execution_arn

    def own_target(self) -> OwnTarget:
        """Return what the task would start, to compare a record without a signature with it."""
        from polysync_airflow.operators.own_target import own_target

        return own_target(self.hook, self.pipeline_name, self.execution_role_arn, self.log.warning)

    def _own_record(self, context: Context) -> tuple[RecordStore, StoredExecution | None]:
        """
        Return the record of this try's execution; after a deferral, it is read again.

        :raises StoredRecordError: the record is damaged, or was not written by this task.
        """
        if self._starter:
            return self._starter.store, self._starter.record
        from polysync_airflow.records.store import own_record

        return own_record(context, self.own_target)

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

    def _stop_after_wait(self, context: Context, end: ExecutionEvent) -> str:
        """Stop the execution because the wait ended before it did; return the result as a sentence."""
        if not self.stop_on_kill:
            self.execution_handled = True
            return KEPT
        try:
            store, record = self._own_record(context)
        except StoredRecordError as error:
            return f"The execution was not stopped: {error}"
        if record is None or record.execution_arn != end.execution_arn:
            return (
                "The execution was not stopped, because the record of this task is missing or names another."
            )
        owner = store.announce_stop(record)
        self.execution_handled = owner is not Owner.UNKNOWN
        return self._stop_if_owned(store, record, owner)

    def _start_or_reattach(self, context: Context) -> StartResult:
        from polysync_airflow.operators.starter import ExecutionStarter
        from polysync_airflow.records.store import record_store

        starter = self._starter = ExecutionStarter(
            hook_for_region=self.hook_for_region,
            store=record_store(context, self.own_target),
            log=self.log,
            epoch=context["ti"].max_tries,
            deadline=time.time() + self._timeout_seconds,
            retry_mode=self.retry_mode,
            failures_succeed=self.on_completed_with_failures == "succeed",
            stop_on_kill=self.stop_on_kill,
            raise_if_killed=self._raise_if_killed,
        )
        # The request is made only if a new execution is needed: arguments that are no longer valid must not
        # keep a try from reattaching to the running execution.
        make_request = partial(self._build_request, context)
        result = starter.start_or_reattach(make_request)
        while result.blocked:
            self._raise_if_killed()
            record = result.record
            waiter = self._make_waiter(record.arn, record.request.pipeline_name, attempt=record.resumes)
            self._raise_unless_ended(
                self._wait_for_end(waiter, method_name="execute_after_end", stop_on_kill=self.stop_on_kill)
            )
            starter.deadline = time.time() + self._timeout_seconds
            result = starter.start_or_reattach(make_request)
        self._raise_if_killed()
        return result

    def _wait_for_execution(self, result: StartResult) -> ExecutionEvent:
        record = result.record
        waiter = self._make_waiter(
            record.arn,
            record.request.pipeline_name,
            started_at=result.attempt_started_at,
            attempt=record.resumes,
        )
        if result.description and has_ended(result.description.status):
            step = waiter.decide(result.description, time.time())
            if isinstance(step, Finish):
                return step.event
        self._raise_if_killed()
        return self._wait_for_end(waiter, stop_on_kill=self.stop_on_kill)

    def _raise_unless_ended(self, end: ExecutionEvent) -> None:
        """Raise an error if the execution of an earlier try may still be running."""
        if end.outcome == "ended":
            return
        note = "This is the execution of an earlier try. No new execution was started beside it."
        message = outcome_message(end, notes=(note,))
        if end.outcome == "refused":
            raise refusal_error(end, message)
        raise PipelineExecutionTimeoutError(message, execution_arn=end.execution_arn, status=end.status)

    def _raise_for_outcome(self, end: ExecutionEvent, message: str) -> None:
        """Log the message if the task succeeds; otherwise raise the error that fails or skips the task."""
        state = state_of(end.status)
        if state is PolysyncState.SUCCESS:
            self.log.info("%s", message)
        elif state is PolysyncState.CANCELLED and self._killed:
            # This task stopped the execution because its process was killed, for example when a worker shuts
            # down. That is not a user's decision to cancel the execution, so the task's retries apply.
            raise PipelineExecutionCancelledError(message, execution_arn=end.execution_arn, status=end.status)
        elif state is PolysyncState.CANCELLED and self.on_cancelled == "skip":
            raise AirflowSkipException(message)
        elif state is PolysyncState.CANCELLED:
            retry = self.on_cancelled == "retry"
            error = PipelineExecutionCancelledError if retry else PipelineExecutionCancelledFailError
            raise error(message, execution_arn=end.execution_arn, status=end.status)
        elif end.status == STATUS_COMPLETED_WITH_FAILURES and self.on_completed_with_failures == "succeed":
            self.log.warning("%s", message)
        else:
            raise PipelineExecutionFailedError(message, execution_arn=end.execution_arn, status=end.status)

    def _build_request(self, context: Context) -> StartRequest:
        ti = context["ti"]
        key = (ti.dag_id, ti.task_id, ti.run_id, ti.map_index, ti.try_number)
        request = build_start_request(
            pipeline_name=self.pipeline_name,
            pipeline_parameters={} if self.pipeline_parameters is None else self.pipeline_parameters,
            execution_display_name=self.execution_display_name or default_display_name(*key),
            execution_description=self.execution_description or None,
            max_parallel_steps=self.max_parallel_steps,
            execution_role_arn=self.execution_role_arn,
            pipeline_version_id=self.pipeline_version_id,
            client_request_token=f"polysync-{uuid.uuid4()}",
        )
        if request.execution_role_arn is None and self.hook.credentials:
            role = self.hook.credentials.execution_role_arn
            request = request.model_copy(update={"execution_role_arn": role})
        self.hook.check_supported(request)
        return request

    def _list_failed_steps(self, end: ExecutionEvent) -> tuple[list[FailedStep], str | None]:
        """
        Return the failed steps and, if they cannot be listed, the reason as a sentence.

        An error is not raised, because the permission ListPipelineExecutionSteps is optional.
        """
        if end.outcome != "ended" or state_of(end.status) is not PolysyncState.FAILED:
            return [], None
        try:
            hook = self.hook_for_region(region_from_arn(end.execution_arn))
            steps = call_with_retry(
                partial(hook.list_pipeline_execution_steps, end.execution_arn),
                until=time.time() + STEP_LISTING_TIMEOUT_SECONDS,
                warn=self.log.warning,
            )
        except PolysyncError as error:
            return [], f"The reasons of the failed steps could not be listed: {error}"
        return [FailedStep(name=s.name, reason=s.failure_reason) for s in steps if s.status == "Failed"], None
