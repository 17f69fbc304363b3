"""Owns the task that starts an execution of a pipeline."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast, get_args

from airflow.sdk.exceptions import AirflowSkipException

from polysync_airflow.aws.retry import STEP_LISTING_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import (
    ParametersError,
    PipelineExecutionCancelledError,
    PipelineExecutionCancelledFailError,
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
    PolysyncError,
)
from polysync_airflow.execution.models import (
    ExecutionEvent,
    FailedStep,
    StartRequest,
    region_from_arn,
)
from polysync_airflow.execution.outcome import outcome_message, parse_event, refusal_error
from polysync_airflow.execution.parameters import build_start_request, default_display_name
from polysync_airflow.execution.recovery import RetryMode
from polysync_airflow.execution.waiter import Finish
from polysync_airflow.links import PolysyncPipelineExecutionLink
from polysync_airflow.operators.base import (
    DEFAULT_CONNECTION,
    DEFAULT_DEFERRABLE,
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
)
from polysync_airflow.operators.on_kill import StopOnKillOperator
from polysync_airflow.operators.record_store import RecordStore
from polysync_airflow.operators.starter import ExecutionStarter, StartResult
from polysync_airflow.operators.xcoms import push_ended, push_started
from polysync_airflow.states import STATUS_COMPLETED_WITH_FAILURES, PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

OnCompletedWithFailures = Literal["fail", "succeed"]
OnCancelled = Literal["fail", "skip", "retry"]


class PolysyncStartPipelineOperator(StopOnKillOperator):
    """
    Start an execution of a SageMaker pipeline and, by default, wait for its end.

    At most one execution runs for one task instance: a retry goes on with the execution of the try before,
    also if that died before it learnt the ARN; a cleared task stops the old one before it starts anew.

    Pushes the XComs ``execution_arn`` and ``console_url`` the moment the execution exists, and ``state`` (a
    Polysync state) and ``run`` (a dict: execution_arn, pipeline_name, state, status, message, started_at,
    ended_at, seconds, parameters, resumes, failed_steps) at its end, also when the task then fails.
    API: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html

    :param pipeline_name: the pipeline's name or ARN (templated).
    :param pipeline_parameters: values by parameter name: strings, numbers or booleans, sent as ``str(value)``
        (templated).
    :param execution_display_name: 1 to 82 letters, digits and hyphens (templated). Default: made from dag,
        task, run and try, unique.
    :param execution_description: at most 3,072 characters (templated).
    :param max_parallel_steps: how many steps may run at once, from 1 (templated).
    :param execution_role_arn: role that the execution runs under (templated); needs boto3 1.44, and AWS
        accepts it for pipelines that AWS manages. Default: the connection's.
    :param pipeline_version_id: which version to run, from 1 (templated). Default: the latest.
    :param polysync_conn_id: Airflow connection, type ``polysync_sagemaker`` or ``aws`` (templated).
    :param region_name: AWS region; goes before the connection's (templated).
    :param wait_for_completion: whether to wait for the end.
    :param deferrable: wait in the triggerer, holding no worker. Default: ``[operators] default_deferrable``.
    :param poll_interval: seconds between two looks.
    :param timeout: seconds the execution may take, from its start; ``execution_timeout`` counts if shorter.
    :param stop_on_kill: stop the execution when the task ends before it: killed, marked, cleared, failed with
        its DAG run, or out of time.
    :param on_completed_with_failures: ``fail`` or ``succeed`` when AWS reports CompletedWithFailures.
    :param on_cancelled: when somebody stopped the execution: ``fail`` without using retries, ``skip``, or
        ``retry`` (an ordinary failure).
    :param retry_mode: what a retry does about an execution that failed: ``new`` starts another, ``resume``
        lets AWS go on from the steps that failed (RetryPipelineExecution).
    :return: the execution's ARN (XCom ``return_value``).
    :raises ParametersError: an argument is not legal; nothing was started.
    :raises CredentialsError: the connection is missing or unusable; nothing was started.
    :raises StoredRecordError: what earlier tries stored is damaged; nothing was started.
    :raises SageMakerApiError: AWS refused.
    :raises PipelineExecutionFailedError: the execution failed; with the failed steps' reasons.
    :raises PipelineExecutionCancelledError: somebody stopped it.
    :raises PipelineExecutionTimeoutError: it took too long.
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
        _require_one_of("on_completed_with_failures", on_completed_with_failures, OnCompletedWithFailures)
        _require_one_of("on_cancelled", on_cancelled, OnCancelled)
        _require_one_of("retry_mode", retry_mode, RetryMode)
        # Airflow puts the rendered values in place of XComArgs before execute.
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

    def execute(self, context: Context) -> str:
        """Come to an execution, publish it, and wait if asked to."""
        with self._accounted_for(context):
            found = self._acquire(context)
            push_started(context, found.stored)
            if not self.wait_for_completion:
                return found.stored.arn
            event = self._end_of(found)
        return self.execute_complete(context, event.model_dump(mode="json"))

    def execute_after_end(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Begin, now that an execution of an earlier try is over.

        :param context: the task's context.
        :param event: the trigger's event.
        :raises TriggerEventError: if it is not one.
        """
        self._check_over(parse_event(event))
        return self.execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any] | None = None) -> str:
        """
        Publish how the execution ended and succeed, fail or skip accordingly.

        :param context: the task's context.
        :param event: the trigger's event.
        :raises TriggerEventError: if it is not one.
        """
        end = parse_event(event)
        self._acquisition, self.released = None, True
        stopped = None if end.outcome == "ended" else self._stop(end.execution_arn, end.attempt)
        failed_steps, unlisted = self._failed_steps(end)
        push_ended(context, end, failed_steps)
        story = outcome_message(end, failed_steps=failed_steps, remarks=(unlisted, stopped))
        if end.outcome == "refused":
            raise refusal_error(end, story)
        if end.outcome == "timed_out":
            raise PipelineExecutionTimeoutError(story, execution_arn=end.execution_arn, status=end.status)
        self._judge(end, story)
        return end.execution_arn

    def _acquire(self, context: Context) -> StartResult:
        acquisition = self._acquisition = ExecutionStarter(
            hook_in=self.hook_in,
            store=RecordStore(context),
            log=self.log,
            epoch=context["ti"].max_tries,
            until=time.time() + self._limit,
            retry_mode=self.retry_mode,
            failures_succeed=self.on_completed_with_failures == "succeed",
            may_stop=self.stop_on_kill,
            check=self._check_killed,
        )
        # Only if it is needed: what has become illegal must not keep a try from the execution that runs.
        make_request = partial(self._request, context)
        found = acquisition.start_or_reattach(make_request)
        while found.blocked:
            self._check_killed()
            stored = found.stored
            watch = self._watch(stored.arn, stored.request.pipeline_name, attempt=stored.resumes)
            self._check_over(
                self._wait_for_end(watch, then="execute_after_end", stop_on_kill=self.stop_on_kill)
            )
            acquisition.until = time.time() + self._limit
            found = acquisition.start_or_reattach(make_request)
        self._check_killed()
        return found

    def _end_of(self, found: StartResult) -> ExecutionEvent:
        stored = found.stored
        watch = self._watch(
            stored.arn, stored.request.pipeline_name, since=found.since, attempt=stored.resumes
        )
        if found.seen and has_ended(found.seen.status):
            step = watch.decide(found.seen, time.time())
            if isinstance(step, Finish):
                return step.event
        self._check_killed()
        return self._wait_for_end(watch, stop_on_kill=self.stop_on_kill)

    def _check_over(self, end: ExecutionEvent) -> None:
        """Refuse to begin while an execution of an earlier try may run."""
        if end.outcome == "ended":
            return
        story = outcome_message(end, remarks=("It is of an earlier try; no other was started beside it.",))
        if end.outcome == "refused":
            raise refusal_error(end, story)
        raise PipelineExecutionTimeoutError(story, execution_arn=end.execution_arn, status=end.status)

    def _judge(self, end: ExecutionEvent, story: str) -> None:
        state = state_of(end.status)
        if state is PolysyncState.SUCCESS:
            self.log.info("%s", story)
        elif state is PolysyncState.CANCELLED and self._killed:
            # Nobody decided to end it, as with a worker that is shut down: the task's retries count.
            raise PipelineExecutionCancelledError(story, execution_arn=end.execution_arn, status=end.status)
        elif state is PolysyncState.CANCELLED and self.on_cancelled == "skip":
            raise AirflowSkipException(story)
        elif state is PolysyncState.CANCELLED:
            retries = self.on_cancelled == "retry"
            error = PipelineExecutionCancelledError if retries else PipelineExecutionCancelledFailError
            raise error(story, execution_arn=end.execution_arn, status=end.status)
        elif end.status == STATUS_COMPLETED_WITH_FAILURES and self.on_completed_with_failures == "succeed":
            self.log.warning("%s", story)
        else:
            raise PipelineExecutionFailedError(story, execution_arn=end.execution_arn, status=end.status)

    def _request(self, context: Context) -> StartRequest:
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

    def _failed_steps(self, end: ExecutionEvent) -> tuple[list[FailedStep], str | None]:
        """List the steps that failed, or tell why they cannot be listed: that permission is optional."""
        if end.outcome != "ended" or state_of(end.status) is not PolysyncState.FAILED:
            return [], None
        try:
            hook = self.hook_in(region_from_arn(end.execution_arn))
            steps = call_with_retry(
                partial(hook.list_pipeline_execution_steps, end.execution_arn),
                until=time.time() + STEP_LISTING_TIMEOUT_SECONDS,
                warn=self.log.warning,
            )
        except PolysyncError as error:
            return [], f"The failed steps' own reasons could not be listed: {error}"
        return [FailedStep(name=s.name, reason=s.failure_reason) for s in steps if s.status == "Failed"], None


def _require_one_of(name: str, value: str, choices: Any) -> None:
    if value not in get_args(choices):
        raise ParametersError(f"{name} = {value!r} is not legal: give one of {', '.join(get_args(choices))}.")
