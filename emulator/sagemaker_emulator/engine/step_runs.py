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
    One try of a step, with a job of its own. Times are in seconds since the epoch.

    :param number: 1 for the first try of the step in its execution.
    :param executing_at: the time when the container of the job starts.
    :param scenario: the behaviour of the step in this try.
    :param log_lines: the last lines of the log if the job failed; None for the default
        lines.
    """

    number: int
    started_at: float
    executing_at: float
    scenario: StepScenario
    ended_at: float | None = None
    status: str = "Executing"
    failure_reason: str | None = None
    log_lines: tuple[str, ...] | None = None

    def end(self, at: float, status: str, reason: str | None) -> None:
        """End the attempt."""
        self.ended_at, self.status, self.failure_reason = at, status, reason


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
    The latest run of a step. A retry policy adds attempts to it; a retry of the
    execution replaces it. Times are in seconds since the epoch.

    :param error_message: why a Fail step or a check step fails, after it was evaluated;
        else None.
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
        return self.attempts[-1].number if self.attempts else 0

    @property
    def running(self) -> bool:
        """Whether the run has not ended."""
        return self.ended_at is None

    @property
    def waiting(self) -> bool:
        """Whether the run waits for its next attempt."""
        return (
            self.running
            and bool(self.attempts)
            and self.attempts[-1].ended_at is not None
        )

    @property
    def is_loop(self) -> bool:
        """Whether this is a ForEach step, which runs other steps and no job."""
        return self.step.type == "ForEach"


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
        Remove the runs that a retry repeats. A ForEach step runs all its iterations
        again.
        """
        kept = {
            name: run for name, run in self.runs.items() if run.status == "Succeeded"
        }
        self.runs = {
            name: run
            for name, run in kept.items()
            if run.step.iteration is None or run.step.iteration.parent in kept
        }

    def cached(
        self, run: StepRun, seed: str, scope: Scope, find_cached: FindCached
    ) -> CacheHit | None:
        """
        Return the earlier run that a run reuses, if any, and set the cache key of the
        run.

        :param run: the run, which has just started.
        :param seed: the identity of the execution.
        :param scope: the values that the arguments of the step can refer to.
        :param find_cached: finds the results of earlier executions.
        """
        run.cache_key = caching.cache_key(run.step, scope, partial(self._job_of, seed))
        age = caching.max_age(run.step)
        if age is None or run.cache_key is None:
            return None
        return find_cached(
            run.step.name, run.cache_key, run.started_at - age, run.started_at
        )

    def _job_of(self, seed: str, name: str) -> str:
        """
        Return the identity of the job of a step, which stays the same if its results
        are reused.
        """
        run = self.runs.get(name)
        if run is not None and run.cached is not None:
            return f"{run.cached.seed}/{run.cached.run.attempt}"
        if run is not None and run.reused_from is not None:
            return run.reused_from
        return f"{seed}/{run.attempt if run else 0}"

    def ended_loops(self) -> list[tuple[StepRun, str]]:
        """
        Return the running ForEach steps whose iterations have ended, with their final
        status.
        """
        ended: list[tuple[StepRun, str]] = []
        for loop in self.running():
            children = self.children(loop)
            # A step of the body that depends on one that has failed never starts.
            left = any(
                each.name not in self.runs and self._is_free(each)
                for each in loop.iterations
            )
            waits = loop.status == "Executing" and left
            if not loop.is_loop or waits or any(child.running for child in children):
                continue
            statuses = {child.status for child in children}
            stopped = "Stopped" in statuses or left
            ended.append(
                (
                    loop,
                    (
                        "Failed"
                        if "Failed" in statuses
                        else "Stopped"
                        if stopped
                        else "Succeeded"
                    ),
                )
            )
        return ended

    def running(self) -> list[StepRun]:
        """Return the runs that have not ended."""
        return [run for run in self.runs.values() if run.running]

    def loop_result(self, loop: StepRun, scope: Scope) -> dict[str, Any]:
        """
        Return the results of a ForEach step: the members of ``ForEachStepMetadata``
        except ``Status``.

        :param loop: the run of the ForEach step.
        :param scope: the values that its selector can refer to.
        """
        children = self.children(loop)
        counts = {
            status: sum(child.status == status for child in children)
            for status in _MET_BY["Any"]
        }
        result: dict[str, Any] = {
            "InputItemCount": len(
                {step.iteration.index for step in loop.iterations if step.iteration}
            ),
            "TotalStepCount": len(loop.iterations),
            **{f"{status}StepCount": count for status, count in counts.items()},
        }
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
        Return the steps without a run, in order; of a ForEach step only while it may
        start more.
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
        running = sum(child.running for child in self.children(loop))
        return (
            loop.status == "Executing"
            and running < loop.step.arguments["MaxConcurrency"]
        )

    def startable(self, any_failure_allowed: bool) -> list[Step]:
        """
        Return the steps that may start, apart from the limit of parallel steps, in
        their order.

        :param any_failure_allowed: whether a failure stops no other branch.
        """
        failed = [] if any_failure_allowed else self._failed()
        return [step for step in self._candidates() if self._may_start(step, failed)]

    def _may_start(self, step: Step, failed: list[str]) -> bool:
        if step.iteration is not None:
            return self._is_free(step)
        if failed and not self._continues(step, failed):
            return False
        needed = step.depends_on
        if self._selection is not None:
            # A step that is not selected counts as done: its results come from the
            # source execution or are not used.
            if step.name not in self._selection.selected:
                return False
            needed = needed & (self._selection.selected | self._selection.reused)
            if step.condition not in self._selection.selected:
                return all(self._is_met(step, name) for name in needed)
        return all(self._is_met(step, name) for name in needed) and self._branch_taken(
            step
        )

    def dependencies_ended_at(self, step: Step) -> float:
        """
        Return the time when the last step ended that a step depends on; minus infinity
        if it has none.
        """
        names = {*step.depends_on, *([step.condition] if step.condition else [])}
        ends = [self.runs[name].ended_at for name in names if name in self.runs]
        return max((end for end in ends if end is not None), default=float("-inf"))

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
        """Return the status of an execution all of whose runs have ended."""
        failed = [
            name
            for name in self._failed()
            if not any(step.name in self.runs for step in self._catchers(name))
        ]
        if failed:
            return "Failed"
        return "CompletedWithFailures" if self._failed() else "Succeeded"

    def _continues(self, step: Step, failed: list[str]) -> bool:
        """Return whether the failures so far let a step start."""
        return all(self._catchers(name) for name in failed) or any(
            step.triggers.get(name) in _CATCHING for name in failed
        )

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

    def _is_free(self, step: Step) -> bool:
        return all(self._is_met(step, name) for name in step.depends_on)

    def _is_met(self, step: Step, name: str) -> bool:
        return (
            name in self.runs
            and self.runs[name].status in _MET_BY[step.triggers.get(name, COMPLETED)]
        )

    def _branch_taken(self, step: Step) -> bool:
        if step.condition is None:
            return True
        run = self.runs.get(step.condition)
        return (
            run is not None and run.status == "Succeeded" and run.outcome is step.branch
        )


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
        return [
            str(item) if isinstance(item, Unknown) else _item(item) for item in value
        ]
    try:
        items = json.loads(value)
    except (TypeError, ValueError) as error:
        raise ExpressionError(f"IterableItems is not a JSON list: {error}") from error
    if not isinstance(items, list):
        raise ExpressionError("IterableItems is not a JSON list")
    return [_item(item) for item in items]


def _item(item: Any) -> Any:
    if isinstance(item, str) and item.startswith("{"):
        try:
            return json.loads(item)
        except ValueError:
            return item
    return item


def _selected(selector: Any, children: list[StepRun], scope: Scope) -> StepRun | None:
    """
    Return the child with the greatest or least value; None without a selector or a
    value.
    """
    match = (
        SELECTOR_FIELD.fullmatch(next(references(selector), "")) if selector else None
    )
    values: list[tuple[float, StepRun]] = []
    for child in children:
        if (
            match is None
            or child.step.body["Name"] != match[1]
            or child.status != "Succeeded"
        ):
            continue
        value = evaluate({"Get": f"Steps.{child.step.name}{match[2]}"}, scope)
        with suppress(ValueError):
            values.append((float(str(value)), child))
    if not values:
        return None
    choose = min if selector.get("Pick") == "MinBy" else max
    return choose(values, key=lambda pair: pair[0])[1]
