"""
The stop of an execution that its task no longer needs, whichever process asks for it.

A stop is announced, requested and recorded here only. ``ReportedStop`` has the order.
``StopByKey`` is for a process that has no context of the task, such as a triggerer.
Whether there is a stop is decided in ``execution/lifecycle/ending.py``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import (
    read_state,
    read_xcom,
    write_xcom,
)
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle import ending, lookup
from polysync_airflow.execution.lifecycle.ending import EndAction, Owner, TryEnd
from polysync_airflow.execution.lifecycle.instructions import (
    ExecutionRecord,
    ExecutionsListed,
)
from polysync_airflow.execution.outcome import (
    RequestedStop,
    RunSummary,
    StopProcess,
    StopReason,
    parse_run_summary,
)
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.hooks.executions import (
    ExecutionMethods,
    StopResult,
    stop_execution,
)
from polysync_airflow.records import RecordStore

ChangeOfRun = Callable[[RunSummary], RunSummary]
# Returns the hook for a region; None is the task's own region. May raise a
# ``PolysyncError``: the connection may have been deleted.
StoppingHook = Callable[[str | None], ExecutionMethods]


def stop_recorded_execution(
    record: ExecutionRecord,
    hook_for_region: StoppingHook,
    warn: Callable[[str], object],
) -> StopResult:
    """
    Stop the execution that runs, or may run, because of a record. Raises no
    ``PolysyncError`` of AWS's.

    :param warn: called with a message when a request is retried.
    """
    try:
        arn = record.execution_arn or call_with_retry(
            lambda: _arn_of(record, hook_for_region(record.region_name)),
            until=clock.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
    except PolysyncError as error:
        return _not_stopped(error)
    result = stop_known_execution(arn, record.resumes, hook_for_region, warn)
    if record.execution_arn is None:
        return result._replace(text=f"{result.text} Execution: {arn}")
    return result


def stop_known_execution(
    execution_arn: str,
    attempt: int,
    hook_for_region: StoppingHook,
    warn: Callable[[str], object],
) -> StopResult:
    """
    Stop an execution. Raises no ``PolysyncError`` of AWS's.

    The client token follows from the ARN and the attempt: several processes that stop
    the same attempt stop it once.

    :param attempt: the number of its resumes.
    :param warn: called with a message when a request is retried.
    """
    try:
        hook = hook_for_region(models.region_from_arn(execution_arn))
    except PolysyncError as error:
        return _not_stopped(error)
    return stop_execution(hook, execution_arn, attempt=attempt, warn=warn)


def _not_stopped(error: PolysyncError) -> StopResult:
    text = f"The execution may still be running: it cannot be stopped: {error}"
    return StopResult(text, error=str(error))


def _arn_of(record: ExecutionRecord, hook: ExecutionMethods) -> str:
    """
    Return the ARN of the execution that a stored request has started, or may have
    started.
    """
    request = record.request
    with suppress(SageMakerApiError):
        # AWS may have forgotten the client token.
        newest, _ = hook.list_pipeline_executions(request.pipeline_name)
        arn = lookup.arn_of(record, ExecutionsListed(request.pipeline_name, newest))
        if arn:
            return arn
    # AWS returns the ARN if it knows the client token. If not, this starts an
    # execution, which is then stopped.
    return hook.start_pipeline_execution(request)


@dataclass(kw_only=True)
class ReportedStop(ABC):
    """
    The stop of one attempt of an execution, in this order:

    1. Ask Airflow who decides about the execution, and announce the stop in the record:
       a later try tells it from a cancellation by a user.
    2. Announce it in the XCom ``run``, ask AWS, and store in ``run`` what AWS has
       answered. A ``run`` that cannot be stored raises no error: the stop comes first.
    3. If AWS has not accepted it, withdraw the announcement in the record.

    ``carry_out`` does all of it. Whoever follows the execution to its end calls
    ``store_end``.

    :param log: the log of the task, or of the process.
    :param reason: why the execution is stopped.
    """

    process: ClassVar[StopProcess]

    log: Any
    reason: StopReason = "ended_task"
    # When this process has announced it, and what AWS has answered; None before.
    requested_at: datetime | None = field(default=None, init=False)
    result: StopResult | None = field(default=None, init=False)
    # A change that Airflow stores late does not replace a later one.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def carry_out(self, try_end: TryEnd) -> TryEnd:
        """
        Do what the core says about the execution, up to its stop.

        :param try_end: the first action; ``EndAction.ANNOUNCE_STOP`` for a stop.
        :return: what became of the execution.
        """
        if try_end.action is EndAction.ANNOUNCE_STOP:
            try_end = try_end.owned_by(self._announce(try_end))
        if try_end.action is EndAction.STOP:
            result = self.request()
            failed = result.error is not None
            try_end = try_end.stop_requested(result.text, failed=failed)
        if try_end.action is EndAction.WITHDRAW_STOP:
            self._withdraw()
        return try_end

    def request(self) -> StopResult:
        """Announce the stop in ``run``, ask AWS for it, and store the answer."""
        self.requested_at = clock.now()
        announced = RequestedStop(
            requested_at=self.requested_at, reason=self.reason, process=self.process
        )
        self._change(lambda run: run.stop_requested(announced))
        result = self._ask_aws()
        self.result = result
        self._change(
            lambda run: run.stop_answered(result.status, result.error, clock.now())
        )
        return result

    def store_end(self, end: ExecutionEvent) -> RunSummary | None:
        """
        Store how the execution has ended; return ``run``, or None if it is not stored.
        """
        return self._change(lambda run: run.stop_followed(end, clock.now()))

    def _change(self, change: ChangeOfRun) -> RunSummary | None:
        try:
            return self._call_airflow(partial(self._change_run, change))
        except Exception as error:
            text = "Airflow does not store the XCom 'run': %s: %s"
            self.log.warning(text, type(error).__name__, error)
            return None

    def _change_run(self, change: ChangeOfRun) -> RunSummary | None:
        with self._lock:
            run = self._read_run()
            if run is None:
                return None
            changed = change(run)
            self._write_run(changed)
            return changed

    # ---- what differs

    @abstractmethod
    def _announce(self, try_end: TryEnd) -> Owner:
        """
        Find out who decides about the execution. If this process does, store the record
        that ``try_end.announced`` returns.

        Raises no error: ``Owner.UNKNOWN`` if Airflow does not respond.
        """

    @abstractmethod
    def _withdraw(self) -> None:
        """Store the record as it was before ``_announce``. Raises no error."""

    @abstractmethod
    def _ask_aws(self) -> StopResult:
        """Ask AWS to stop the execution. Raises no ``PolysyncError``."""

    @abstractmethod
    def _call_airflow(
        self, function: Callable[[], RunSummary | None]
    ) -> RunSummary | None:
        """Call a function that sends requests to Airflow."""

    @abstractmethod
    def _read_run(self) -> RunSummary | None:
        """Return ``run``; None if it is not that of the execution that is stopped."""

    @abstractmethod
    def _write_run(self, run: RunSummary) -> None:
        """Push ``run``, and ``state``."""


class TaskSituation(NamedTuple):
    """
    What Airflow says of a task instance now.

    :param state: its state; ``DELETED`` if it was deleted.
    :param stored: the proven record; None if there is none.
    :param owner: who decides about the execution.
    """

    state: str | None
    stored: ExecutionRecord | None
    owner: Owner


@dataclass(kw_only=True)
class StopByKey(ReportedStop):
    """
    The stop of a process that has no context of the task. It reads and writes by the
    key of the task instance, in any thread of a triggerer. It blocks.

    A subclass says who decides about the execution. If nobody else does, the execution
    is stopped also if the announcement cannot be stored.

    :param ti: the task instance, or what has its ``dag_id``, ``run_id``, ``task_id``,
        ``map_index`` and ``try_number``.
    :param execution_arn: the execution.
    :param attempt: the number of its resumes.
    :param hook_for_region: returns the hook for a region.
    """

    process: ClassVar[StopProcess] = "triggerer"

    ti: Any
    execution_arn: str
    attempt: int
    hook_for_region: StoppingHook
    # Where the stop is announced, and the record before; None if it is not announced.
    _announced: tuple[RecordStore, ExecutionRecord] | None = field(
        default=None, init=False
    )
    # What Airflow has just said, so that the announcement in ``run`` needs not ask
    # again.
    _situation: TaskSituation | None = field(default=None, init=False)

    @abstractmethod
    def _owner(self, state: str | None, stored: ExecutionRecord | None) -> Owner:
        """
        Return who decides about the execution.

        :param state: the state of the task instance now.
        :param stored: the proven record now; None if there is none.
        """

    def _announce(self, try_end: TryEnd) -> Owner:
        try:
            situation = self._look()
        except Exception as error:
            text = "Airflow does not say whose execution this is: %s. Execution: %s"
            self.log.warning(text, error, self.execution_arn)
            return Owner.UNKNOWN
        return self._announce_in(situation, try_end)

    def _look(self) -> TaskSituation:
        """
        Ask Airflow who decides about the execution, before the stop.

        :raises Exception: Airflow does not respond.
        """
        return call_airflow(self._ask_airflow)

    def _announce_in(self, situation: TaskSituation, try_end: TryEnd) -> Owner:
        self._situation = situation
        stored = situation.stored
        if stored is None or not ending.may_store(situation.owner, situation.state):
            return situation.owner
        store = _store_of(self.ti)
        announced = try_end.announced(stored)
        try:
            call_airflow(partial(store.store_announcement, announced, stored))
        except Exception as error:
            text = "The stop cannot be announced in the record: %s. Execution: %s"
            self.log.warning(text, error, self.execution_arn)
            if situation.owner is Owner.NOBODY:
                return Owner.NOBODY
            return Owner.UNKNOWN
        self._announced = (store, stored)
        return situation.owner

    def _withdraw(self) -> None:
        if self._announced is None:
            return
        store, record = self._announced
        self._announced = None
        try:
            call_airflow(partial(store.withdraw_stop, record))
        except Exception as error:
            self.log.warning("The record cannot be updated: %s", error)

    def _ask_aws(self) -> StopResult:
        result = stop_known_execution(
            self.execution_arn, self.attempt, self.hook_for_region, self.log.warning
        )
        # It is old by now: Airflow is asked again before the next change.
        self._situation = None
        return result

    def _call_airflow(
        self, function: Callable[[], RunSummary | None]
    ) -> RunSummary | None:
        return call_airflow(function)

    def _read_run(self) -> RunSummary | None:
        situation = self._situation or self._ask_airflow()
        if not ending.may_store(situation.owner, situation.state):
            return None
        run = parse_run_summary(read_xcom(self.ti, "run"), self.log.warning)
        if run is None or run.execution_arn != self.execution_arn:
            return None
        if run.resumes != self.attempt:
            return None
        return run

    def _write_run(self, run: RunSummary) -> None:
        write_xcom(self.ti, "state", run.state)
        write_xcom(self.ti, "run", run.model_dump(mode="json"))

    def _ask_airflow(self) -> TaskSituation:
        state = read_state(self.ti)
        stored = self._read_record()
        return TaskSituation(state, stored, self._owner(state, stored))

    def _read_record(self) -> ExecutionRecord | None:
        return _store_of(self.ti).read()


def _store_of(ti: Any) -> RecordStore:
    context: Any = {"ti": ti}
    return RecordStore(context)
