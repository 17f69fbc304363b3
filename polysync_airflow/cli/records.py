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
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import database, reads
from polysync_airflow.cli import output
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records.database import StoredTask, stored_task
from polysync_airflow.records.keys import KEY_PREFIX
from polysync_airflow.watch import sweep

# What a sweep has nothing to say of, unless all of it is asked for as JSON.
_QUIET: Final = frozenset({"kept", "over"})
_SWEPT: Final = {
    "stopped": "stopped",
    "orphaned": "would be stopped",
    "failed": "may still be running",
    "unreadable": "ignored",
}


def main(args: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    if args.dry_run and not args.stop_orphans:
        args.parser.error("--dry-run needs --stop-orphans")
    if args.stop_orphans and args.older_than:
        args.parser.error(
            "--older-than and --stop-orphans are two commands: stop the executions"
            " first, then delete the records"
        )
    try:
        if args.stop_orphans:
            return _sweep(args)
        return _list_or_delete(args)
    except SQLAlchemyError as error:
        return output.database_error(error)


# ---- the records


def _list_or_delete(args: argparse.Namespace) -> int:
    records: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    for key in database.variable_keys(KEY_PREFIX):
        try:
            task = _task_to_write(key, args.dag_id, args.older_than)
        except StoredRecordError as error:
            unreadable.append({"key": key, "problem": str(error)})
            output.write_error(
                f"the Variable {clean_line(key)} holds no record: {error}. It was left"
                " as it is: look at it under Admin > Variables"
            )
            continue
        if task:
            record = _members_of(key, task)
            records.append(record)
            if args.output == "text":
                state = record["dag_run_state"] or "deleted"
                if record["ended_at"]:
                    state += f", ended {record['ended_at']}"
                output.write_result(f"{clean_line(key)}  (DAG run: {state})\n")
    is_deletion = args.older_than is not None
    document = {"deleted": is_deletion, "records": records, "unreadable": unreadable}
    summary = f"{len(records)} Variables."
    if is_deletion:
        summary = f"{len(records)} Variables deleted."
    output.write(args, document, [summary])
    if unreadable:
        return output.FAILED
    return output.OK


def _members_of(key: str, task: StoredTask) -> dict[str, Any]:
    """Return what the JSON has of a record."""
    return {
        "key": key,
        **asdict(task.key),
        "dag_run_state": task.dag_run_state,
        "ended_at": output.in_seconds(task.ended_at),
    }


def _task_to_write(
    key: str, dag_id: str | None, older_than: timedelta | None
) -> StoredTask | None:
    """
    Return the task of a Variable, after its deletion if ``older_than`` asks for that;
    None if the command says nothing of it.

    The Variable is read and deleted in one transaction, in which no task can change it.

    :param dag_id: the DAG of the task; None for all.
    :param older_than: delete the Variable if the DAG run has ended this long ago.
    :raises StoredRecordError: the Variable holds no record. Whoever wrote it may need
        it.
    """
    with database.stored_variable(
        key, lock=older_than is not None, max_bytes=reads.MAX_BYTES_ALONE
    ) as variable:
        task = stored_task(variable)
        if task is None or dag_id not in (None, task.key.dag_id):
            return None
        if older_than is not None:
            if not task.has_ended_before(clock.now() - older_than):
                return None
            variable.delete()
    return task


# ---- the executions that they have left


def _sweep(args: argparse.Namespace) -> int:
    results = _sweep_records(args)
    counts = Counter(swept.result for swept in results)
    rows = [_row(swept) for swept in results]
    lines = [_line(swept) for swept in results if swept.result not in _QUIET]
    stopped = f"{counts['stopped']} executions stopped"
    if args.dry_run:
        stopped = f"{counts['orphaned']} executions would be stopped"
    lines.append(
        f"{counts.total()} records: {stopped}, {counts['failed']} failed,"
        f" {counts['unreadable']} ignored."
    )
    output.write(args, {"dry_run": args.dry_run, "executions": rows}, lines)
    if counts["failed"]:
        return output.FAILED
    return output.OK


def _sweep_records(args: argparse.Namespace) -> list[sweep.Swept]:
    sweep_records = sweep.stop_orphans
    if args.dry_run:
        sweep_records = sweep.find_orphans
    results = []
    with output.airflow_in_use(None, "Records examined:") as on_item:
        for swept in sweep_records(args.dag_id):
            on_item(swept.key)
            results.append(swept)
    return results


def _row(swept: sweep.Swept) -> dict[str, Any]:
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


def _line(swept: sweep.Swept) -> str:
    subject = swept.execution_arn or "execution without a known ARN"
    text = clean_line(f"{_SWEPT[swept.result]}: {subject}  {swept.text}")
    return f"{text} Record: {clean_line(swept.key)}"
