"""Tests of ForEach steps."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.definition import DefinitionError, parse
from sagemaker_emulator.engine.execution import Execution
from tests.builders import FOREVER, execution, fail, timeline

ITEMS = {"Name": "Items", "Type": "String"}


def loop(
    body: dict[str, Any] | None = None, limit: Any = 2, selector: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return a ForEach step that runs a processing step for each item of the parameter Items."""
    arguments: dict[str, Any] = {
        "IterableItems": {"Get": "Parameters.Items"},
        "MaxConcurrency": limit,
        "ForEachBody": [body or step("Body")],
        **({"Selector": selector} if selector else {}),
    }
    return {"Name": "Loop", "Type": "ForEach", "Arguments": arguments}


def run(
    items: Any, scenario: dict[str, Any] | None = None, *more: dict[str, Any], **options: Any
) -> Execution:
    """Return an execution of a ForEach step and of further steps."""
    text = definition(loop(**options), *more, parameters=(ITEMS,))
    return execution(text, scenario, Items=json.dumps(items))


def test_body_runs_once_for_each_item() -> None:
    """The iterations have the names and the times that their number and the concurrency allow."""
    engine = run(["a", "b", "c"], None, step("After", "Model", "Loop"))
    engine.advance(300)
    assert engine.runs["Loop"].status == "Executing"
    engine.advance(FOREVER)
    assert timeline(engine) == {
        "Loop": (2, 482, "Succeeded"),
        "Body-0": (2, 242, "Succeeded"),
        "Body-1": (2, 242, "Succeeded"),
        "Body-2": (242, 482, "Succeeded"),
        "After": (484, 487, "Succeeded"),
    }
    iterations = [r.step.iteration for r in engine.runs.values() if r.step.iteration]
    assert [(i.parent, i.index, i.item) for i in iterations] == [
        ("Loop", 0, "a"),
        ("Loop", 1, "b"),
        ("Loop", 2, "c"),
    ]


def test_loop_does_not_use_up_the_parallelism() -> None:
    """With one parallel step, the iterations run one after the other."""
    text = definition(loop(), parameters=(ITEMS,))
    engine = execution(text, None, 1, Items='["a", "b"]')
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert [r.started_at for r in engine.runs.values()] == [2, 2, 242]


def test_empty_list_succeeds_at_once() -> None:
    """A ForEach step without items takes no time, and later steps run."""
    engine = run([], None, step("After", "Model", "Loop"))
    engine.advance(FOREVER)
    assert timeline(engine) == {"Loop": (2, 2, "Succeeded"), "After": (4, 7, "Succeeded")}


def test_failed_iteration_fails_the_loop_after_the_others() -> None:
    """The other iterations go on; then the ForEach step and the execution fail."""
    engine = run(["a", "b", "c"], {"steps": {"Body-0": {"fail": {}, "duration": 10}}})
    engine.advance(FOREVER)
    assert [r.status for r in engine.runs.values()] == ["Failed", "Failed", "Succeeded", "Succeeded"]
    assert engine.status == "Failed"
    assert engine.loop_result(engine.runs["Loop"]) == {
        "InputItemCount": 3,
        "TotalStepCount": 3,
        "SucceededStepCount": 2,
        "FailedStepCount": 1,
        "StoppedStepCount": 0,
    }


def test_scenario_of_the_body_applies_to_all_iterations() -> None:
    """An iteration without a scenario of its own has that of the body step."""
    engine = run(["a", "b"], {"steps": {"Body": {"duration": 10}, "Body-1": {"duration": 20}}})
    engine.advance(FOREVER)
    assert [r.ended_at for r in engine.runs.values()] == [22, 12, 22]


def test_stop_stops_the_loop() -> None:
    """A stop interrupts the running iterations, and no other iteration starts."""
    engine = run(["a", "b", "c"])
    engine.stop(100)
    assert engine.runs["Loop"].status == "Stopping"
    engine.advance(FOREVER)
    assert [r.status for r in engine.runs.values()] == ["Stopped"] * 3
    assert (engine.status, engine.runs["Loop"].ended_at) == ("Stopped", 120)


def test_retry_repeats_all_iterations_of_a_failed_loop() -> None:
    """A retry runs the whole ForEach step again; a loop that has succeeded stays."""
    engine = run(["a", "b"], {"steps": {"Body-0": {"fail": {"times": 1}}}})
    engine.advance(1000)
    assert engine.status == "Failed"
    engine.retry(1000, engine.scenario, inf)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert [engine.runs[name].attempt for name in ("Body-0", "Body-1")] == [2, 2]


def test_item_is_available_in_the_body() -> None:
    """The key of a cached iteration depends on its item, also on one field of an item."""
    body = {"Name": "Body", "Type": "Processing"}
    body["Arguments"] = {"Environment": {"A": {"Get": "ForEach.CurrentItem.name"}}}  # type: ignore[assignment]
    text = definition(loop(body), parameters=(ITEMS,))
    engine = execution(text, Items=json.dumps([json.dumps({"name": "x"}), {"name": "x"}, {"name": "y"}]))
    engine.find_cached = lambda *key: None
    engine.advance(FOREVER)
    keys = [engine.runs[f"Body-{index}"].cache_key for index in range(3)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(("pick", "selected"), [("MaxBy", 1), ("MinBy", 2)])
def test_selector_picks_an_iteration(pick: str, selected: int) -> None:
    """The selector picks the iteration with the greatest or least output parameter."""
    steps = {f"Body-{index}": {"outputs": {"auc": auc}} for index, auc in enumerate(["0.5", "0.9", "0.1"])}
    scenario = {"steps": steps}
    selector = {"Pick": pick, "Field": {"Get": "ChildOutput.Body.OutputParameters['auc']"}}
    engine = run(["a", "b", "c"], scenario, body=step("Body", "Lambda"), selector=selector)
    engine.advance(FOREVER)
    result = engine.loop_result(engine.runs["Loop"])
    assert result["Selector"] == {"StepName": f"Body-{selected}", "Index": selected}


def test_counts_are_available_to_later_steps() -> None:
    """A later step can use the counts of a ForEach step."""
    message = {"Std:Join": {"On": " ", "Values": [{"Get": "Steps.Loop.SucceededStepCount"}, "items"]}}
    engine = run(["a", "b"], None, fail("F", message))
    engine.advance(FOREVER)
    assert engine.runs["F"].failure_reason == "2 items"


@pytest.mark.parametrize("items", ["no list", "{}", "5"])
def test_items_must_be_a_list(items: str) -> None:
    """A ForEach step fails if its items are not the text of a JSON list."""
    engine = execution(definition(loop(), parameters=(ITEMS,)), Items=items)
    engine.advance(FOREVER)
    assert engine.status == "Failed"
    assert str(engine.runs["Loop"].failure_reason).startswith("IterableItems is not a JSON list")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ForEachBody": []}, "must be one step"),
        ({"ForEachBody": [step("A"), step("B")]}, "must be one step"),
        ({"ForEachBody": [fail("A", "x")]}, "must be one step"),
        ({"ForEachBody": [step("A" * 60)]}, "does not match"),
        ({"ForEachBody": [{"Name": "A"}]}, "has no 'Type'"),
        ({"ForEachBody": [step("A", "Spark")]}, "Value 'Spark' for 'StepType' failed"),
        ({"MaxConcurrency": 0}, "between 1 and 50"),
        ({"MaxConcurrency": 51}, "between 1 and 50"),
        ({"MaxConcurrency": True}, "between 1 and 50"),
        ({"IterableItems": ["a"]}, "not a reference"),
    ],
)
def test_invalid_loop_is_refused(change: dict[str, Any], message: str) -> None:
    """A definition with an invalid ForEach step is refused."""
    body = loop()
    body["Arguments"] |= change
    with pytest.raises(DefinitionError, match=message):
        parse(definition(body, parameters=(ITEMS,)))
