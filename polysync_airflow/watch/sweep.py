"""
The sweep over all records, for ``polysync records --stop-orphans``: it also finds what
Airflow has told no listener.

It runs beside Airflow's components, with access to the database.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from typing import Any, ClassVar, Final, Literal, NamedTuple

from polysync_airflow.airflow_compat import database, reads, xcoms
from polysync_airflow.auth.base_hook import REPORT_CONFIG
from polysync_airflow.exceptions import PolysyncError, StoredRecordError
from polysync_airflow.execution.lifecycle import orphans
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, TaskKey
from polysync_airflow.execution.models import pipeline_name_of
from polysync_airflow.execution.outcome import RunSummary, StopProcess
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.records.database import is_imported, stored_record, stored_task
from polysync_airflow.records.keys import KEY_PREFIX, variable_key
from polysync_airflow.records.serialization import from_variable, task_in, to_variable
from polysync_airflow.watch.orphan import AirflowAccess, Choose, Examined, Watch

log = logging.getLogger(__name__)

# What a sweep says of an execution. ``kept``: its task decides. ``over``: it does not
# run any more. ``orphaned``: a sweep that stops executions would have stopped it.
# ``failed``: it may still be running, although it should not.
Result = Literal["kept", "over", "orphaned", "stopped", "failed", "unreadable"]
_RESULTS: Final[dict[orphans.Finding, Result]] = {
    orphans.Finding.KEEP: "kept",
    orphans.Finding.OVER: "over",
    orphans.Finding.STOP: "orphaned",
}


IMPORTED: Final = (
    "no try of its task has begun in this database, as Airflow's audit log says. If the"
    " Variable was imported, the execution is that of another deployment: delete the"
    " Variable. If the audit log was cleaned, look for the execution in the SageMaker"
    " console"
)


class Swept(NamedTuple):
    """
    What became of the execution of a record.

    :param text: what was found and done, as sentences.
    """

    key: str
    result: Result
    text: str
    task: TaskKey | None = None
    execution_arn: str | None = None
    status: str | None = None


def find_orphans(dag_id: str | None) -> Iterator[Swept]:
    """
    Yield what is found out about each recorded execution. Nothing is stopped.

    :param dag_id: only those of this DAG; None for all.
    """
    watch = _watch()
    for swept, _ in _examined(watch, dag_id):
        yield swept


def stop_orphans(dag_id: str | None) -> Iterator[Swept]:
    """
    Stop each recorded execution whose task has ended or is gone; yield what became of
    each.

    :param dag_id: only those of this DAG; None for all.
    """
    watch = _watch()
    for swept, examined in _examined(watch, dag_id):
        if examined and swept.result == "orphaned":
            yield _stop(watch, swept, examined)
        else:
            yield swept


def find_waiting(pipelines: Collection[str]) -> Iterator[dict[str, Any]]:
    """
    Yield the key and the wait of each task instance that waits for capacity. A record
    that cannot be believed is left out.

    :param pipelines: the names of the pipelines that count.
    """
    for variable in database.stored_variables(KEY_PREFIX):
        with suppress(PolysyncError):
            task = task_in(variable.value or "")
            if orphans.ENDED_STATES.issuperset(variable.states_of(**asdict(task))):
                continue
            record = stored_record(task)
            if record is None or record.capacity is None:
                continue
            name = pipeline_name_of(record.request.pipeline_name)
            if record.waits_for_capacity and name in pipelines:
                facts = {"pipeline_name": name, "execution_arn": record.execution_arn}
                wait = record.capacity.model_dump(mode="json")
                yield {**asdict(task), **facts, **wait}


def _watch() -> Watch:
    @cache
    def connect(connection_id: str, region_name: str) -> PolysyncSageMakerHook:
        database.use_connection_of_the_database(connection_id)
        return PolysyncSageMakerHook(connection_id, region_name, config=REPORT_CONFIG)

    # The next sweep asks again.
    return Watch(DatabaseAccess(), connect, log, lag_seconds=0)


def _examined(
    watch: Watch, dag_id: str | None
) -> Iterator[tuple[Swept, Examined | None]]:
    """
    Yield what is found out about each record.

    :param dag_id: only those of this DAG; None for all.
    :return: None in place of the second value if the record cannot be examined.
    """
    for key in database.variable_keys(KEY_PREFIX):
        try:
            task = _task_of(key)
            if task is None or dag_id not in (None, task.dag_id):
                continue
            examined = watch.examine(task)
        except StoredRecordError as error:
            yield Swept(key, "unreadable", error.problem or str(error)), None
        except PolysyncError as error:
            yield Swept(key, "failed", f"It cannot be examined: {error}"), None
        else:
            swept = Swept(
                key,
                _RESULTS[examined.verdict.finding],
                examined.verdict.text,
                task,
                examined.execution_arn,
                examined.status,
            )
            yield swept, examined


def _task_of(key: str) -> TaskKey | None:
    """
    Return the task instance of a record; None if there is no such Variable any more.

    :raises StoredRecordError: it holds no record, or not that of its key.
    """
    with database.stored_variable(
        key, lock=False, max_bytes=reads.MAX_BYTES_ALONE
    ) as variable:
        stored = stored_task(variable)
        if stored is None:
            return None
        if variable_key(stored.key) != key:
            raise StoredRecordError("it is not the record of the task of its key")
        if is_imported(variable, stored.key):
            raise StoredRecordError(IMPORTED)
    return stored.key


def _stop(watch: Watch, swept: Swept, examined: Examined) -> Swept:
    _, outcome = watch.stop(examined)
    text = f"{swept.text} {outcome.try_end.text}"
    result = outcome.result
    if result is None:
        return swept._replace(result="kept", text=text)
    if result.error:
        return swept._replace(result="failed", text=text)
    return swept._replace(result="stopped", text=text, status=result.status)


class DatabaseAccess(AirflowAccess):
    """Reaches Airflow by its database."""

    process: ClassVar[StopProcess] = "command"

    def read_record(self, task: TaskKey) -> ExecutionRecord | None:
        """Return the record of a task instance; None if there is none."""
        return stored_record(task)

    def read_task(self, task: TaskKey) -> orphans.TaskSnapshot:
        """Return what Airflow says of a task instance now."""
        with database.stored_variable("", lock=False) as variable:
            return _task_snapshot(variable, task)

    def replace_record(self, task: TaskKey, choose: Choose) -> None:
        """
        Replace the record of a task instance, if a function says so. Meanwhile, nobody
        else can change it.
        """
        with database.stored_variable(
            variable_key(task), lock=True, max_bytes=reads.MAX_BYTES_ALONE
        ) as variable:
            text = variable.value
            stored = None
            if text is not None:
                stored = from_variable(text, task)
            replacement = choose(stored, _task_snapshot(variable, task))
            if replacement is not None:
                variable.replace(to_variable(replacement, task))

    def read_summary(self, task: TaskKey) -> Any:
        """Return the XCom ``run``."""
        return xcoms.read_xcom("run", **asdict(task))

    def write_summary(self, task: TaskKey, summary: RunSummary) -> None:
        """Push the XComs ``run`` and ``state``."""
        xcoms.write_xcom("state", summary.state, **asdict(task))
        xcoms.write_xcom("run", summary.model_dump(mode="json"), **asdict(task))


def _task_snapshot(variable: Any, task: TaskKey) -> orphans.TaskSnapshot:
    tries: list[tuple[str | None, int]] = variable.tries_of(**asdict(task))
    if not tries:
        return orphans.TaskSnapshot(exists=False)
    # A loop has several passes. The task has ended when each pass has.
    state, number = tries[-1]
    for state_of_pass, _ in tries:
        if state_of_pass not in orphans.ENDED_STATES:
            state = state_of_pass
    return orphans.TaskSnapshot(exists=True, state=state, try_number=number)
