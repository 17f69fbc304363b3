"""
What Airflow has stored of the task of an execution, and says of it now, so that the
commands say what the tab says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import database, xcoms
from polysync_airflow.cli import output
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, outcome, prices, texts
from polysync_airflow.execution.cost import Basis
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.what_next import PushedRun, Sentence, as_line, read_run
from polysync_airflow.hooks import PolysyncSageMakerHook, spending
from polysync_airflow.records.database import next_of, stored_record


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


Stored = TypeVar("Stored")
log = logging.getLogger(__name__)
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
        return StoredRun(run, next_of(key, task, run))
    except SQLAlchemyError as error:
        return StoredRun(problem=output.database_problem(error))


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


# ---- what an execution has cost


def add_up_cost(
    hook: PolysyncSageMakerHook,
    facts: Mapping[str, Any],
    ended_at: str | None,
    steps: Sequence[StepDescription] | None,
) -> tuple[prices.CostAndUsage | None, Sequence[str]]:
    """
    Return what an execution has used and cost, and sentences about what is missing. The
    XComs of its task say it if a process has added up. Warn of what is missing.

    :param steps: the steps of the execution; None if AWS does not list them.
    """
    stored = None
    basis = Basis()
    unread: list[str] = []
    try:
        stored = stored_run(facts, ended_at)
        if stored is None:
            basis = stored_basis(facts)
    except SQLAlchemyError as error:
        unread = [
            "What its task has stored of the cost is not known."
            f" {output.database_problem(error)}"
        ]
    if stored:
        return stored.cost_and_usage, [*filter(None, [stored.steps_note])]
    added_up = None
    notes: Sequence[str] = ()
    if steps is not None:
        added_up, notes = spending.add_up_steps(hook, steps, basis, log.debug)
    notes = [*unread, *notes]
    for note in notes:
        output.write_message(f"warning: {note}")
    return added_up, notes


def stored_run(
    facts: Mapping[str, Any], ended_at: str | None
) -> outcome.RunSummary | None:
    """
    Return the XCom ``run`` of the task that has started an execution, if somebody has
    added up there what it has cost; None otherwise.

    :param facts: the execution, and the key of the task instance.
    :param ended_at: when the execution has ended, as ``output.in_seconds`` returns it;
        None if it has not.
    """
    if ended_at is None:
        return None
    value = _read(facts, "run")
    run = outcome.parse_run_summary(value, log.debug)
    if run is None or not run.is_added_up:
        return None
    # It may have been resumed since.
    ends = (run.execution_arn, run.status, output.in_seconds(run.ended_at))
    if ends != (facts["execution_arn"], facts["status"], ended_at):
        return None
    return run


def stored_basis(facts: Mapping[str, Any]) -> Basis:
    """Return what Airflow has stored of the money of an execution."""
    task = task_of(facts)
    if task is None:
        return Basis()
    record = _unless_refused(lambda: stored_record(task))
    if record is None or record.execution_arn != facts["execution_arn"]:
        return Basis()
    return spending.basis_of(record, _read(facts, prices.SPENDING_KEY), None)


def _read(facts: Mapping[str, Any], key: str) -> Any:
    task = task_of(facts)
    if task is None:
        return None
    return _unless_refused(lambda: xcoms.read_xcom(key, **asdict(task)))


def _unless_refused(read: Callable[[], Stored]) -> Stored | None:
    """Return what Airflow has stored; None if it is not to be believed."""
    with suppress(PolysyncError):
        return read()
    return None
