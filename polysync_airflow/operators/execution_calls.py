"""
Does what the core of an execution's life returns: makes the calls to AWS by which a try gets its execution.

``execution/lifecycle/machine.py`` decides what is called, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from polysync_airflow.aws.response_limits import PAGE_SIZE
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.aws.stop import request_stop
from polysync_airflow.exceptions import RESOURCE_NOT_FOUND, PolysyncError, SageMakerApiError, has_code
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import (
    Accepted,
    Described,
    Do,
    Event,
    Instruction,
    LookedUp,
    Prepared,
    Refused,
)
from polysync_airflow.execution.lifecycle.lookup import MAX_LOOKED_AT
from polysync_airflow.execution.lifecycle.recovery import unused_arguments
from polysync_airflow.execution.models import ExecutionDescription, StartRequest, region_from_arn
from polysync_airflow.execution.parameters import check_pipeline, make_start_request
from polysync_airflow.execution.record import StoredExecution
from polysync_airflow.operators.parameter_check import check_parameters, describe_version, explain_refusal
from polysync_airflow.operators.selection import check_selection, with_source

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

Result = TypeVar("Result")


@dataclass(kw_only=True)
class ExecutionCalls:
    """
    The calls of one try.

    :param hook_for_region: returns the hook for a region; None is the task's own region.
    :param arguments: the rendered arguments of the task for a new execution.
    :param deadline: when to stop retrying calls that fail with transient errors, in seconds since the epoch.
    """

    hook_for_region: Callable[[str | None], PolysyncSageMakerHook]
    log: Any
    arguments: Mapping[str, Any]
    validate_parameters: bool
    deadline: float
    # Whether the call that is being made got no clear response at first.
    _was_repeated: bool = field(default=False, init=False)

    def perform(self, now: Instruction) -> Event:
        """Do what an instruction says, and return what happened."""
        self._was_repeated = False
        try:
            if now.do is Do.PREPARE:
                return self._prepare(now)
            if now.do in (Do.LOOK_UP, Do.LOOK_UP_STARTED):
                return self._look_up(now)
            calls: dict[Do, Callable[[StoredExecution], Event]] = {
                Do.START: self._start,
                Do.RESEND_START: self._resend_start,
                Do.RESUME: partial(self._resume, now),
                Do.RESEND_RESUME: partial(self._resume, now),
                Do.STOP: self._stop,
            }
            return calls.get(now.do, self._describe)(now.known)
        except PolysyncError as error:
            return Refused(error, was_repeated=self._was_repeated)

    def _look_up(self, now: Instruction) -> LookedUp:
        record = now.record
        hook = self.hook_for_region(record.region_name if record else None)
        pipeline_name = record.request.pipeline_name if record else self.arguments["pipeline_name"]
        claims = now.task_try.lost and now.task_try.lost.record
        claimed = self._describe_claimed(claims.execution_arn) if claims and claims.execution_arn else None
        listed: list[ExecutionDescription] = []
        try:
            check_pipeline(pipeline_name)
            listed = list(self._newest_executions(hook, pipeline_name))
        except PolysyncError as error:
            if error.transient:
                raise
            # If the pipeline's name is not valid, the error of the request says what is.
            self.log.warning("The executions of earlier tries cannot be looked up: %s", error)
        return LookedUp(pipeline_name, listed, claimed)

    def _newest_executions(
        self, hook: PolysyncSageMakerHook, pipeline_name: str
    ) -> Iterator[ExecutionDescription]:
        token = None
        for _ in range(MAX_LOOKED_AT // PAGE_SIZE):
            page, token = self._retry(partial(hook.list_pipeline_executions, pipeline_name, page_token=token))
            yield from page
            if not token:
                return

    def _describe_claimed(self, execution_arn: str) -> ExecutionDescription | None:
        hook = self.hook_for_region(region_from_arn(execution_arn))
        try:
            return self._retry(partial(hook.describe_pipeline_execution, execution_arn))
        except SageMakerApiError as error:
            if has_code(error, RESOURCE_NOT_FOUND):
                return None
            raise

    def _prepare(self, now: Instruction) -> Prepared:
        hook = self.hook_for_region(None)
        request = self._make_request(hook, now)
        if self.validate_parameters or request.selected_steps:
            try:
                pipeline = self._retry(partial(describe_version, hook, request))
            except SageMakerApiError as error:
                raise explain_refusal(hook, request, error) from None
            if self.validate_parameters:
                check_parameters(pipeline.definition, request)
            check_selection(pipeline.definition, request)
        request = with_source(hook, request, self._retry)
        # Never empty: without a region, the hook has raised an error.
        return Prepared(request, hook.region_name or "")

    def _make_request(self, hook: PolysyncSageMakerHook, now: Instruction) -> StartRequest:
        task, start = now.task_try.task, (now.task_try.epoch, now.start_number)
        request = make_start_request(self.arguments, task.token(*start), task.display_name(*start))
        if request.execution_role_arn is None and hook.credentials:
            role = hook.credentials.execution_role_arn
            request = request.model_copy(update={"execution_role_arn": role})
        hook.check_supported(request)
        return request

    def _start(self, record: StoredExecution) -> Accepted:
        try:
            return self._resend_start(record)
        except SageMakerApiError as error:
            hook = self.hook_for_region(record.region_name)
            raise explain_refusal(hook, record.request, error) from None

    def _resend_start(self, record: StoredExecution) -> Accepted:
        hook = self.hook_for_region(record.region_name)
        arn = self._retry(partial(hook.start_pipeline_execution, record.request))
        return Accepted(hook.responded_at or clock.now(), arn)

    def _describe(self, record: StoredExecution) -> Described:
        hook = self._hook_of(record)
        return Described(clock.now(), self._retry(partial(hook.describe_pipeline_execution, record.arn)))

    def _stop(self, record: StoredExecution) -> Accepted:
        hook = self._hook_of(record)
        self._retry(partial(request_stop, hook, record.arn, attempt=record.resumes))
        return Accepted(clock.now())

    def _resume(self, now: Instruction, record: StoredExecution) -> Accepted:
        hook = self._hook_of(record)
        self._log_unused_arguments(now, record)
        self._log_steps(hook, record.arn)
        self._retry(
            partial(
                hook.retry_pipeline_execution,
                record.arn,
                token=record.resume_token or "",
                max_parallel_steps=record.request.max_parallel_steps,
            )
        )
        return Accepted(hook.responded_at or clock.now())

    def _log_unused_arguments(self, now: Instruction, record: StoredExecution) -> None:
        try:
            current = self._make_request(self.hook_for_region(None), now)
            sent = sent_parameters(self._hook_of(record), record, self.log.warning)
            unused = unused_arguments(record.request, sent, current)
        except PolysyncError as error:
            self.log.warning(
                "The arguments of this try are not valid, and are not used: %s Execution: %s",
                error,
                record.arn,
            )
            return
        if unused:
            self.log.warning(
                "AWS resumes with the values of the start. The arguments that have other values now are not "
                "used: %s: execution %s",
                ", ".join(unused),
                record.arn,
            )

    def _log_steps(self, hook: PolysyncSageMakerHook, arn: str) -> None:
        try:
            steps = hook.list_pipeline_execution_steps(arn)
        except PolysyncError as error:
            self.log.warning("The steps that will be repeated could not be listed: %s", error)
            return
        kept = sorted(step.name for step in steps if step.status == "Succeeded")
        repeated = sorted(f"{step.name} ({step.status})" for step in steps if step.status != "Succeeded")
        self.log.info(
            "Resuming from the failed steps. Kept: %s. Repeated: %s, and all steps after: execution %s",
            ", ".join(kept) or "none",
            ", ".join(repeated) or "none",
            arn,
        )

    def _hook_of(self, record: StoredExecution) -> PolysyncSageMakerHook:
        return self.hook_for_region(region_from_arn(record.arn))

    def _retry(self, call: Callable[[], Result]) -> Result:
        return call_with_retry(call, until=self.deadline, warn=self._warn)

    def _warn(self, message: str) -> None:
        self._was_repeated = True
        self.log.warning(message)


def sent_parameters(
    hook: PolysyncSageMakerHook, record: StoredExecution, warn: Callable[..., object]
) -> Mapping[str, str]:
    """
    Return the parameters of an execution. Once its ARN is stored, the record does not have their values.

    :param hook: the hook for the region of the execution.
    :param warn: called with a format and its arguments if AWS does not tell them.
    """
    # This try has sent them, or an earlier version wrote the record.
    if record.request.pipeline_parameters:
        return record.request.pipeline_parameters
    try:
        return hook.list_pipeline_parameters_for_execution(record.arn)
    except PolysyncError as error:
        warn("The parameters of the execution are not known: %s Execution: %s", error, record.arn)
        return {}
