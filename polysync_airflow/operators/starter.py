"""Owns how a try comes to its execution: started, asked for again, adopted, resumed, or behind another."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError, hint_for
from polysync_airflow.execution.models import (
    ExecutionDescription,
    StartRequest,
    StoredExecution,
    region_from_arn,
)
from polysync_airflow.execution.recovery import Action, RetryMode, next_action
from polysync_airflow.operators.record_store import RecordStore
from polysync_airflow.states import has_ended

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class StartResult:
    """
    What a try has come to.

    :param stored: the execution, whose ARN is known.
    :param seen: what AWS last said of it; None for one that was just started or resumed.
    :param blocked: it is not for this try: its end must be awaited, then decided again.
    """

    stored: StoredExecution
    seen: ExecutionDescription | None = None
    blocked: bool = False

    @property
    def since(self) -> datetime | None:
        """When this attempt of it began; None for just now."""
        return self.stored.resumed_at or (self.seen.created_at if self.seen else None)


@dataclass(kw_only=True)
class ExecutionStarter:
    """
    One try on its way to an execution. Does what ``recovery.next_action`` decides.

    :param hook_in: gives the connection to AWS in a region; None for the task's own.
    :param store: where tries leave what they did.
    :param log: the task's log.
    :param epoch: the try's epoch, Airflow's ``max_tries``.
    :param until: when to give up on an AWS that does not answer (seconds since the epoch).
    :param retry_mode: whether a failed execution is replaced or resumed.
    :param failures_succeed: CompletedWithFailures counts as a success.
    :param may_stop: an execution of an earlier epoch may be stopped.
    :param check: called before anything is asked that costs money; raises if the task was killed.
    :param held: what may run, or may be about to, because of this task.
    """

    hook_in: Callable[[str | None], PolysyncSageMakerHook]
    store: RecordStore
    log: Any
    epoch: int
    until: float
    retry_mode: RetryMode
    failures_succeed: bool
    may_stop: bool
    check: Callable[[], None]
    held: StoredExecution | None = field(default=None, init=False)

    def start_or_reattach(self, make_request: Callable[[], StartRequest]) -> StartResult:
        """
        Come to an execution.

        :param make_request: gives what to start, if a new one is to be.
        :raises StoredRecordError: what is stored is damaged.
        :raises ParametersError: what is to be started is not legal.
        :raises SageMakerApiError: AWS refused.
        """
        self.held = self.store.read()
        seen: ExecutionDescription | None = None
        while True:
            move = self._decide(seen)
            if self.held is None or move is Action.START:
                # What earlier tries had, if anything, has ended.
                self.held = None
                return self._start(make_request())
            if move is Action.RESEND_START:
                self._repeat_start(self.held)
            elif move is Action.DESCRIBE or seen is None:
                seen = self._look(self.held)
            elif move is Action.RESUME:
                resumed, seen = self._resume(self.held)
                if resumed:
                    return resumed
            elif move is Action.REATTACH:
                return self._adopt(self.held, seen)
            else:
                return self._wait_for_its_end(move, self.held, seen)

    def _decide(self, seen: ExecutionDescription | None) -> Action:
        return next_action(
            self.held,
            self.epoch,
            seen.status if seen else None,
            retry_mode=self.retry_mode,
            failures_succeed=self.failures_succeed,
            may_stop=self.may_stop,
        )

    def _start(self, request: StartRequest) -> StartResult:
        self.check()
        hook = self.hook_in(None)
        # A hook without a region has refused before.
        stored = StoredExecution(epoch=self.epoch, region_name=hook.region_name or "", request=request)
        self.store.write(stored)
        try:
            self.check()
        except PolysyncError:
            # Killed meanwhile: what was never asked for needs no answer.
            self._forget()
            raise
        self.held = stored
        doubts: list[str] = []
        try:
            arn = self._call_with_retry(lambda: hook.start_pipeline_execution(request), doubts)
        except PolysyncError as error:
            if not error.transient and not doubts:
                # AWS refused, so there is no execution, and what was refused must not be asked again.
                self._forget()
            raise
        self.log.info("Started pipeline %s, execution %s", request.pipeline_name, arn)
        return StartResult(self._keep(stored, execution_arn=arn))

    def _repeat_start(self, stored: StoredExecution) -> None:
        self.check()
        self.log.warning(
            "An earlier try asked for an execution of pipeline %s and never learnt its ARN: asking again, "
            "with the same token, so that there is only one.",
            stored.request.pipeline_name,
        )
        hook = self.hook_in(stored.region_name)
        try:
            arn = self._call_with_retry(lambda: hook.start_pipeline_execution(stored.request))
        except SageMakerApiError as error:
            if not _disproves_start(error):
                raise
            self._forget()
            if stored.epoch == self.epoch:
                raise
            self.log.warning("It was never started: %s", error)
            return
        self.log.info("It is execution %s", arn)
        self._keep(stored, execution_arn=arn)

    def _look(self, stored: StoredExecution) -> ExecutionDescription | None:
        hook = self.hook_in(region_from_arn(stored.arn))
        try:
            return self._call_with_retry(lambda: hook.describe_pipeline_execution(stored.arn))
        except SageMakerApiError as error:
            if hint_for(error.error_code) is not hint_for("ResourceNotFound"):
                raise
            self.log.warning("An earlier try's execution %s no longer exists: %s", stored.arn, error)
        self.held = None
        return None

    def _adopt(self, stored: StoredExecution, seen: ExecutionDescription) -> StartResult:
        if stored.resume_is_pending:
            # It was granted, though the answer never came.
            stored = self._keep(stored, resumed_at=_now())
        self.log.info(
            "Going on with execution %s of an earlier try (AWS status %s); no other is started.",
            stored.arn,
            seen.status,
        )
        return StartResult(stored, seen)

    def _wait_for_its_end(
        self, move: Action, stored: StoredExecution, seen: ExecutionDescription
    ) -> StartResult:
        self.log.warning(
            "Execution %s of an earlier try is not over (AWS status %s); a new one starts after its end.%s",
            stored.arn,
            seen.status,
            "" if self.may_stop else " It is not asked to stop, since stop_on_kill=False.",
        )
        if move is Action.STOP:
            from polysync_airflow.aws.stop import request_stop

            hook = self.hook_in(region_from_arn(stored.arn))
            self._call_with_retry(lambda: request_stop(hook, stored.arn, attempt=stored.resumes))
        return StartResult(stored, seen, blocked=True)

    def _resume(self, stored: StoredExecution) -> tuple[StartResult | None, ExecutionDescription | None]:
        """Ask for a resume, its token stored ahead; if it is refused, return what AWS says of it then."""
        self.check()
        if not stored.resume_is_pending:
            token = f"polysync-{uuid.uuid4()}"
            stored = self._keep(stored, resumes=stored.resumes + 1, resume_token=token, resumed_at=None)
        hook = self.hook_in(region_from_arn(stored.arn))
        self._tell_steps(hook, stored.arn)
        try:
            self._call_with_retry(
                lambda: hook.retry_pipeline_execution(
                    stored.arn,
                    token=stored.resume_token or "",
                    max_parallel_steps=stored.request.max_parallel_steps,
                )
            )
        except PolysyncError as error:
            if error.transient:
                raise
            self.log.warning("Execution %s cannot be resumed: %s", stored.arn, error)
        else:
            self.log.info("Resumed execution %s", stored.arn)
            return StartResult(self._keep(stored, resumed_at=_now())), None
        # The refusal may mean that it was granted before: nothing may run beside it.
        seen = self._look(stored)
        if seen and not has_ended(seen.status):
            return None, seen
        self.log.warning("A new execution is started instead, which repeats every step.")
        self.held = None
        return None, None

    def _tell_steps(self, hook: PolysyncSageMakerHook, arn: str) -> None:
        try:
            steps = hook.list_pipeline_execution_steps(arn)
        except PolysyncError as error:
            self.log.warning("Which steps will be repeated could not be listed: %s", error)
            return
        kept = sorted(step.name for step in steps if step.status == "Succeeded")
        repeated = sorted(f"{step.name} ({step.status})" for step in steps if step.status != "Succeeded")
        self.log.info(
            "Execution %s goes on from where it failed. Kept: %s. Repeated: %s; then what follows.",
            arn,
            ", ".join(kept) or "nothing",
            ", ".join(repeated) or "nothing",
        )

    def _call_with_retry(self, call: Callable[[], Answer], doubts: list[str] | None = None) -> Answer:
        def warn(text: str) -> None:
            self.log.warning(text)
            if doubts is not None:
                doubts.append(text)

        return call_with_retry(call, until=self.until, warn=warn)

    def _keep(self, stored: StoredExecution, **changes: Any) -> StoredExecution:
        self.held = stored.model_copy(update=changes)
        self.store.write(self.held)
        return self.held

    def _forget(self) -> None:
        self.store.delete()
        self.held = None


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def _disproves_start(error: SageMakerApiError) -> bool:
    # AWS answers a token that it knows with its execution, so what it finds wrong with the request it has
    # never accepted. A refusal of the asker (AccessDenied) or for a quota proves nothing.
    return hint_for(error.error_code) in (hint_for("ValidationException"), hint_for("ResourceNotFound"))
