"""Owns how a try lets go of its execution: killed, failing, or out of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import RetryAction
from airflow.sdk.exceptions import AirflowFailException

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.operators.base import ExecutionOperator
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from polysync_airflow.operators.starter import ExecutionStarter

if TYPE_CHECKING:
    from airflow.sdk import Context


# The supervisor kills for good five seconds after it has asked.
SUPERSEDED_CHECK_TIMEOUT_SECONDS: Final = 2.0


class StopOnKillOperator(ExecutionOperator):
    """What a task owes to its execution: it is stopped with the task, and only then."""

    def __init__(self, *, stop_on_kill: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stop_on_kill = stop_on_kill
        self.on_failure_callback = [*self.on_failure_callback, stop_orphaned_execution]
        self._acquisition: ExecutionStarter | None = None
        self._killed = False
        # This object has seen to the execution itself: its end, its stop, or a next try.
        self.released = False

    def on_kill(self) -> None:
        """Stop the execution that this worker deals with, unless ``stop_on_kill=False``."""
        self._killed = True
        if self._acquisition is None or self._acquisition.held is None:
            return
        # This runs in a signal handler, amid whatever the process was doing: in a thread of its own, a lock
        # that is held there costs the stop but does not hang the process.
        stopping = threading.Thread(target=self._release_if_mine, daemon=True)
        stopping.start()
        stopping.join(STOP_TIMEOUT_SECONDS)

    def _release_if_mine(self) -> None:
        # A worker that was cut off for long is killed when it comes back: a later try may have gone on with
        # the execution by then. Airflow has given the task instance a new id for it, so that this one's
        # record is not found any more. (After a mark, a clear or an eviction it is.)
        answer: list[bool] = []
        asking = threading.Thread(target=self._ask_if_superseded, args=(answer,), daemon=True)
        asking.start()
        asking.join(SUPERSEDED_CHECK_TIMEOUT_SECONDS)
        if answer == [True]:
            self.log.warning("Task killed. A later try goes on with the execution: nothing is stopped.")
        else:
            self._release("Task killed.")

    def _ask_if_superseded(self, answer: list[bool]) -> None:
        try:
            answer.append(self._acquisition is not None and self._acquisition.store.read() is None)
        except Exception as error:
            # Whatever it is, it does not say that somebody else sees to the execution.
            self.log.warning("Whether a later try goes on with the execution cannot be read: %s", error)

    def _check_killed(self) -> None:
        if self._killed:
            raise PolysyncError("The task was killed.", permanent=False)

    def _release(self, why: str) -> None:
        """Stop what runs because of this try, even if its ARN was never learnt."""
        held = self._acquisition.held if self._acquisition else None
        if held is None:
            return
        if self.stop_on_kill and held.execution_arn is None:
            try:
                # AWS knows the token if there is an execution; if not, one is started to be stopped.
                arn = call_with_retry(
                    partial(self.hook_in(held.region_name).start_pipeline_execution, held.request),
                    until=time.time() + STOP_TIMEOUT_SECONDS,
                    warn=self.log.warning,
                )
            except PolysyncError as error:
                self.log.error("%s An execution may be running whose ARN cannot be learnt: %s", why, error)
                return
            held = held.model_copy(update={"execution_arn": arn})
        told = held.execution_arn or "whose ARN is not known"
        self.log.warning("%s Execution %s: %s", why, told, self._stop(held.execution_arn, held.resumes))

    @contextmanager
    def _accounted_for(self, context: Context) -> Iterator[None]:
        # Between the start and the wait's end nothing may be lost from sight: an XCom that cannot be pushed
        # fails the task, and a task that fails for good must not leave a paid execution behind.
        try:
            yield
        except Exception as error:
            held = self._acquisition.held if self._acquisition else None
            if held and self._will_be_retried(context, error) and not self._killed:
                told = held.execution_arn or "that was asked for"
                self.log.warning("The next try goes on with the execution %s.", told)
            else:
                self._release("The task fails.")
            self.released = True
            raise

    def _will_be_retried(self, context: Context, error: Exception) -> bool:
        ti = context["ti"]
        if ti.try_number > ti.max_tries or isinstance(error, AirflowFailException):
            return False
        try:
            decision = self.retry_policy and self.retry_policy.evaluate(
                error, ti.try_number, ti.max_tries, context
            )
        except Exception:
            # Airflow goes by the task's retries then, and it is the error of the task that matters.
            self.log.exception("The task's retry_policy failed")
            return True
        return not decision or decision.action is not RetryAction.FAIL

    def _stop(self, execution_arn: str | None, attempt: int) -> str:
        """Ask for a stop if that is wanted; tell in a sentence what came of it."""
        if not self.stop_on_kill or execution_arn is None:
            return "The execution goes on running, as stop_on_kill=False asks."
        from polysync_airflow.aws.stop import stop_execution

        return stop_execution(
            self.hook_in(region_from_arn(execution_arn)),
            execution_arn,
            attempt=attempt,
            warn=self.log.warning,
        )
