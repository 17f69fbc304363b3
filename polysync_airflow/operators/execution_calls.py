"""
Does what the core of an execution's life returns: makes the calls to AWS by which a try gets its execution.

``execution/lifecycle/machine.py`` decides what is called, and when.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.aws.stop import request_stop
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import (
    Accepted,
    Described,
    Do,
    Event,
    Instruction,
    Prepared,
    Refused,
)
from polysync_airflow.execution.lifecycle.recovery import unused_arguments
from polysync_airflow.execution.models import StartRequest, region_from_arn
from polysync_airflow.execution.parameters import make_start_request
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
    :param try_key: DAG id, task id, run id, map index and try number.
    :param deadline: when to stop retrying calls that fail with transient errors, in seconds since the epoch.
    """

    hook_for_region: Callable[[str | None], PolysyncSageMakerHook]
    log: Any
    arguments: Mapping[str, Any]
    try_key: tuple[str | int | None, ...]
    validate_parameters: bool
    deadline: float
    # Whether the call that is being made got no clear response at first.
    _was_repeated: bool = field(default=False, init=False)

    def perform(self, now: Instruction) -> Event:
        """Do what an instruction says, and return what happened."""
        self._was_repeated = False
        call: Callable[[StoredExecution], Event]
        try:
            if now.do is Do.PREPARE:
                return self._prepare()
            call = {
                Do.START: self._start,
                Do.RESEND_START: self._resend_start,
                Do.RESUME: self._resume,
                Do.RESEND_RESUME: self._resume,
                Do.STOP: self._stop,
            }.get(now.do, self._describe)
            return call(now.known)
        except PolysyncError as error:
            return Refused(error, was_repeated=self._was_repeated)

    def _prepare(self) -> Prepared:
        hook = self.hook_for_region(None)
        request = self._make_request(hook)
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

    def _make_request(self, hook: PolysyncSageMakerHook) -> StartRequest:
        request = make_start_request(self.arguments, self.try_key)
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

    def _resume(self, record: StoredExecution) -> Accepted:
        hook = self._hook_of(record)
        self._log_unused_arguments(record)
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

    def _log_unused_arguments(self, record: StoredExecution) -> None:
        try:
            unused = unused_arguments(record.request, self._make_request(self.hook_for_region(None)))
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
