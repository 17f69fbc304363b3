"""
The command ``polysync records``: the Variables that hold the records of executions.

A task deletes the record of the previous DAG run when it starts, so only those of the latest DAG run remain,
and those of tasks that no longer exist.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat.database import dag_run_state, delete_variables, variables_with_prefix
from polysync_airflow.cli.output import ERROR, OK, write_error, write_result
from polysync_airflow.execution.texts import clean_line
from polysync_airflow.records.store import KEY_PREFIX, TASK

DESCRIPTION: Final = "List, or delete, the Variables with records of executions whose DAG runs have ended."


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--dag-id", help="only those of one DAG; default: of all DAGs")
    parser.add_argument("--delete", action="store_true", help="delete them; default: only list them")
    return parser


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return its exit code."""
    options = make_parser(prog).parse_args(arguments)
    try:
        found = list(_leftovers(options.dag_id))
        for key, state in found:
            write_result(f"{clean_line(key)}  (DAG run: {state})\n")
        if options.delete and found:
            delete_variables([key for key, _ in found])
    except SQLAlchemyError as error:
        # The text of SQLAlchemy has the statement and its parameters, too.
        write_error(
            f"Airflow's database cannot be used: {getattr(error, 'orig', None) or error}. Check [database] "
            "sql_alchemy_conn, and make or upgrade the tables with: airflow db migrate"
        )
        return ERROR
    write_result(f"{len(found)} Variables{' deleted' if options.delete else ''}.\n")
    return OK


def _leftovers(dag_id: str | None) -> Iterator[tuple[str, str]]:
    for key, value in variables_with_prefix(KEY_PREFIX):
        try:
            task = json.loads(value)[TASK]
            dag, run = str(task["dag_id"]), str(task["run_id"])
        except (KeyError, TypeError, ValueError):
            # Whoever wrote it, it is not a record, and may be needed.
            continue
        if dag_id in (None, dag):
            state = dag_run_state(dag, run) or "deleted"
            if state in ("success", "failed", "deleted"):
                yield key, state
