"""
What a history must not have shown, by what AWS has seen.

1. ``TWO AT ONCE``: two executions of one task never run at the same time.
2. ``LEFT RUNNING``: none runs on after its task has ended.
3. ``OTHER DEPLOYMENT``: none is stopped by another deployment.
4. ``NO REASON``: none is stopped whose task goes on.
5. ``TOO LONG``: none runs on after its ``timeout``.
6. ``TOO EXPENSIVE``: none costs more than its limit and the bound of the page.
7. ``BEGUN AGAIN``: none that a user has stopped in AWS is replaced in the same try.
8. ``NOT CANCELLED``: only a stop of a user counts as one, unless the task has lost its
   record, which has the stop of a process that has died since.
9. ``TOKENS``: all stops of an attempt have the same token, and there are no more
   resumes than retries and clears.
10. ``NO CAUSE``: a try fails only for a cause, which a transient fault of AWS is not.
11. ``RESULT``: a task that succeeds has the result of its last execution, and a sensor
    succeeds after an execution.
12. ``UNEXPECTED``: a stored plan leads to the requests that it expects, and to what
    it says that XComs show.

``told.py`` has the statements about texts. What a page allows is in ``allowances.py``.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from tests.simulation import allowances, told
from tests.simulation.airflow.database import ENDED
from tests.simulation.allowances import Allowance
from tests.simulation.aws import CONSOLE, Attempt, Aws
from tests.simulation.journal import Entry, Journal, Owner
from tests.simulation.plans import EXECUTION, SENSOR, STEPS, Plan
from tests.simulation.timeline import CLEARED, DELETED, Span, Timeline, since_start

# How long a stop may take from its reason, if nothing keeps Airflow and AWS from it.
STOP_SECONDS: Final = 90.0
# A try that fails stops its execution first.
FAILS_SECONDS: Final = 60.0
_RESENT_SECONDS: Final = 5.0
_STOP: Final = "StopPipelineExecution"
# A poll may come early or late by this.
_POLL_SECONDS: Final = 30.0
# How many jobs of the pipeline run at once.
_MAX_JOBS: Final = 2


# By the class of an error: how the execution has ended that its text names ...
_AFTER_ENDS: Final = {
    "PipelineExecutionFailedError": ("Failed", "CompletedWithFailures"),
    "PipelineExecutionCancelledError": ("Stopped",),
    "PipelineExecutionCancelledFailError": ("Stopped",),
}
# ... or what was done before.
_AFTER_ACTIONS: Final = {
    "SageMakerApiError": ("aws",),
    "AirflowRuntimeError": ("api", "database"),
    "PolysyncError": (
        "aws",
        "api",
        "database",
        "kill worker",
        "stop here",
        "test task",
        "delete run",
        "delete dag",
    ),
    # It ends by Airflow's timeout; the stop that it has begun goes on.
    "on_kill": ("freeze triggerer",),
}
# What AWS answers for a while in place of what a request is for.
_TRANSIENT: Final = ("throttle", "error", "lost")
# What keeps Airflow or AWS from answering lasts 200 or 300 s, and a process asks again.
_OUTAGE_SECONDS: Final = 400.0
# A process that has started an execution waits for it so soon.
_WAITS_SECONDS: Final = 5.0
# A process goes on for a while when its try has ended.
_ENDS_PROCESS_SECONDS: Final = 30.0
# As that of ``ending.py``, less what a trigger may begin late.
_TRIGGER_GRACE_SECONDS: Final = 800.0


@dataclass(frozen=True)
class Violation:
    """
    A statement that did not hold.

    :param rule: its name.
    """

    rule: str
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.text}"


@dataclass
class Judgement:
    """
    What the oracle says of a history.

    :param counts: what was looked at, and which allowances were used.
    """

    violations: list[Violation] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)


def judge(
    plan: Plan,
    aws: Aws,
    journal: Journal,
    now: float,
    xcoms: Mapping[Owner, dict[str, Any]],
) -> Judgement:
    """
    Return what has gone wrong.

    :param now: the end of the history.
    :param xcoms: those of each task at the end.
    """
    judge = _Judge(plan, aws, journal, now)
    for owner in sorted(xcoms):
        judge.result(owner, xcoms[owner])
    judge.shown({str(owner): values for owner, values in xcoms.items()})
    return judge.judge()


def _has(found: Any, wanted: Any) -> bool:
    """Return whether an XCom has what a plan says."""
    if isinstance(wanted, dict):
        return isinstance(found, dict) and all(
            _has(found.get(name), value) for name, value in wanted.items()
        )
    if isinstance(wanted, str):
        return wanted in str(found)
    return bool(found == wanted)


def _is_transient(entry: Entry) -> bool:
    """Return whether an action lets AWS refuse only what a process sends again."""
    return entry.text == "aws" and entry.details.value[0] in _TRANSIENT


class _Judge:
    def __init__(self, plan: Plan, aws: Aws, journal: Journal, now: float) -> None:
        self._plan = plan
        self._aws = aws
        self._journal = journal
        self._time = Timeline(journal, now, plan.airflow.team)
        self._judgement = Judgement()

    def judge(self) -> Judgement:
        self._two_at_once()
        for owner_name, requests in self._plan.expects.items():
            self._expected(owner_name, requests)
        for entry in self._journal.of_kind("told"):
            if entry.owner and entry.owner.task_id in self._plan.starting_ids:
                self._not_cancelled(entry, entry.owner)
                self._no_cause(entry, entry.owner)
        for entry in self._time.requests(_STOP):
            self._stop(entry)
        for attempt in self._aws.attempts:
            self._left_running(attempt)
            self._too_long(attempt)
            self._begun_again(attempt)
        for arn, owner in self._aws.owners.items():
            self._tokens(arn, owner)
        for owner in sorted({each.owner for each in self._aws.attempts}):
            self._costs(owner)
        self._sensors()
        for text, is_true, what in told.compared(self._time):
            self._saw(f"text: {text}")
            if not is_true:
                self._add("TEXT", what)
        return self._judgement

    def _add(self, rule: str, text: str, allowed: Allowance | None = None) -> None:
        if allowed:
            assert rule in allowed.allows, allowed.name
            self._judgement.counts[f"allowed: {allowed.name}"] += 1
            return
        self._judgement.violations.append(Violation(rule, text))

    def _saw(self, what: str) -> None:
        self._judgement.counts[what] += 1

    def _expected(self, owner_name: str, requests: Sequence[str]) -> None:
        # A request that is sent again with its token changes nothing.
        sent = {
            entry.details.token: entry.text
            for entry in self._journal.of_kind("aws")
            if str(entry.owner) == owner_name and entry.details.is_accepted
        }
        if [*sent.values()] != list(requests):
            text = ", ".join(sent.values()) or "nothing"
            self._add("UNEXPECTED", f"{owner_name}: {text}")

    def shown(self, xcoms: Mapping[str, dict[str, Any]]) -> None:
        """Compare the XComs of tasks, by their names, with what the plan says."""
        for owner_name, wanted in self._plan.shows.items():
            found = {name: xcoms.get(owner_name, {}).get(name) for name in wanted}
            if not _has(found, wanted):
                self._add("UNEXPECTED", f"{owner_name} shows {found}")

    def _arguments(self, owner: Owner) -> dict[str, Any]:
        return self._plan.arguments_of(owner.task_id)

    def _attempts(self, owner: Owner) -> list[Attempt]:
        return [each for each in self._aws.attempts if each.owner == owner]

    # ---- executions at the same time

    def _two_at_once(self) -> None:
        attempts = sorted(self._aws.attempts, key=lambda each: each.began_at)
        for number, one in enumerate(attempts):
            for other in attempts[number + 1 :]:
                if one.owner != other.owner:
                    continue
                self._saw("pairs of executions of one task")
                if other.began_at < one.ended_at:
                    end = min(one.ended_at, other.ended_at, self._time.now)
                    seconds = end - other.began_at
                    text = (
                        f"{one.arn[-12:]} and {other.arn[-12:]} of {one.owner} at"
                        f" {since_start(other.began_at):.2f} for {seconds:.0f} s"
                    )
                    arguments = self._arguments(one.owner)
                    begins = Span(one.began_at, other.began_at)
                    allowed = allowances.of_two(
                        self._time, one.owner, arguments, begins
                    )
                    self._add("TWO AT ONCE", text, allowed)

    # ---- stops

    def _stop(self, entry: Entry) -> None:
        call = entry.details
        owner = self._aws.owners[call.arn]
        if call.deployment == CONSOLE:
            return
        self._saw("stops")
        text = (
            f"{call.process} has stopped {call.arn[-12:]} of {owner} at"
            f" {since_start(entry.at):.2f}"
        )
        if owner.deployment != call.deployment:
            is_copied = any(
                each.text in ("copy", "import") for each in self._time.entries
            )
            allowed = allowances.of_foreign_stop(self._time, is_copied, call.process)
            self._add("OTHER DEPLOYMENT", text, allowed)
        elif not self._has_reason(owner, call.arn, entry.at):
            self._add("NO REASON", text)

    def _has_reason(self, owner: Owner, arn: str, at: float) -> bool:
        *before, attempt = [
            each
            for each in self._aws.attempts
            if each.arn == arn and each.began_at <= at
        ]
        was_wanted = self._time.state_at(owner, attempt.began_at) == "running"
        if not was_wanted or self._time.is_over(owner, at):
            return True
        since = Span(attempt.began_at, at)
        if at - attempt.began_at < _RESENT_SECONDS:
            # A start or a resume that was pending when the task was cleared is sent
            # again, so that no frozen process sends it later, and is stopped.
            ends = [each.ended_at for each in self._attempts(owner)]
            begin = max((end for end in ends if end < at), default=0.0)
            if before:
                begin = before[-1].began_at
            since = Span(begin, at)
        if self._was_ended_or_cleared(owner, since):
            return True
        if self._is_late(owner, attempt, at) or self._is_expensive(owner, at):
            return True
        return self._fails_soon(owner, at)

    def _was_ended_or_cleared(self, owner: Owner, since: Span) -> bool:
        for entry in self._time.states(owner):
            if not since.begin <= entry.at <= since.end + 1:
                continue
            if entry.text in (*ENDED, DELETED):
                return True
            if entry.text in CLEARED and self._is_cleared_as_a_whole(owner, entry.at):
                return True
        return False

    def _is_cleared_as_a_whole(self, owner: Owner, at: float) -> bool:
        """
        Return whether the execution is not wanted any more: a clear of some steps of a
        group keeps it.
        """
        if owner.task_id != EXECUTION:
            return True
        return all(
            self._time.has_state(owner._replace(task_id=step), CLEARED, Span(at, at))
            for step in STEPS
        )

    def _is_late(self, owner: Owner, attempt: Attempt, at: float) -> bool:
        arguments = self._arguments(owner)
        limits = [arguments.get(name) for name in ("timeout", "execution_timeout")]
        # The session of the task has begun before, perhaps long before: it may have
        # waited for the end of an earlier execution.
        is_late = any(at - attempt.began_at > limit - 15 for limit in limits if limit)
        return is_late or self._has_alarm(owner, at)

    def _has_alarm(self, owner: Owner, at: float) -> bool:
        """Return whether the session of a task has passed its ``execution_timeout``."""
        limit: float = self._arguments(owner).get("execution_timeout", math.inf)
        return at - self._time.last_at(owner, "running", at) >= limit

    def _is_expensive(
        self, owner: Owner, at: float, arns: Collection[str] = ()
    ) -> bool:
        """
        Return whether a task has spent its limit.

        :param arns: executions that count although they began in an earlier epoch.
        """
        limit: float = self._arguments(owner).get("max_cost", math.inf)
        # The estimate is never ahead of the truth, but for whole seconds of each job.
        spent = self._spent(owner, self._epoch_at(owner, at), at)
        for arn in arns:
            spent = max(spent, self._aws.cost_of(arn, 0, at))
        return spent > limit - 10

    def _fails_soon(self, owner: Owner, at: float) -> bool:
        """Return whether the task has failed next, before another try of it ran."""
        for entry in self._time.states(owner):
            if entry.at < at or entry.text in ("scheduled", "queued", "running"):
                continue
            span = Span(at, entry.at)
            seconds = self._time.undisturbed(owner.deployment, span)
            return seconds < FAILS_SECONDS and entry.text in (*ENDED, *CLEARED)
        return False

    # ---- tokens

    def _tokens(self, arn: str, owner: Owner) -> None:
        attempts = sum(each.arn == arn for each in self._aws.attempts)
        new_tries = sum(
            entry.text in (*CLEARED, "up_for_retry")
            for entry in self._time.states(owner)
        )
        # ``airflow tasks test`` runs the same try again.
        new_tries += self._time.tests(owner, Span(0.0, self._time.now))
        # A try may be killed before it sends a resume that it has stored.
        limits = {
            _STOP: attempts + (attempts > 1 or new_tries > 0),
            "RetryPipelineExecution": new_tries + self._pauses(arn, owner),
        }
        for operation, limit in limits.items():
            tokens = {
                entry.details.token
                for entry in self._journal.of_kind("aws")
                if entry.text == operation
                and entry.details.arn == arn
                and entry.details.deployment != CONSOLE
                # What is refused for a quota is asked again after a pause.
                and entry.details.answer != "ResourceLimitExceeded"
            }
            self._judgement.counts["tokens"] += len(tokens)
            if len(tokens) > limit:
                self._add("TOKENS", f"{len(tokens)} of {operation} of {arn[-12:]}")

    def _pauses(self, arn: str, owner: Owner) -> int:
        """Return how many waits for capacity may have ended with a resume."""
        if not self._arguments(owner).get("wait_for_capacity"):
            return 0
        return sum(
            each.arn == arn and each.ended_at < math.inf for each in self._aws.attempts
        )

    # ---- executions that are left

    def _left_running(self, attempt: Attempt) -> None:
        owner = attempt.owner
        for over in self._time.ends(owner):
            end = min(over.end, attempt.ended_at)
            span = Span(max(over.begin, attempt.began_at), end)
            if span.end <= span.begin:
                continue
            self._saw("ends of tasks before their executions")
            seconds = self._time.undisturbed(owner.deployment, span)
            if seconds > STOP_SECONDS:
                text = (
                    f"{attempt.arn[-12:]} of {owner} for {seconds:.0f} s from"
                    f" {since_start(span.begin):.2f}"
                )
                arguments = self._arguments(owner)
                allowed = allowances.of_left(self._time, owner, arguments, span)
                self._add("LEFT RUNNING", text, allowed)

    def _too_long(self, attempt: Attempt) -> None:
        arguments = self._arguments(attempt.owner)
        end = min(attempt.ended_at, self._time.now)
        deadline = self._last_begin(attempt, end) + arguments.get("timeout", math.inf)
        # A worker that is frozen between the start and its wait counts from the wait.
        starts = Span(attempt.began_at, attempt.began_at + _WAITS_SECONDS)
        deadline += self._time.frozen(attempt.owner, starts)
        if end <= deadline or self._time.is_over(attempt.owner, deadline):
            return
        self._saw("executions past their timeout")
        span = Span(deadline, end)
        seconds = self._time.undisturbed(attempt.owner.deployment, span)
        if seconds > STOP_SECONDS + _POLL_SECONDS + arguments["poll_interval"]:
            text = f"{attempt.arn[-12:]} of {attempt.owner} for {seconds:.0f} s"
            allowed = allowances.of_late(self._time, attempt.owner, arguments, span)
            self._add("TOO LONG", text, allowed)

    def _last_begin(self, attempt: Attempt, end: float) -> float:
        """
        Return from when the last timeout counts: each try that waits after a clear has
        one (``outcomes_to_stop_earlier_at``).
        """
        owner = attempt.owner
        if not self._time.has_state(owner, CLEARED, Span(attempt.began_at, end)):
            return attempt.began_at
        begins = {
            entry.details: entry.at
            for entry in reversed(self._time.states(owner))
            if entry.text == "running" and entry.at <= end
        }
        return max(attempt.began_at, *begins.values())

    # ---- stops of users in AWS

    def _stops_in(self, attempt: Attempt) -> list[Entry]:
        """Return the stops of an attempt that AWS has accepted."""
        return [
            entry
            for entry in self._time.requests(_STOP)
            if entry.details.arn == attempt.arn
            and attempt.began_at <= entry.at <= attempt.ended_at
        ]

    def _begun_again(self, attempt: Attempt) -> None:
        owner = attempt.owner
        stops = self._stops_in(attempt)
        later = [
            each for each in self._attempts(owner) if each.began_at >= attempt.ended_at
        ]
        if not stops or not later:
            return
        if any(each.details.deployment != CONSOLE for each in stops):
            return
        self._saw("begun after a stop of a user")
        # A clear replaces also an execution that ends before the next try stops it.
        since = Span(attempt.began_at, later[0].began_at)
        # A try may end at its timeout in the same moment.
        after_stop = since._replace(begin=stops[0].at)
        is_cleared = self._time.has_state(owner, (*CLEARED, DELETED), since)
        is_retried = self._time.has_state(owner, ("up_for_retry",), after_stop)
        is_retried |= self._time.state_at(owner, stops[0].at) == "up_for_retry"
        if not (is_cleared or is_retried or self._time.tests(owner, since)):
            is_resumed = later[0].arn == attempt.arn
            allowed = allowances.of_begun_again(self._arguments(owner), is_resumed)
            self._add("BEGUN AGAIN", f"{attempt.arn[-12:]} of {owner}", allowed)

    def _not_cancelled(self, told: Entry, owner: Owner) -> None:
        kind, _, message = told.text.partition(":")
        if kind != "PipelineExecutionCancelledFailError":
            return
        if self._time.state_at(owner, told.at) in ENDED:
            # Only who tests a task that Airflow has ended meanwhile reads it.
            return
        before = self._time.actions(Span(0.0, told.at))
        if any(each.text in ("edit records", "lose records") for each in before):
            return
        self._saw("cancelled")
        for attempt in self._aws.attempts:
            if attempt.arn not in message:
                continue
            # What another deployment stops is judged as its stop.
            stoppers = {each.details.deployment for each in self._stops_in(attempt)}
            if stoppers - {owner.deployment}:
                return
        self._add("NOT CANCELLED", f"{owner}: {message.strip()[:200]}")

    def _sensors(self) -> None:
        ends = [
            each.ended_at for each in self._aws.attempts if each.status == "Succeeded"
        ]
        for entry in self._journal.of_kind("state"):
            owner = entry.owner
            if owner is None or (owner.task_id, entry.text) != (SENSOR, "success"):
                continue
            marks = self._time.actions(Span(entry.at, entry.at))
            if any(each.text in ("mark", "mark run") for each in marks):
                continue
            self._saw("sensors")
            if min(ends, default=math.inf) > entry.at:
                self._add("RESULT", f"{owner}: no execution has succeeded")

    # ---- ends of tries

    def _no_cause(self, told: Entry, owner: Owner) -> None:
        self._saw("failed tries")
        kind, _, message = told.text.partition(": ")
        about = [each for each in self._aws.attempts if each.arn in message]
        # Only the refusal of a stop says right what a status is that is not known.
        is_unknown = self._plan.account.unknown_status and "has status" in message
        if not (is_unknown or self._has_cause(owner, kind, about, told.at)):
            self._add("NO CAUSE", f"{owner}: {told.text.strip()[:200]}")

    def _has_cause(
        self, owner: Owner, kind: str, about: Sequence[Attempt], at: float
    ) -> bool:
        """
        Return whether something has happened that an error may follow.

        :param kind: the class of the error.
        :param about: the attempts of the execution that its text names.
        """
        if kind in _AFTER_ENDS:
            return any(each.status in _AFTER_ENDS[kind] for each in about)
        match kind:
            case "PipelineExecutionTimeoutError":
                return any(self._is_late(each.owner, each, at) for each in about)
            case "PipelineExecutionTooExpensiveError":
                arns = {each.arn for each in about}
                payers = {owner, *(each.owner for each in about)}
                return any(self._is_expensive(each, at, arns) for each in payers)
            case "AirflowTaskTimeout":
                return self._has_alarm(owner, at)
            case "ParametersError":
                cleared = [
                    each
                    for each in self._time.actions(Span(0, at))
                    # A mark clears what has failed downstream.
                    if each.text in ("clear", "clear run", "mark")
                ]
                return "max_cost" in self._plan.airflow.renders_none or bool(cleared)
            case "TaskDeferralTimeout":
                deferred = self._time.last_at(owner, "deferred", at)
                return at - deferred > _TRIGGER_GRACE_SECONDS
            case "PolysyncError":
                recent = Span(at - _ENDS_PROCESS_SECONDS, at)
                if self._time.has_state(owner, (*ENDED, *CLEARED), recent):
                    return True
        return any(
            entry.text in _AFTER_ACTIONS.get(kind, ()) and not _is_transient(entry)
            for entry in self._time.actions(Span(at - _OUTAGE_SECONDS, at))
        )

    def result(self, owner: Owner, xcoms: dict[str, Any]) -> None:
        """Judge the XComs of a task."""
        run = xcoms.get("run") or {}
        if run.get("added_up_at") and run.get("spending"):
            self._saw("costs added up")
            spending = xcoms.get("spending") or {}
            # Two processes may see the end at the same time.
            if run["spending"]["amount"] != spending.get("amount"):
                self._add("COST", f"{owner}: {run['spending']}, {spending}")
        own = self._attempts(owner)
        is_success = self._time.state_at(owner, self._time.now) == "success"
        if not own or not is_success or "return_value" not in xcoms:
            return
        self._saw("results")
        last = max(own, key=lambda each: each.began_at)
        names = {xcoms["return_value"], xcoms.get("execution_arn")}
        names.add(xcoms.get("run", {}).get("execution_arn"))
        is_waited_for = self._arguments(owner).get("wait_for_completion", True)
        has_succeeded = last.status in ("Succeeded", "CompletedWithFailures")
        if names != {last.arn} or (is_waited_for and not has_succeeded):
            self._add("RESULT", f"{owner}: {names}, {last.arn} is {last.status}")

    # ---- money

    def _epochs(self, owner: Owner) -> list[Span]:
        # A clear of a task that runs keeps its epoch.
        clears = [
            entry.at
            for entry in self._time.states(owner)
            if entry.text in ("None", DELETED)
        ]
        return [
            Span(begin, end) for begin, end in pairwise([0.0, *clears, self._time.now])
        ]

    def _epoch_at(self, owner: Owner, at: float) -> Span:
        return next(
            epoch
            for epoch in reversed(self._epochs(owner))
            if epoch.begin <= at or epoch.begin == 0.0
        )

    def _spent(self, owner: Owner, epoch: Span, until: float) -> float:
        """Return what the attempts that began in an epoch have cost."""
        return sum(
            self._aws.cost_of(each.arn, each.began_at, min(each.ended_at, until))
            for each in self._attempts(owner)
            if epoch.begin <= each.began_at < min(epoch.end, until)
        )

    def _costs(self, owner: Owner) -> None:
        arguments = self._arguments(owner)
        limit = arguments.get("max_cost", math.inf)
        at_most = self._plan.at_most or math.inf
        for epoch in self._epochs(owner):
            spent = self._spent(owner, epoch, self._time.now)
            if spent > at_most:
                text = f"{owner}: {spent:.0f} of at most {at_most:.0f}"
                self._add("TOO EXPENSIVE", text)
            if spent <= limit:
                continue
            self._saw("limits reached")
            reached = self._reached_at(owner, epoch, limit)
            due = self._due_at(owner, reached)
            late = spent - self._spent(owner, epoch, due) - _MAX_JOBS
            if late > 0:
                text = f"{owner}: {spent:.0f} of at most {limit}, {late:.0f} too late"
                end = max(each.ended_at for each in self._attempts(owner))
                span = Span(due, min(end, self._time.now))
                allowed = allowances.of_cost(
                    self._time, owner, arguments, reached, span
                )
                self._add("TOO EXPENSIVE", text, allowed)

    def _reached_at(self, owner: Owner, epoch: Span, limit: float) -> float:
        """Return when the limit was reached, to a second."""
        seconds = range(math.floor(epoch.begin), math.ceil(self._time.now))
        return seconds[0] + bisect(
            seconds, limit, key=lambda at: self._spent(owner, epoch, at)
        )

    def _due_at(self, owner: Owner, reached: float) -> float:
        """Return when a limit had to be kept that was reached at a time."""
        interval = max(60.0, self._arguments(owner)["poll_interval"])
        bound = interval + STOP_SECONDS + _POLL_SECONDS
        due: float = reached + bound
        while due < self._time.now and self._kept_seconds(owner, reached, due) < bound:
            due += 10
        return due

    def _kept_seconds(self, owner: Owner, begin: float, end: float) -> float:
        """Return for how many seconds of a time somebody could keep a limit."""
        span = Span(begin, end)
        seconds = self._time.undisturbed(owner.deployment, span)
        return seconds - self._time.without_process(owner, span)
