"""
What the pages say that is not guaranteed, and when the oracle allows it. The lines are
in ``allowances.toml``; a test compares them with the pages, in both directions.
"""

from __future__ import annotations

import math
import re
import tomllib
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.simulation.airflow.database import ENDED
from tests.simulation.journal import Entry, Owner
from tests.simulation.timeline import DELETED, Span, Timeline

PROMISE: Final = "explanation/one-execution-per-task.md"


class Allowance(NamedTuple):
    """
    What a page says is not guaranteed.

    :param line: what it says, word for word.
    :param allows: the statements that it is an exception of.
    :param why: why no statement needs an exception.
    :param page: in ``docs/``.
    """

    name: str
    line: str
    allows: tuple[str, ...] = ()
    why: str = ""
    page: str = PROMISE


_STORED: Final = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())
# Each point of the page's list of what is not guaranteed.
ALL: Final = tuple(Allowance(**each) for each in _STORED["exceptions"])
# What authors ask for, and bounds.
OTHERS: Final = tuple(Allowance(**each) for each in _STORED["others"])
_NAMED: Final = {each.name: each for each in (*ALL, *OTHERS)}


# Airflow is asked again so long: ``RETRY_SECONDS`` in watch/callback.py.
_NO_ANSWER_SECONDS: Final = 60.0
# The watch stops what is left in this time.
_STOPPED_SECONDS: Final = 90.0
# Airflow returns a deferred task to a worker so long after its deadline.
_RETURNED_SECONDS: Final = 900.0
_TRIGGER_BEGINS_SECONDS: Final = 10.0
_START_SECONDS: Final = 5.0
# A stop is requested so soon.
_STOP_SECONDS: Final = 30.0
# A process that is told to end may live so long.
_TEST_SECONDS: Final = 15.0
_PROCESS_BEGINS_SECONDS: Final = 5.0
# A worker stores the copy of a team's record so soon.
_COPY_SECONDS: Final = 10.0
# A stop that is refused so is given up.
_REFUSALS: Final = ("conflict", "denied")
# A worker defers its task so soon.
_DEFERS_SECONDS: Final = 5.0
_STOP: Final = "StopPipelineExecution"
_RESUME: Final = "RetryPipelineExecution"
_KILL: Final = ("kill worker", "stop here")


def of_two(
    time: Timeline, owner: Owner, arguments: dict[str, Any], begins: Span
) -> Allowance | None:
    """
    Return what allows two executions of a task at once; None for nothing.

    :param begins: when the first and the second one began.
    """
    # The request of the first one may be on its way.
    since = begins._replace(begin=begins.begin - _START_SECONDS)
    if not time.has_state(owner, (DELETED,), since):
        return None
    lost = any(each.text == "lose records" for each in _actions(time, owner, begins))
    if lost or not arguments.get("wait_for_completion", True):
        return _NAMED["created again without a record"]
    return None


def of_left(
    time: Timeline, owner: Owner, arguments: dict[str, Any], span: Span
) -> Allowance | None:
    """Return what allows that an execution runs on after its task; None for nothing."""
    if not arguments.get("stop_on_kill", True):
        return _NAMED["stop_on_kill=False"]
    is_waited_for = arguments.get("wait_for_completion", True)
    if not is_waited_for and _has_succeeded(time, owner, span.begin):
        return _NAMED["wait_for_completion=False"]
    if _is_deleted_with_dag(time, owner, span):
        return _NAMED["the DAG is deleted"]
    looked_at = span.begin
    until_run_ends = _until_run_ends(time, owner, span.begin)
    if until_run_ends:
        looked_at = min(time.run_ended_at(owner, span.begin), span.end)
        after_run = Span(looked_at, span.end)
        if time.undisturbed(owner.deployment, after_run) < _STOPPED_SECONDS:
            return until_run_ends
    if _lacks_record(time, owner, span.begin, looked_at + _STOPPED_SECONDS):
        return _NAMED["no proven record"]
    if _is_overtaken(time, owner, span.begin):
        return _NAMED["a stop that a failure overtakes"]
    return _of_team(time, owner, span.begin) or _without_answer(time, owner, span)


def _until_run_ends(time: Timeline, owner: Owner, at: float) -> Allowance | None:
    """Return what allows that nobody stops an execution before its DAG run ends."""
    if _is_killed(time, owner, at) or _is_unanswered(time, owner, at):
        return _NAMED["kill -9 without a retry"]
    if time.tests(owner, Span(0.0, at)) > 1:
        # The end of the first one ends the task of the second one.
        return _NAMED["airflow tasks test"]
    for entry in time.actions(Span(at - _TEST_SECONDS, at)):
        if entry.text == "test task" and entry.details[:3] == owner[:3]:
            running = entry.at - time.last_at(owner, "running", entry.at)
            if running < _PROCESS_BEGINS_SECONDS:
                return _NAMED["airflow tasks test"]
    return None


def _without_answer(time: Timeline, owner: Owner, span: Span) -> Allowance | None:
    if _may_not_stop(time, span.begin):
        return _NAMED["no triggerer answers"]
    # A triggerer has an API server of its own, and needs the database.
    for entry in _actions(time, owner, Span(span.begin - 250, span.begin + 60)):
        left = entry.at - max(span.begin, entry.at)
        if entry.text == "database" and left + entry.details.value > _NO_ANSWER_SECONDS:
            return _NAMED["no triggerer answers"]
    return None


def _may_not_stop(time: Timeline, at: float) -> bool:
    """Return whether AWS refuses stops when one is due."""
    return any(
        entry.at + entry.details.value[2] > at
        and entry.details.value[0] in _REFUSALS
        and re.fullmatch(entry.details.value[1], _STOP)
        for entry in time.actions(Span(0.0, at + _STOP_SECONDS))
        if entry.text == "aws"
    )


def _actions(time: Timeline, owner: Owner, span: Span) -> list[Entry]:
    """Return what was done in the deployment of a task."""
    return [
        entry
        for entry in time.actions(span)
        if entry.details.deployment == owner.deployment
    ]


def _has_just_begun(time: Timeline, owner: Owner, at: float) -> bool:
    """Return whether a task has begun an execution a moment ago."""
    return any(
        entry.kind == "aws"
        and entry.owner == owner
        and entry.text != _STOP
        and at - _DEFERS_SECONDS < entry.at <= at
        for entry in time.entries
    )


def _before_end(time: Timeline, owner: Owner, at: float) -> Entry:
    """Return the last state of a task before it has ended, or was deleted."""
    ends = (*ENDED, DELETED)
    return [each for each in time.states(owner, at) if each.text not in ends][-1]


def _has_succeeded(time: Timeline, owner: Owner, at: float) -> bool:
    """Return whether the last process of a task that has run has ended in a success."""
    states = [each.text for each in time.states(owner, at)]
    ends = [state for state in states if state in ("running", "success")]
    return ends[-1:] == ["success"]


def _is_deleted_with_dag(time: Timeline, owner: Owner, span: Span) -> bool:
    """Return whether a DAG was deleted when no process of its task ran yet, or any more."""
    at = span.begin
    if all(entry.text != "delete dag" for entry in time.actions(Span(at, at))):
        return False
    before = _before_end(time, owner, at)
    if before.text == "deferred":
        # Its trigger begins some seconds later, or when there is a slot.
        is_new = at - before.at < _TRIGGER_BEGINS_SECONDS
        return is_new or time.lacks_slot(owner, at - 1)
    return before.text != "running"


def _is_killed(time: Timeline, owner: Owner, at: float) -> bool:
    """Return whether a task has failed because its process was killed, not its host."""
    kills = [
        entry
        for entry in _actions(time, owner, Span(at - 3, at))
        if entry.text in _KILL
        and (entry.details.value == "process" or "kill" in entry.details.value)
    ]
    return bool(kills) and time.state_at(owner, at) == "failed"


def _is_unanswered(time: Timeline, owner: Owner, at: float) -> bool:
    """Return whether a task has failed because Airflow did not answer its process."""
    return any(
        entry.kind == "told"
        and entry.owner == owner
        and entry.text.startswith("AirflowRuntimeError")
        and at - 3 < entry.at <= at
        for entry in time.entries
    )


def _lacks_record(time: Timeline, owner: Owner, at: float, until: float) -> bool:
    """
    Return whether the record of a task was edited or deleted, and nobody waits for its
    execution when the task ends.

    :param at: when it has ended.
    :param until: when the watch looks at the record.
    """
    before = _before_end(time, owner, at)
    began_at = time.last_at(owner, "running", at)
    since = {entry.text for entry in _actions(time, owner, Span(began_at, until))}
    if not began_at or since.isdisjoint(("edit records", "lose records")):
        return False
    if before.text == "running":
        # A process that is about to defer its task waits for nothing.
        is_refused = _has_just_begun(time, owner, at)
        return is_refused or not since.isdisjoint(_KILL)
    if before.text != "deferred" or time.lacks_slot(owner, at - 1):
        return True
    # Its triggerer may be dead.
    return time.is_hindered(owner.deployment, Span(at - 1, at))


def _of_team(time: Timeline, owner: Owner, at: float) -> Allowance | None:
    if time.team is None:
        return None
    if _lacks_copy(time, owner, at):
        return _NAMED["no copy of a team's record"]
    if _is_deleted_without_trigger(time, owner, at):
        return _NAMED["a team's DAG run is deleted"]
    return None


def _lacks_copy(time: Timeline, owner: Owner, at: float) -> bool:
    """
    Return whether a process of a team's task has ended that was to go on with an
    execution, and had just begun.
    """
    sessions = [each.at for each in time.states(owner) if each.text == "running"]
    began_at = time.last_at(owner, "running", at)
    is_first = began_at == min(sessions, default=began_at)
    return not is_first and at - began_at < _COPY_SECONDS


def _is_overtaken(time: Timeline, owner: Owner, at: float) -> bool:
    """
    Return whether an execution was resumed after a stop, by a task that has lost its
    record.
    """
    before = Span(0.0, at)
    actions = {entry.text for entry in _actions(time, owner, before)}
    if actions.isdisjoint(("edit records", "lose records")):
        return False
    stops, resumes = (
        [each.at for each in time.requests(name) if each.owner == owner]
        for name in (_STOP, _RESUME)
    )
    return any(stop <= resume <= at for stop in stops for resume in resumes)


def _is_deleted_without_trigger(time: Timeline, owner: Owner, at: float) -> bool:
    """Return whether a task was deleted while no triggerer ran its trigger."""
    if not time.has_state(owner, (DELETED,), Span(at, at)):
        return False
    before = _before_end(time, owner, at)
    return before.text not in ("running", "deferred") or time.lacks_slot(owner, at - 1)


def of_late(
    time: Timeline, owner: Owner, arguments: dict[str, Any], span: Span
) -> Allowance | None:
    """Return what allows that an execution runs on after its timeout."""
    if not arguments.get("stop_on_kill", True):
        return _NAMED["stop_on_kill=False"]
    if time.lacks_slot(owner, span.begin):
        since = span.begin + _RETURNED_SECONDS
        returned = Span(min(since, span.end), span.end)
        paused = sum(
            entry.details.value
            for entry in _actions(time, owner, span)
            if entry.text == "pause"
        )
        if time.undisturbed(owner.deployment, returned) < _STOPPED_SECONDS + paused:
            return _NAMED["the deadline passes without a slot"]
        # If the task has ended before, there is no other way than its record.
        ends = (each.begin for each in time.ends(owner) if each.begin >= span.begin)
        over = min(ends, default=math.inf)
        if over < returned.begin and _lacks_record(
            time, owner, over, over + _STOPPED_SECONDS
        ):
            return _NAMED["no proven record"]
    if _is_overtaken(time, owner, span.begin):
        return _NAMED["a stop that a failure overtakes"]
    return _without_answer(time, owner, span)


def of_begun_again(arguments: dict[str, Any], is_resumed: bool) -> Allowance | None:
    """
    Return what allows that an execution goes on that a user has stopped in AWS; None
    for nothing.
    """
    if is_resumed and arguments.get("wait_for_capacity"):
        return _NAMED["stopped in AWS after a failure"]
    return None


def of_foreign_stop(time: Timeline, copied: bool, process: str) -> Allowance | None:
    """Return what allows a stop by another deployment; None for nothing."""
    # Airflow hides the Variables of a team from its triggerers.
    if time.team and copied and ".triggerer" in process:
        return _NAMED["a copy that counts as the original"]
    return None


def of_cost(
    time: Timeline, owner: Owner, arguments: dict[str, Any], reached: float, span: Span
) -> Allowance | None:
    """
    Return what allows that a limit is exceeded by more; None for nothing.

    :param reached: when it was reached.
    :param span: from when it had to be kept, until nothing was spent any more.
    """
    if any(time.lacks_slot(owner, at) for at in (reached, span.begin)):
        return _NAMED["no free slot"]
    session = Span(time.last_at(owner, "running", span.begin), span.begin)
    if time.renders_none(owner, "max_cost", session):
        return _NAMED["the limit is not valid any more"]
    over = [each for each in time.ends(owner) if each.begin <= span.begin < each.end]
    if not over:
        return None
    if not arguments.get("stop_on_kill", True):
        return _NAMED["the limit ends with the task"]
    return of_left(time, owner, arguments, Span(over[0].begin, span.end))
