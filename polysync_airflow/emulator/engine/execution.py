"""An execution: what each of its steps does, and when.

A discrete-event state machine. Time is passed in; nothing here reads a clock, a file or a random number.
The rules:

1. Every change has its own time. `Execution.advance` applies all changes that are due, in order, each at its
   own time, so it does not matter how often or when anybody looks.
2. A step runs when all steps it waits for have succeeded, its condition step (if any) took its branch and
   fewer than ``max_parallel`` steps run; earlier steps of the definition go first. Steps of a branch that is
   not taken never appear.
3. When a step fails, those that run finish and no other starts; then the execution is Failed. (AWS does not
   document what happens to the siblings.) If the scenario ends as CompletedWithFailures, only steps that
   depend on the failed one are left out.
4. A stop interrupts jobs, but waits for Lambda steps and for the answer to Callback steps
   (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html). A step that
   ends by itself before it is interrupted ends as it would have, so a stopped execution can still end as
   Succeeded or Failed.
5. A retry keeps what succeeded and runs everything else again, in the same execution.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from math import inf
from typing import Any

from polysync_airflow.emulator.engine.conditions import outcome
from polysync_airflow.emulator.engine.definition import Definition, Step
from polysync_airflow.emulator.engine.durations import (
    CALLBACK_TIMEOUT,
    EXECUTION_START,
    LAMBDA_TIMEOUT,
    STOPPING,
    timing,
)
from polysync_airflow.emulator.engine.expressions import ExpressionError, Scope, evaluate, text
from polysync_airflow.emulator.engine.scenarios import FAILURE_REASON_LENGTH, Scenario

STEP_FAILURE = "Step failure: One or multiple steps failed."
CALLBACK_FAILURE = "The callback step was not answered in time."
LAMBDA_FAILURE = "The Lambda function did not finish in time."
RETRIABLE = ("Failed", "Stopped", "CompletedWithFailures")


class StateError(Exception):
    """Something that is refused in the execution's present status."""


@dataclass
class StepRun:
    """The latest attempt of one step; times are in seconds since the epoch."""

    step: Step
    attempt: int
    order: int
    started_at: float
    status: str = "Executing"
    ended_at: float | None = None
    failure_reason: str | None = None
    outcome: bool | None = None
    error_message: str | None = None
    callback_token: str | None = None
    answered: bool = False
    reused_from: str | None = None

    @property
    def running(self) -> bool:
        """Whether the step has not ended."""
        return self.ended_at is None


@dataclass(frozen=True)
class Selection:
    """A selective execution: the steps to run, and those whose results come from another execution."""

    selected: frozenset[str]
    reused: frozenset[str]
    source_arn: str | None


@dataclass
class Execution:
    """One execution; call `advance` before reading anything.

    :param seed: text from which callback tokens are derived.
    :param scope: what the definition's expressions may refer to; the engine adds what steps produce.
    :param created_at: seconds since the epoch.
    :param max_parallel: how many steps may run at once.
    """

    seed: str
    definition: Definition
    scope: Scope
    scenario: Scenario
    created_at: float
    max_parallel: float = inf
    selection: Selection | None = None
    status: str = "Executing"
    failure_reason: str | None = None
    runs: dict[str, StepRun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._sequence = count()
        self._order = count(1)
        self._attempts: dict[str, int] = {}
        self._blocked_stop = False
        self._ready = False
        self._settles_at = 0.0
        self.last_modified = self.began_at = self.created_at
        self._read_property_files()
        for name in self._reused():
            step = self.definition.steps[name]
            run = StepRun(step, 0, next(self._order), self.created_at, "Succeeded", self.created_at)
            run.reused_from = self.selection.source_arn if self.selection else None
            self.runs[name] = run
        self._at(self.created_at + EXECUTION_START, self._begin)

    def advance(self, now: float) -> None:
        """Apply every change that is due.

        :param now: the present, in seconds since the epoch.
        """
        while self._events and self._events[0][0] <= now:
            at, _, change = heapq.heappop(self._events)
            change(at)
            self._schedule(at)

    def shown_status(self, now: float) -> str:
        """Return the status to show, which a scenario may replace for a while."""
        for window in self.scenario.statuses:
            if window.after <= now - self.began_at < window.until:
                return window.status
        return self.status

    def stop(self, now: float) -> None:
        """Ask for a stop.

        :raises StateError: unless the execution is Executing.
        """
        self.advance(now)
        if self.status != "Executing":
            raise StateError(
                f"The pipeline execution has status '{self.status}'. "
                "Only pipelines with 'Executing' status can be stopped."
            )
        self.status, self.last_modified = "Stopping", now
        self._settles_at = now + STOPPING
        self._at(self._settles_at, lambda at: None)
        for run in self._running():
            if timing(run.step.type).interruptible:
                run.status = "Stopping"
                self._at(self._settles_at, partial(self._end, run, status="Stopped"))
            elif run.step.type in ("Lambda", "Callback"):
                self._blocked_stop = True

    def retry(self, now: float, scenario: Scenario, max_parallel: float) -> None:
        """Run again what has not succeeded.

        :raises StateError: unless the execution has ended without success.
        """
        self.advance(now)
        if self.status not in RETRIABLE:
            raise StateError(
                f"The pipeline execution has status '{self.status}'. "
                "Only pipelines with 'Failed' or 'Stopped' status can be retried."
            )
        self.runs = {name: run for name, run in self.runs.items() if run.status == "Succeeded"}
        self.status, self.failure_reason = "Executing", None
        self.scenario, self.max_parallel = scenario, max_parallel
        self.began_at = self.last_modified = now
        self._ready = self._blocked_stop = False
        self._read_property_files()
        self._at(now + EXECUTION_START, self._begin)

    def limit(self, now: float, max_parallel: float) -> None:
        """Change how many steps may run at once."""
        self.advance(now)
        self.max_parallel, self.last_modified = max_parallel, now
        self._schedule(now)

    def answer(self, now: float, token: str, outputs: Mapping[str, str] | None, failure: str | None) -> None:
        """Answer a callback step.

        :param outputs: the step's output parameters if it succeeded, else None.
        :param failure: why it failed, if it failed.
        :raises StateError: if no running callback step has this token.
        """
        self.advance(now)
        for run in self._running():
            if run.callback_token == token:
                run.answered = True
                if outputs is not None:
                    self.scope.outputs[run.step.name] = dict(outputs)
                    self._end(run, now, "Succeeded")
                else:
                    self._end(run, now, "Failed", failure)
                self._schedule(now)
                return
        raise StateError("The callback step of this token has already ended.")

    def _at(self, time: float, change: Callable[[float], None]) -> None:
        if time < inf:
            heapq.heappush(self._events, (time, next(self._sequence), change))

    def _begin(self, at: float) -> None:
        self._ready = True

    def _running(self) -> list[StepRun]:
        return [run for run in self.runs.values() if run.running]

    def _reused(self) -> Iterator[str]:
        if self.selection is not None:
            yield from (name for name in self.definition.steps if name in self.selection.reused)

    def _read_property_files(self) -> None:
        self.scope.property_files = {
            (name, file): content
            for name, step in self.scenario.steps.items()
            for file, content in step.property_files.items()
        }

    def _schedule(self, at: float) -> None:
        """Start what can start; end the execution when nothing runs and nothing can start."""
        if self._ready and self.status == "Executing":
            running = len(self._running())
            for step in self.definition.steps.values():
                if running < self.max_parallel and self._can_start(step):
                    self._start(step, at)
                    running += 1
        if self._running():
            return
        if (self.status == "Executing" and self._ready) or (
            self.status == "Stopping" and at >= self._settles_at
        ):
            self._finish(at)

    def _can_start(self, step: Step) -> bool:
        if step.name in self.runs or (self._failed() and self.scenario.end_as != "CompletedWithFailures"):
            return False
        if self.selection is not None:
            # What is not selected counts as done: its results come from the source execution or are not used.
            if step.name not in self.selection.selected:
                return False
            needed = step.waits_for & (self.selection.selected | self.selection.reused)
            return all(self._succeeded(name) for name in needed) and (
                step.condition not in self.selection.selected or self._branch_taken(step)
            )
        return all(self._succeeded(name) for name in step.waits_for) and self._branch_taken(step)

    def _branch_taken(self, step: Step) -> bool:
        if step.condition is None:
            return True
        return self._succeeded(step.condition) and self.runs[step.condition].outcome is step.branch

    def _succeeded(self, name: str) -> bool:
        return name in self.runs and self.runs[name].status == "Succeeded"

    def _failed(self) -> bool:
        return any(run.status == "Failed" for run in self.runs.values())

    def _start(self, step: Step, at: float) -> None:
        attempt = self._attempts[step.name] = self._attempts.get(step.name, 0) + 1
        run = self.runs[step.name] = StepRun(step, attempt, next(self._order), at)
        self.last_modified = at
        default, wanted = timing(step.type), self.scenario.step(step.name).duration
        total = default.total if wanted is None else wanted
        if step.type == "Callback":
            digest = hashlib.sha256(f"{self.seed}/{step.name}/{attempt}".encode()).hexdigest()
            run.callback_token = digest[:10]
            self._at(at + CALLBACK_TIMEOUT, partial(self._end, run, status="Failed", reason=CALLBACK_FAILURE))
        if step.type == "Lambda":
            self._at(at + LAMBDA_TIMEOUT, partial(self._end, run, status="Failed", reason=LAMBDA_FAILURE))
        starting = min(default.starting, total)
        if starting:
            run.status = "Starting"
            self._at(at + starting, partial(self._execute, run))
        self._at(at + total, partial(self._complete, run))

    def _execute(self, run: StepRun, at: float) -> None:
        if run.status == "Starting":
            run.status = "Executing"

    def _complete(self, run: StepRun, at: float) -> None:
        """Let a step end by itself."""
        if not run.running:
            return
        wanted = self.scenario.step(run.step.name)
        if run.attempt <= wanted.failing_attempts:
            self._end(run, at, "Failed", wanted.failure)
            return
        try:
            self._evaluate(run)
        except ExpressionError as error:
            self._end(run, at, "Failed", str(error))
            return
        if run.step.type == "Fail":
            self._end(run, at, "Failed", run.error_message or None)
            return
        if wanted.outputs:
            self.scope.outputs[run.step.name] = dict(wanted.outputs)
        self._end(run, at, "Succeeded")

    def _evaluate(self, run: StepRun) -> None:
        arguments = run.step.arguments
        if run.step.type == "Condition":
            run.outcome = outcome(arguments["Conditions"], self.scope)
            self.scope.outcomes[run.step.name] = run.outcome
        elif run.step.type == "Fail":
            run.error_message = text(evaluate(arguments.get("ErrorMessage", ""), self.scope))

    def _end(self, run: StepRun, at: float, status: str, reason: str | None = None) -> None:
        if run.running:
            run.status, run.ended_at, self.last_modified = status, at, at
            run.failure_reason = reason[:FAILURE_REASON_LENGTH] if reason else None

    def _finish(self, at: float) -> None:
        self.last_modified = at
        self._events.clear()
        status = self._outcome_of_stop() if self.status == "Stopping" else None
        if status is None:
            status = self.scenario.end_as or ("Failed" if self._failed() else "Succeeded")
        self.status = status
        if status in ("Failed", "CompletedWithFailures"):
            self.failure_reason = self.scenario.failure_reason or STEP_FAILURE

    def _outcome_of_stop(self) -> str | None:
        """Return Stopped, or None if everything had ended by itself before the stop took effect."""
        runs = self.runs.values()
        if any(run.status == "Failed" and not run.answered for run in runs):
            return None
        left = any(run.status != "Succeeded" for run in runs) or any(map(self._can_start, self.steps))
        return "Stopped" if left or self._blocked_stop or not self._ready else None

    @property
    def steps(self) -> list[Step]:
        """The definition's steps."""
        return list(self.definition.steps.values())

    def properties(self, name: str) -> dict[str, Any]:
        """Return the output parameters that a step has produced."""
        return self.scope.outputs.get(name, {})
