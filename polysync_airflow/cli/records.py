"""
The command ``polysync records``: the Variables that hold the records of executions, and
the executions that they have left.

A task that has succeeded has no record. One that has failed keeps its own, which its
clear needs, until this command deletes it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.database import stored_variable, variable_keys
from polysync_airflow.cli.output import (
    ERROR,
    FAILED,
    OK,
    airflow_in_use,
    write,
    write_error,
    write_json,
    write_result,
)
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records import KEY_PREFIX, StoredTask, stored_task

if TYPE_CHECKING:
    from polysync_airflow.watch.sweep import Result, Swept

# What a sweep has nothing to say of, unless all of it is asked for as JSON.
_QUIET: Final = frozenset({"kept", "over"})
_SWEPT: Final = {
    "stopped": "stopped",
    "orphaned": "would be stopped",
    "failed": "may still be running",
    "unreadable": "ignored",
}


def main(options: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    if options.dry_run and not options.stop_orphans:
        options.parser.error("--dry-run needs --stop-orphans")
    if options.stop_orphans and options.older_than:
        options.parser.error(
            "--older-than and --stop-orphans are two commands: stop the executions"
            " first, then delete the records"
        )
    try:
        if options.stop_orphans:
            return _sweep(options)
        return _list_or_delete(options)
    except SQLAlchemyError as error:
        # The text of SQLAlchemy has the statement and its parameters, too.
        write_error(
            "Airflow's database cannot be used:"
            f" {getattr(error, 'orig', None) or error}. Check [database]"
            " sql_alchemy_conn, and make or upgrade the tables with: airflow db"
            " migrate"
        )
        return ERROR


# ---- the records


def _list_or_delete(options: argparse.Namespace) -> int:
    found: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    for key in variable_keys(KEY_PREFIX):
        try:
            task = _handle(key, options.dag_id, options.older_than)
        except StoredRecordError as error:
            unreadable.append({"key": key, "problem": str(error)})
            _write_unreadable(key, error)
            continue
        if task:
            found.append(_members_of(key, task))
            if options.output == "text":
                _write_line(key, task)
    deletes = options.older_than is not None
    document = {"deleted": deletes, "records": found, "unreadable": unreadable}
    end = " deleted" if deletes else ""
    write(options, document, [f"{len(found)} Variables{end}."])
    return FAILED if unreadable else OK


def _members_of(key: str, task: StoredTask) -> dict[str, Any]:
    """Return what the JSON has of a record."""
    return {
        "key": key,
        **asdict(task.key),
        "dag_run_state": task.dag_run_state,
        "ended_at": task.ended_at and task.ended_at.isoformat(timespec="seconds"),
    }


def _write_line(key: str, task: StoredTask) -> None:
    run = task.dag_run_state or "deleted"
    if task.ended_at:
        run += f", ended {task.ended_at.isoformat(timespec='seconds')}"
    write_result(f"{clean_line(key)}  (DAG run: {run})\n")


def _write_unreadable(key: str, error: StoredRecordError) -> None:
    write_error(
        f"the Variable {clean_line(key)} holds no record: {error}. It was left as it"
        " is: look at it under Admin > Variables"
    )


def _handle(
    key: str, dag_id: str | None, older_than: timedelta | None
) -> StoredTask | None:
    """
    Return the task of a Variable that is listed or was deleted.

    In the transaction with the look and the deletion, no task can change it.

    :raises StoredRecordError: the Variable holds no record. Whoever wrote it may need
        it.
    """
    with stored_variable(key, lock=older_than is not None) as variable:
        task = stored_task(variable)
        if task is None or dag_id not in (None, task.key.dag_id):
            return None
        if older_than is not None:
            if not task.has_ended_before(clock.now() - older_than):
                return None
            variable.delete()
    return task


# ---- the executions that they have left


def _sweep(options: argparse.Namespace) -> int:
    found = _find(options)
    counts = Counter(swept.result for swept in found)
    if options.output == "json":
        rows = [_row(swept) for swept in found]
        write_json({"version": 1, "dry_run": options.dry_run, "executions": rows})
    else:
        for swept in found:
            if swept.result not in _QUIET:
                write_result(_line(swept))
        write_result(_summary(counts, is_dry=options.dry_run))
    return FAILED if counts["failed"] else OK


def _find(options: argparse.Namespace) -> list[Swept]:
    from polysync_airflow.watch import sweep

    make = sweep.find_orphans if options.dry_run else sweep.stop_orphans
    found = []
    with airflow_in_use(None, "Records examined:") as on_item:
        for swept in make(options.dag_id):
            on_item(swept.key)
            found.append(swept)
    return found


def _row(swept: Swept) -> dict[str, Any]:
    task: dict[str, Any] = dict.fromkeys(("dag_id", "run_id", "task_id", "map_index"))
    if swept.task is not None:
        task = asdict(swept.task)
    return {
        "key": swept.key,
        **task,
        "execution_arn": swept.execution_arn,
        "status": swept.status,
        "result": swept.result,
        "text": swept.text,
    }


def _line(swept: Swept) -> str:
    subject = swept.execution_arn or "execution without a known ARN"
    text = clean_line(f"{_SWEPT[swept.result]}: {subject}  {swept.text}")
    return f"{text} Record: {clean_line(swept.key)}\n"


def _summary(counts: Counter[Result], *, is_dry: bool) -> str:
    stopped = f"{counts['stopped']} executions stopped"
    if is_dry:
        stopped = f"{counts['orphaned']} executions would be stopped"
    return (
        f"{counts.total()} records: {stopped}, {counts['failed']} failed,"
        f" {counts['unreadable']} ignored.\n"
    )
