"""
The part of the Start operator that stops the execution when its task ends before it: when the task is killed,
fails without another try, or does not wait any longer.

A task whose process has died cannot run this code; for such tasks there is ``failure_callback.py``. For
deferred tasks, ``on_kill`` of the trigger stops the execution.

Before each stop, the try asks Airflow whether the execution is still its own to stop (``Owner`` in
``records/store.py``). Where Airflow does not say, the execution is left to the next try or to the failure
callback, which know: a process that was frozen or cut off must not stop what a later try has gone on with.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.sdk import AirflowFailException
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.operators.base import ExecutionOperator
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from polysync_airflow.records.ownership import Owner
from polysync_airflow.retrying import forbids_retry

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from polysync_airflow.execution.models import ExecutionEvent, StoredExecution
    from polysync_airflow.operators.starter import ExecutionStarter
    from polysync_airflow.records.port import RecordStore

# Airflow's supervisor sends SIGKILL five seconds after SIGTERM, so the stop request must leave before that.
OWNER_TIMEOUT_SECONDS: Final = 2.0

KEPT: Final = "The execution keeps running because stop_on_kill=False."
_NOT_STOPPED: Final = {
    Owner.LATER_TRY: "A later try continues with the execution, so it is not stopped.",
    Owner.UNKNOWN: "It is not stopped, because Airflow does not say whether a later try has it. The next "
    "try, or the failure callback in the DAG processor, decides.",
}


class StopOnKillOperator(ExecutionOperator):
    """
    Base of the Start operator: stop the execution when the task ends before it.

    The execution is not stopped if the next try continues with it, or with ``stop_on_kill=False``.
    """

    def __init__(self, *, stop_on_kill: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.stop_on_kill = stop_on_kill
        self.on_failure_callback = _with_own_callback(self.on_failure_callback)
        self._starter: ExecutionStarter | None = None
        self._killed = False
        # Whether this process executes the task, so that its templates are rendered.
        self.executes_here = False
        # True once this process has dealt with the execution: it has ended, it was stopped, or the next try
        # continues with it. The failure callback has nothing to do then.
        self.execution_handled = False

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Add the failure callback to a mapped task, too: the DAG processor does not create its operators."""
        made = super().partial(**kwargs)
        made.kwargs["on_failure_callback"] = _with_own_callback(made.kwargs.get("on_failure_callback"))
        return made

    def on_kill(self) -> None:
        """Stop the execution that this process started or waits for, unless ``stop_on_kill=False``."""
        self._killed = True
        if self._starter is None or self._starter.record is None:
            return
        # Airflow calls this in a signal handler, at any point of the main thread's code. The stop runs in
        # another thread: if the main thread holds a lock that the stop needs, the stop fails, but the process
        # does not hang.
        answered = threading.Event()
        thread = threading.Thread(
            target=self._stop_own_execution, args=("the task was killed", answered), daemon=True
        )
        thread.start()
        # The main thread may hold Airflow's channel itself. Then it must go on before there can be an answer;
        # the thread waits for that, and the main thread asks again when it fails.
        if answered.wait(OWNER_TIMEOUT_SECONDS):
            thread.join(STOP_TIMEOUT_SECONDS)

    def _raise_if_killed(self) -> None:
        if self._killed:
            raise PolysyncError("The task was killed.", permanent=False)

    def _stop_own_execution(self, reason: str, answered: threading.Event | None = None) -> bool:
        """
        Stop the execution that runs, or may run, because of this try, if it is this try's to stop.

        :param reason: why the execution is stopped, for the log.
        :param answered: set when Airflow has said whose execution it is.
        :return: False if the failure callback must decide about the execution.
        """
        starter = self._starter
        if starter is None or starter.record is None:
            return True
        owner = starter.store.announce_stop(starter.record) if self.stop_on_kill else Owner.THIS_TRY
        if answered:
            answered.set()
        self.log.warning(
            "Execution %s: %s. %s",
            starter.record.execution_arn or "with unknown ARN",
            reason,
            self._stop_if_owned(starter.store, starter.record, owner),
        )
        return owner is not Owner.UNKNOWN

    def _stop_if_owned(self, store: RecordStore, record: StoredExecution, owner: Owner) -> str:
        """Stop the execution of a record if it is this try's to stop; return the result as a sentence."""
        if not self.stop_on_kill:
            return KEPT
        if owner in _NOT_STOPPED:
            return _NOT_STOPPED[owner]
        from polysync_airflow.operators.stopping import stop_recorded_execution

        arn, result = stop_recorded_execution(record, self.hook_for_region, self.log.warning)
        if result.failed and owner is Owner.THIS_TRY:
            store.withdraw_stop(record)
        return result.text if record.execution_arn else f"Execution {arn}: {result.text}"

    def _own_record(self, context: Context) -> tuple[RecordStore, StoredExecution | None]:
        """
        Return the record of this try's execution; after a deferral, it is read again.

        :raises StoredRecordError: the record is damaged, or was not written by this task.
        """
        if self._starter:
            return self._starter.store, self._starter.record
        from polysync_airflow.records.store import own_record

        return own_record(context)

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

    @contextmanager
    def _stop_on_final_failure(self, context: Context) -> Iterator[None]:
        # Any error between the start and the end of the wait fails the task, for example an XCom that cannot
        # be pushed. If no try follows, the execution must not keep running at the user's expense.
        try:
            yield
        except Exception as error:
            self.execution_handled = self._leave_or_stop(context, error)
            raise

    def _leave_or_stop(self, context: Context, error: Exception) -> bool:
        """Decide about the execution after an error; return False if the failure callback must decide."""
        starter = self._starter
        if starter is None or starter.record is None:
            return True
        if self._killed or not self._will_be_retried(context, error):
            return self._stop_own_execution("the task failed")
        record = starter.record
        # The error may be that Airflow no longer knows this try, because a user has cleared the running task.
        cleared = starter.store.owner(record) is Owner.NOBODY
        result = (
            self._stop_if_owned(starter.store, record, Owner.NOBODY)
            if cleared
            else "The next try continues with the execution."
        )
        self.log.warning(
            "Execution %s: the task failed. %s", record.execution_arn or "with unknown ARN", result
        )
        return True

    def _will_be_retried(self, context: Context, error: Exception) -> bool:
        ti = context["ti"]
        if ti.try_number > ti.max_tries or isinstance(error, AirflowFailException):
            return False
        return not forbids_retry(self.retry_policy, error, context)


def _with_own_callback(callbacks: Any) -> list[Any]:
    others = [] if not callbacks else list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    return others if stop_orphaned_execution in others else [*others, stop_orphaned_execution]
