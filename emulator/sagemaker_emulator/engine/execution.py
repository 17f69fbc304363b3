"""
Simulates one pipeline execution: the status of the execution and of each step over
time.

The simulation is a discrete-event state machine. The caller passes the current time;
this module reads no clock, no file and no random number. The rules are:

1. Every event has a time. `Execution.advance` processes all events that are due, in
   order and with their own times, so the result does not depend on when and how often
   it is called.
2. A step starts when its dependencies are met (see `step_runs`), its condition step (if
   any) has selected its branch, ``step_delay`` of the scenario has passed since the
   last of these steps ended, and fewer than ``max_parallel`` steps run. Steps that come
   first in the definition start first. The steps of a branch that is not selected never
   appear. A ForEach step runs its body once for each item, and does not count as a
   running step.
3. When a step fails and no other step runs because of that, running steps finish and no
   other step starts. Then the execution is Failed. AWS's page about the types of steps
   says so of a Fail step. If ``end_as`` of the scenario is CompletedWithFailures, only
   the steps that depend on the failed step do not start.
4. A step whose request AWS refuses fails when it starts, and is not tried again.
5. If a retry policy matches a failure, the next attempt of the step starts after the
   delay of the policy. A step that finds its results in the cache takes no time and
   starts no attempt. A training job that gets a warm pool does not wait for instances.
6. A stop interrupts jobs, but waits until running Lambda steps end and running Callback
   steps receive a result
   (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StopPipelineExecution.html).
   A step that ends before it is interrupted keeps its status, so a stopped execution
   can still end as Succeeded or Failed.
7. A retry keeps the succeeded steps and runs all other steps again, in the same
   execution. An execution that has ended with a Fail step cannot be retried (AWS's page
   about the types of steps).
8. An execution ends after 672 hours (see `durations`), whatever its steps do.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from typing import Any

from sagemaker_emulator.engine.conditions import CHECKS, check_failure, flag, outcome
from sagemaker_emulator.engine.definition import Definition, Step
from sagemaker_emulator.engine.durations import (
    DEFAULTS,
    EXECUTION_START,
    EXECUTION_TIMEOUT,
    STOPPING,
    TIMEOUT_REASON,
    TIMEOUTS,
    WARM_START,
)
from sagemaker_emulator.engine.expressions import ExpressionError, Scope, evaluate, text
from sagemaker_emulator.engine.scenarios import (
    FAILURE_REASON_LENGTH,
    Scenario,
    StepScenario,
)
from sagemaker_emulator.engine.step_runs import (
    Attempt,
    FindCached,
    FindWarmPool,
    Progress,
    Refusal,
    Selection,
    StepRun,
    loop_items,
)

STEP_FAILURE = "Step failure: One or multiple steps failed."
LOOP_FAILURE = "One or more steps of the ForEach step failed."
_RETRIABLE = ("Failed", "Stopped", "CompletedWithFailures")


class StateError(Exception):
    """Raised when the status of the execution does not allow the operation."""


@dataclass
class Execution:
    """
    One execution. Call `advance` before you read an attribute.

    :param seed: the text from which the callback tokens are derived.
    :param definition: the pipeline definition.
    :param scope: the values that the expressions in the definition can refer to. The
        execution adds the results of its steps.
    :param scenario: the behaviour of the steps.
    :param created_at: the start time, as Unix time.
    :param max_parallel: the maximum number of steps that run at the same time.
    :param selection: the steps of a selective execution; None to run all steps.
    :param find_cached: finds the results of earlier executions; None if there is no
        cache.
    :param find_warm_pool: returns the warm pool of a training job that starts; None if
        there are none.
    :param refusal: returns why AWS refuses a step; None if it refuses none.
    :param refusal_of_stop: returns why a step cannot be stopped. It then fails when its
        job has ended.
    """

    seed: str
    definition: Definition
    scope: Scope
    scenario: Scenario
    created_at: float
    max_parallel: float = inf
    selection: Selection | None = None
    find_cached: FindCached | None = None
    find_warm_pool: FindWarmPool | None = None
    refusal: Refusal | None = None
    refusal_of_stop: Refusal | None = None
    status: str = "Executing"
    failure_reason: str | None = None

    def __post_init__(self) -> None:
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._event_number = 0
        self._attempts: dict[str, int] = {}
        self._stop_waits_for_step = False
        self._ready = False
        self._stopping_until = 0.0
        self.last_modified = self.created_at
        self.attempt_started_at = self.created_at
        self.scenario.write_to(self.scope)
        self._progress = Progress(self.definition, self.selection)
        for step in self.definition.steps.values():
            if self.selection is None or step.name not in self.selection.reused:
                continue
            run = self._progress.add(step, self.created_at)
            run.status = "Succeeded"
            run.ended_at = self.created_at
            run.reused_from = self.selection.source_arn
            self.scope.scenario_names[step.name] = self.scenario.name_of(step)
        self._begin(self.created_at)

    @property
    def runs(self) -> dict[str, StepRun]:
        """The latest run of each step that has started, in the order of the starts."""
        return self._progress.runs

    @property
    def history(self) -> list[StepRun]:
        """
        All runs since the start, oldest first, including those that a retry has
        replaced.
        """
        return self._progress.history

    def advance(self, now: float) -> None:
        """
        Process all events that are due.

        :param now: the current time, as Unix time.
        """
        while self._events and self._events[0][0] <= now:
            at, _, change = heapq.heappop(self._events)
            change(at)
            self._schedule(at)

    def shown_status(self, now: float) -> str:
        """
        Return the status for API responses, which the scenario can replace for some
        time.

        :param now: the current time, as Unix time.
        """
        return self.scenario.shown_status(now - self.attempt_started_at) or self.status

    def stop(self, now: float) -> None:
        """
        Request a stop.

        :param now: the current time, as Unix time.
        :raises StateError: if the status is not Executing.
        """
        self.advance(now)
        if self.status != "Executing":
            raise StateError(
                f"The pipeline execution has status '{self.status}'. "
                "Only pipelines with 'Executing' status can be stopped."
            )
        self.status = "Stopping"
        self.last_modified = now
        self._stopping_until = now + STOPPING / self.scenario.speed
        self._add_check(self._stopping_until)
        for run in self._progress.running():
            if run.is_loop:
                run.status = "Stopping"
            elif run.waiting or DEFAULTS[run.step.type].interruptible:
                if self.refusal_of_stop and not run.waiting:
                    run.error_message = self.refusal_of_stop(run)
                if run.error_message is not None:
                    continue
                run.status = "Stopping"
                self._add_event(
                    self._stopping_until, partial(self._end, run, status="Stopped")
                )
            elif run.step.type in ("Lambda", "Callback"):
                self._stop_waits_for_step = True
                run.stop_requested_at = now

    def retry(self, now: float, scenario: Scenario, max_parallel: float) -> None:
        """
        Run all steps again that have not succeeded.

        :param now: the current time, as Unix time.
        :param scenario: the behaviour of the steps in this retry.
        :param max_parallel: the maximum number of steps that run at the same time.
        :raises StateError: if the execution has not ended, has succeeded, or has ended
            with a Fail step.
        """
        self.advance(now)
        if self.status not in _RETRIABLE:
            raise StateError(
                f"The pipeline execution has status '{self.status}'. "
                "Only pipelines with 'Failed' or 'Stopped' status can be retried."
            )
        if self._progress.has_ended_with_fail_step():
            raise StateError(
                "A pipeline execution that has ended with a Fail step cannot be"
                " retried."
            )
        self._progress.keep_succeeded()
        self.status = "Executing"
        self.failure_reason = None
        self.scenario = scenario
        self.max_parallel = max_parallel
        self.attempt_started_at = now
        self.last_modified = now
        self._ready = False
        self._stop_waits_for_step = False
        self.scenario.write_to(self.scope)
        self._begin(now)

    def set_max_parallel(self, now: float, max_parallel: float) -> None:
        """
        Change the maximum number of steps that run at the same time.

        :param now: the current time, as Unix time.
        :param max_parallel: the new number.
        """
        self.advance(now)
        self.max_parallel = max_parallel
        self.last_modified = now
        self._schedule(now)

    def succeed_callback(
        self, now: float, token: str, outputs: Mapping[str, str]
    ) -> None:
        """
        End a running callback step with success.

        :param now: the current time, as Unix time.
        :param token: the callback token of the step.
        :param outputs: the output parameters of the step.
        :raises StateError: if no running callback step has this token.
        """
        run = self._complete_callback(now, token)
        self.scope.outputs[run.step.name] = dict(outputs)
        self._end(run, now, "Succeeded")
        self._schedule(now)

    def fail_callback(self, now: float, token: str, reason: str | None) -> None:
        """
        End a running callback step with a failure.

        :param now: the current time, as Unix time.
        :param token: the callback token of the step.
        :param reason: the failure reason of the step, if it has one.
        :raises StateError: if no running callback step has this token.
        """
        run = self._complete_callback(now, token)
        self._end(run, now, "Failed", reason)
        self._schedule(now)

    def _complete_callback(self, now: float, token: str) -> StepRun:
        """Note that a callback step has received its result, and return its run."""
        self.advance(now)
        for run in self._progress.running():
            if run.callback_token == token:
                run.callback_completed = True
                return run
        raise StateError("The callback step with this token has already ended.")

    def _add_event(self, time: float, change: Callable[[float], None]) -> None:
        if time < inf:
            self._event_number += 1
            heapq.heappush(self._events, (time, self._event_number, change))

    def _add_check(self, time: float) -> None:
        """Check at a time what can start or end, although no step changes then."""
        self._add_event(time, lambda at: None)

    def _begin(self, at: float) -> None:
        self._add_event(at + EXECUTION_START / self.scenario.speed, self._set_ready)
        self._add_event(at + EXECUTION_TIMEOUT, self._time_out)

    def _time_out(self, at: float) -> None:
        """Interrupt all steps, and end the execution."""
        for run in self._progress.running():
            self._end(run, at, "Stopped")
        self.last_modified = at
        self._events.clear()
        if self.status == "Stopping":
            self.status = "Stopped"
            return
        self.status = "Failed"
        self.failure_reason = TIMEOUT_REASON

    def _set_ready(self, at: float) -> None:
        self._ready = True

    def _schedule(self, at: float) -> None:
        """
        Start all steps that can start. End the execution if no step runs and none can
        start.
        """
        self._end_loops(at)
        # A step that reuses results ends at once, so that others can start.
        while self._ready and self.status == "Executing" and self._start_steps(at):
            self._end_loops(at)
        if self._progress.running():
            return
        if self.status == "Executing":
            is_over = self._ready and not self._startable()
        else:
            is_over = self.status == "Stopping" and at >= self._stopping_until
        if is_over:
            self._finish(at)

    def _start_steps(self, at: float) -> bool:
        """
        Start the steps that can start. Return whether others may be able to start now.
        """
        others_may_start = False
        running = sum(not run.is_loop for run in self._progress.running())
        for step in self._startable():
            if running >= self.max_parallel:
                break
            # A step that has just started can use up the concurrency of its ForEach
            # step.
            may_be_outdated = others_may_start or step.iteration is not None
            if may_be_outdated and step not in self._startable():
                continue
            earliest = (
                self._progress.predecessors_ended_at(step) + self.scenario.step_delay
            )
            if at < earliest:
                continue
            run = self._start(step, at)
            if run.is_loop or not run.running:
                others_may_start = True
            else:
                running += 1
        return others_may_start

    def _startable(self) -> list[Step]:
        if self.scenario.any_failure_allowed:
            return self._progress.startable_after_any_failure()
        return self._progress.startable()

    def _start(self, step: Step, at: float) -> StepRun:
        run = self._progress.add(step, at)
        self.scope.scenario_names[step.name] = self.scenario.name_of(step)
        self.last_modified = at
        if run.is_loop:
            self._start_loop(run, at)
        elif not self._reuse_cached(run, at):
            self._start_attempt(run, at)
        return run

    def _reuse_cached(self, run: StepRun, at: float) -> bool:
        if self.find_cached is None:
            return False
        run.cached = self._progress.cached(
            run, self.seed, self.scope_of(run.step), self.find_cached
        )
        if run.cached is None:
            return False
        if run.cached.outputs:
            self.scope.outputs[run.step.name] = dict(run.cached.outputs)
        self._end(run, at, "Succeeded")
        return True

    def _start_attempt(self, run: StepRun, at: float) -> None:
        if not run.running or run.status == "Stopping":
            return
        reason = self.refusal(run) if self.refusal else None
        if reason is not None:
            self._end(run, at, "Failed", reason)
            return
        step = run.step
        number = self._attempts.get(step.name, 0) + 1
        self._attempts[step.name] = number
        default = DEFAULTS[step.type]
        scenario = self.scenario.of_step(step)
        total = default.total / self.scenario.speed
        if scenario.duration is not None:
            total = scenario.duration
        starting = min(default.starting / self.scenario.speed, total)
        attempt = Attempt(number, at, at + starting, scenario)
        if step.type == "Training" and self.find_warm_pool is not None:
            attempt.warm_pool = self.find_warm_pool(run, attempt)
        if attempt.warm_pool is not None and attempt.warm_pool.is_reused:
            saved = max(0.0, starting - WARM_START / self.scenario.speed)
            starting -= saved
            total -= saved
            attempt.executing_at = at + starting
        run.attempts.append(attempt)
        self.last_modified = at
        if step.type == "Callback":
            digest = hashlib.sha256(
                f"{self.seed}/{step.name}/{number}".encode()
            ).hexdigest()
            run.callback_token = digest[:10]
        if step.type in TIMEOUTS:
            timeout, reason = TIMEOUTS[step.type]
            self._add_event(
                at + timeout, partial(self._end, run, status="Failed", reason=reason)
            )
        run.status = "Executing"
        if starting:
            run.status = "Starting"
            self._add_event(at + starting, partial(self._execute, run))
        self._add_event(at + total, partial(self._complete, run))

    def _execute(self, run: StepRun, at: float) -> None:
        if run.status == "Starting":
            run.status = "Executing"

    def _complete(self, run: StepRun, at: float) -> None:
        """End an attempt whose duration is over."""
        if not run.running:
            return
        scenario = self.scenario.of_step(run.step)
        if run.attempt <= scenario.failing_attempts:
            self._fail_attempt(run, at, scenario)
            return
        try:
            self._evaluate(run)
        except ExpressionError as error:
            self._end(run, at, "Failed", str(error))
            return
        if run.error_message is not None:
            self._end(run, at, "Failed", run.error_message or None)
            return
        if scenario.outputs:
            self.scope.outputs[run.step.name] = dict(scenario.outputs)
        self._end(run, at, "Succeeded")

    def _fail_attempt(self, run: StepRun, at: float, scenario: StepScenario) -> None:
        run.attempts[-1].log_lines = scenario.log_lines
        delay = None
        if self.status == "Executing":
            delay = run.retries.delay(scenario.exception_types, at - run.started_at)
        if delay is None:
            self._end(run, at, "Failed", scenario.failure)
            return
        run.attempts[-1].end(at, "Failed", scenario.failure)
        run.status = "Executing"
        self.last_modified = at
        self._add_event(at + delay, partial(self._start_attempt, run))

    def _evaluate(self, run: StepRun) -> None:
        """
        Set the results of a step that the emulator does itself, since it has no job.

        :raises ExpressionError: if an expression in the step cannot be evaluated.
        """
        step = run.step
        scope = self.scope_of(step)
        if step.type == "Condition":
            run.outcome = outcome(step.arguments.get("Conditions"), scope)
            self.scope.outcomes[step.name] = run.outcome
        elif step.type == "Fail":
            message = evaluate(step.arguments.get("ErrorMessage", ""), scope)
            run.error_message = text(message)
        elif step.type in CHECKS:
            if flag(step.body.get("SkipCheck"), scope, default=False):
                return
            run.violations = self.scenario.of_step(step).violations
            if run.violations:
                run.error_message = check_failure(step, scope)

    def _start_loop(self, run: StepRun, at: float) -> None:
        items = run.step.arguments["IterableItems"]
        try:
            if isinstance(items, list):
                items = [evaluate(item, self.scope) for item in items]
            else:
                items = evaluate(items, self.scope)
            run.iterations = tuple(run.step.iterations(loop_items(items)))
        except ExpressionError as error:
            self._end(run, at, "Failed", str(error))

    def _end_loops(self, at: float) -> None:
        for run, status in self._progress.ended_loops():
            reason = None
            if status == "Failed":
                reason = LOOP_FAILURE
            self._end(run, at, status, reason)
            result = self.loop_result(run)
            for name, value in {**result, "Status": status}.items():
                self.scope.properties[run.step.name, name] = value
            if "Selector" in result:
                self.scope.selected[run.step.name] = result["Selector"]["StepName"]

    def _end(
        self, run: StepRun, at: float, status: str, reason: str | None = None
    ) -> None:
        if not run.running:
            return
        run.status = status
        run.ended_at = at
        self.last_modified = at
        if reason:
            run.failure_reason = reason[:FAILURE_REASON_LENGTH]
        if run.attempts and run.attempts[-1].ended_at is None:
            run.attempts[-1].end(at, status, run.failure_reason)
        if self.scenario.step_delay:
            # The next steps start after this time.
            self._add_check(at + self.scenario.step_delay)

    def _finish(self, at: float) -> None:
        self.last_modified = at
        self._events.clear()
        if self.status == "Stopping" and self._stop_took_effect():
            self.status = "Stopped"
            return
        self.status = self.scenario.end_as or self._progress.status()
        if self.status in ("Failed", "CompletedWithFailures"):
            self.failure_reason = self.scenario.failure_reason or STEP_FAILURE

    def _stop_took_effect(self) -> bool:
        """Return whether the stop came before all steps had ended by themselves."""
        if self._progress.failed_by_itself():
            return False
        if self._stop_waits_for_step or not self._ready:
            return True
        return self._progress.has_unsuccessful() or bool(self._startable())

    def scope_of(self, step: Step) -> Scope:
        """Return the values that the arguments of a step can refer to."""
        if step.iteration is None:
            return self.scope
        return replace(self.scope, item=step.iteration.item)

    def loop_result(self, run: StepRun) -> dict[str, Any]:
        """Return the counts and the selected iteration of a ForEach step."""
        return self._progress.loop_result(run, self.scope)
