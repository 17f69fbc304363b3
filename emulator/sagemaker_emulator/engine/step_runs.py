"""
The runs of steps, and the rules that say which step may start next.

A step depends on other steps by their outcome (see `definition.TRIGGERS`). A failure is
*caught* if another step runs because of it. The documentation of the SageMaker Python
SDK (``StepDependency``) says that an execution with a caught failure ends as
CompletedWithFailures. AWS does not document whether the other branches go on; here they
do. A step is stopped only with its execution, so no step runs on Stopped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from sagemaker_emulator.engine import caching
from sagemaker_emulator.engine.definition import (
    COMPLETED,
    SELECTOR_FIELD,
    Definition,
    Step,
    references,
)
from sagemaker_emulator.engine.expressions import (
    ExpressionError,
    Scope,
    Unknown,
    evaluate,
)
from sagemaker_emulator.engine.retry_policies import Retries, retries
from sagemaker_emulator.engine.scenarios import StepScenario
from sagemaker_emulator.engine.warm_pools import WarmPool

_MET_BY: Mapping[str, tuple[str, ...]] = {
    COMPLETED: ("Succeeded",),
    "Failed": ("Failed",),
    "Stopped": ("Stopped",),
    "Any": ("Succeeded", "Failed", "Stopped"),
}
_CATCHING = ("Failed", "Any")


@dataclass
class Attempt:
    """
    One try of a step, with a job of its own. Times are Unix times.

    :param number: 1 for the first try of the step in its execution.
    :param executing_at: the time when the container of the job starts.
    :param scenario: the behaviour of the step in this try.
    :param log_lines: the last lines of the log if the job failed; None for the default
        lines.
    :param warm_pool: the warm pool of its job; None if it has none.
    """

    number: int
    started_at: float
    executing_at: float
    scenario: StepScenario
    ended_at: float | None = None
    status: str = "Executing"
    failure_reason: str | None = None
    log_lines: tuple[str, ...] | None = None
    warm_pool: WarmPool | None = None

    def end(self, at: float, status: str, reason: str | None) -> None:
        """End the attempt."""
        self.ended_at = at
        self.status = status
        self.failure_reason = reason
        if self.warm_pool is not None:
            self.warm_pool.keep(at, reason)


@dataclass(frozen=True)
class CacheHit:
    """
    The run of an earlier execution whose results a step reuses.

    :param execution_arn: the ARN of that execution.
    :param seed: the identity of that execution in its engine.
    """

    execution_arn: str
    seed: str
    run: StepRun
    outputs: Mapping[str, Any]


@dataclass
class StepRun:
    """
    A run of a step. Times are Unix times.

    A retry policy adds attempts to it; a retry of the execution replaces it.

    :param order: the number of the run in its execution, from 1.
    :param outcome: the branch that a condition step has selected; None before it has.
    :param callback_completed: whether a callback step has received its result.
    :param stop_requested_at: when a stop was requested that waits for the step; else
        None.
    :param reused_from: the ARN of the source of a selective execution, if the run has
        its results.
    :param cache_key: the cache key, if results can be reused; else None.
    :param cached: the earlier run whose results the run has reused; else None.
    :param iterations: the steps that a ForEach step runs; none before it has started.
    :param error_message: why a Fail step or a check step fails, after it was evaluated,
        or a step that could not be stopped; else None.
    :param violations: what a check step has found.
    """

    step: Step
    order: int
    started_at: float
    retries: Retries = field(default_factory=lambda: Retries(()))
    attempts: list[Attempt] = field(default_factory=list)
    status: str = "Executing"
    ended_at: float | None = None
    failure_reason: str | None = None
    outcome: bool | None = None
    error_message: str | None = None
    violations: tuple[Mapping[str, str], ...] = ()
    callback_token: str | None = None
    callback_completed: bool = False
    stop_requested_at: float | None = None
    reused_from: str | None = None
    cache_key: str | None = None
    cached: CacheHit | None = None
    iterations: tuple[Step, ...] = ()

    @property
    def attempt(self) -> int:
        """
        The number of the current attempt; 0 if the results of another execution were
        reused.
        """
        if not self.attempts:
            return int(self.refused)
        return self.attempts[-1].number

    @property
    def refused(self) -> bool:
        """Whether AWS has refused to start its job, so that it has none."""
        return self.status == "Failed" and not self.attempts and not self.is_loop

    @property
    def running(self) -> bool:
        """Whether the run has not ended."""
        return self.ended_at is None

    @property
    def waiting(self) -> bool:
        """Whether the run waits for its next attempt."""
        if not self.running or not self.attempts:
            return False
        return self.attempts[-1].ended_at is not None

    @property
    def is_loop(self) -> bool:
        """Whether this is a ForEach step, which runs other steps and no job."""
        return self.step.type == "ForEach"


#: Returns the warm pool of the job of an attempt that starts; None if it has none.
FindWarmPool = Callable[[StepRun, Attempt], WarmPool | None]
#: Returns why AWS refuses to start the job of a run; None if it does not.
Refusal = Callable[[StepRun], str | None]
#: Finds the run that a step reuses. The arguments are the step name, the cache key, and
#: the earliest and the latest time at which the run may have ended.
FindCached = Callable[[str, str, float, float], CacheHit | None]


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


class Progress:
    """
    The runs of an execution, and what may start next.

    :param definition: the pipeline definition.
    :param selection: the steps of a selective execution; None for all steps.
    """

    def __init__(self, definition: Definition, selection: Selection | None) -> None:
        self.runs: dict[str, StepRun] = {}
        self.history: list[StepRun] = []
        self._steps = definition.steps
        self._selection = selection
        self._catching: dict[str, list[Step]] = {}
        for step in definition.steps.values():
            for name, trigger in step.triggers.items():
                if trigger in _CATCHING:
                    self._catching.setdefault(name, []).append(step)

    def add(self, step: Step, at: float) -> StepRun:
        """Add and return a run of a step that starts."""
        run = StepRun(step, len(self.history) + 1, at, retries(step))
        self.runs[step.name] = run
        self.history.append(run)
        return run

    def keep_succeeded(self) -> None:
        """
        Remove the runs that a retry repeats. A ForEach step repeats all its iterations.
        """
        succeeded = {
            name: run for name, run in self.runs.items() if run.status == "Succeeded"
        }
        self.runs = {
            name: run
            for name, run in succeeded.items()
            if run.step.iteration is None or run.step.iteration.parent in succeeded
        }

    def running(self) -> list[StepRun]:
        """Return the runs that have not ended."""
        return [run for run in self.runs.values() if run.running]

    def cached(
        self, run: StepRun, seed: str, scope: Scope, find_cached: FindCached
    ) -> CacheHit | None:
        """
        Set the cache key of a run, and return the earlier run that it reuses, if any.

        :param run: the run, which has just started.
        :param seed: the identity of the execution.
        :param scope: the values that the arguments of the step can refer to.
        :param find_cached: finds the results of earlier executions.
        """
        run.cache_key = caching.cache_key(run.step, scope, partial(self._job_of, seed))
        max_age = caching.max_age(run.step)
        if max_age is None or run.cache_key is None:
            return None
        earliest_end = run.started_at - max_age
        return find_cached(run.step.name, run.cache_key, earliest_end, run.started_at)

    def _job_of(self, seed: str, name: str) -> str:
        """
        Return the identity of the job that has made the results of a step.

        :param seed: the identity of this execution.
        :param name: the name of the step.
        """
        run = self.runs.get(name)
        if run is None:
            return f"{seed}/0"
        if run.cached is not None:
            return f"{run.cached.seed}/{run.cached.run.attempt}"
        if run.reused_from is not None:
            return run.reused_from
        return f"{seed}/{run.attempt}"

    def ended_loops(self) -> list[tuple[StepRun, str]]:
        """
        Return the running ForEach steps whose iterations have ended, with their final
        status.
        """
        ended: list[tuple[StepRun, str]] = []
        for run in self.running():
            if not run.is_loop:
                continue
            status = self._final_loop_status(run)
            if status is not None:
                ended.append((run, status))
        return ended

    def _final_loop_status(self, loop: StepRun) -> str | None:
        """Return the status of a ForEach step that has ended; None if it runs."""
        children = self.children(loop)
        if any(child.running for child in children):
            return None
        # A step of the body that depends on one that has failed never starts.
        others_could_start = any(
            step.name not in self.runs and self._are_met(step, step.depends_on)
            for step in loop.iterations
        )
        if others_could_start and loop.status == "Executing":
            return None
        statuses = {child.status for child in children}
        if "Failed" in statuses:
            return "Failed"
        if "Stopped" in statuses or others_could_start:
            return "Stopped"
        return "Succeeded"

    def loop_result(self, loop: StepRun, scope: Scope) -> dict[str, Any]:
        """
        Return the results of a ForEach step: the members of ``ForEachStepMetadata``
        except ``Status``.

        :param loop: the run of the ForEach step.
        :param scope: the values that its selector can refer to.
        """
        children = self.children(loop)
        indexes = {step.iteration.index for step in loop.iterations if step.iteration}
        result: dict[str, Any] = {
            "InputItemCount": len(indexes),
            "TotalStepCount": len(loop.iterations),
        }
        for status in _MET_BY["Any"]:
            count = sum(child.status == status for child in children)
            result[f"{status}StepCount"] = count
        selected = _selected(loop.step.arguments.get("Selector"), children, scope)
        if selected is not None and selected.step.iteration is not None:
            result["Selector"] = {
                "StepName": selected.step.name,
                "Index": selected.step.iteration.index,
            }
        return result

    def children(self, loop: StepRun) -> list[StepRun]:
        """Return the runs of the iterations of a ForEach step."""
        return [
            self.runs[step.name] for step in loop.iterations if step.name in self.runs
        ]

    def _candidates(self) -> list[Step]:
        """
        Return the steps without a run, in order.

        They include the iterations of a ForEach step while it may start one more.
        """
        steps: list[Step] = []
        for step in self._steps.values():
            run = self.runs.get(step.name)
            if run is None:
                steps.append(step)
            elif run.iterations and self._has_room(run):
                steps += [
                    child for child in run.iterations if child.name not in self.runs
                ]
        return steps

    def _has_room(self, loop: StepRun) -> bool:
        if loop.status != "Executing":
            return False
        running = sum(child.running for child in self.children(loop))
        return bool(running < loop.step.arguments["MaxConcurrency"])

    def startable(self) -> list[Step]:
        """
        Return the steps that may start, in their order.

        The limit of parallel steps is not considered.
        """
        failed = self._failed()
        return [
            step
            for step in self.startable_after_any_failure()
            if self._continues_after(step, failed)
        ]

    def startable_after_any_failure(self) -> list[Step]:
        """Return the steps that may start if a failure stops no other branch."""
        return [step for step in self._candidates() if self._may_start(step)]

    def _may_start(self, step: Step) -> bool:
        if step.iteration is not None:
            return self._are_met(step, step.depends_on)
        if self._selection is None:
            return self._are_met(step, step.depends_on) and self._branch_taken(step)
        selected = self._selection.selected
        if step.name not in selected:
            return False
        # A step that is not selected counts as done: its results come from the source
        # execution or are not used.
        dependencies = step.depends_on & (selected | self._selection.reused)
        if not self._are_met(step, dependencies):
            return False
        return step.condition not in selected or self._branch_taken(step)

    def predecessors_ended_at(self, step: Step) -> float:
        """
        Return the time when the last predecessor of a step ended; minus infinity if it
        has none.
        """
        runs = [self.runs[name] for name in step.predecessors if name in self.runs]
        ends = [run.ended_at for run in runs if run.ended_at is not None]
        return max(ends, default=-inf)

    def failed_by_itself(self) -> bool:
        """
        Return whether a step failed for another reason than the result of a callback.
        """
        return any(
            run.status == "Failed" and not run.callback_completed
            for run in self.runs.values()
        )

    def has_ended_with_fail_step(self) -> bool:
        """Return whether a Fail step has run."""
        return any(
            run.step.type == "Fail" and run.status == "Failed"
            for run in self.runs.values()
        )

    def has_unsuccessful(self) -> bool:
        """Return whether a run has not succeeded."""
        return any(run.status != "Succeeded" for run in self.runs.values())

    def status(self) -> str:
        """Return the status of the execution, all of whose runs have ended."""
        failed = self._failed()
        if not failed:
            return "Succeeded"
        for name in failed:
            if not any(step.name in self.runs for step in self._catchers(name)):
                return "Failed"
        return "CompletedWithFailures"

    def _continues_after(self, step: Step, failed: list[str]) -> bool:
        """Return whether the failures of other steps let a step start."""
        if step.iteration is not None:
            return True
        if all(self._catchers(name) for name in failed):
            return True
        return any(step.triggers.get(name) in _CATCHING for name in failed)

    def _failed(self) -> list[str]:
        # A failed iteration counts through its ForEach step.
        return [
            name
            for name, run in self.runs.items()
            if run.status == "Failed" and run.step.iteration is None
        ]

    def _catchers(self, name: str) -> list[Step]:
        """Return the steps that run, or can still run, because a step failed."""
        return [
            step
            for step in self._catching.get(name, ())
            if step.condition is None
            or step.condition not in self.runs
            or self._branch_taken(step)
        ]

    def _are_met(self, step: Step, dependencies: frozenset[str]) -> bool:
        """Return whether dependencies of a step have ended as their triggers say."""
        for name in dependencies:
            trigger = step.triggers.get(name, COMPLETED)
            if name not in self.runs or self.runs[name].status not in _MET_BY[trigger]:
                return False
        return True

    def _branch_taken(self, step: Step) -> bool:
        if step.condition is None:
            return True
        run = self.runs.get(step.condition)
        if run is None or run.status != "Succeeded":
            return False
        return run.outcome is step.branch


def loop_items(value: Any) -> list[Any]:
    """
    Return the items of a ForEach step.

    The text of a JSON object counts as that object, and a value that only a job can
    produce as one item.

    :param value: the evaluated ``IterableItems``.
    :raises ExpressionError: if the value is neither a list nor the text of a JSON list.
    """
    if isinstance(value, Unknown):
        return [str(value)]
    if isinstance(value, list):
        return [_item(item) for item in value]
    try:
        items = json.loads(value)
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"IterableItems is not a JSON list: {error}") from error
    if not isinstance(items, list):
        raise ExpressionError("IterableItems is not a JSON list")
    return [_item(item) for item in items]


def _item(item: Any) -> Any:
    if isinstance(item, Unknown):
        return str(item)
    if isinstance(item, str) and item.startswith("{"):
        try:
            return json.loads(item)
        except ValueError:
            return item
    return item


def _selected(selector: Any, children: list[StepRun], scope: Scope) -> StepRun | None:
    """
    Return the iteration with the greatest or least value of the field of a selector;
    None without a selector or a value.
    """
    if not selector:
        return None
    match = SELECTOR_FIELD.fullmatch(next(references(selector), ""))
    if match is None:
        return None
    values: list[tuple[float, StepRun]] = []
    for child in children:
        if child.step.body["Name"] != match[1] or child.status != "Succeeded":
            continue
        value = evaluate({"Get": f"Steps.{child.step.name}{match[2]}"}, scope)
        with suppress(ValueError):
            values.append((float(str(value)), child))
    if not values:
        return None
    if selector.get("Pick") == "MinBy":
        return min(values, key=lambda pair: pair[0])[1]
    return max(values, key=lambda pair: pair[0])[1]
