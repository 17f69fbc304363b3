"""
The stop that a worker asks for: also of an execution whose ARN is not known yet.

Airflow's supervisor sends SIGKILL five seconds after SIGTERM, or 60 from Airflow 3.4
on. The request must leave before that, so it does not wait for a slow Airflow. The
worker sees the end of the stop only if it comes soon.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any, Final

from polysync_airflow.airflow_compat.supervisor import call_in_daemon_thread
from polysync_airflow.execution import clock, cost, models
from polysync_airflow.execution.lifecycle import ending, instructions
from polysync_airflow.execution.outcome import RunSummary, StopProcess
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    Wait,
)
from polysync_airflow.hooks import PolysyncSageMakerHook, executions, spending, stops
from polysync_airflow.operators import execution_calls, reporting
from polysync_airflow.records.store import RecordStore

# How long a process that is killed waits for Airflow to store the XCom ``run``.
STORE_TIMEOUT_SECONDS: Final = 1.0
# The polls for the end of a stop.
POLL_SECONDS: Final = 1.0
MAX_POLLS: Final = 3


@dataclass(kw_only=True)
class WorkerStop(stops.ReportedStop):
    """
    The stop of the execution of a try on a worker.

    :param store: where the record is.
    :param record: the record of the execution.
    :param basis: returns what is known of the money of the execution.
    :param answered: set when Airflow has said whose execution it is, if the process is
        killed and has little time; None if it is not.
    """

    process: StopProcess = "worker"
    ti: Any
    store: RecordStore
    record: instructions.ExecutionRecord
    hook_for_region: execution_calls.HookForRegion
    basis: Callable[[], cost.Basis]
    answered: threading.Event | None = None
    # The record with the stop, once it is this try's to request; None again if it
    # fails. The main thread reads it, also while another thread stops the execution.
    announced: instructions.ExecutionRecord | None = field(default=None, init=False)

    def follow(self) -> None:
        """Poll a few times for the end of the execution, and store it."""
        arn = self.record.arn
        hook = self.hook_for_region(models.region_from_arn(arn))
        begin = clock.time()
        since = begin
        if self.record.resumed_at:
            since = self.record.resumed_at.timestamp()
        waiter = ExecutionWaiter(
            execution_arn=arn,
            cost_limit=None,
            pipeline_name=self.record.request.pipeline_name,
            poll_interval=POLL_SECONDS,
            since=since,
            deadline=begin + MAX_POLLS * POLL_SECONDS,
            attempt=self.record.resumes,
        )
        result: Wait[ExecutionWaiter] | Finish[ExecutionEvent]
        result = Wait(POLL_SECONDS, waiter)
        while isinstance(result, Wait):
            clock.sleep(result.seconds)
            polled = hook.poll_pipeline_execution(arn)
            result = result.waiter.decide(polled, clock.time())
        summary = self.store_end(result.event)
        if summary is None:
            return
        self.log.warning("%s", summary.stop_text)
        if result.event.outcome == "ended":
            # If there is no time left for it, the watch does it.
            self._add_up(hook)

    def _add_up(self, hook: PolysyncSageMakerHook) -> None:
        try:
            basis = call_in_daemon_thread(self.basis).result(self._seconds_for_airflow)
        except FutureTimeoutError:
            return
        steps = executions.result_or_error(
            hook.list_pipeline_execution_steps, self.record.arn
        )
        self.store_cost(*spending.add_up_steps(hook, steps, basis, self.log.warning))

    @property
    def _seconds_for_airflow(self) -> float | None:
        if self.answered:
            return STORE_TIMEOUT_SECONDS
        return None

    def _announce(self, try_end: ending.TryEnd) -> stops.Announcement:
        announced = try_end.announced(self.record)
        owner = self.store.announce_stop(announced)
        if try_end.owned_by(owner).action is ending.EndAction.STOP:
            self.announced = announced
        if self.answered:
            self.answered.set()
        return stops.Announcement(owner, withdraw=self._withdraw)

    def _withdraw(self) -> None:
        self.announced = None
        self.store.withdraw_stop(self.record)

    def _ask_aws(self) -> executions.StopResult:
        return stops.stop_recorded_execution(
            self.record, self.hook_for_region, self.log.warning
        )

    def _call_airflow(
        self, function: Callable[[], RunSummary | None]
    ) -> RunSummary | None:
        timeout = self._seconds_for_airflow
        try:
            return call_in_daemon_thread(function).result(timeout)
        except FutureTimeoutError:
            self.log.warning(
                "Airflow does not store the XCom 'run' within %s s", timeout
            )
            return None

    def _read_summary(self) -> RunSummary | None:
        summary = reporting.pull_summary(self._context)
        if summary is None or summary.execution_arn != self.record.execution_arn:
            return None
        return summary

    def _write_summary(self, summary: RunSummary) -> None:
        reporting.push_summary(self._context, summary)

    @property
    def _context(self) -> Any:
        return {"ti": self.ti}
