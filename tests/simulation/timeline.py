"""The journal of a history by tasks, and the times in which nothing could be asked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final, NamedTuple

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import ENDED
from tests.simulation.journal import Entry, Journal, Owner

# States in which Airflow has forgotten the try of a task: a user has cleared it.
CLEARED: Final = ("None", "restarting")
# The state of a task instance that was deleted.
DELETED: Final = "deleted"
# After so much time, what was kept from an answer has asked again.
_ASKS_AGAIN_SECONDS: Final = 90.0
# A triggerer takes over the triggers of another one after that.
_TAKEN_OVER_SECONDS: Final = 60.0


class Span(NamedTuple):
    """A time with its end."""

    begin: float
    end: float


class Timeline:
    """
    What happened to the tasks.

    :param now: the end of the history.
    :param team: that of the DAG.
    """

    def __init__(self, journal: Journal, now: float, team: str | None = None) -> None:
        self.now = now
        self.team = team
        self.entries = journal.entries
        self._states: dict[Owner, list[Entry]] = {}
        for entry in journal.of_kind("state"):
            if entry.owner:
                self._states.setdefault(entry.owner, []).append(entry)
        self._hindrances = sorted(_hindrances(journal))

    def states(self, owner: Owner, until: float = math.inf) -> list[Entry]:
        """Return the states that a task had, in order."""
        return [each for each in self._states.get(owner, ()) if each.at <= until]

    def requests(self, name: str) -> list[Entry]:
        """Return the requests of a name that AWS has accepted."""
        return [
            entry
            for entry in self.entries
            if (entry.kind, entry.text) == ("aws", name) and entry.details.is_accepted
        ]

    def state_at(self, owner: Owner, at: float) -> str | None:
        """Return the state of a task; None before its first one."""
        before = self.states(owner, at)
        return before[-1].text if before else None

    def has_state(self, owner: Owner, states: Iterable[str], span: Span) -> bool:
        """Return whether a task got one of some states in a time."""
        return any(
            entry.text in states and span.begin <= entry.at <= span.end
            for entry in self.states(owner)
        )

    def last_at(self, owner: Owner, state: str, at: float) -> float:
        """Return when a task had a state last; 0 if it never had."""
        before = [each.at for each in self.states(owner, at) if each.text == state]
        return max(before, default=0.0)

    def lacks_slot(self, owner: Owner, at: float) -> bool:
        """
        Return whether no triggerer runs the trigger of a deferred task, or that one was
        killed which did.
        """
        if self.state_at(owner, at) != "deferred":
            return False
        since = self.states(owner, at)[-1].at
        runs_in = None
        for entry in self.entries:
            if not since <= entry.at <= at:
                continue
            if entry.kind == "trigger" and entry.owner == owner:
                runs_in = entry.details
            elif entry.kind == "triggerer" and entry.text == runs_in:
                runs_in = None
        return runs_in is None

    def ends(self, owner: Owner) -> Iterator[Span]:
        """Yield the times in which a task was over."""
        begin = None
        for entry in self.states(owner):
            is_over = entry.text in (*ENDED, DELETED)
            if is_over and begin is None:
                begin = entry.at
            if not is_over and begin is not None:
                yield Span(begin, entry.at)
                begin = None
        if begin is not None:
            yield Span(begin, self.now)

    def is_over(self, owner: Owner, at: float) -> bool:
        """Return whether a task had ended."""
        return any(span.begin <= at < span.end for span in self.ends(owner))

    def run_ended_at(self, owner: Owner, since: float) -> float:
        """Return when the DAG run of a task has ended next."""
        run = owner._replace(task_id="", map_index=-1)
        for entry in self.entries:
            if entry.kind == "run" and entry.owner == run and entry.at >= since:
                return entry.at
        return self.now

    def actions(self, span: Span) -> list[Entry]:
        """Return what was done in a time."""
        return [
            entry
            for entry in self.entries
            if entry.kind == "action" and span.begin <= entry.at <= span.end
        ]

    def tests(self, owner: Owner, span: Span) -> int:
        """Return how often ``airflow tasks test`` has run a task in a time."""
        return sum(
            entry.text == "test task" and entry.details[:3] == owner[:3]
            for entry in self.actions(span)
        )

    def renders_none(self, owner: Owner, argument: str, span: Span) -> bool:
        """Return whether a template of a task has rendered to nothing in a time."""
        return any(
            (entry.kind, entry.text, entry.owner) == ("renders none", argument, owner)
            and span.begin <= entry.at <= span.end
            for entry in self.entries
        )

    def undisturbed(self, deployment: str, span: Span) -> float:
        """
        Return for how many seconds of a time both Airflow and AWS could be asked.

        Each hindrance counts for its own interval: none makes up for another one.
        """
        seconds = 0.0
        at = span.begin
        for begin, end, where in self._hindrances:
            if where not in ("", deployment) or end <= at:
                continue
            if begin >= span.end:
                break
            seconds += max(0.0, begin - at)
            at = end
        return seconds + max(0.0, span.end - at)

    def without_process(self, owner: Owner, span: Span) -> float:
        """
        Return for how many seconds of a time Airflow may not have noticed yet that the
        process of a task was lost, or the task has waited for its retry.
        """
        seconds = 0.0
        states = [*self.states(owner), Entry(self.now, "state", "", owner)]
        for entry, following in pairwise(states):
            begin = entry.at
            if entry.text == "running":
                losses = self._losses(owner, Span(entry.at, following.at))
                begin = min(losses, default=following.at)
            elif entry.text != "up_for_retry":
                continue
            seconds += max(0.0, min(following.at, span.end) - max(begin, span.begin))
        return seconds

    def frozen(self, owner: Owner, span: Span) -> float:
        """Return for how long processes of a task were frozen that were hit in a time."""
        total = 0.0
        for entry in self.actions(span):
            if entry.text != "stop here":
                continue
            kind, seconds = entry.details.value
            if kind == "freeze" and entry.details.process.startswith(f"{owner}."):
                total += seconds
        return total

    def _losses(self, owner: Owner, span: Span) -> list[float]:
        return [
            entry.at
            for entry in self.actions(span)
            if entry.text in ("kill worker", "stop here")
            and entry.details.deployment == owner.deployment
        ]

    def is_hindered(self, deployment: str, span: Span) -> bool:
        """Return whether something could not be asked for a while."""
        return self.undisturbed(deployment, span) < span.end - span.begin


def _hindrances(journal: Journal) -> Iterator[tuple[float, float, str]]:
    """Yield begin, end, and the deployment; an empty name for all of them."""
    for entry in journal.of_kind("action"):
        act = entry.details
        match entry.text:
            case "api" | "database":
                seconds = act.value + _ASKS_AGAIN_SECONDS
                yield entry.at, entry.at + seconds, act.deployment
            case "aws":
                seconds = act.value[2] + _ASKS_AGAIN_SECONDS
                yield entry.at, entry.at + seconds, ""
            case "freeze triggerer":
                seconds = act.value + _TAKEN_OVER_SECONDS
                yield entry.at, entry.at + seconds, act.deployment
            case "kill triggerer" | "move":
                yield entry.at, entry.at + _TAKEN_OVER_SECONDS, act.deployment
            case "stop here":
                kind, seconds = act.value
                frozen = seconds if kind == "freeze" else 0
                end = entry.at + frozen + _TAKEN_OVER_SECONDS
                yield entry.at, end, act.deployment


def since_start(at: float) -> float:
    """Return a time as the trace has it."""
    return at - kernels.START
