"""Which steps a selective execution may select: AWS's rules, on small definitions."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from polysync_airflow.execution.pipelines import (
    MAX_STEPS,
    DeclaredStep,
    declared_steps,
    mark_selection,
    reused_steps,
    selection_problems,
)


def step(
    name: str, *depends_on: Any, uses: str | None = None, **members: Any
) -> dict[str, Any]:
    """Return a step as a definition declares it."""
    declared: Any = {"Name": name, "Type": "Training", "DependsOn": list(depends_on)}
    if uses:
        joined = {"Std:Join": {"On": "/", "Values": [{"Get": uses}, "x"]}}
        declared["Arguments"] = {"Input": joined}
    return {"Arguments": {}, **declared, **members}


def declared(*steps: Any) -> list[DeclaredStep]:
    """Return the steps of a definition."""
    return declared_steps(json.dumps({"Steps": steps}))


# Prepare -> Train -> Evaluate -> Check -> (Register); Report stands alone.
PREPARED = "Steps.Prepare.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri"
REPORT = {"Get": "Steps.Evaluate.PropertyFiles.Report"}
REGISTER = step("Register", uses="Steps.Train.ModelArtifacts.S3ModelArtifacts")
BRANCHES = {"Conditions": [{"LeftValue": REPORT}], "IfSteps": [REGISTER]}
STEPS = declared(
    step("Prepare"),
    step("Train", uses=PREPARED),
    step("Evaluate", {"Step": "Train", "Trigger": "Failed"}),
    {"Name": "Check", "Type": "Condition", "Arguments": BRANCHES},
    step("Report"),
)


def test_needs_are_those_of_the_step_itself() -> None:
    """
    Names in DependsOn and used properties count; those of a condition's branches are
    not the condition's.
    """
    assert {each.name: sorted(each.needs) for each in STEPS} == {
        "Prepare": [],
        "Train": ["Prepare"],
        "Evaluate": ["Train"],
        "Check": ["Evaluate"],
        "Register": ["Train"],
        "Report": [],
    }


def test_needs_of_a_loop_are_those_of_its_body_too() -> None:
    """What the steps of the body need of each other is nobody else's."""
    tag = step("Tag", "Score", uses="Steps.Train.ModelArtifacts")
    body = [step("Score", "Prepare"), tag]
    loop = {"Name": "Loop", "Type": "ForEach", "Arguments": {"ForEachBody": body}}

    (found,) = declared(loop)

    assert found.needs == {"Prepare", "Train"}
    assert [each.name for each in found.body] == ["Score-0", "Tag-0"]


def test_each_problem_of_a_selection_names_step_and_cure() -> None:
    """
    Each problem names the step and the cure; a selection that AWS accepts has none.
    """
    for selected, has_source, problems in (
        (["Prepare", "Train"], False, []),
        (["Report"], False, []),
        (["Train", "Evaluate"], True, []),
        (["Register"], True, []),
        (
            ["Evaluate"],
            False,
            [
                (
                    "source_execution: is missing, and the selected steps depend on"
                    " Prepare, Train; add the ARN of an execution in which they have"
                    " succeeded, or 'latest', or select them, too"
                )
            ],
        ),
        (
            ["Prepare", "Check"],
            True,
            [
                "Evaluate: is between the selected steps Prepare and Check; select it, too",
                "Train: is between the selected steps Prepare and Check; select it, too",
            ],
        ),
        (
            ["train", "Deploy\x1b"],
            True,
            [
                "train: is not a step of the pipeline; did you mean Train?",
                (
                    "Deploy\N{REPLACEMENT CHARACTER}: is not a step of the pipeline;"
                    " its steps are Prepare, Train, Evaluate, Check, Register, Report"
                ),
            ],
        ),
    ):
        assert selection_problems(selected, STEPS, has_source=has_source) == problems


def test_reused_steps_are_all_above_in_the_order_of_the_definition() -> None:
    """What is below, beside or selected is not reused."""
    assert reused_steps(["Evaluate", "Register"], STEPS) == ["Prepare", "Train"]
    assert reused_steps(["Nothing"], STEPS) == []


@pytest.mark.parametrize(
    ("selected", "marked"),
    [(None, []), (["Train"], ["Prepare", "Evaluate", "Check", "Register", "Report"])],
)
def test_steps_that_were_not_selected_are_marked(
    selected: list[str] | None, marked: list[str]
) -> None:
    """Without a selection no step is marked, else those that were not selected."""
    steps = mark_selection(STEPS, selected)

    assert [step.name for step in steps if step.not_selected] == marked


def test_circles_and_very_many_steps_are_no_failure() -> None:
    """Circles, wrong types and very many steps neither fail nor make a long message."""
    odd = [step("C", uses="Steps."), "D", 5]
    circle = declared(step("A", "B"), step("B", "A", 7, None, {"Step": 7}), *odd)
    names = [f"Step{number:04}" for number in range(2 * MAX_STEPS)]
    chain = [step(name, before) for before, name in pairwise(names)]
    many = declared(step(names[0]), *chain)

    assert selection_problems(["A", "B"], circle, has_source=False) == []
    (problem,) = selection_problems(["Zz"], many, has_source=False)
    assert problem.endswith("Step0009 and 490 more")
    assert len(selection_problems([names[0], names[499]], many, has_source=True)) == 498
