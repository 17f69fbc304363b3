"""
Random histories of a task: faults, crashes, kills, clears and frozen processes, drawn
by Hypothesis.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from polysync_airflow.exceptions import (
    PipelineExecutionCancelledError,
    PipelineExecutionFailedError,
)
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, Run
from tests.unit.operators.recovery.harness import (
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    CrashError,
    Task,
    crash,
)
from tests.world import (
    DESCRIBE,
    RETRY,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    World,
)

# For a longer search with other histories in each run, set for example
# POLYSYNC_HISTORIES=2000.
HISTORIES = int(os.environ.get("POLYSYNC_HISTORIES", "0"))

UNKNOWN_STATUS = "has an unknown status"
SCENARIOS: dict[str, dict[str, Any]] = {
    "succeeds": {},
    "fails": MERGE_FAILS,
    "fails once": MERGE_FAILS_ONCE,
    "completes with failures": {"end_as": "CompletedWithFailures", **MERGE_FAILS},
    UNKNOWN_STATUS: {"statuses": [{"status": "Pausing", "after": 50, "until": 300}]},
}


@dataclass(frozen=True)
class Fault:
    """A fault of the emulator; all faults here are transient."""

    kind: str
    operation: str
    skip: int
    count: int


@dataclass(frozen=True)
class Disruption:
    """
    What happens to the process of a try.

    :param kind: ``crash``, ``kill``, ``clear`` (a user clears the running task, and
        Airflow kills the process), or ``freeze`` (a later try runs to its end before
        the process goes on; ``freeze and kill``: then it is killed).
    :param when: ``before`` or ``after`` a request, or ``waiting``.
    :param at: the operation of the request, or the seconds of waiting.
    """

    kind: str
    when: str
    at: Any


@dataclass(frozen=True)
class History:
    """Everything that happens to one task instance."""

    deferrable: bool
    executions: str
    retries: int
    arguments: dict[str, Any]
    faults: tuple[Fault, ...]
    tries: tuple[Disruption | None, ...]
    clears: int


faults = st.builds(
    Fault,
    kind=st.sampled_from(["throttle", "http", "dropped", "lost_response"]),
    operation=st.sampled_from([START, STOP, RETRY, DESCRIBE]),
    skip=st.integers(0, 3),
    count=st.integers(1, 5),
)
during_a_request = st.tuples(
    st.sampled_from(["before", "after"]),
    st.sampled_from([START, STOP, RETRY, DESCRIBE]),
)
waiting = st.tuples(st.just("waiting"), st.integers(1, 600))
crashes = st.one_of(during_a_request, waiting).map(
    lambda moment: Disruption("crash", *moment)
)


def on_the_worker(deferrable: bool) -> st.SearchStrategy[Disruption]:
    """
    Draw what happens to the process on the worker; that is not so during a wait in the
    triggerer.
    """
    kinds = st.sampled_from(["kill", "shutdown", "clear", "freeze", "freeze and kill"])
    during_requests = st.tuples(
        st.sampled_from(["before", "after"]), st.sampled_from([START, RETRY])
    )
    moments = during_requests if deferrable else st.one_of(during_requests, waiting)
    return st.builds(lambda kind, moment: Disruption(kind, *moment), kinds, moments)


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Draw a history."""
    deferrable = draw(st.booleans())
    disruption = st.one_of(st.none(), crashes, on_the_worker(deferrable))
    return History(
        deferrable=deferrable,
        executions=draw(st.sampled_from(list(SCENARIOS))),
        retries=draw(st.integers(0, 3)),
        arguments=draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "retry_mode": st.sampled_from(["new", "resume"]),
                    "on_clear": st.sampled_from(["new", "resume"]),
                    "stop_on_kill": st.booleans(),
                    "wait_for_completion": st.booleans(),
                    "on_completed_with_failures": st.just("succeed"),
                },
            )
        ),
        faults=tuple(draw(st.lists(faults, max_size=4))),
        tries=tuple(draw(st.lists(disruption, min_size=1, max_size=4))),
        clears=draw(st.integers(0, 2)),
    )


class HistoryRun:
    """
    Runs a history and records its events, which are part of every assertion message.
    """

    def __init__(
        self,
        history: History,
        emulator: EmulatorServer,
        execution_log: ExecutionLog,
        interceptor: RequestInterceptor,
        clock: EmulatedTime,
    ) -> None:
        self.history = history
        self.emulator = emulator
        self.execution_log = execution_log
        self.interceptor = interceptor
        self.clock = clock
        self._disruptions, self._clears = list(history.tries), history.clears
        emulator.control.reset()
        for part in (execution_log, interceptor, clock.at, clock.slept):
            part.clear()
        emulator.control.put_scenario(SCENARIOS[history.executions])
        for fault in history.faults:
            emulator.control.add_fault(
                fault.kind, fault.operation, skip=fault.skip, count=fault.count
            )
        arguments = {"poll_interval": 120, **history.arguments}
        self.task = Task(history.deferrable, arguments, history.retries)
        self.runs: list[tuple[Disruption | None, Run]] = []
        self.events: list[str] = []

    def run(self) -> None:
        """
        Run all tries and clears to the end of the task, and let its stops take effect.
        """
        while True:
            self._run_try()
            if self.task.finished and not self._clears:
                break
            # A user may also clear a task that waits for its retry.
            if self._clears and (self.task.finished or self._clears > 1):
                self._clears -= 1
                self.task.clear()
                self.events.append("the task is cleared")
        self.emulator.control.advance(120)

    def _run_try(self) -> None:
        disruption = self._disruptions.pop(0) if self._disruptions else None
        self.interceptor.clear()
        self.clock.at.clear()
        operator, index = self.task.prepare_try(), len(self.runs)
        action = self._action(disruption.kind, operator) if disruption else crash
        if disruption and disruption.when == "waiting":
            self.clock.after(disruption.at, action)
        elif disruption:
            (
                self.interceptor.before
                if disruption.when == "before"
                else self.interceptor.after
            )(disruption.at, action)
        number = self.task.try_number + 1
        run = self.task.run_prepared_try()
        # If the process was frozen, later tries have ended before it.
        self.runs.insert(index, (disruption, run))
        self.events.append(
            f"try {number} ({disruption}): {type(run.error).__name__ if run.error else 'succeeds'}"
            f" -> {self.task.state}; executions {self.execution_log.statuses}"
        )

    def _action(self, kind: str, operator: Any) -> Any:
        def disrupt(*_: Any) -> None:
            if kind == "clear":
                self.task.clear_while_running()
                self.events.append("the running task is cleared")
            elif kind == "kill":
                self.task.state = "failed"
            elif (
                kind.startswith("freeze")
                and self.task.try_number <= self.task.max_tries
            ):
                self.task.lose_heartbeat()
                self._run_try()
            if kind != "freeze":
                operator.on_kill()

        return crash if kind == "crash" else disrupt

    def __str__(self) -> str:
        requests = [
            f"{call['operation']} {call['request'].get('ClientRequestToken', '')[-8:]} {call['fault'] or ''}"
            for call in self.emulator.control.calls()
            if call["operation"] != DESCRIBE
        ]
        return "\n".join(
            ["", *self.events, f"executions: {self.execution_log.statuses}", *requests]
        )


def check_executions(history_run: HistoryRun) -> None:
    """
    Assert that no two executions ran at once, and that none runs after the task has
    ended.
    """
    arguments = history_run.history.arguments
    execution_log, task = history_run.execution_log, history_run.task
    assert execution_log.max_concurrent <= 1, (
        f"two executions ran at the same time{history_run}"
    )
    left_running = task.state == "success" and not arguments.get(
        "wait_for_completion", True
    )
    crashed = isinstance(history_run.runs[-1][1].error, CrashError)
    if not left_running and not crashed and arguments.get("stop_on_kill", True):
        assert execution_log.running == [], (
            f"an execution runs after its task has ended{history_run}"
        )


def check_errors(history_run: HistoryRun) -> None:
    """Assert that each failed try had a reason; a transient fault is not a reason."""
    killed = False
    for disruption, run in history_run.runs:
        reasons = [run.error is None]
        # While the emulator shows the unknown status, a try cannot see that an
        # execution is stopping.
        if killed and history_run.history.executions == UNKNOWN_STATUS:
            reasons += [isinstance(run.error, PipelineExecutionCancelledError)]
        if "fail" in history_run.history.executions:
            reasons += [isinstance(run.error, PipelineExecutionFailedError)]
        if disruption and disruption.kind == "crash":
            reasons += [isinstance(run.error, CrashError)]
        if disruption and disruption.kind == "kill":
            killed = True
            reasons += [str(run.error) == "The task was killed."]
            reasons += ["does not run try" in str(run.error)]
            reasons += [isinstance(run.error, PipelineExecutionCancelledError)]
        if disruption and disruption.kind == "shutdown":
            reasons += [
                str(run.error) == "The worker is shutting down, so this try ends."
            ]
        # Airflow no longer knows a try that was cleared while it ran, or frozen.
        if disruption and disruption.kind in ("clear", "freeze", "freeze and kill"):
            killed = True
            reasons += [True]
        assert any(reasons), (
            f"a try failed without a reason: {run.error!r}{history_run}"
        )


def check_stops(history_run: HistoryRun) -> None:
    """
    Assert that each attempt was stopped with one token, however many stops were
    requested.
    """
    stops: dict[str, set[str]] = {}
    for call in history_run.emulator.control.calls(STOP):
        if request := call["request"]:
            stops.setdefault(request["PipelineExecutionArn"], set()).add(
                request["ClientRequestToken"]
            )
    attempts = {
        record.arn: max((run.attempt for run in record.engine.runs.values()), default=1)
        for record in history_run.execution_log.executions
    }
    arguments = history_run.history.arguments
    resumes = "resume" in (arguments.get("retry_mode"), arguments.get("on_clear"))
    for arn, tokens in stops.items():
        # A try may be killed before it sends the resume that it has stored.
        assert len(tokens) <= (1 + attempts[arn] if resumes else 1), (
            f"more stops than attempts{history_run}"
        )
        assert arn in attempts


def check_resumes(history_run: HistoryRun) -> None:
    """
    Assert that each clear, and each retry, resumes at most once, however often the
    request was sent.
    """
    history, task = history_run.history, history_run.task
    calls = history_run.emulator.control.calls(RETRY)
    tokens = {
        call["request"]["ClientRequestToken"] for call in calls if call["request"]
    }
    limit = history.clears if history.arguments.get("on_clear") == "resume" else 0
    if history.arguments.get("retry_mode") == "resume":
        limit = task.try_number - 1
    assert len(tokens) <= limit, f"more resumes than clears and retries{history_run}"


def check_result(history_run: HistoryRun) -> None:
    """Assert that the result of a successful task is that of the last execution."""
    last, execution_log = history_run.runs[-1][1], history_run.execution_log
    if history_run.task.state != "success":
        return
    assert last.result == execution_log.arns[-1], (
        f"the result is not the last execution's{history_run}"
    )
    assert (
        last.xcoms["execution_arn"] == last.xcoms["run"]["execution_arn"] == last.result
    )
    if history_run.history.arguments.get("wait_for_completion", True):
        assert execution_log.statuses[-1] in ("Succeeded", "CompletedWithFailures"), (
            str(history_run)
        )


@settings(
    deadline=None,
    max_examples=HISTORIES or 6,
    derandomize=not HISTORIES,
    database=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(history=histories())
@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
def test_guarantees_hold_in_random_histories(world: World, history: History) -> None:
    """
    At most one execution runs at any time, and none runs after the task has ended.

    Transient faults fail no try, and all stops of one attempt have the same token.
    """
    history_run = HistoryRun(
        history, world.emulator, world.log, world.requests, world.time
    )

    history_run.run()

    for check in (
        check_executions,
        check_errors,
        check_stops,
        check_resumes,
        check_result,
    ):
        check(history_run)
