"""
What Airflow has stored of the cost of an execution, so that the commands say what the
tab says.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from polysync_airflow.airflow_compat import xcoms
from polysync_airflow.cli import output
from polysync_airflow.cli.stored_runs import task_of
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.cost import Basis
from polysync_airflow.execution.outcome import RunSummary, parse_run_summary
from polysync_airflow.execution.prices import SPENDING_KEY, CostAndUsage
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.hooks.spending import add_up_steps, basis_of
from polysync_airflow.records.database import stored_record

Stored = TypeVar("Stored")
log = logging.getLogger(__name__)


def add_up_cost(
    hook: PolysyncSageMakerHook,
    facts: Mapping[str, Any],
    ended_at: str | None,
    steps: Sequence[StepDescription] | None,
) -> tuple[CostAndUsage | None, Sequence[str]]:
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
        added_up, notes = add_up_steps(hook, steps, basis, log.debug)
    notes = [*unread, *notes]
    for note in notes:
        output.write_message(f"warning: {note}")
    return added_up, notes


def stored_run(facts: Mapping[str, Any], ended_at: str | None) -> RunSummary | None:
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
    run = parse_run_summary(value, log.debug)
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
    return basis_of(record, _read(facts, SPENDING_KEY), None)


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
