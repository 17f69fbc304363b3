"""
The part of the Start operator that stops the execution when its task is killed or fails without another try.

A task whose process has died cannot run this code; for such tasks there is ``failure_callback.py``. For
deferred tasks, ``on_kill`` of the trigger stops the execution.
"""

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


# Airflow's supervisor sends SIGKILL five seconds after SIGTERM, so the stop request must leave before that.
SUPERSEDED_CHECK_TIMEOUT_SECONDS: Final = 2.0


class StopOnKillOperator(ExecutionOperator):
    """
    Base of the Start operator: stop the execution when the task ends before it.

    The execution is not stopped if the next try continues with it, or with ``stop_on_kill=False``.
    """

    def __init__(self, *, stop_on_kill: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stop_on_kill = stop_on_kill
        self.on_failure_callback = [*self.on_failure_callback, stop_orphaned_execution]
        self._starter: ExecutionStarter | None = None
        self._killed = False
        # True once this process has dealt with the execution: it has ended, it was stopped, or the next try
        # continues with it. The failure callback has nothing to do then.
        self.execution_handled = False

    def on_kill(self) -> None:
        """Stop the execution that this process started or waits for, unless ``stop_on_kill=False``."""
        self._killed = True
        if self._starter is None or self._starter.record is None:
            return
        # Airflow calls this in a signal handler, at any point of the main thread's code. The stop runs in
        # another thread: if the main thread holds a lock that the stop needs, the stop fails, but the process
        # does not hang.
        thread = threading.Thread(target=self._stop_unless_superseded, daemon=True)
        thread.start()
        thread.join(STOP_TIMEOUT_SECONDS)

    def _stop_unless_superseded(self) -> None:
        # Airflow kills a worker process that comes back after it was disconnected for long. A later try may
        # have reattached to the execution by then. Airflow has given the task instance a new id for that try,
        # so this process no longer finds the record in the store. (After a mark, a clear or an eviction it
        # does find it.)
        result: list[bool] = []
        thread = threading.Thread(target=self._check_superseded, args=(result,), daemon=True)
        thread.start()
        thread.join(SUPERSEDED_CHECK_TIMEOUT_SECONDS)
        if result == [True]:
            self.log.warning("Task killed. A later try continues with the execution, so it is not stopped.")
        else:
            self._stop_own_execution("the task was killed")

    def _check_superseded(self, result: list[bool]) -> None:
        try:
            result.append(self._starter is not None and self._starter.store.read() is None)
        except Exception as error:
            # No error proves that a later try continues with the execution, so the execution is stopped.
            self.log.warning("Whether a later try continues with the execution cannot be read: %s", error)

    def _raise_if_killed(self) -> None:
        if self._killed:
            raise PolysyncError("The task was killed.", permanent=False)

    def _stop_own_execution(self, reason: str) -> None:
        """Stop the execution that runs, or may run, because of this try, even if its ARN is not known."""
        record = self._starter.record if self._starter else None
        if record is None:
            return
        if self.stop_on_kill and record.execution_arn is None:
            try:
                # AWS returns the ARN if it knows the client token. If not, this starts an execution, which is
                # then stopped.
                arn = call_with_retry(
                    partial(
                        self.hook_for_region(record.region_name).start_pipeline_execution, record.request
                    ),
                    until=time.time() + STOP_TIMEOUT_SECONDS,
                    warn=self.log.warning,
                )
            except PolysyncError as error:
                self.log.error(
                    "Pipeline %s: %s. An execution may be running, but its ARN is not known: %s",
                    record.request.pipeline_name,
                    reason,
                    error,
                )
                return
            record = record.model_copy(update={"execution_arn": arn})
        self.log.warning(
            "Execution %s: %s. %s",
            record.execution_arn or "with unknown ARN",
            reason,
            self._stop_if_allowed(record.execution_arn, record.resumes),
        )

    @contextmanager
    def _stop_on_final_failure(self, context: Context) -> Iterator[None]:
        # Any error between the start and the end of the wait fails the task, for example an XCom that cannot
        # be pushed. If no try follows, the execution must not keep running at the user's expense.
        try:
            yield
        except Exception as error:
            record = self._starter.record if self._starter else None
            if record and self._will_be_retried(context, error) and not self._killed:
                self.log.warning(
                    "Execution %s: the task failed. The next try continues with the execution.",
                    record.execution_arn or "with unknown ARN",
                )
            else:
                self._stop_own_execution("the task failed")
            self.execution_handled = True
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
            # Airflow ignores a retry policy that raises and uses the task's retries. The task must end with
            # its own error, not with the policy's.
            self.log.exception("The task's retry_policy raised an error")
            return True
        return not decision or decision.action is not RetryAction.FAIL

    def _stop_if_allowed(self, execution_arn: str | None, attempt: int) -> str:
        """Request a stop unless ``stop_on_kill=False``; return the result as a sentence for people."""
        if not self.stop_on_kill or execution_arn is None:
            return "The execution keeps running because stop_on_kill=False."
        from polysync_airflow.aws.stop import stop_execution

        return stop_execution(
            self.hook_for_region(region_from_arn(execution_arn)),
            execution_arn,
            attempt=attempt,
            warn=self.log.warning,
        )
