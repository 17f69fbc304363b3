"""
The command ``polysync records``: the Variables that hold the records of executions.

A task that has succeeded has no record. One that has failed keeps its own, which its
clear needs, until this command deletes it.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.database import stored_variable, variable_keys
from polysync_airflow.cli.output import (
    ERROR,
    FAILED,
    OK,
    write,
    write_error,
    write_result,
)
from polysync_airflow.exceptions import StoredRecordError
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records import KEY_PREFIX, StoredTask, stored_task


def main(options: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    found: list[dict[str, Any]] = []
    unreadable: list[dict[str, str]] = []
    try:
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
    except SQLAlchemyError as error:
        # The text of SQLAlchemy has the statement and its parameters, too.
        write_error(
            "Airflow's database cannot be used:"
            f" {getattr(error, 'orig', None) or error}. Check [database]"
            " sql_alchemy_conn, and make or upgrade the tables with: airflow db"
            " migrate"
        )
        return ERROR
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
