"""Owns how one try comes to its execution: started, asked for again, adopted, resumed, or blocked by another."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import NEVER_EXPIRE
from pydantic import ValidationError

from polysync_airflow.exceptions import PolysyncError, SageMakerApiError, StoredRecordError, hint_for
from polysync_airflow.models import ExecutionDescription, StartRequest, StoredExecution
from polysync_airflow.patience import persist
from polysync_airflow.recovery import GONE, Move, RetryMode, next_move
from polysync_airflow.states import has_ended

if TYPE_CHECKING:
    from logging import Logger

    from airflow.sdk import Context

    from polysync_airflow.hooks import PolysyncSageMakerHook

# The key is stored for tasks under way: renaming it would make them start anew.
STORE_KEY: Final = "polysync_execution"


class ExecutionStore:
    """
    The task's place in Airflow's task state store, which outlives tries, crashes, deferrals and clears.

    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/task-and-asset-state-store.html

    :param context: the task's context.
    :param log: the task's log.
    """

    def __init__(self, context: Context, log: Logger) -> None:
        self._store: Any = context.get("task_state_store")
        if self._store is None:
            log.warning("There is no task state store here: a crash of this process would lose its execution.")

    def read(self) -> StoredExecution | None:
        """
        Return what earlier tries left.

        :raises StoredRecordError: if it is damaged; people can edit it.
        """
        found = self._store.get(STORE_KEY) if self._store is not None else None
        if found is None:
            return None
        try:
            return StoredExecution.model_validate(found)
        except ValidationError as error:
            told = "; ".join(
                f"{'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg']}"
                for problem in error.errors(include_url=False)
            )
            raise StoredRecordError(
                f"What earlier tries of this task stored about their execution is damaged ({told}). Nothing "
                "was started, since that execution may still run: look for it in the SageMaker console. Then "
                f"delete the key {STORE_KEY!r} in the tab Task State Store of the task instance, and clear "
                "the task."
            ) from None

    def write(self, stored: StoredExecution) -> None:
        """Store it for as long as the DAG run is kept: the default 30 days may end before an execution."""
        if self._store is not None:
            self._store.set(STORE_KEY, stored.model_dump(mode="json"), retention=NEVER_EXPIRE)

    def delete(self) -> None:
        """Forget it: it is certain that there is no execution."""
        if self._store is not None:
            self._store.delete(STORE_KEY)


@dataclass(frozen=True)
class Acquired:
    """
    What a try has come to.

    :param stored: the execution, whose ARN is known.
    :param seen: what AWS last said of it; None for one that was just started.
    :param blocked: it is not for this try: its end must be awaited, then decided again.
    """

    stored: StoredExecution
    seen: ExecutionDescription | None
    blocked: bool = False

    @property
    def arn(self) -> str:
        """The execution's ARN."""
        assert self.stored.execution_arn
        return self.stored.execution_arn

    @property
    def since(self) -> datetime | None:
        """When this attempt of it began, as far as AWS has told."""
        return self.stored.resumed_at or (self.seen.created_at if self.seen else None)


class Acquisition:
    """
    One try on its way to an execution. Does what ``recovery.next_move`` decides.

    :param hook: the connection to AWS.
    :param store: where tries leave what they did.
    :param log: the task's log.
    :param epoch: the try's epoch, Airflow's ``max_tries``.
    :param until: when to give up on an AWS that does not answer (seconds since the epoch).
    :param retry_mode: whether a failed execution is replaced or resumed.
    :param failures_succeed: CompletedWithFailures counts as a success.
    :param may_stop: an execution of an earlier epoch may be stopped.
    :param check: called before anything is asked that costs money; raises if the task was killed.
    """

    def __init__(
        self,
        hook: PolysyncSageMakerHook,
        store: ExecutionStore,
        log: Logger,
        *,
        epoch: int,
        until: float,
        retry_mode: RetryMode,
        failures_succeed: bool,
        may_stop: bool,
        check: Callable[[], None],
    ) -> None:
        self._hook, self._store, self._log, self._check = hook, store, log, check
        self._epoch, self._until = epoch, until
        self._retry_mode: RetryMode = retry_mode
        self._failures_succeed, self._may_stop = failures_succeed, may_stop
        self.held: StoredExecution | None = None
        """What may run, or may be about to, because of this task."""

    def acquire(self, request: StartRequest) -> Acquired:
        """
        Come to an execution.

        :param request: what to start if a new one is to be.
        :raises StoredRecordError: what is stored is damaged.
        :raises SageMakerApiError: AWS refused.
        """
        self.held = self._store.read()
        seen: ExecutionDescription | None = None
        status: str | None = None
        while True:
            move = next_move(
                self.held,
                self._epoch,
                status,
                retry_mode=self._retry_mode,
                failures_succeed=self._failures_succeed,
                may_stop=self._may_stop,
            )
            if move is Move.START:
                return Acquired(self._start(request), None)
            assert self.held
            if move is Move.REPEAT_START:
                self._repeat_start(self.held)
            elif move is Move.LOOK:
                seen = self._look(self.held)
                status = seen.status if seen else GONE
            elif move is Move.RESUME:
                if self._resume(self.held):
                    return Acquired(self.held, None)
                seen, status = self._after_refused_resume(self.held)
            else:
                assert seen
                return self._go_on(move, self.held, seen)

    def _persist(self, call: Callable[[], Any], warn: Callable[[str], object] | None = None) -> Any:
        return persist(call, until=self._until, warn=warn or self._log.warning)

    def _keep(self, stored: StoredExecution) -> StoredExecution:
        self.held = stored
        self._store.write(stored)
        return stored

    def _start(self, request: StartRequest) -> StoredExecution:
        self._check()
        region = self._hook.region_name
        assert region
        stored = StoredExecution(epoch=self._epoch, region_name=region, request=request)
        self._store.write(stored)
        self._check()
        self.held = stored
        doubts: list[str] = []

        def warn(text: str) -> None:
            doubts.append(text)
            self._log.warning(text)

        try:
            arn = self._persist(lambda: self._hook.start_pipeline_execution(request), warn)
        except PolysyncError as error:
            if not error.passing and not doubts:
                # AWS refused, so there is no execution, and what was refused must not be asked again.
                self._store.delete()
                self.held = None
            raise
        self._log.info("Started pipeline %s, execution %s", request.pipeline_name, arn)
        return self._keep(stored.model_copy(update={"execution_arn": arn}))

    def _repeat_start(self, stored: StoredExecution) -> None:
        self._check()
        self._log.warning(
            "An earlier try asked for an execution of pipeline %s and never learnt its ARN: asking again with "
            "the same token, so that there is one.",
            stored.request.pipeline_name,
        )
        try:
            arn = self._persist(lambda: self._hook.start_pipeline_execution(stored.request))
        except SageMakerApiError as error:
            if not _disproves_start(error):
                raise
            self._store.delete()
            self.held = None
            if stored.epoch == self._epoch:
                raise
            self._log.warning("It was never started: %s", error)
            return
        self._log.info("It is execution %s", arn)
        self._keep(stored.model_copy(update={"execution_arn": arn}))

    def _look(self, stored: StoredExecution) -> ExecutionDescription | None:
        assert stored.execution_arn
        arn = stored.execution_arn
        try:
            seen: ExecutionDescription = self._persist(lambda: self._hook.describe_pipeline_execution(arn))
        except SageMakerApiError as error:
            if hint_for(error.error_code) is not hint_for("ResourceNotFound"):
                raise
            self._log.warning("An earlier try's execution %s no longer exists: %s", arn, error)
            self.held = None
            return None
        return seen

    def _go_on(self, move: Move, stored: StoredExecution, seen: ExecutionDescription) -> Acquired:
        found = Acquired(stored, seen, blocked=move is not Move.ADOPT)
        if move is Move.ADOPT:
            if stored.resume_token and not stored.resumed_at:
                # The resume was granted, though its answer never came.
                found = Acquired(self._keep(_resumed(stored)), seen)
            self._log.info(
                "Going on with execution %s of an earlier try (AWS status %s); no other is started.",
                found.arn,
                seen.status,
            )
            return found
        self._log.warning(
            "An earlier execution is not over (AWS status %s): %s. A new one is started after its end.%s",
            seen.status,
            found.arn,
            "" if self._may_stop else " It is not stopped, as stop_on_kill=False asks.",
        )
        if move is Move.STOP:
            from polysync_airflow.stopping import ask_to_stop

            self._persist(lambda: ask_to_stop(self._hook, found.arn, attempt=stored.resumes))
        return found

    def _resume(self, stored: StoredExecution) -> bool:
        """Ask for a resume, its token stored ahead; tell whether it was granted."""
        assert stored.execution_arn
        arn = stored.execution_arn
        self._check()
        if not stored.resume_token or stored.resumed_at:
            stored = self._keep(
                stored.model_copy(
                    update={
                        "resumes": stored.resumes + 1,
                        "resume_token": f"polysync-{uuid.uuid4()}",
                        "resumed_at": None,
                    }
                )
            )
        self._tell_steps(arn)
        token = stored.resume_token
        assert token
        try:
            self._persist(
                lambda: self._hook.retry_pipeline_execution(
                    arn, token=token, max_parallel_steps=stored.request.max_parallel_steps
                )
            )
        except PolysyncError as error:
            if error.passing:
                raise
            self._log.warning("Execution %s cannot be resumed. %s", arn, error)
            return False
        self._log.info("Resumed execution %s", arn)
        self._keep(_resumed(stored))
        return True

    def _after_refused_resume(self, stored: StoredExecution) -> tuple[ExecutionDescription | None, str]:
        """Look again: a refusal may mean that the resume had been granted before, and nothing may double it."""
        seen = self._look(stored)
        if seen and not has_ended(seen.status):
            return seen, seen.status
        self._log.warning("A new execution is started instead, which runs every step again.")
        self.held = None
        return None, GONE

    def _tell_steps(self, arn: str) -> None:
        try:
            steps = self._hook.list_pipeline_execution_steps(arn)
        except PolysyncError as error:
            self._log.warning("Which steps will be repeated could not be listed: %s", error)
            return
        kept = sorted(step.name for step in steps if step.status == "Succeeded")
        repeated = sorted(f"{step.name} ({step.status})" for step in steps if step.status != "Succeeded")
        self._log.info(
            "Resuming execution %s. Kept: %s. Repeated: %s, then what follows.",
            arn,
            ", ".join(kept) or "nothing",
            ", ".join(repeated) or "nothing",
        )


def _resumed(stored: StoredExecution) -> StoredExecution:
    return stored.model_copy(update={"resumed_at": datetime.fromtimestamp(time.time(), UTC)})


def _disproves_start(error: SageMakerApiError) -> bool:
    # AWS answers a token that it knows with its execution, so what it finds wrong with the request it has
    # never accepted. A refusal of the asker (AccessDenied) or for a quota proves nothing.
    return hint_for(error.error_code) in (hint_for("ValidationException"), hint_for("ResourceNotFound"))
