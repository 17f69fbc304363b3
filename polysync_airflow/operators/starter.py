"""
How one task try gets its execution.

The try starts a new execution, resends a stored start request, or reattaches to, resumes or waits behind the
execution of an earlier try. ``execution/recovery.py`` decides which of these comes next; this module makes
the AWS calls and updates the record store.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import (
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PolysyncError,
    SageMakerApiError,
    has_code,
)
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import (
    ExecutionDescription,
    StartRequest,
    StoredExecution,
    region_from_arn,
)
from polysync_airflow.execution.recovery import Action, OnClear, RetryMode, next_action, unused_arguments
from polysync_airflow.operators.parameter_check import (
    check_parameters,
    describe_pipeline_of,
    explain_refusal,
)
from polysync_airflow.records.port import RecordStore
from polysync_airflow.states import PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

Result = TypeVar("Result")


@dataclass(frozen=True)
class StartResult:
    """
    The execution that a try starts, resumes, reattaches to or has to wait for.

    :param record: the record of the execution; its ARN is known.
    :param description: the latest DescribePipelineExecution response; None if the execution was just
        started or resumed.
    :param blocked: True if this is an execution that the try must not continue with: the try waits for its
        end and then calls ``start_or_reattach`` again.
    """

    record: StoredExecution
    description: ExecutionDescription | None = None
    blocked: bool = False

    @property
    def attempt_started_at(self) -> datetime | None:
        """When this attempt of the execution began; None if it has just begun."""
        return self.record.resumed_at or (self.description.created_at if self.description else None)


@dataclass(kw_only=True)
class ExecutionStarter:
    """
    Start or reattach to the execution of one task try, as ``recovery.next_action`` decides.

    :param hook_for_region: returns the hook for a region; None is the task's own region.
    :param store: the record store that the tries of the task share.
    :param log: the task's logger.
    :param epoch: the try's epoch, which is Airflow's ``max_tries``.
    :param deadline: when to stop retrying calls that fail with transient errors (seconds since the Unix
        epoch).
    :param retry_mode: whether a retry replaces or resumes a failed execution.
    :param on_clear: whether the first try after a clear replaces or resumes a failed execution.
    :param failures_succeed: whether CompletedWithFailures counts as a success.
    :param stop_on_kill: whether a running execution of an earlier epoch may be stopped.
    :param validate_parameters: whether to compare the parameters with the definition before a new start.
    :param raise_if_killed: called before every request that costs money; raises if the task was killed.
    :param record: the record of the execution that runs, or may run, for this task; None if there is none.
    """

    hook_for_region: Callable[[str | None], PolysyncSageMakerHook]
    store: RecordStore
    log: Any
    epoch: int
    deadline: float
    retry_mode: RetryMode
    on_clear: OnClear
    failures_succeed: bool
    stop_on_kill: bool
    validate_parameters: bool
    raise_if_killed: Callable[[], None]
    record: StoredExecution | None = field(default=None, init=False)

    def start_or_reattach(self, make_request: Callable[[], StartRequest]) -> StartResult:
        """
        Start an execution, or continue with the execution of an earlier try.

        :param make_request: returns the request for a new execution; called only if one must be started.
        :raises StoredRecordError: the stored record is damaged, or is not one of this task.
        :raises ParametersError: the request for a new execution is not valid.
        :raises SageMakerApiError: AWS refused a call.
        """
        record = self.store.read()
        if record is not None:
            self._take_over(record)
        description: ExecutionDescription | None = None
        while True:
            action = self._next_action(description)
            if self.record is None or action is Action.START:
                # If earlier tries had an execution, it has ended.
                self.record = None
                return self._start(make_request())
            if action is Action.RESEND_START:
                self._resend_start(self.record)
            elif action is Action.DESCRIBE or description is None:
                description = self._describe(self.record)
            elif action is Action.RESUME:
                self._log_unused_arguments(self.record, make_request)
                resumed, description = self._resume(self.record)
                if resumed:
                    return resumed
            elif action is Action.REATTACH:
                return self._reattach(self.record, description)
            else:
                return self._blocked_by(self.record, description, action)

    def _take_over(self, record: StoredExecution) -> None:
        # Before anything else: from now on an earlier try that is still alive must not stop the execution,
        # and if this process dies, the failure callback finds the record.
        self.record = record
        if record.try_number != self.store.try_number:
            self._update_record(record)

    def _next_action(self, description: ExecutionDescription | None) -> Action:
        return next_action(
            self.record,
            self.epoch,
            description.status if description else None,
            retry_mode=self.retry_mode,
            on_clear=self.on_clear,
            failures_succeed=self.failures_succeed,
            may_stop=self.stop_on_kill,
        )

    def _start(self, request: StartRequest) -> StartResult:
        self.raise_if_killed()
        hook = self.hook_for_region(None)
        if self.validate_parameters:
            check_parameters(self._call_with_retry(lambda: describe_pipeline_of(hook, request)), request)
            self.raise_if_killed()
        # Never empty: without a region, the hook has raised an error while the request was made.
        record = StoredExecution(
            epoch=self.epoch,
            region_name=hook.region_name or "",
            request=request,
            try_number=self.store.try_number,
        )
        self.store.write(record)
        try:
            self.raise_if_killed()
        except PolysyncError:
            # The task was killed while the record was being stored. The request was not sent, so the next try
            # must not resend it.
            self._delete_record()
            raise
        self.record = record
        transient_errors: list[str] = []
        try:
            arn = self._call_with_retry(lambda: hook.start_pipeline_execution(request), transient_errors)
        except PolysyncError as error:
            if not error.transient and not transient_errors:
                # AWS refused the only request, so there is no execution, and the next try must not resend it.
                self._delete_record()
            if isinstance(error, SageMakerApiError):
                raise explain_refusal(hook, request, error) from error.__cause__
            raise
        self.log.info("Execution %s: started (pipeline %s)", arn, request.pipeline_name)
        result = StartResult(self._update_record(record, execution_arn=arn))
        self.store.delete_leftovers()
        return result

    def _resend_start(self, record: StoredExecution) -> None:
        self.raise_if_killed()
        self.log.warning(
            "Pipeline %s: an earlier try sent a start request and did not receive the ARN. Sending the same "
            "request again with the same client token, so that AWS starts no second execution.",
            record.request.pipeline_name,
        )
        hook = self.hook_for_region(record.region_name)
        try:
            arn = self._call_with_retry(lambda: hook.start_pipeline_execution(record.request))
        except SageMakerApiError as error:
            if not _proves_not_started(error):
                raise
            self._delete_record()
            if record.epoch == self.epoch:
                raise
            self.log.warning(
                "Pipeline %s: the earlier request did not start an execution: %s",
                record.request.pipeline_name,
                error,
            )
            return
        self.log.info("Execution %s: this is the execution of the earlier start request", arn)
        self._update_record(record, execution_arn=arn)

    def _describe(self, record: StoredExecution) -> ExecutionDescription | None:
        hook = self.hook_for_region(region_from_arn(record.arn))
        try:
            return self._call_with_retry(lambda: hook.describe_pipeline_execution(record.arn))
        except SageMakerApiError as error:
            if not has_code(error, RESOURCE_NOT_FOUND):
                raise
            self.log.warning("Execution %s of an earlier try no longer exists: %s", record.arn, error)
        self.record = None
        return None

    def _reattach(self, record: StoredExecution, description: ExecutionDescription) -> StartResult:
        if record.resume_is_pending:
            # AWS has accepted the resume of an earlier try, although that try did not receive the response.
            record = self._update_record(record, resumed_at=_now())
        self.log.info(
            "Execution %s: reattached to the execution of an earlier try (AWS status %s). No new execution "
            "is started.",
            record.arn,
            description.status,
        )
        return StartResult(record, description)

    def _blocked_by(
        self, record: StoredExecution, description: ExecutionDescription, action: Action
    ) -> StartResult:
        self.log.warning(
            "Execution %s of an earlier try has not ended (AWS status %s). A new execution is started after "
            "its end.%s",
            record.arn,
            description.status,
            "" if self.stop_on_kill else " It is not stopped because stop_on_kill=False.",
        )
        if self.stop_on_kill and record.epoch != self.epoch:
            record = self._update_record(record, replaced_by_epoch=self.epoch)
        if action is Action.STOP:
            from polysync_airflow.aws.stop import request_stop

            hook = self.hook_for_region(region_from_arn(record.arn))
            self._call_with_retry(lambda: request_stop(hook, record.arn, attempt=record.resumes))
        return StartResult(record, description, blocked=True)

    def _resume(self, record: StoredExecution) -> tuple[StartResult | None, ExecutionDescription | None]:
        """
        Store a token and request the resume with it.

        :return: the resumed execution and None; if AWS refuses, None and the execution's description if it
            runs all the same.
        """
        self.raise_if_killed()
        is_of_earlier_epoch = record.resume_is_pending and record.epoch != self.epoch
        record = self._store_resume(record)
        hook = self.hook_for_region(region_from_arn(record.arn))
        self._log_steps(hook, record.arn)
        try:
            self._call_with_retry(
                lambda: hook.retry_pipeline_execution(
                    record.arn,
                    token=record.resume_token or "",
                    max_parallel_steps=record.request.max_parallel_steps,
                )
            )
        except PolysyncError as error:
            if error.transient:
                raise
            self.log.warning("Execution %s cannot be resumed: %s", record.arn, error)
        else:
            record = self._update_record(record, resumed_at=_now())
            if is_of_earlier_epoch and self._has_failed(record):
                # AWS had accepted the resume before the clear, and it has failed since. AWS does nothing for
                # a token that it knows, but the user wants the failed steps to run now.
                return self._resume(record)
            self.log.info("Execution %s: resumed", record.arn)
            return StartResult(record), None
        # AWS may refuse because it has already accepted an earlier request for the same resume. Then the
        # execution runs, and no new one may be started beside it.
        description = self._describe(record)
        if description and not has_ended(description.status):
            return None, description
        self.log.warning(
            "Execution %s: a new execution is started instead, which repeats every step.", record.arn
        )
        self.record = None
        return None, None

    def _store_resume(self, record: StoredExecution) -> StoredExecution:
        # Token and epoch in one write: before it, the next try decides as this one has. After it, the next
        # try sends the same token, and the retries that follow are retries of this resume.
        if record.resume_is_pending:
            return record if record.epoch == self.epoch else self._update_record(record, epoch=self.epoch)
        return self._update_record(
            record,
            epoch=self.epoch,
            resumes=record.resumes + 1,
            resume_token=f"polysync-{uuid.uuid4()}",
            resumed_at=None,
            stop_requested_by=None,
        )

    def _has_failed(self, record: StoredExecution) -> bool:
        description = self._describe(record)
        return description is not None and state_of(description.status) is PolysyncState.FAILED

    def _log_unused_arguments(
        self, record: StoredExecution, make_request: Callable[[], StartRequest]
    ) -> None:
        try:
            unused = unused_arguments(record.request, make_request())
        except PolysyncError as error:
            self.log.warning(
                "Execution %s: the arguments of this try are not valid, and are not used: %s",
                record.arn,
                error,
            )
            return
        if unused:
            self.log.warning(
                "Execution %s: AWS resumes it with the values of its start. The arguments that have other "
                "values now are not used: %s",
                record.arn,
                ", ".join(unused),
            )

    def _log_steps(self, hook: PolysyncSageMakerHook, arn: str) -> None:
        try:
            steps = hook.list_pipeline_execution_steps(arn)
        except PolysyncError as error:
            self.log.warning(
                "Execution %s: the steps that will be repeated could not be listed: %s", arn, error
            )
            return
        kept = sorted(step.name for step in steps if step.status == "Succeeded")
        repeated = sorted(f"{step.name} ({step.status})" for step in steps if step.status != "Succeeded")
        self.log.info(
            "Execution %s: resuming from the failed steps. Kept: %s. Repeated: %s, and all steps after.",
            arn,
            ", ".join(kept) or "none",
            ", ".join(repeated) or "none",
        )

    def _call_with_retry(
        self, call: Callable[[], Result], transient_errors: list[str] | None = None
    ) -> Result:
        def warn(message: str) -> None:
            self.log.warning(message)
            if transient_errors is not None:
                transient_errors.append(message)

        return call_with_retry(call, until=self.deadline, warn=warn)

    def _update_record(self, record: StoredExecution, **changes: Any) -> StoredExecution:
        self.record = record.model_copy(update={**changes, "try_number": self.store.try_number})
        self.store.write(self.record)
        return self.record

    def _delete_record(self) -> None:
        self.store.delete()
        self.record = None


def _now() -> datetime:
    return datetime.fromtimestamp(clock.time(), UTC)


def _proves_not_started(error: SageMakerApiError) -> bool:
    # If AWS knows the client token, it returns the token's execution and does not check the request. So an
    # error about the request itself proves that AWS has never accepted it. AccessDenied or a used-up quota
    # prove nothing.
    return has_code(error, VALIDATION, RESOURCE_NOT_FOUND)
