"""
The command ``polysync records``: the Variables that hold the records of executions.

A task that has succeeded has no record. One that has failed keeps its own, which its clear needs, until this
command deletes it.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.database import stored_variable, variable_keys
from polysync_airflow.cli.output import ERROR, OK, complete, write_error, write_result
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records import KEY_PREFIX, StoredTask, stored_task

DESCRIPTION: Final = (
    "List the Variables with records of executions, or delete those of tasks that have ended long ago."
)
_AGE: Final = re.compile(r"([1-9][0-9]{0,3})([dh])")


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    complete(parser, "records", age=_age)
    return parser


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return its exit code."""
    options = make_parser(prog).parse_args(arguments)
    try:
        count = sum(_handle(key, options.dag_id, options.older_than) for key in variable_keys(KEY_PREFIX))
    except SQLAlchemyError as error:
        # The text of SQLAlchemy has the statement and its parameters, too.
        write_error(
            f"Airflow's database cannot be used: {getattr(error, 'orig', None) or error}. Check [database] "
            "sql_alchemy_conn, and make or upgrade the tables with: airflow db migrate"
        )
        return ERROR
    write_result(f"{count} Variables{' deleted' if options.older_than else ''}.\n")
    return OK


def _handle(key: str, dag_id: str | None, older_than: timedelta | None) -> bool:
    """List or delete a Variable. In the transaction with the look and the deletion, no task can change it."""
    with stored_variable(key, lock=older_than is not None) as variable:
        task = stored_task(variable)
        if task is None or dag_id not in (None, task.key.dag_id):
            # What is not a record may be needed by whoever wrote it.
            return False
        if older_than is not None:
            if not task.has_ended_before(clock.now() - older_than):
                return False
            variable.delete()
    write_result(f"{clean_line(key)}  ({_describe(task)})\n")
    return True


def _describe(task: StoredTask) -> str:
    ended = f", ended {task.ended_at.isoformat(timespec='seconds')}" if task.ended_at else ""
    return f"DAG run: {task.dag_run_state or 'deleted'}{ended}"


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no age: give days or hours, such as 30d or 12h")
    number, unit = found.groups()
    return timedelta(days=int(number)) if unit == "d" else timedelta(hours=int(number))
