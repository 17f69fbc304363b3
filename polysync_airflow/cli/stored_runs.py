"""
What Airflow has stored of the task of an execution, and says of it now, so that the
commands say what the tab says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import database, xcoms
from polysync_airflow.cli import output
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, texts
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.what_next import (
    PushedRun,
    Sentence,
    as_line,
    needs_choice,
    read_run,
    what_comes_next,
)
from polysync_airflow.records.database import read_clear_choice


class StoredRun(NamedTuple):
    """
    What is known of the last try of the task that has an execution.

    :param run: its XCom ``run``; None if there is none, or if it is that of another
        execution.
    :param next: what comes next; empty if nothing is to be said.
    :param problem: why nothing is known; None if Airflow's database was read.
    """

    run: PushedRun | None = None
    next: Sequence[Sentence] = ()
    problem: str | None = None

    @property
    def line(self) -> str:
        """What comes next, in one line; empty if nothing is to be said."""
        return as_line(self.next)

    @property
    def as_json(self) -> list[dict[str, str | None]] | None:
        """The same for a JSON document; None if it is not known."""
        if self.problem:
            return None
        return [sentence.as_json for sentence in self.next]

    @property
    def resumes(self) -> int:
        """How often the execution was resumed, as far as its task knows."""
        return self.run.resumes if self.run else 0

    @property
    def resumed_at(self) -> datetime | None:
        """When it was resumed last; None if it was not, or if that is not known."""
        return self.run.attempt_started_at if self.run else None


NOTHING_STORED: Final = StoredRun()


def task_of(facts: Mapping[str, Any]) -> TaskKey | None:
    """
    Return the task that the description of an execution names; None if it names none.
    """
    if "run_id" not in facts:
        return None
    return TaskKey(**{name: facts[name] for name in TaskKey.__dataclass_fields__})


def read_stored_run(facts: Mapping[str, Any]) -> StoredRun:
    """
    Return what Airflow knows of an execution, by its task.

    :param facts: the execution, if there is one, and the key of the task instance.
        Whoever starts an execution can write that, so it counts only if the task has
        the execution, too.
    """
    key = task_of(facts)
    if key is None:
        return NOTHING_STORED
    try:
        task = database.task_now(**asdict(key))
        run = read_run(xcoms.read_xcom("run", **asdict(key)))
        arn = run.execution_arn if run else None
        if task is None or arn != facts.get("execution_arn"):
            return NOTHING_STORED
        choice = None
        if needs_choice(task, run):
            # Without a record that can be believed, nobody has chosen anything.
            with suppress(PolysyncError):
                choice = read_clear_choice(key)
    except SQLAlchemyError as error:
        return StoredRun(problem=output.database_problem(error))
    return StoredRun(run, what_comes_next(task, run, clock.now(), choice))


def duration_text(
    seconds: float, attempt_seconds: float | None, stored: StoredRun
) -> str:
    """
    Return how long an execution took from its start, and since its last resume.

    :param attempt_seconds: how long it took from its last resume; None if it runs, or
        without one.
    """
    text = texts.format_seconds(seconds)
    if stored.resumed_at is None:
        return text
    if attempt_seconds is None:
        since = clock.now() - stored.resumed_at
        attempt_seconds = max(0.0, since.total_seconds())
    resumed = texts.format_seconds(attempt_seconds)
    return f"{text}, {resumed} since resume {stored.resumes}"
