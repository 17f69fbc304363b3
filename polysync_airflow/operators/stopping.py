"""Stops the execution of a record, even if its ARN is not known yet, and stores in ``run`` how that ends."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from polysync_airflow.airflow_compat.supervisor import call_in_daemon_thread
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.aws.stop import StopResult, stop_execution
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle.instructions import LookedUp, StoredExecution
from polysync_airflow.execution.lifecycle.machine import arn_of
from polysync_airflow.execution.models import ExecutionEvent, region_from_arn
from polysync_airflow.execution.outcome import ExecutionRecord, RequestedStop, StopReason
from polysync_airflow.execution.waiter import ExecutionWaiter, Finish, Wait
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators.reporting import pull_run, push_run

HookForRegion = Callable[[str | None], PolysyncSageMakerHook]

# Airflow's supervisor sends SIGKILL five seconds after SIGTERM, or 60 from Airflow 3.4 on. The request for a
# stop must not wait for a slow Airflow, and the end of the stop is seen only if it comes soon.
STORE_TIMEOUT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
MAX_LOOKS: Final = 3


def _arn_of(record: StoredExecution, hook: PolysyncSageMakerHook) -> str:
    """Return the ARN of the execution that a stored request has started, or may have started."""
    request = record.request
    with suppress(SageMakerApiError):
        # AWS may have forgotten the client token.
        newest, _ = hook.list_pipeline_executions(request.pipeline_name)
        arn = arn_of(record, LookedUp(request.pipeline_name, newest))
        if arn:
            return arn
    # AWS returns the ARN if it knows the client token. If not, this starts an execution, which is then
    # stopped.
    return hook.start_pipeline_execution(request)


def stop_recorded_execution(
    record: StoredExecution, hook_for_region: HookForRegion, warn: Callable[[str], object]
) -> StopResult:
    """
    Stop the execution that runs, or may run, because of a record. Raises no ``PolysyncError`` of AWS's.

    :param warn: called with a message when a request is retried.
    """
    try:
        arn = record.execution_arn or call_with_retry(
            lambda: _arn_of(record, hook_for_region(record.region_name)),
            until=clock.time() + STOP_TIMEOUT_SECONDS,
            warn=warn,
        )
        # The connection may have been deleted meanwhile.
        hook = hook_for_region(region_from_arn(arn))
    except PolysyncError as error:
        text = f"The execution may still be running: it cannot be stopped: {error}"
        return StopResult(text, error=str(error))
    result = stop_execution(hook, arn, attempt=record.resumes, warn=warn)
    return result if record.execution_arn else replace(result, text=f"{result.text} Execution: {arn}")


@dataclass
class StopReport:
    """
    Stores in the XCom ``run`` of a task what becomes of the stop of its execution. For a worker.

    It raises no error: the stop comes first.

    :param ti: the task instance. Its try must own the execution.
    :param record: the record of the execution.
    :param is_killed: whether the process has little time.
    """

    ti: Any
    record: StoredExecution
    reason: StopReason
    log: Any
    is_killed: bool
    # A change that Airflow stores late does not replace a later one.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def store_request(self) -> None:
        """Store that the stop is going to be requested."""
        stop = RequestedStop(requested_at=clock.now(), reason=self.reason, process="worker")
        self._change(lambda run: run.stop_requested(stop))

    def store_answer(self, result: StopResult) -> None:
        """Store what AWS has answered."""
        self._change(lambda run: run.stop_answered(result.status, result.error, clock.now()))

    def follow(self, hook_for_region: HookForRegion) -> None:
        """Look a few times for the end of the execution, and store it."""
        arn, now = self.record.arn, clock.time()
        since = self.record.resumed_at.timestamp() if self.record.resumed_at else now
        name, until = self.record.request.pipeline_name, now + MAX_LOOKS * LOOK_SECONDS
        waiter = ExecutionWaiter(
            execution_arn=arn,
            pipeline_name=name,
            poll_interval=LOOK_SECONDS,
            since=since,
            deadline=until,
            attempt=self.record.resumes,
        )
        hook = hook_for_region(region_from_arn(arn))
        step: Wait[ExecutionWaiter] | Finish[ExecutionEvent] = Wait(LOOK_SECONDS, waiter)
        while isinstance(step, Wait):
            clock.sleep(step.seconds)
            step = step.waiter.decide(hook.poll_pipeline_execution(arn), clock.time())
        run = self._change(lambda run: run.stop_followed(step.event, clock.now()))
        if run:
            self.log.warning("%s", run.stop_text)

    def _change(self, change: Callable[[ExecutionRecord], ExecutionRecord]) -> ExecutionRecord | None:
        timeout = STORE_TIMEOUT_SECONDS if self.is_killed else None
        try:
            return call_in_daemon_thread(partial(self._change_run, change)).result(timeout)
        except FutureTimeoutError:
            self.log.warning("Airflow does not store the XCom 'run' within %s s", timeout)
        except Exception as error:
            self.log.warning("Airflow does not store the XCom 'run': %s: %s", type(error).__name__, error)
        return None

    def _change_run(self, change: Callable[[ExecutionRecord], ExecutionRecord]) -> ExecutionRecord | None:
        context: Any = {"ti": self.ti}
        with self._lock:
            run = pull_run(context)
            if run is None or run.execution_arn != self.record.execution_arn:
                return None
            run = change(run)
            push_run(context, run)
        return run
