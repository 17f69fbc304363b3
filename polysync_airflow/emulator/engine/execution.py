"""
Simulates one pipeline execution: the status of the execution and of each step over time.

The simulation is a discrete-event state machine. The caller passes the current time; this module reads no
clock, no file and no random number. The rules are:

1. Every event has a time. `Execution.advance` processes all events that are due, in order and with their own
   times, so the result does not depend on when and how often it is called.
2. A step starts when all steps that it depends on have succeeded, its condition step (if any) has selected
   its branch, and fewer than ``max_parallel`` steps run. Steps that come first in the definition start first.
   The steps of a branch that is not selected never appear.
3. When a step fails, running steps finish and no other step starts. Then the execution is Failed. AWS does
   not document what happens to the running steps. If ``end_as`` of the scenario is CompletedWithFailures,
   only the steps that depend on the failed step do not start.
4. A stop interrupts jobs, but waits until running Lambda steps end and running Callback steps receive a
   result (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html). A step
   that ends before it is interrupted keeps its status, so a stopped execution can still end as Succeeded or
   Failed.
5. A retry keeps the succeeded steps and runs all other steps again, in the same execution.
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
    default_duration,
)
from polysync_airflow.emulator.engine.expressions import ExpressionError, Scope, evaluate, text
from polysync_airflow.emulator.engine.scenarios import FAILURE_REASON_LENGTH, Scenario

STEP_FAILURE = "Step failure: One or multiple steps failed."
CALLBACK_FAILURE = "The callback step received no result in time."
LAMBDA_FAILURE = "The Lambda function did not finish in time."
_RETRIABLE = ("Failed", "Stopped", "CompletedWithFailures")


class StateError(Exception):
    """Raised when the status of the execution does not allow the operation."""


@dataclass
class StepRun:
    """The latest attempt of a step. Times are in seconds since the epoch."""

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
    callback_completed: bool = False
    reused_from: str | None = None

    @property
    def running(self) -> bool:
        """Whether the attempt has not ended."""
        return self.ended_at is None


@dataclass(frozen=True)
class Selection:
    """
    The steps of a selective execution.

    :param selected: the steps to run.
    :param reused: the steps whose results come from the source execution.
    :param source_arn: the ARN of the source execution.
    """

    selected: frozenset[str]
    reused: frozenset[str]
    source_arn: str | None


@dataclass
class Execution:
    """
    One execution. Call `advance` before you read an attribute.

    :param seed: the text from which the callback tokens are derived.
    :param definition: the pipeline definition.
    :param scope: the values that the expressions in the definition can refer to. The execution adds the
        results of its steps.
    :param scenario: the behaviour of the steps.
    :param created_at: the start time, in seconds since the epoch.
    :param max_parallel: the maximum number of steps that run at the same time.
    :param selection: the steps of a selective execution; None to run all steps.
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
        self._event_numbers = count()
        self._step_order = count(1)
        self._attempts: dict[str, int] = {}
        self._stop_waits_for_step = False
        self._ready = False
        self._stopping_until = 0.0
        self.last_modified = self.attempt_started_at = self.created_at
        self._read_property_files()
        for name in self._reused():
            step = self.definition.steps[name]
            run = StepRun(step, 0, next(self._step_order), self.created_at, "Succeeded", self.created_at)
            run.reused_from = self.selection.source_arn if self.selection else None
            self.runs[name] = run
        self._add_event(self.created_at + EXECUTION_START, self._set_ready)

    def advance(self, now: float) -> None:
        """
        Process all events that are due.

        :param now: the current time, in seconds since the epoch.
        """
        while self._events and self._events[0][0] <= now:
            at, _, change = heapq.heappop(self._events)
            change(at)
            self._schedule(at)

    def shown_status(self, now: float) -> str:
        """Return the status for API responses, which the scenario can replace for some time."""
        for window in self.scenario.statuses:
            if window.after <= now - self.attempt_started_at < window.until:
                return window.status
        return self.status

    def stop(self, now: float) -> None:
        """
        Request a stop.

        :param now: the current time, in seconds since the epoch.
        :raises StateError: if the status is not Executing.
        """
        self.advance(now)
        if self.status != "Executing":
            raise StateError(
                f"The pipeline execution has status '{self.status}'. "
                "Only pipelines with 'Executing' status can be stopped."
            )
        self.status, self.last_modified = "Stopping", now
        self._stopping_until = now + STOPPING
        self._add_event(self._stopping_until, lambda at: None)
        for run in self._running():
            if default_duration(run.step.type).interruptible:
                run.status = "Stopping"
                self._add_event(self._stopping_until, partial(self._end, run, status="Stopped"))
            elif run.step.type in ("Lambda", "Callback"):
                self._stop_waits_for_step = True

    def retry(self, now: float, scenario: Scenario, max_parallel: float) -> None:
        """
        Run all steps again that have not succeeded.

        :param now: the current time, in seconds since the epoch.
        :param scenario: the behaviour of the steps in this retry.
        :param max_parallel: the maximum number of steps that run at the same time.
        :raises StateError: if the execution has not ended, or has succeeded.
        """
        self.advance(now)
        if self.status not in _RETRIABLE:
            raise StateError(
                f"The pipeline execution has status '{self.status}'. "
                "Only pipelines with 'Failed' or 'Stopped' status can be retried."
            )
        self.runs = {name: run for name, run in self.runs.items() if run.status == "Succeeded"}
        self.status, self.failure_reason = "Executing", None
        self.scenario, self.max_parallel = scenario, max_parallel
        self.attempt_started_at = self.last_modified = now
        self._ready = self._stop_waits_for_step = False
        self._read_property_files()
        self._add_event(now + EXECUTION_START, self._set_ready)

    def set_max_parallel(self, now: float, max_parallel: float) -> None:
        """Change the maximum number of steps that run at the same time."""
        self.advance(now)
        self.max_parallel, self.last_modified = max_parallel, now
        self._schedule(now)

    def complete_callback(
        self, now: float, token: str, outputs: Mapping[str, str] | None, failure: str | None
    ) -> None:
        """
        End a running callback step.

        :param now: the current time, in seconds since the epoch.
        :param token: the callback token of the step.
        :param outputs: the output parameters of the step if it succeeds; None if it fails.
        :param failure: the failure reason if it fails.
        :raises StateError: if no running callback step has this token.
        """
        self.advance(now)
        for run in self._running():
            if run.callback_token == token:
                run.callback_completed = True
                if outputs is not None:
                    self.scope.outputs[run.step.name] = dict(outputs)
                    self._end(run, now, "Succeeded")
                else:
                    self._end(run, now, "Failed", failure)
                self._schedule(now)
                return
        raise StateError("The callback step with this token has already ended.")

    def _add_event(self, time: float, change: Callable[[float], None]) -> None:
        if time < inf:
            heapq.heappush(self._events, (time, next(self._event_numbers), change))

    def _set_ready(self, at: float) -> None:
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
        """Start all steps that can start. End the execution if no step runs and none can start."""
        if self._ready and self.status == "Executing":
            running = len(self._running())
            for step in self.definition.steps.values():
                if running < self.max_parallel and self._can_start(step):
                    self._start(step, at)
                    running += 1
        if self._running():
            return
        if (self.status == "Executing" and self._ready) or (
            self.status == "Stopping" and at >= self._stopping_until
        ):
            self._finish(at)

    def _can_start(self, step: Step) -> bool:
        if step.name in self.runs or (self._failed() and self.scenario.end_as != "CompletedWithFailures"):
            return False
        if self.selection is not None:
            # A step that is not selected counts as done: its results come from the source execution or are
            # not used.
            if step.name not in self.selection.selected:
                return False
            needed = step.depends_on & (self.selection.selected | self.selection.reused)
            return all(self._succeeded(name) for name in needed) and (
                step.condition not in self.selection.selected or self._branch_taken(step)
            )
        return all(self._succeeded(name) for name in step.depends_on) and self._branch_taken(step)

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
        run = self.runs[step.name] = StepRun(step, attempt, next(self._step_order), at)
        self.last_modified = at
        default, duration = default_duration(step.type), self.scenario.step(step.name).duration
        total = default.total if duration is None else duration
        if step.type == "Callback":
            digest = hashlib.sha256(f"{self.seed}/{step.name}/{attempt}".encode()).hexdigest()
            run.callback_token = digest[:10]
            self._add_event(
                at + CALLBACK_TIMEOUT, partial(self._end, run, status="Failed", reason=CALLBACK_FAILURE)
            )
        if step.type == "Lambda":
            self._add_event(
                at + LAMBDA_TIMEOUT, partial(self._end, run, status="Failed", reason=LAMBDA_FAILURE)
            )
        starting = min(default.starting, total)
        if starting:
            run.status = "Starting"
            self._add_event(at + starting, partial(self._execute, run))
        self._add_event(at + total, partial(self._complete, run))

    def _execute(self, run: StepRun, at: float) -> None:
        if run.status == "Starting":
            run.status = "Executing"

    def _complete(self, run: StepRun, at: float) -> None:
        """End a step whose duration is over."""
        if not run.running:
            return
        step_scenario = self.scenario.step(run.step.name)
        if run.attempt <= step_scenario.failing_attempts:
            self._end(run, at, "Failed", step_scenario.failure)
            return
        try:
            self._evaluate(run)
        except ExpressionError as error:
            self._end(run, at, "Failed", str(error))
            return
        if run.step.type == "Fail":
            self._end(run, at, "Failed", run.error_message or None)
            return
        if step_scenario.outputs:
            self.scope.outputs[run.step.name] = dict(step_scenario.outputs)
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
        status = self._status_after_stop() if self.status == "Stopping" else None
        if status is None:
            status = self.scenario.end_as or ("Failed" if self._failed() else "Succeeded")
        self.status = status
        if status in ("Failed", "CompletedWithFailures"):
            self.failure_reason = self.scenario.failure_reason or STEP_FAILURE

    def _status_after_stop(self) -> str | None:
        """Return Stopped, or None if all steps had ended before the stop took effect."""
        runs = self.runs.values()
        if any(run.status == "Failed" and not run.callback_completed for run in runs):
            return None
        unfinished = any(run.status != "Succeeded" for run in runs) or any(map(self._can_start, self.steps))
        return "Stopped" if unfinished or self._stop_waits_for_step or not self._ready else None

    @property
    def steps(self) -> list[Step]:
        """The steps of the definition."""
        return list(self.definition.steps.values())

    def properties(self, name: str) -> dict[str, Any]:
        """Return the output parameters of a step."""
        return self.scope.outputs.get(name, {})
