"""Tests of ForEach steps."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.definition import DefinitionError, parse
from sagemaker_emulator.engine.execution import Execution
from sagemaker_emulator.engine.expressions import Scope, evaluate_all
from tests.builders import FOREVER, execution, fail, timeline

ITEMS = {"Name": "Items", "Type": "String"}


def loop(
    *bodies: dict[str, Any],
    limit: Any = 2,
    selector: dict[str, Any] | None = None,
    items: Any = None,
) -> dict[str, Any]:
    """
    Return a ForEach step that runs a processing step for each item of the parameter
    Items.
    """
    arguments: dict[str, Any] = {
        "IterableItems": items or {"Get": "Parameters.Items"},
        "MaxConcurrency": limit,
        "ForEachBody": list(bodies) or [step("Body")],
        **({"Selector": selector} if selector else {}),
    }
    return {"Name": "Loop", "Type": "ForEach", "Arguments": arguments}


def run(
    items: Any,
    scenario: dict[str, Any] | None = None,
    *more: dict[str, Any],
    **options: Any,
) -> Execution:
    """Return an execution of a ForEach step and of further steps."""
    bodies = options.pop("bodies", ())
    text = definition(loop(*bodies, **options), *more, parameters=(ITEMS,))
    return execution(text, scenario, Items=json.dumps(items))


def test_body_runs_once_for_each_item() -> None:
    """
    The iterations have the names and the times that their number and the concurrency
    allow.
    """
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


def test_body_may_have_several_steps() -> None:
    """
    Each item runs all of them; the counts are those of the steps, and the concurrency,
    too.
    """
    engine = run(
        ["a", "b"],
        None,
        bodies=(step("Work", "Model"), step("Check", "Model")),
        limit=3,
    )
    engine.advance(3)
    assert [run.step.name for run in engine.runs.values()] == [
        "Loop",
        "Work-0",
        "Check-0",
        "Work-1",
    ]
    engine.advance(FOREVER)
    assert list(engine.runs) == ["Loop", "Work-0", "Check-0", "Work-1", "Check-1"]
    result = engine.loop_result(engine.runs["Loop"])
    assert (
        result["InputItemCount"],
        result["TotalStepCount"],
        result["SucceededStepCount"],
    ) == (2, 4, 4)


def test_items_may_be_in_the_definition() -> None:
    """Values, and references."""
    items = ["a", 1, 0.5, True, {"Get": "Parameters.Items"}]
    engine = execution(
        definition(loop(items=items), parameters=(ITEMS,)), Items='{"x": 1}'
    )
    engine.advance(FOREVER)
    iterations = [
        run.step.iteration for run in engine.runs.values() if run.step.iteration
    ]
    assert [iteration.item for iteration in iterations] == ["a", 1, 0.5, True, {"x": 1}]


def test_definition_may_have_a_hundred_items() -> None:
    """The most that the SDK accepts."""
    engine = execution(definition(loop(items=list(range(100)))))
    engine.advance(FOREVER)
    assert engine.loop_result(engine.runs["Loop"])["SucceededStepCount"] == 100


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
    assert timeline(engine) == {
        "Loop": (2, 2, "Succeeded"),
        "After": (4, 7, "Succeeded"),
    }


def test_failed_iteration_fails_the_loop_after_the_others() -> None:
    """The other iterations go on; then the ForEach step and the execution fail."""
    engine = run(["a", "b", "c"], {"steps": {"Body-0": {"fail": {}, "duration": 10}}})
    engine.advance(FOREVER)
    assert [r.status for r in engine.runs.values()] == [
        "Failed",
        "Failed",
        "Succeeded",
        "Succeeded",
    ]
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
    engine = run(
        ["a", "b"], {"steps": {"Body": {"duration": 10}, "Body-1": {"duration": 20}}}
    )
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


def test_stopped_loop_has_not_run_all_its_steps() -> None:
    """Nothing stops a Lambda step, but the next one does not start."""
    engine = run(
        ["a", "b"],
        {"steps": {"Body": {"duration": 50}}},
        bodies=(step("Body", "Lambda"),),
        limit=1,
    )
    engine.stop(10)
    engine.advance(FOREVER)
    assert [(name, each.status) for name, each in engine.runs.items()] == [
        ("Loop", "Stopped"),
        ("Body-0", "Succeeded"),
    ]


def test_retry_repeats_all_iterations_of_a_failed_loop() -> None:
    """A retry runs the whole ForEach step again; a loop that has succeeded stays."""
    engine = run(["a", "b"], {"steps": {"Body-0": {"fail": {"times": 1}}}})
    engine.advance(1000)
    assert engine.status == "Failed"
    engine.retry(1000, engine.scenario, inf)
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    assert [engine.runs[name].attempt for name in ("Body-0", "Body-1")] == [2, 2]


def test_item_with_what_looks_like_an_expression_is_a_value() -> None:
    """Otherwise, an item could refer to itself without end."""
    current = {"Get": "ForEach.CurrentItem"}
    item = {"name": current}
    assert evaluate_all({"Item": current}, Scope(item=item)) == {"Item": item}


def test_item_is_available_in_the_body() -> None:
    """
    The key of a cached iteration depends on its item, also on one field of an item.
    """
    body = {"Name": "Body", "Type": "Processing"}
    body["Arguments"] = {"Environment": {"A": {"Get": "ForEach.CurrentItem.name"}}}  # type: ignore[assignment]
    text = definition(loop(body), parameters=(ITEMS,))
    engine = execution(
        text,
        Items=json.dumps([json.dumps({"name": "x"}), {"name": "x"}, {"name": "y"}]),
    )
    engine.find_cached = lambda *key: None
    engine.advance(FOREVER)
    keys = [engine.runs[f"Body-{index}"].cache_key for index in range(3)]
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize("namespace", ["IterationOutput", "ChildOutput"])
@pytest.mark.parametrize(
    ("pick", "selected", "auc"), [("MaxBy", 1, "0.9"), ("MinBy", 2, "0.1")]
)
def test_selector_picks_an_iteration(
    pick: str, selected: int, auc: str, namespace: str
) -> None:
    """
    The selector picks the iteration with the greatest or least output parameter, which
    later steps can use.
    """
    steps = {
        f"Body-{index}": {"outputs": {"auc": auc}}
        for index, auc in enumerate(["0.5", "0.9", "0.1"])
    }
    # The other step of the body does not count.
    steps |= {f"Other-{index}": {"outputs": {"auc": str(index)}} for index in range(3)}
    selector = {
        "Pick": pick,
        "Field": {"Get": f"{namespace}.Body.OutputParameters['auc']"},
    }
    values = [
        {"Get": "Steps.Loop.Selected.OutputParameters['auc']"},
        {"Get": "Steps.Loop.IterationOutputs[0].Body.OutputParameters['auc']"},
        {"Get": "Steps.Loop.IterationOutputs[2].Other.OutputParameters['auc']"},
    ]
    message = fail("F", {"Std:Join": {"On": " ", "Values": values}})
    bodies = (step("Other", "Lambda"), step("Body", "Lambda"))
    engine = run(
        ["a", "b", "c"], {"steps": steps}, message, bodies=bodies, selector=selector
    )
    engine.advance(FOREVER)
    result = engine.loop_result(engine.runs["Loop"])
    assert result["Selector"] == {"StepName": f"Body-{selected}", "Index": selected}
    assert engine.runs["F"].failure_reason == f"{auc} 0.5 2"


@pytest.mark.parametrize(
    ("steps", "selected"),
    [
        ({"Body": {"metrics": {"auc": 0.5}}, "Body-1": {"metrics": {"auc": 0.9}}}, 1),
        (
            {
                "Body": {"metrics": {"auc": 0.5}},
                "Body-1": {"metrics": {"auc": 0.9}, "fail": {}},
            },
            0,
        ),
        ({"Body": {"metrics": {"auc": 0.5}}, "Body-0": {"duration": 5}}, 1),
        ({"Body": {"metrics": {"loss": 0.5}}}, None),
    ],
)
def test_selector_compares_any_number_of_an_iteration_that_has_succeeded(
    steps: dict[str, Any], selected: int | None
) -> None:
    """
    Such as a metric. The body's scenario is that of the iterations without one of their
    own.
    """
    field = {"Get": "IterationOutput.Body.FinalMetricDataList['auc'].Value"}
    selector = {"Pick": "MaxBy", "Field": field}
    engine = run(
        ["a", "b"],
        {"steps": steps},
        bodies=(step("Body", "Training"),),
        selector=selector,
    )
    engine.advance(FOREVER)
    picked = engine.loop_result(engine.runs["Loop"]).get("Selector")
    assert picked == (
        None
        if selected is None
        else {"StepName": f"Body-{selected}", "Index": selected}
    )


def test_property_file_of_a_body_is_read_by_the_same_iteration() -> None:
    """A step of the body reads what another one has written for its item."""
    file = {
        "Std:JsonGet": {
            "PropertyFile": {"Get": "Steps.Body.PropertyFiles.Eval"},
            "Path": "auc",
        }
    }
    check = step(
        "Check", "Lambda", Arguments={"auc": file}, CacheConfig={"Enabled": True}
    )
    steps = {
        name: {"property_files": {"Eval": {"auc": auc}}}
        for name, auc in (("Body", 0.5), ("Body-1", 0.9))
    }
    engine = run(["a", "b", "c"], {"steps": steps}, bodies=(step("Body"), check))
    engine.find_cached = lambda *key: None
    engine.advance(FOREVER)
    keys = [engine.runs[f"Check-{index}"].cache_key for index in range(3)]
    assert keys[0] == keys[2] != keys[1]


def test_steps_of_a_body_depend_on_each_other() -> None:
    """
    For each item, by ``DependsOn`` and by references, whose values are those of the
    same item.
    """
    value = {"Get": "Steps.Work.OutputParameters['id']"}
    check = step(
        "Check", "Lambda", Arguments={"id": value}, CacheConfig={"Enabled": True}
    )
    bodies = (step("Report", "Model", "Check"), check, step("Work", "Lambda"))
    outputs = {
        f"Work-{index}": {"outputs": {"id": str(index % 2)}} for index in range(3)
    }
    engine = run(["a", "b", "c"], {"steps": outputs}, bodies=bodies, limit=2)
    engine.find_cached = lambda *key: None
    engine.advance(FOREVER)
    assert engine.status == "Succeeded"
    for index in range(3):
        work, check_run, report = (
            engine.runs[f"{name}-{index}"] for name in ("Work", "Check", "Report")
        )
        assert work.ended_at is not None
        assert check_run.ended_at is not None
        assert (
            work.ended_at
            < check_run.started_at
            < check_run.ended_at
            < report.started_at
        )
    keys = [engine.runs[f"Check-{index}"].cache_key for index in range(3)]
    assert keys[0] == keys[2] != keys[1]


def test_loop_ends_if_its_other_steps_cannot_start() -> None:
    """
    They depend on a step that has failed, also through others; only what waits for a
    failure runs.
    """
    after = step("Repair", "Model", DependsOn=[{"Step": "Work", "Trigger": "Failed"}])
    bodies = (
        step("Work", "Model"),
        step("Check", "Model", "Work"),
        step("Report", "Model", "Check"),
        after,
    )
    engine = run(
        ["a", "b"], {"steps": {"Work-1": {"fail": {}}}}, bodies=bodies, limit=50
    )
    engine.advance(FOREVER)
    assert list(engine.runs) == [
        "Loop",
        "Work-0",
        "Work-1",
        "Check-0",
        "Repair-1",
        "Report-0",
    ]
    assert (engine.runs["Loop"].status, engine.status) == ("Failed", "Failed")
    counts = {
        key: value
        for key, value in engine.loop_result(engine.runs["Loop"]).items()
        if value
    }
    assert counts == {
        "InputItemCount": 2,
        "TotalStepCount": 8,
        "SucceededStepCount": 4,
        "FailedStepCount": 1,
    }


def test_step_that_waits_for_a_failure_does_not_hold_a_loop_that_succeeds() -> None:
    """It never starts, and nothing was stopped."""
    after = step("Repair", "Model", DependsOn=[{"Step": "Work", "Trigger": "Failed"}])
    engine = run(["a"], None, bodies=(step("Work", "Model"), after))
    engine.advance(FOREVER)
    assert [(name, each.status) for name, each in engine.runs.items()] == [
        ("Loop", "Succeeded"),
        ("Work-0", "Succeeded"),
    ]


@pytest.mark.parametrize(
    "depends",
    [{"DependsOn": ["Before"]}, {"Arguments": {"x": {"Get": "Steps.Before.X"}}}],
)
def test_loop_waits_for_what_its_body_depends_on(depends: dict[str, Any]) -> None:
    """A step of the body may name a step beside the loop."""
    engine = run(
        ["a"], None, step("Before", "Model"), bodies=(step("Work", "Model", **depends),)
    )
    engine.advance(FOREVER)
    assert list(engine.runs) == ["Before", "Loop", "Work-0"]


def test_counts_are_available_to_later_steps() -> None:
    """A later step can use the counts of a ForEach step."""
    message = {
        "Std:Join": {
            "On": " ",
            "Values": [{"Get": "Steps.Loop.SucceededStepCount"}, "items"],
        }
    }
    engine = run(["a", "b"], None, fail("F", message))
    engine.advance(FOREVER)
    assert engine.runs["F"].failure_reason == "2 items"


@pytest.mark.parametrize("items", ["no list", "{}", "5"])
def test_items_must_be_a_list(items: str) -> None:
    """A ForEach step fails if its items are not the text of a JSON list."""
    engine = execution(definition(loop(), parameters=(ITEMS,)), Items=items)
    engine.advance(FOREVER)
    assert engine.status == "Failed"
    assert str(engine.runs["Loop"].failure_reason).startswith(
        "IterableItems is not a JSON list"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ForEachBody": []}, "must be steps that"),
        ({"ForEachBody": [step("A"), fail("B", "x")]}, "must be steps that"),
        ({"ForEachBody": [step("A"), step("A")]}, "'A' is not unique"),
        ({"ForEachBody": [step("Loop")]}, "'Loop' is not unique"),
        (
            {"ForEachBody": [step("A", "Model", "B"), step("B", "Model", "A")]},
            "form a cycle",
        ),
        (
            {"ForEachBody": [step("A", "Model", "C")]},
            "step 'Loop' depends on 'C', which does not exist",
        ),
        (
            {"ForEachBody": [step("Loop2")]},
            "'Loop2-1' is that of an iteration of step 'Loop2'",
        ),
        (
            {
                "Selector": {
                    "Pick": "Best",
                    "Field": {"Get": "IterationOutput.Body.Status"},
                }
            },
            "no 'Pick'",
        ),
        (
            {"Selector": {"Pick": "MaxBy", "Field": {"Get": "IterationOutput.Body"}}},
            "no 'Field'",
        ),
        ({"Selector": "MaxBy"}, "no 'Pick'"),
        (
            {"Selector": {"Pick": "MaxBy", "Field": {"Get": "IterationOutput.A.x"}}},
            "no step of its",
        ),
        ({"ForEachBody": [step("A" * 60)]}, "does not match"),
        ({"ForEachBody": [{"Name": "A"}]}, "has no 'Type'"),
        ({"ForEachBody": [step("A", "Spark")]}, "Value 'Spark' for 'StepType' failed"),
        ({"MaxConcurrency": 0}, "between 1 and 50"),
        ({"MaxConcurrency": 51}, "between 1 and 50"),
        ({"MaxConcurrency": True}, "between 1 and 50"),
        ({"IterableItems": []}, "list of 1 to 100 items"),
        ({"IterableItems": ["a"] * 101}, "list of 1 to 100 items"),
        ({"IterableItems": "a"}, "list of 1 to 100 items"),
        ({"IterableItems": ["a", None]}, "None is neither a value nor a reference"),
    ],
)
def test_invalid_loop_is_refused(change: dict[str, Any], message: str) -> None:
    """A definition with an invalid ForEach step is refused."""
    body = loop()
    body["Arguments"] |= change
    with pytest.raises(DefinitionError, match=message):
        parse(definition(body, step("Loop2-1", "Model"), parameters=(ITEMS,)))
