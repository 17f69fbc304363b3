"""
What a triggerer does for a row that a listener has added: it looks after one execution.

Airflow stores the import path and the argument of the function. The function may be
called again, and in several triggerers at once: the stop is one for AWS.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any, ClassVar, Final

from polysync_airflow.airflow_compat.supervisor import call_airflow, use_event_loop
from polysync_airflow.airflow_compat.task_instances import read_state, read_xcom
from polysync_airflow.execution import clock, cost, models
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, TaskKey
from polysync_airflow.execution.lifecycle.orphans import Finding, TaskSnapshot
from polysync_airflow.execution.outcome import RunSummary, StopProcess
from polysync_airflow.execution.waiter import LAG_SECONDS, ExecutionWaiter
from polysync_airflow.hooks.spending import basis_of
from polysync_airflow.records.store import RecordStore, read_record
from polysync_airflow.states import DELETED
from polysync_airflow.triggers import shared_client, stopping, threads
from polysync_airflow.watch import orphan

log = logging.getLogger(__name__)

# Seconds between the requests to Airflow, when it does not respond.
RETRY_SECONDS: Final = (1.0, 4.0, 15.0, 60.0)
# Beside those of the triggers' own stops.
_submit: Final = partial(threads.ThreadPools("polysync-watch").submit, "")


async def stop_if_left(**task: Any) -> str:
    """
    Stop the execution of a task that has ended, if nobody else will stop it.

    :param task: the fields of the key of the task instance.
    :return: what was found: ``keep``, ``over`` or ``stop``. Airflow stores it.
    """
    use_event_loop()
    finding, stop = await threads.result_of(_submit(_look_after, TaskKey(**task)))
    if stop is not None:
        # Airflow calls this function again where it still runs.
        stopping.keep_following(_follow(stop), stop.record.arn, log)
    name: str = finding.name.lower()
    return name


def _look_after(task: TaskKey) -> tuple[Finding, orphan.OrphanStop | None]:
    """Return what was found, and the stop whose end is to be stored."""
    watch = orphan.Watch(
        TriggererAccess(), shared_client.PollingHook, log, lag_seconds=LAG_SECONDS
    )
    examined = _examine(watch, task)
    finding = examined.verdict.finding
    text = examined.verdict.text
    followed_stop = None
    if finding is Finding.STOP:
        stop, outcome = watch.stop(examined)
        text = f"{text} {outcome.try_end.text}"
        if outcome.is_accepted:
            followed_stop = stop
    elif examined.status is not None:
        stop = watch.stop_of(examined)
        if stop.lacks_end():
            followed_stop = stop
    log.info("%s Task: %s. Execution: %s", text, task, examined.execution_arn)
    return finding, followed_stop


async def _follow(stop: orphan.OrphanStop) -> None:
    """
    Wait for the end of an execution that was asked to stop, and store it.

    A task does not wait for it after a timeout, for example.
    """
    record = stop.record
    region = models.region_from_arn(record.arn)
    waiter = ExecutionWaiter(
        execution_arn=record.arn,
        cost_limit=None,
        pipeline_name=record.request.pipeline_name,
        poll_interval=stopping.FOLLOW_POLL_SECONDS,
        since=clock.time(),
        deadline=clock.time() + stopping.FOLLOW_SECONDS,
        attempt=record.resumes,
    )
    key = (stop.connection_id, region)
    end = await stopping.end_of_stop(waiter, key)
    await threads.result_of(_submit(_store_end, stop, end))


def _store_end(stop: orphan.OrphanStop, end: stopping.EndOfStop) -> None:
    if stop.store_end(end.event):
        ti = orphan.ti_of(stop.task, 0)
        end.store_steps_and_cost(stop, ti, partial(_basis, stop, ti))


def _basis(stop: orphan.OrphanStop, ti: Any) -> cost.Basis:
    # The limit of the task is known by its last estimate only.
    return basis_of(stop.record, stopping.read_spending(ti), None)


def _examine(watch: orphan.Watch, task: TaskKey) -> orphan.Examined:
    for seconds in RETRY_SECONDS:
        try:
            return watch.examine(task)
        except Exception as error:
            log.warning(
                "%s cannot be looked after, retrying in %s s: %s: %s",
                task,
                seconds,
                type(error).__name__,
                error,
            )
            clock.sleep(seconds)
    return watch.examine(task)


class TriggererAccess(orphan.AirflowAccess):
    """Reaches Airflow as a trigger does, in any thread."""

    process: ClassVar[StopProcess] = "triggerer"

    def read_record(self, task: TaskKey) -> ExecutionRecord | None:
        """Return the record of a task instance; None if there is none."""
        return call_airflow(lambda: read_record(orphan.ti_of(task, 0)))

    def read_task(self, task: TaskKey) -> TaskSnapshot:
        """Return what Airflow says of a task instance now."""
        state = call_airflow(lambda: read_state(task))
        if state == DELETED:
            return TaskSnapshot(exists=False)
        return TaskSnapshot(exists=True, state=state)

    def replace_record(self, task: TaskKey, choose: orphan.Choose) -> None:
        """Replace the record of a task instance, if a function says so."""
        call_airflow(lambda: self._replace_record(task, choose))

    def _replace_record(self, task: TaskKey, choose: orphan.Choose) -> None:
        snapshot = self.read_task(task)
        stored = read_record(orphan.ti_of(task, 0))
        replacement = choose(stored, snapshot)
        if replacement is not None:
            ti = orphan.ti_of(task, replacement.try_number)
            RecordStore.outside(ti).store_announcement(replacement, stored)

    def read_summary(self, task: TaskKey) -> Any:
        """Return the XCom ``run``."""
        return call_airflow(lambda: read_xcom(task, "run"))

    def write_summary(self, task: TaskKey, summary: RunSummary) -> None:
        """Push the XComs ``run`` and ``state``."""
        call_airflow(partial(stopping.store_summary, task, summary))
