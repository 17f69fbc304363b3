"""Tests of dependencies with triggers, and of the time between dependent steps."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.definition import DefinitionError, parse
from tests.builders import FOREVER, condition, execution, fail, timeline


def after(name: str, kind: str, **triggers: str) -> dict[str, Any]:
    """Return a step that depends on other steps with triggers."""
    return step(
        name,
        kind,
        DependsOn=[
            {"Step": other, "Trigger": value} for other, value in triggers.items()
        ],
    )


FAILING = {"steps": {"A": {"fail": {"reason": "No data"}}}}


@pytest.mark.parametrize(
    ("trigger", "scenario", "runs", "status"),
    [
        ("Completed", {}, ["A", "B"], "Succeeded"),
        ("Completed", FAILING, ["A"], "Failed"),
        ("Failed", {}, ["A"], "Succeeded"),
        ("Failed", FAILING, ["A", "B"], "CompletedWithFailures"),
        ("Any", {}, ["A", "B"], "Succeeded"),
        ("Any", FAILING, ["A", "B"], "CompletedWithFailures"),
        ("Stopped", {}, ["A"], "Succeeded"),
        ("Stopped", FAILING, ["A"], "Failed"),
    ],
)
def test_trigger(
    trigger: str, scenario: dict[str, Any], runs: list[str], status: str
) -> None:
    """
    A step runs on the outcome that its trigger names; a failure that it runs on does
    not fail the execution.
    """
    engine = execution(definition(step("A"), after("B", "Lambda", A=trigger)), scenario)
    engine.advance(FOREVER)
    assert (list(engine.runs), engine.status) == (runs, status)


def test_caught_failure_lets_other_branches_go_on() -> None:
    """
    After a caught failure, steps that do not depend on the failed step still start.
    """
    text = definition(
        step("A"), step("B", "Training"), step("C", "Model", "B"), step("D", "Model", "A"),
        after("Notify", "Lambda", A="Failed"),
    )  # fmt: skip
    engine = execution(text, FAILING)
    engine.advance(FOREVER)
    assert list(engine.runs) == ["A", "B", "Notify", "C"]
    assert engine.status == "CompletedWithFailures"
    assert engine.failure_reason == "Step failure: One or multiple steps failed."


def test_uncaught_failure_still_fails_the_execution() -> None:
    """
    If one failure is caught and another is not, the catching step runs, and the
    execution is Failed.
    """
    scenario: dict[str, Any] = {
        "steps": {"A": {"fail": {}}, "B": {"fail": {}, "duration": 100}}
    }
    text = definition(
        step("A"),
        step("B"),
        after("Notify", "Lambda", A="Failed"),
        step("Other", "Lambda"),
    )
    engine = execution(text, scenario, limit=2)
    engine.advance(FOREVER)
    # B has failed before Other could start.
    assert list(engine.runs) == ["A", "B", "Notify"]
    assert engine.status == "Failed"


def test_failure_of_the_catching_step_fails_the_execution() -> None:
    """A step that runs on a failure and fails itself is not caught."""
    scenario: dict[str, Any] = {"steps": {"A": {"fail": {}}, "Notify": {"fail": {}}}}
    engine = execution(
        definition(step("A"), after("Notify", "Lambda", A="Failed")), scenario
    )
    engine.advance(FOREVER)
    assert engine.status == "Failed"


@pytest.mark.parametrize(
    ("left", "status"), [(1, "CompletedWithFailures"), (2, "Failed")]
)
def test_catching_step_in_a_branch_must_be_selected(left: int, status: str) -> None:
    """A step in a branch that is not selected catches no failure."""
    compare = {"Type": "Equals", "LeftValue": left, "RightValue": 1}
    text = definition(
        step("A"), condition("C", [compare], [after("Notify", "Lambda", A="Any")], [])
    )
    engine = execution(text, FAILING)
    engine.advance(FOREVER)
    assert engine.status == status


def test_retry_repeats_the_caught_step_only() -> None:
    """A retry runs the failed step again, and not the step that ran on its failure."""
    engine = execution(
        definition(step("A"), after("Notify", "Lambda", A="Failed")), FAILING
    )
    engine.advance(1000)
    notified_at = engine.runs["Notify"].started_at
    engine.retry(1000, execution(definition(step("A"))).scenario, inf)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert (engine.runs["A"].attempt, engine.runs["Notify"].started_at) == (
        2,
        notified_at,
    )


@pytest.mark.parametrize(
    ("depends_on", "message"),
    [
        ([{"Step": "A", "Trigger": "Never"}], "trigger 'Never'"),
        ([{"Step": "Z", "Trigger": "Any"}], "'Z', which does not exist"),
        ([{"Trigger": "Any"}], "not a list of step names"),
        ([{"Step": "A", "When": "Any"}], "not a list of step names"),
        ("A", "not a list of step names"),
        (["A", {"Step": "A", "Trigger": "Failed"}], "conflicting triggers"),
    ],
)
def test_invalid_dependencies_are_refused(depends_on: Any, message: str) -> None:
    """A definition with an invalid entry in DependsOn is refused."""
    with pytest.raises(DefinitionError, match=message):
        parse(definition(step("A"), step("B", DependsOn=depends_on)))


def test_time_passes_between_dependent_steps() -> None:
    """
    The scenario says how long a step waits after the last step that it depends on; the
    first do not wait.
    """
    scenario: dict[str, Any] = {
        "step_delay": 1.5,
        "steps": {"A": {"duration": 10}, "B": {"duration": 20}},
    }
    yes = {"Type": "Equals", "LeftValue": 1, "RightValue": 1}
    text = definition(
        step("A"),
        step("B"),
        step("C", "Model", "A", "B"),
        condition("D", [yes], [step("E")], []),
    )
    engine = execution(text, scenario)
    engine.advance(22)
    assert (engine.status, "C" in engine.runs) == ("Executing", False)
    engine.advance(FOREVER)
    starts = {name: begin for name, (begin, _, _) in timeline(engine).items()}
    assert starts == {"A": 2, "B": 2, "C": 23.5, "D": 2, "E": 4.5}
    assert (engine.status, engine.last_modified) == ("Succeeded", 244.5)


def test_execution_does_not_wait_after_its_last_step() -> None:
    """The step delay does not delay the end of the execution, also if it fails."""
    engine = execution(definition(fail("F", "no")), {"step_delay": 60})
    engine.advance(FOREVER)
    assert (engine.status, engine.last_modified) == ("Failed", 3)


def test_stop_between_two_steps() -> None:
    """A stop in the time between two steps stops the execution."""
    engine = execution(
        definition(step("A"), step("B", "Processing", "A")), {"step_delay": 60}
    )
    engine.stop(250)
    engine.advance(FOREVER)
    assert (engine.status, list(engine.runs), engine.last_modified) == (
        "Stopped",
        ["A"],
        270,
    )
