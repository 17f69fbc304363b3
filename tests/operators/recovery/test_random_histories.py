"""Everything at once: drawn faults, deaths, kills and clears, and the promise that holds through all of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.exceptions import PipelineExecutionCancelledError, PipelineExecutionFailedError
from tests.operators.recovery.histories import (
    DESCRIBE,
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    RETRY,
    START,
    STOP,
    DeathError,
    Ledger,
    Task,
    Wire,
    die,
)
from tests.tasks import EmulatedTime, Run

# More of them, and others each time, for a longer search: POLYSYNC_STORIES=2000.
STORIES = int(os.environ.get("POLYSYNC_STORIES", "0"))

HIDES = "has a status that AWS invented"
SCENARIOS: dict[str, dict[str, Any]] = {
    "succeeds": {},
    "fails": MERGE_FAILS,
    "fails once": MERGE_FAILS_ONCE,
    "completes with failures": {"end_as": "CompletedWithFailures", **MERGE_FAILS},
    HIDES: {"statuses": [{"status": "Pausing", "after": 50, "until": 300}]},
}


@dataclass(frozen=True)
class Fault:
    """How calls go wrong: all of them pass."""

    kind: str
    operation: str
    skip: int
    count: int


@dataclass(frozen=True)
class Blow:
    """
    What befalls a try.

    :param what: ``dies`` or ``is killed``.
    :param when: ``before`` or ``after`` a request, or ``waiting``.
    :param at: the request's operation, or the seconds.
    """

    what: str
    when: str
    at: Any


@dataclass(frozen=True)
class Story:
    """One task's life."""

    deferrable: bool
    executions: str
    retries: int
    arguments: dict[str, Any]
    faults: tuple[Fault, ...]
    tries: tuple[Blow | None, ...]
    clears: int


faults = st.builds(
    Fault,
    kind=st.sampled_from(["throttle", "http", "dropped", "lost_response"]),
    operation=st.sampled_from([START, STOP, RETRY, DESCRIBE]),
    skip=st.integers(0, 3),
    count=st.integers(1, 5),
)
in_flight = st.tuples(st.sampled_from(["before", "after"]), st.sampled_from([START, STOP, RETRY, DESCRIBE]))
waiting = st.tuples(st.just("waiting"), st.integers(1, 600))
deaths = st.one_of(in_flight, waiting).map(lambda moment: Blow("dies", *moment))


def kills(deferrable: bool) -> st.SearchStrategy[Blow]:
    """Draw a kill on the worker: while the wait is in the triggerer there is none."""
    flying = st.tuples(st.sampled_from(["before", "after"]), st.sampled_from([START, RETRY]))
    moments = flying if deferrable else st.one_of(flying, waiting)
    return moments.map(lambda moment: Blow("is killed", *moment))


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """Draw a life."""
    deferrable = draw(st.booleans())
    blow = st.one_of(st.none(), deaths, kills(deferrable))
    return Story(
        deferrable=deferrable,
        executions=draw(st.sampled_from(list(SCENARIOS))),
        retries=draw(st.integers(0, 3)),
        arguments=draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "retry_mode": st.sampled_from(["new", "resume"]),
                    "stop_on_kill": st.booleans(),
                    "wait_for_completion": st.booleans(),
                    "on_completed_with_failures": st.just("succeed"),
                },
            )
        ),
        faults=tuple(draw(st.lists(faults, max_size=4))),
        tries=tuple(draw(st.lists(blow, min_size=1, max_size=4))),
        clears=draw(st.integers(0, 2)),
    )


class Life:
    """A story as it happens; what happened is told if the promise is broken."""

    def __init__(
        self, story: Story, emulator: EmulatorServer, ledger: Ledger, wire: Wire, clock: EmulatedTime
    ) -> None:
        self.story, self.emulator, self.ledger, self.wire, self.clock = story, emulator, ledger, wire, clock
        emulator.control.reset()
        for part in (ledger, wire, clock.at, clock.slept):
            part.clear()
        emulator.control.put_scenario(SCENARIOS[story.executions])
        for fault in story.faults:
            emulator.control.add_fault(fault.kind, fault.operation, skip=fault.skip, count=fault.count)
        arguments = {"poll_interval": 120, **story.arguments}
        self.task = Task(story.deferrable, arguments, story.retries)
        self.runs: list[tuple[Blow | None, Run]] = []
        self.told: list[str] = []

    def live(self) -> None:
        """Try and clear until the task has ended, and let its stops take effect."""
        blows, clears = list(self.story.tries), self.story.clears
        while True:
            self._try(blows.pop(0) if blows else None)
            if self.task.ended and not clears:
                break
            # A user may clear a task that waits for its retry, too.
            if clears and (self.task.ended or clears > 1):
                clears -= 1
                self.task.clear()
                self.told.append("is cleared")
        self.emulator.control.advance(120)

    def _try(self, blow: Blow | None) -> None:
        self.wire.clear()
        self.clock.at.clear()
        operator = self.task.begin()
        action: Any = die if blow and blow.what == "dies" else lambda *_: operator.on_kill()
        if blow and blow.when == "waiting":
            self.clock.after(blow.at, action)
        elif blow:
            (self.wire.before if blow.when == "before" else self.wire.after)(blow.at, action)
        run = self.task.go()
        self.runs.append((blow, run))
        self.told.append(
            f"try {self.task.try_number} ({blow}): {type(run.error).__name__ if run.error else 'succeeds'}"
            f" -> {self.task.state}; executions {self.ledger.statuses}"
        )

    def __str__(self) -> str:
        stops = [
            f"{call['operation']} {call['request'].get('ClientRequestToken', '')[-8:]} {call['fault'] or ''}"
            for call in self.emulator.control.calls()
            if call["operation"] != DESCRIBE
        ]
        return "\n".join(["", *self.told, f"executions: {self.ledger.statuses}", *stops])


def check_executions(life: Life) -> None:
    """Assert that there never were two at once, and that none is left when nobody waits any more."""
    arguments, ledger, task = life.story.arguments, life.ledger, life.task
    assert ledger.most_at_once <= 1, f"two executions ran at once{life}"
    lives_on = task.state == "success" and not arguments.get("wait_for_completion", True)
    died = isinstance(life.runs[-1][1].error, DeathError)
    if not lives_on and not died and arguments.get("stop_on_kill", True):
        assert ledger.running == [], f"an execution runs on after its task has ended{life}"


def check_errors(life: Life) -> None:
    """Assert that each try that failed had a reason: no fault that passes is one."""
    killed = False
    for blow, run in life.runs:
        reasons = [run.error is None]
        # The invented status also hides that an execution is stopping.
        if killed and life.story.executions == HIDES:
            reasons += [isinstance(run.error, PipelineExecutionCancelledError)]
        if "fail" in life.story.executions:
            reasons += [isinstance(run.error, PipelineExecutionFailedError)]
        if blow and blow.what == "dies":
            reasons += [isinstance(run.error, DeathError)]
        if blow and blow.what == "is killed":
            killed = True
            reasons += [str(run.error) == "The task was killed."]
            reasons += [isinstance(run.error, PipelineExecutionCancelledError)]
        assert any(reasons), f"a try failed without a reason: {run.error!r}{life}"


def check_stops(life: Life) -> None:
    """Assert that an attempt was stopped once, however many asked for it."""
    stops: dict[str, set[str]] = {}
    for call in life.emulator.control.calls(STOP):
        if request := call["request"]:
            stops.setdefault(request["PipelineExecutionArn"], set()).add(request["ClientRequestToken"])
    attempts = {
        record.arn: max((run.attempt for run in record.engine.runs.values()), default=1)
        for record in life.ledger.executions
    }
    resumes = life.story.arguments.get("retry_mode") == "resume"
    for arn, tokens in stops.items():
        # A resume may be given up before AWS hears of it.
        assert len(tokens) <= (1 + attempts[arn] if resumes else 1), f"more stops than attempts{life}"
        assert arn in attempts


def check_result(life: Life) -> None:
    """Assert that a success is the last execution's."""
    last, ledger = life.runs[-1][1], life.ledger
    if life.task.state != "success":
        return
    assert last.result == ledger.arns[-1], f"the result is not the last execution's{life}"
    assert last.xcoms["execution_arn"] == last.xcoms["run"]["execution_arn"] == last.result
    if life.story.arguments.get("wait_for_completion", True):
        assert ledger.statuses[-1] in ("Succeeded", "CompletedWithFailures"), str(life)


@settings(
    deadline=None,
    max_examples=STORIES or 30,
    derandomize=not STORIES,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(story=stories())
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_promise_holds_whatever_happens(
    emulator: EmulatorServer, ledger: Ledger, wire: Wire, emulated_time: EmulatedTime, story: Story
) -> None:
    """
    At most one execution runs for a task instance, whatever dies when, and none after the task has ended.

    Passing faults fail no try, and however many ask for the stop of an attempt, it is one stop.
    """
    life = Life(story, emulator, ledger, wire, emulated_time)

    life.live()

    for check in (check_executions, check_errors, check_stops, check_result):
        check(life)
