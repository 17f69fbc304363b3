"""
What the pages say that is not guaranteed: each exception of the oracle is one value,
with the line of the page that allows it.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from tests.simulation.journal import Owner
from tests.simulation.timeline import DELETED, Span, Timeline

PROMISE: Final = "explanation/one-execution-per-task.md"
COSTS: Final = "how-to/limit-costs.md"


class Allowance(NamedTuple):
    """
    An exception of a statement.

    :param page: in ``docs/``.
    :param line: what the page says, word for word.
    """

    name: str
    page: str
    line: str


KEEPS_RUNNING: Final = Allowance(
    "stop_on_kill=False",
    PROMISE,
    "With `stop_on_kill=False`, nothing is stopped but what costs too much",
)
GOES_ON: Final = Allowance(
    "wait_for_completion=False",
    PROMISE,
    "With `wait_for_completion=False`, a success leaves the execution alone.",
)
NO_ANSWER: Final = Allowance(
    "Airflow does not answer",
    PROMISE,
    "or Airflow does not answer a triggerer for a minute and a half.",
)
KILLED: Final = Allowance(
    "kill -9 without a retry",
    PROMISE,
    "its process is killed with `kill -9` or runs out of memory while the rest of the"
    " worker lives, and no retry is left: on Airflow 3, until the DAG run ends",
)
DELETED_DAG: Final = Allowance(
    "the DAG is deleted",
    PROMISE,
    "its DAG is deleted while no process of the task runs",
)
NO_RECORD: Final = Allowance(
    "no proven record",
    PROMISE,
    "or its record deleted or edited, since its start, and its process dies without a"
    " retry, or nobody waits for it when the task ends;",
)
LIMIT_ENDS: Final = Allowance(
    "the limit ends with the task", COSTS, "The limit ends with the task."
)
NO_SLOT: Final = Allowance(
    "no free slot",
    PROMISE,
    "While no triggerer has a free slot, nobody polls for a deferred task that has none.",
)
TEAMS: Final = Allowance(
    "a copy of a deployment with teams",
    PROMISE,
    "the original has teams: Airflow hides the Variables from its triggerers.",
)
CREATED_AGAIN: Final = Allowance(
    "created again without a record",
    PROMISE,
    "a DAG run was deleted and created again, and its task has no record any more, for"
    " example after a success with `wait_for_completion=False`",
)
ALL: Final = (
    CREATED_AGAIN,
    KEEPS_RUNNING,
    GOES_ON,
    NO_ANSWER,
    KILLED,
    DELETED_DAG,
    NO_RECORD,
    LIMIT_ENDS,
    NO_SLOT,
    TEAMS,
)

# Airflow is asked again so long: ``RETRY_SECONDS`` in watch/callback.py.
_NO_ANSWER_SECONDS: Final = 60.0
# The watch stops what is left in this time.
_STOPPED_SECONDS: Final = 90.0
# Airflow returns a deferred task to a worker so long after its deadline.
_RETURNED_SECONDS: Final = 900.0
_TRIGGER_BEGINS_SECONDS: Final = 10.0


def of_two(time: Timeline, owner: Owner, arguments: dict[str, Any]) -> Allowance | None:
    """Return what allows two executions of a task at once; None for nothing."""
    is_deleted = any(entry.text == DELETED for entry in time.states(owner))
    if is_deleted and not arguments.get("wait_for_completion", True):
        return CREATED_AGAIN
    return None


def of_left(
    time: Timeline, owner: Owner, arguments: dict[str, Any], span: Span
) -> Allowance | None:
    """Return what allows that an execution runs on after its task; None for nothing."""
    if not arguments.get("stop_on_kill", True):
        return KEEPS_RUNNING
    is_waited_for = arguments.get("wait_for_completion", True)
    if not is_waited_for and _has_succeeded(time, owner, span.begin):
        return GOES_ON
    if _is_deleted_with_dag(time, owner, span):
        return DELETED_DAG
    if _is_killed_in_run(time, owner, span):
        return KILLED
    if _lacks_record(time, owner, span.begin):
        return NO_RECORD
    around = Span(span.begin - 250, span.begin + _NO_ANSWER_SECONDS)
    for entry in time.actions(around):
        act = entry.details
        is_outage = entry.text in ("api", "database")
        if not is_outage or act.deployment != owner.deployment:
            continue
        if entry.at + act.value > span.begin and act.value >= _NO_ANSWER_SECONDS:
            return NO_ANSWER
    return None


def _has_succeeded(time: Timeline, owner: Owner, at: float) -> bool:
    """Return whether the last process of a task that has run has ended in a success."""
    states = [each.text for each in time.states(owner) if each.at <= at]
    ends = [state for state in states if state in ("running", "success")]
    return ends[-1:] == ["success"]


def _is_deleted_with_dag(time: Timeline, owner: Owner, span: Span) -> bool:
    """Return whether a DAG was deleted when no process of its task ran yet, or any more."""
    at = span.begin
    if all(entry.text != "delete dag" for entry in time.actions(Span(at, at))):
        return False
    before = [each for each in time.states(owner) if each.at < at][-1]
    if before.text == "deferred":
        # Its trigger begins some seconds later, or when there is a slot.
        is_new = at - before.at < _TRIGGER_BEGINS_SECONDS
        return is_new or time.lacks_slot(owner, at - 1)
    return before.text != "running"


def _lacks_record(time: Timeline, owner: Owner, at: float) -> bool:
    """
    Return whether the record of a task was edited or deleted, and nobody waits for its
    execution when the task ends.
    """
    before = [each for each in time.states(owner) if each.at < at]
    begun = [each.at for each in before if each.text == "running"]
    if not begun:
        return False
    since = time.actions(Span(begun[-1], at))
    edits = [each for each in since if each.text in ("edit records", "lose records")]
    if all(each.details.deployment != owner.deployment for each in edits):
        return False
    if before[-1].text == "running":
        return any(each.text in ("kill worker", "stop here") for each in since)
    return before[-1].text != "deferred" or time.lacks_slot(owner, at - 1)


def _is_killed_in_run(time: Timeline, owner: Owner, span: Span) -> bool:
    """
    Return whether the process of a task was killed without its host, and its DAG run
    went on.
    """
    kills = [
        entry
        for entry in time.actions(Span(span.begin - 3, span.begin))
        if entry.text in ("kill worker", "stop here")
        and entry.details.deployment == owner.deployment
    ]
    if not kills or time.state_at(owner, span.begin) != "failed":
        return False
    ended_at = time.run_ended_at(owner, span.begin)
    after_run = Span(min(ended_at, span.end), span.end)
    return time.undisturbed(owner.deployment, after_run) < _STOPPED_SECONDS


def of_late(
    time: Timeline, owner: Owner, arguments: dict[str, Any], span: Span
) -> Allowance | None:
    """Return what allows that an execution runs on after its timeout."""
    if time.lacks_slot(owner, span.begin):
        since = span.begin + _RETURNED_SECONDS
        returned = Span(min(since, span.end), span.end)
        paused = sum(
            entry.details.value for entry in time.actions(span) if entry.text == "pause"
        )
        if time.undisturbed(owner.deployment, returned) < _STOPPED_SECONDS + paused:
            return NO_SLOT
    return of_left(time, owner, arguments, span)


def of_foreign_stop(team: str | None, copied: bool) -> Allowance | None:
    """Return what allows a stop by another deployment; None for nothing."""
    if team and copied:
        return TEAMS
    return None


def of_cost(
    time: Timeline, owner: Owner, arguments: dict[str, Any], reached: float, span: Span
) -> Allowance | None:
    """
    Return what allows that a limit is exceeded by more; None for nothing.

    :param reached: when it was reached.
    :param span: from when it had to be kept, until nothing was spent any more.
    """
    if time.lacks_slot(owner, reached):
        return NO_SLOT
    over = [each for each in time.ends(owner) if each.begin <= span.begin < each.end]
    if not over:
        return None
    if not arguments.get("stop_on_kill", True):
        return LIMIT_ENDS
    return of_left(time, owner, arguments, Span(over[0].begin, span.end))
