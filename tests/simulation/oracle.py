"""What a history must not have shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import ENDED
from tests.simulation.aws import Attempt, Aws
from tests.simulation.journal import Entry, Journal, Owner
from tests.simulation.plans import Plan

LEFT_SECONDS: Final = 400.0


@dataclass(frozen=True)
class Violation:
    """
    A rule that did not hold.

    :param rule: its name.
    """

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


def judge(plan: Plan, aws: Aws, journal: Journal) -> list[Violation]:
    """Return what has gone wrong."""
    return _Judgement(plan, aws, journal).violations()


class _Judgement:
    def __init__(self, plan: Plan, aws: Aws, journal: Journal) -> None:
        self._plan = plan
        self._aws = aws
        self._journal = journal
        self._now = kernels.KERNEL.now
        self._found: list[Violation] = []
        self._disrupted = sum(map(_disrupted_seconds, plan.actions))

    def violations(self) -> list[Violation]:
        """Return all of them."""
        self._two_at_once()
        self._stops()
        self._left_running()
        self._costs()
        return self._found

    def _add(self, rule: str, text: str) -> None:
        self._found.append(Violation(rule, text))

    def _two_at_once(self) -> None:
        attempts = sorted(self._aws.attempts, key=lambda each: each.began_at)
        for number, one in enumerate(attempts):
            for other in attempts[number + 1 :]:
                end = one.ended_at or self._now
                if one.owner == other.owner and other.began_at < end - 1:
                    text = f"{one.arn[-12:]} and {other.arn[-12:]} of {one.owner}"
                    self._add("TWO AT ONCE", text)

    def _stops(self) -> None:
        for entry in self._journal.of_kind("aws"):
            call = entry.details
            is_stop = entry.text == "StopPipelineExecution"
            if not is_stop or call.answer not in ("ok", "lost"):
                continue
            owner = self._aws.owners[call.arn]
            text = f"{call.process} has stopped {call.arn[-12:]} of {owner}"
            if owner.deployment != call.deployment:
                self._add("OTHER DEPLOYMENT", text)
            elif not self._has_reason(owner, call.arn, entry.at):
                self._add("NO REASON", text)

    def _has_reason(self, owner: Owner, arn: str, at: float) -> bool:
        if any(self._is_reason(entry, owner) for entry in self._before(at + 1)):
            return True
        arguments = self._plan.arguments_of(owner.task_id)
        spent = self._aws.cost_of(arn, 0, at)
        if "max_cost" in arguments and spent > 0.9 * arguments["max_cost"] - 5:
            return True
        begin = next(each.began_at for each in self._aws.attempts if each.arn == arn)
        return "timeout" in arguments and at - begin > arguments["timeout"] - 5

    def _before(self, at: float) -> list[Entry]:
        return [each for each in self._journal.entries if each.at <= at]

    def _is_reason(self, entry: Entry, owner: Owner) -> bool:
        if entry.kind == "action":
            return entry.text in ("kill worker", "stop here", "clear")
        is_state = entry.kind == "state" and entry.owner == owner
        return is_state and entry.text in ENDED and entry.text != "success"

    def _left_running(self) -> None:
        for attempt in self._aws.attempts:
            if not self._plan.arguments_of(attempt.owner.task_id)["stop_on_kill"]:
                continue
            for since, until in self._ends_of(attempt.owner):
                seconds = self._seconds_after(attempt, since, until)
                if seconds > LEFT_SECONDS + self._disrupted:
                    text = f"{attempt.arn[-12:]} of {attempt.owner}: {seconds:.0f} s"
                    self._add("LEFT RUNNING", text)

    def _seconds_after(self, attempt: Attempt, since: float, until: float) -> float:
        end = min(attempt.ended_at or self._now, until)
        return end - since if attempt.began_at <= since else 0.0

    def _ends_of(self, owner: Owner) -> list[tuple[float, float]]:
        """Return the times in which a task was over."""
        found: list[tuple[float, float]] = []
        since = None
        for entry in self._journal.of_kind("state"):
            if entry.owner != owner:
                continue
            if since is not None:
                found.append((since, entry.at))
            since = entry.at if entry.text in ENDED else None
        if since is not None:
            found.append((since, self._now))
        return found

    def _costs(self) -> None:
        for owner in sorted({each.owner for each in self._aws.attempts}):
            arguments = self._plan.arguments_of(owner.task_id)
            if "max_cost" not in arguments:
                continue
            interval = max(60.0, arguments["poll_interval"])
            bound = arguments["max_cost"] + 2.0 * (interval + 180 + self._disrupted)
            clears = [
                entry.at
                for entry in self._journal.of_kind("state")
                if entry.owner == owner and entry.text == "None"
            ]
            bounds = [kernels.START, *clears, self._now]
            arns = sorted(
                arn for arn, each in self._aws.owners.items() if each == owner
            )
            for since, until in pairwise(bounds):
                spent = sum(self._aws.cost_of(arn, since, until) for arn in arns)
                if spent > bound:
                    text = f"{owner}: {spent:.0f}, bound {bound:.0f}"
                    self._add("TOO EXPENSIVE", text)


def _disrupted_seconds(action: Any) -> float:
    """Return for how long an action may keep Airflow or AWS from a stop."""
    match action.name:
        case "kill worker" | "stop here":
            return 800.0
        case "kill triggerer":
            return 60.0
        case "aws":
            return float(2 * action.value[2] + 120)
        case "api" | "pause" | "freeze triggerer":
            return float(action.value + 60)
        case _:
            return 0.0
