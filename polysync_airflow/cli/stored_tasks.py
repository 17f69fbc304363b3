"""
What Airflow has stored of tasks without an execution that runs: those that wait for
capacity, and those that failed before they had an execution.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import database, xcoms
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.cli import output, stored_runs
from polysync_airflow.execution import models, texts, what_next
from polysync_airflow.states import PolysyncState
from polysync_airflow.watch.sweep import find_waiting

WAITING: Final = "Waiting"
# Of so many tasks that have failed last, it is asked whether they had an execution.
_MAX_FAILED: Final = 100
_WAITS: Final = (
    "Waiting for capacity since {when}: {pipeline_name}, task"
    " {dag_id}/{task_id}/{run_id}: {reason}"
)
_FAILED: Final = (
    "Failed at {when} before it had an execution: task {dag_id}/{task_id}/{run_id}:"
    " {reason}"
)


def _time(text: str) -> str:
    """Return a time of the JSON for people."""
    return f"{text[:19].replace('T', ' ')} UTC"


@dataclass
class StoredTasks:
    """
    What was found.

    :param waiting: the key, the wait and the ``next`` of each task that waits for
        capacity.
    :param waiting_arns: the executions of all of these, whatever the options choose.
    :param failed: the key of each task that failed before it had an execution, when,
        why, and its ``next``.
    :param lines: a line for each task.
    :param not_known: why something could not be read, by its name in the result.
    """

    waiting: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    not_known: dict[str, str] = field(default_factory=dict)
    waiting_arns: Collection[str | None] = ()
    lines: list[str] = field(default_factory=list)

    def with_state(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return an execution with the state that its task has."""
        if facts["execution_arn"] in self.waiting_arns:
            facts["state"] = WAITING
        return facts

    @property
    def document(self) -> dict[str, Any]:
        """What the JSON has."""
        return {
            "waiting": self.waiting,
            "failed_before_start": self.failed,
            "not_known": self.not_known,
        }

    @property
    def warning(self) -> str | None:
        """A line about what could not be read."""
        for problem in self.not_known.values():
            return (
                "tasks that wait for capacity, or failed before they had an execution,"
                f" are not known. {problem}"
            )
        return None

    def add_next(self, line: str, task: dict[str, Any]) -> None:
        """Add to a task, and to the line about it, what comes next."""
        stored = stored_runs.read_stored_run(task)
        task["next"] = stored.as_json
        if stored.line:
            line = f"{line} Next: {stored.line}"
        self.lines.append(line)


def waiting_line(wait: Mapping[str, Any]) -> str:
    """Return a line about a task that waits for capacity."""
    return texts.clean_line(_WAITS.format(**wait, when=_time(wait["since"])))


def _failed_line(task: Mapping[str, Any]) -> str:
    return texts.clean_line(_FAILED.format(**task, when=_time(task["ended_at"])))


def wait_of(execution_arn: str) -> dict[str, Any] | None:
    """
    Return the wait for capacity of the task of an execution; None if it does not wait,
    with a warning if that is not known.
    """
    try:
        for wait in find_waiting({models.pipeline_name_of(execution_arn)}):
            if wait["execution_arn"] == execution_arn:
                return wait
    except SQLAlchemyError as error:
        output.write_message(
            "warning: whether its task waits for capacity is not known."
            f" {output.database_problem(error)}"
        )
    return None


def read(
    args: Namespace, pipelines: Iterable[str], since: datetime | None
) -> StoredTasks:
    """
    Return the tasks that the options choose.

    :param since: when tasks have failed at the earliest; None for any time.
    """
    names = {models.pipeline_name_of(name) for name in pipelines}
    found = StoredTasks()
    try:
        waiting = [*find_waiting(names)]
        found.waiting_arns = {wait["execution_arn"] for wait in waiting}
        if args.state in (None, WAITING):
            found.waiting = [wait for wait in waiting if is_of_task(args, wait)]
        if args.state in (None, PolysyncState.FAILED):
            found.failed = _failed_before_start(args, since)
        for wait in found.waiting:
            found.add_next(waiting_line(wait), wait)
        for task in found.failed:
            found.add_next(_failed_line(task), task)
    except SQLAlchemyError as error:
        problem = output.database_problem(error)
        missing = ("waiting", "failed_before_start", "next")
        found.not_known = dict.fromkeys(missing, problem)
    return found


def _failed_before_start(
    args: Namespace, since: datetime | None
) -> list[dict[str, Any]]:
    if args.pipeline or args.prefix:
        # Nobody knows which pipeline it would have been.
        return []
    failed = database.failed_tasks(
        what_next.START_OPERATORS, since=since, limit=_MAX_FAILED
    )
    found: list[dict[str, Any]] = []
    for task in failed:
        if len(found) == args.max_executions:
            break
        ended_at = output.in_seconds(task.pop("ended_at"))
        number = task.pop("try_number")
        if not is_of_task(args, task) or xcoms.read_xcom("execution_arn", **task):
            continue
        reason = _reason(number, task) or "the reason is in its log"
        found.append({**task, "ended_at": ended_at, "reason": reason})
    return found


def _reason(try_number: int, task: Mapping[str, Any]) -> str | None:
    """Return the last error in the log of a task; None if it is not known."""
    if not CAPABILITIES.react_apps:
        return None
    # It takes seconds.
    from polysync_airflow.airflow_compat import endpoints

    return endpoints.last_error(try_number, **task)


def is_of_task(args: Namespace, facts: Mapping[str, Any]) -> bool:
    """Return whether the options choose a task, or an execution of it."""
    wanted = {"dag_id": args.dag, "task_id": args.task, "run_id": args.run}
    return all(facts.get(name) == value for name, value in wanted.items() if value)
