"""
The stop that a worker asks for: also of an execution whose ARN is not known yet.

Airflow's supervisor sends SIGKILL five seconds after SIGTERM, or 60 from Airflow 3.4
on. The stop request must leave before that, and not wait for a slow Airflow. The end of
the stop is seen only if it comes soon.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from polysync_airflow.airflow_compat.supervisor import call_in_daemon_thread
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle.ending import Owner, TryEnd
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord
from polysync_airflow.execution.outcome import RunSummary, StopProcess
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    Wait,
)
from polysync_airflow.hooks.executions import StopResult
from polysync_airflow.hooks.stops import ReportedStop, stop_recorded_execution
from polysync_airflow.operators.execution_calls import HookForRegion
from polysync_airflow.operators.reporting import pull_run_summary, push_run
from polysync_airflow.records import RecordStore

STORE_TIMEOUT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
MAX_LOOKS: Final = 3


@dataclass(kw_only=True)
class WorkerStop(ReportedStop):
    """
    The stop of the execution of a try on a worker.

    :param ti: the task instance.
    :param store: where the record is.
    :param record: the record of the execution.
    :param answered: set when Airflow has said whose execution it is, if the process is
        killed and has little time; None if it is not.
    """

    process: ClassVar[StopProcess] = "worker"

    ti: Any
    store: RecordStore
    record: ExecutionRecord
    hook_for_region: HookForRegion
    answered: threading.Event | None = None
    _announced: ExecutionRecord | None = field(default=None, init=False)

    @property
    def announced(self) -> ExecutionRecord | None:
        """
        The record with the stop that is requested; None if none is, or if it failed.
        """
        if self.requested_at is None:
            return None
        return self._announced

    def follow(self) -> None:
        """Look a few times for the end of the execution, and store it."""
        run = self.store_end(self._look_for_end())
        if run:
            self.log.warning("%s", run.stop_text)

    def _look_for_end(self) -> ExecutionEvent:
        arn = self.record.arn
        hook = self.hook_for_region(models.region_from_arn(arn))
        step: Wait[ExecutionWaiter] | Finish[ExecutionEvent]
        step = Wait(LOOK_SECONDS, self._waiter(clock.time()))
        while isinstance(step, Wait):
            clock.sleep(step.seconds)
            step = step.waiter.decide(hook.poll_pipeline_execution(arn), clock.time())
        return step.event

    def _waiter(self, begin: float) -> ExecutionWaiter:
        since = begin
        if self.record.resumed_at:
            since = self.record.resumed_at.timestamp()
        return ExecutionWaiter(
            execution_arn=self.record.arn,
            pipeline_name=self.record.request.pipeline_name,
            poll_interval=LOOK_SECONDS,
            since=since,
            deadline=begin + MAX_LOOKS * LOOK_SECONDS,
            attempt=self.record.resumes,
        )

    def _announce(self, try_end: TryEnd) -> Owner:
        self._announced = try_end.announced(self.record)
        owner = self.store.announce_stop(self._announced)
        if self.answered:
            self.answered.set()
        return owner

    def _withdraw(self) -> None:
        self._announced = None
        self.store.withdraw_stop(self.record)

    def _ask_aws(self) -> StopResult:
        return stop_recorded_execution(
            self.record, self.hook_for_region, self.log.warning
        )

    def _call_airflow(
        self, function: Callable[[], RunSummary | None]
    ) -> RunSummary | None:
        timeout = None
        if self.answered:
            timeout = STORE_TIMEOUT_SECONDS
        try:
            return call_in_daemon_thread(function).result(timeout)
        except FutureTimeoutError:
            self.log.warning(
                "Airflow does not store the XCom 'run' within %s s", timeout
            )
            return None

    def _read_run(self) -> RunSummary | None:
        run = pull_run_summary(self._context)
        if run is None or run.execution_arn != self.record.execution_arn:
            return None
        return run

    def _write_run(self, run: RunSummary) -> None:
        push_run(self._context, run)

    @property
    def _context(self) -> Any:
        return {"ti": self.ti}
