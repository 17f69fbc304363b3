"""
The stop of an execution that its task no longer needs, whichever process asks for it.

A stop is announced, requested and recorded here only. ``ReportedStop`` has the order;
what differs is in ``operators/worker_stop.py``, ``triggers/stopping.py`` and
``watch/orphan.py``. Whether there is a stop is decided in
``execution/lifecycle/ending.py``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NamedTuple

from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock, models, outcome, prices, waiter
from polysync_airflow.execution.lifecycle import instructions, lookup
from polysync_airflow.execution.lifecycle.ending import EndAction, Owner, TryEnd
from polysync_airflow.hooks import executions

Change = Callable[[outcome.RunSummary], outcome.RunSummary]
# Returns the hook for a region; None is the task's own region. May raise a
# ``PolysyncError``: the connection may have been deleted.
StoppingHook = Callable[[str | None], executions.ExecutionMethods]


def stop_recorded_execution(
    record: instructions.ExecutionRecord,
    hook_for_region: StoppingHook,
    warn: Callable[[str], object],
) -> executions.StopResult:
    """
    Stop the execution that runs, or may run, because of a record. An error of AWS's is
    not raised: the result has it.

    :param warn: called with a message when a request is retried.
    """
    arn = record.execution_arn
    if arn is None:
        try:
            arn = call_with_retry(
                lambda: _arn_of(record, hook_for_region(record.region_name)),
                until=clock.time() + STOP_TIMEOUT_SECONDS,
                warn=warn,
            )
        except PolysyncError as error:
            return _not_stopped(error)
    result = stop_execution_by_arn(arn, record.resumes, hook_for_region, warn)
    if record.execution_arn is None:
        return result._replace(text=f"{result.text} Execution: {arn}")
    return result


def stop_execution_by_arn(
    execution_arn: str,
    attempt: int,
    hook_for_region: Callable[[str], executions.ExecutionMethods],
    warn: Callable[[str], object],
) -> executions.StopResult:
    """
    Stop an execution. An error of AWS's is not raised: the result has it.

    The client token follows from the ARN and the attempt: several processes that stop
    the same attempt stop it once.

    :param attempt: the number of its resumes.
    :param warn: called with a message when a request is retried.
    """
    try:
        hook = hook_for_region(models.region_from_arn(execution_arn))
    except PolysyncError as error:
        return _not_stopped(error)
    try:
        status = call_with_retry(
            partial(executions.request_stop, hook, execution_arn, attempt=attempt),
            until=clock.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
    except PolysyncError as error:
        text = f"The execution may still be running: its stop failed: {error}"
        return executions.StopResult(text, error=str(error))
    return executions.stop_result(status)


def _not_stopped(error: PolysyncError) -> executions.StopResult:
    text = f"The execution may still be running: it cannot be stopped: {error}"
    return executions.StopResult(text, error=str(error))


def _arn_of(
    record: instructions.ExecutionRecord, hook: executions.ExecutionMethods
) -> str:
    """
    Return the ARN of the execution that a stored request has started, or may have
    started.
    """
    request = record.request
    with suppress(SageMakerApiError):
        # AWS may have forgotten the client token.
        newest, _ = hook.list_pipeline_executions(request.pipeline_name)
        arn = lookup.arn_of(
            record, instructions.ExecutionsListed(request.pipeline_name, newest)
        )
        if arn:
            return arn
    # AWS returns the ARN if it knows the client token. If not, this starts an
    # execution, which is then stopped.
    return hook.start_pipeline_execution(request)


def summary_of(
    value: Any, execution_arn: str, attempt: int, warn: Callable[[str], object]
) -> outcome.RunSummary | None:
    """
    Return the run summary of an attempt of an execution; None if Airflow has another.

    :param value: the XCom ``run``, as Airflow has stored it.
    :param attempt: the number of its resumes.
    """
    summary = outcome.parse_run_summary(value, warn)
    if summary and summary.is_of(execution_arn, attempt):
        return summary
    return None


class Announcement(NamedTuple):
    """
    What Airflow has said before a stop, and what was stored then.

    :param owner: who decides about the execution.
    :param may_store: whether this process may store the run summary now.
    :param withdraw: stores the record from before the announcement, and raises no
        error; None if the record does not announce the stop.
    """

    owner: Owner
    may_store: bool = True
    withdraw: Callable[[], None] | None = None


class StopOutcome(NamedTuple):
    """
    What became of a stop.

    :param try_end: what became of the execution.
    :param requested_at: when AWS was asked; None if it was not.
    :param result: what AWS has answered; None if it was not asked.
    """

    try_end: TryEnd
    requested_at: datetime | None = None
    result: executions.StopResult | None = None

    @property
    def is_accepted(self) -> bool:
        """Whether AWS was asked and has accepted, or no stop was needed."""
        return self.result is not None and self.result.error is None


@dataclass(kw_only=True)
class ReportedStop(ABC):
    """
    The stop of one attempt of an execution, in the order of ``carry_out``. Whoever
    follows the execution to its end calls ``store_end``, and then adds up and calls
    ``store_cost``.

    A run summary that cannot be stored raises no error: the stop comes first.

    :param process: which process stops it.
    :param log: the log of the task, or of the process.
    :param reason: why the execution is stopped.
    """

    process: outcome.StopProcess
    log: Any
    reason: outcome.StopReason = "ended_task"
    # A change that Airflow stores late does not replace a later one.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def carry_out(self, try_end: TryEnd) -> StopOutcome:
        """
        Stop the execution, unless somebody else decides about it.

        :param try_end: what the core says: ``EndAction.ANNOUNCE_STOP``.
        """
        # A later try tells an announced stop from a cancellation by a user.
        announcement = self._announce(try_end)
        try_end = try_end.owned_by(announcement.owner)
        if try_end.action is not EndAction.STOP:
            return StopOutcome(try_end)

        requested_at = clock.now()
        request = outcome.RequestedStop(
            requested_at=requested_at, reason=self.reason, process=self.process
        )
        if announcement.may_store:
            self._change(
                self._read_summary, lambda summary: summary.stop_requested(request)
            )
        result = self._ask_aws()
        self._change(
            self._read_summary_again,
            lambda summary: summary.stop_answered(
                result.status, result.error, clock.now()
            ),
        )

        if result.error is None:
            return StopOutcome(try_end.stop_accepted(result.text), requested_at, result)
        try_end = try_end.stop_failed(result.text)
        if try_end.action is EndAction.WITHDRAW_STOP and announcement.withdraw:
            announcement.withdraw()
        return StopOutcome(try_end, requested_at, result)

    def store_end(self, end: waiter.ExecutionEvent) -> outcome.RunSummary | None:
        """
        Store how the execution has ended; return the run summary, or None if it is not
        stored.
        """
        return self._change(
            self._read_summary_again,
            lambda summary: summary.stop_followed(end, clock.now()),
        )

    def store_cost(
        self, added_up: prices.CostAndUsage | None, notes: Sequence[str]
    ) -> outcome.RunSummary | None:
        """
        Store what the execution has used and cost, after its end. If another process
        has done so, store its values once more, as a whole.

        :param added_up: what it has used and cost; None if that is not known.
        :param notes: what is missing and why, as sentences.
        """
        return self._change(
            self._read_summary_again,
            lambda summary: summary.with_cost(added_up, notes),
        )

    def _change(
        self, read: Callable[[], outcome.RunSummary | None], change: Change
    ) -> outcome.RunSummary | None:
        def change_summary() -> outcome.RunSummary | None:
            with self._lock:
                summary = read()
                if summary is None:
                    return None
                changed = change(summary)
                self._write_summary(changed)
                return changed

        try:
            return self._call_airflow(change_summary)
        except Exception as error:
            text = "Airflow does not store the XCom 'run': %s: %s"
            self.log.warning(text, type(error).__name__, error)
            return None

    # ---- what differs

    @abstractmethod
    def _announce(self, try_end: TryEnd) -> Announcement:
        """
        Find out who decides about the execution. If this process does, store the record
        that ``try_end.announced`` returns.

        Raises no error: ``Owner.UNKNOWN`` if Airflow does not respond.
        """

    @abstractmethod
    def _ask_aws(self) -> executions.StopResult:
        """Ask AWS to stop the execution. Raises no ``PolysyncError``."""

    def _call_airflow(
        self, function: Callable[[], outcome.RunSummary | None]
    ) -> outcome.RunSummary | None:
        """Call a function that sends requests to Airflow, or reads its database."""
        return function()

    @abstractmethod
    def _read_summary(self) -> outcome.RunSummary | None:
        """
        Return the run summary; None if it is not that of the execution that is stopped.
        """

    def _read_summary_again(self) -> outcome.RunSummary | None:
        """
        Return the run summary; None also if this process may not store it any longer.
        """
        return self._read_summary()

    @abstractmethod
    def _write_summary(self, summary: outcome.RunSummary) -> None:
        """Push the XComs ``run``, ``state`` and, if it has one, ``spending``."""
