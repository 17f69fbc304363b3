"""
The stop that a worker asks for: also of an execution whose ARN is not known yet.

Airflow's supervisor sends SIGKILL five seconds after SIGTERM, or 60 from Airflow 3.4
on. The stop request must leave before that, and not wait for a slow Airflow. The end of
the stop is seen only if it comes soon.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from polysync_airflow.airflow_compat.supervisor import call_in_daemon_thread
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.exceptions import PolysyncError, SageMakerApiError
from polysync_airflow.execution import clock, models
from polysync_airflow.execution.lifecycle import lookup
from polysync_airflow.execution.lifecycle.instructions import LookedUp, StoredExecution
from polysync_airflow.execution.outcome import ExecutionRecord
from polysync_airflow.execution.waiter import (
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    Wait,
)
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.executions import StopResult, stop_execution
from polysync_airflow.hooks.stops import ReportedStop
from polysync_airflow.operators.execution_calls import HookForRegion
from polysync_airflow.operators.reporting import pull_run, push_run

STORE_TIMEOUT_SECONDS: Final = 1.0
LOOK_SECONDS: Final = 1.0
MAX_LOOKS: Final = 3


def stop_recorded_execution(
    record: StoredExecution,
    hook_for_region: HookForRegion,
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
        # The connection may have been deleted meanwhile.
        hook = hook_for_region(models.region_from_arn(arn))
    except PolysyncError as error:
        text = f"The execution may still be running: it cannot be stopped: {error}"
        return StopResult(text, error=str(error))
    result = stop_execution(hook, arn, attempt=record.resumes, warn=warn)
    if record.execution_arn is None:
        return result._replace(text=f"{result.text} Execution: {arn}")
    return result


def _arn_of(record: StoredExecution, hook: PolysyncSageMakerHook) -> str:
    """
    Return the ARN of the execution that a stored request has started, or may have
    started.
    """
    request = record.request
    with suppress(SageMakerApiError):
        # AWS may have forgotten the client token.
        newest, _ = hook.list_pipeline_executions(request.pipeline_name)
        arn = lookup.arn_of(record, LookedUp(request.pipeline_name, newest))
        if arn:
            return arn
    # AWS returns the ARN if it knows the client token. If not, this starts an
    # execution, which is then stopped.
    return hook.start_pipeline_execution(request)


@dataclass(kw_only=True)
class WorkerStop(ReportedStop):
    """
    The stop of the execution of a try on a worker.

    :param record: the record of the execution.
    :param is_killed: whether the process has little time.
    """

    process: ClassVar[Literal["worker", "triggerer"]] = "worker"

    record: StoredExecution
    hook_for_region: HookForRegion
    is_killed: bool

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

    def _ask_aws(self) -> StopResult:
        return stop_recorded_execution(
            self.record, self.hook_for_region, self.log.warning
        )

    def _call_airflow(
        self, function: Callable[[], ExecutionRecord | None]
    ) -> ExecutionRecord | None:
        timeout = None
        if self.is_killed:
            timeout = STORE_TIMEOUT_SECONDS
        try:
            return call_in_daemon_thread(function).result(timeout)
        except FutureTimeoutError:
            self.log.warning(
                "Airflow does not store the XCom 'run' within %s s", timeout
            )
            return None

    def _read_run(self) -> ExecutionRecord | None:
        run = pull_run(self._context)
        if run is None or run.execution_arn != self.record.execution_arn:
            return None
        return run

    def _write_run(self, run: ExecutionRecord) -> None:
        push_run(self._context, run)

    @property
    def _context(self) -> Any:
        return {"ti": self.ti}
