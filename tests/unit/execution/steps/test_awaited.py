"""
The step for which a task waits: whether its name is one, and whether the pipeline has
it.
"""

from __future__ import annotations

import pytest

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.steps.descriptions import StepDescription, StepRow
from polysync_airflow.execution.steps.progress import (
    StepEndedEvent,
    check_step_declared,
    check_step_name,
    end_of_step,
    ended_row,
    ended_step,
    parse_step_ended,
    row_of,
)
from polysync_airflow.execution.texts import shorten
from polysync_airflow.execution.waiter import ExecutionEvent

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x/execution/abcdefghijkl"

DECLARED = [DeclaredStep("Wait", "Callback"), DeclaredStep("Train", "Training")]
BODY = [DeclaredStep("Ask-0", "Callback")]
LOOP = [*DECLARED, DeclaredStep("Loop", "ForEach", body=BODY)]


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a\x7f", 7, None])
def test_not_a_name(name: object) -> None:
    """What is no name of a step is refused before AWS is called."""
    with pytest.raises(ParametersError) as caught:
        check_step_name(name)

    assert str(caught.value) == (
        f"step_name = {shorten(name)} is not the name of a step: give the name of a step of the pipeline, of 1 to 256 "
        "characters without control characters."
    )


@pytest.mark.parametrize(
    ("name", "declared", "kind"),
    [
        ("Wait", DECLARED, "Callback"),
        ("Train", DECLARED, None),
        ("Train-2", [DeclaredStep("Train-2", "Training")], "Training"),
        ("Other", [], "Callback"),
        ("Ask-0", LOOP, "Callback"),
        ("Ask-3", LOOP, "Callback"),
        ("Loop", LOOP, None),
    ],
)
def test_declared(name: str, declared: list[DeclaredStep], kind: str | None) -> None:
    """Names of iterations are accepted, and any name if the definition is not known."""
    check_step_name(name)
    check_step_declared(name, declared, kind)


NO_STEP = "is not a step of the pipeline:"
NO_CALLBACK = "is not a step of type Callback of the pipeline:"
OTHER_TYPE = "is a step of type Training: give the name of a step of type Callback."


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("Wai", "Callback", f"{NO_CALLBACK} do you mean 'Wait'?"),
        ("Trai", "Callback", f"{NO_CALLBACK} it has Wait."),
        ("Trai", None, f"{NO_STEP} do you mean 'Train'?"),
        ("Z", None, f"{NO_STEP} it has Wait, Train."),
        ("Train", "Callback", OTHER_TYPE),
        ("Train-1", None, f"{NO_STEP} do you mean 'Train'?"),
    ],
)
def test_not_declared(name: str, kind: str | None, text: str) -> None:
    """A step that the pipeline does not have would be waited for in vain."""
    with pytest.raises(ParametersError) as caught:
        check_step_declared(name, DECLARED, kind)

    assert str(caught.value) == f"step_name = '{name}' {text}"


def test_pipeline_without_such_a_step() -> None:
    """There is no name to propose."""
    with pytest.raises(ParametersError, match=r"it has none\.$"):
        check_step_declared("Wait", [DeclaredStep("Train", "Training")], "Callback")


def described(name: str, status: str | None) -> StepDescription:
    """Return a step as AWS lists it."""
    return StepDescription.model_validate({"StepName": name, "StepStatus": status})


@pytest.mark.parametrize(
    ("steps", "status"),
    [
        (None, None),
        ([], None),
        ([described("Train", "Executing")], None),
        ([described("Train", "Pausing")], None),
        ([described("Train", None)], None),
        ([described("Other", "Succeeded")], None),
        ([described("Other", "Succeeded"), described("Train", "Failed")], "Failed"),
        ([described("Train", "Executing"), described("Train", "Stopped")], "Stopped"),
    ],
)
def test_end_of_step(steps: list[StepDescription] | None, status: str | None) -> None:
    """Only an end of the awaited step ends the wait."""
    end = ended_step(steps, "Train", ARN)

    if status is None:
        assert end is None
    else:
        assert end == StepEndedEvent(
            execution_arn=ARN, step_name="Train", status=status
        )


ROWS = [
    StepRow(name="Train", status="Executing", state="Running"),
    StepRow(name="Merge", status="Failed", state="Failed"),
]


@pytest.mark.parametrize(
    ("name", "ended"), [("Merge", ROWS[1]), ("Train", None), ("Other", None)]
)
def test_row_of_an_awaited_step(name: str, ended: StepRow | None) -> None:
    """
    If the list does not show the end that somebody has seen, the event says what is
    known.
    """
    event = StepEndedEvent(execution_arn=ARN, step_name=name, status="Succeeded")

    assert ended_row(ROWS, name) == ended
    as_in_event = StepRow(name=name, status="Succeeded", state="Success")
    assert row_of(event, ROWS) == (ended or as_in_event)


def test_end_of_a_step_is_reported_as_that_of_an_execution() -> None:
    """The same rules apply to it."""
    assert end_of_step(ARN, "x", ROWS[1]) == ExecutionEvent(
        outcome="ended",
        execution_arn=ARN,
        pipeline_name="x",
        status="Failed",
        message=None,
        started_at=None,
        ended_at=None,
    )


ENDED = {"execution_arn": ARN, "step_name": "Train", "status": "Failed"}
EVENT = {"outcome": "step_ended", **ENDED}


def test_event_of_the_trigger() -> None:
    """Other events are for others; one that says it is this one must be complete."""
    assert parse_step_ended(EVENT) == StepEndedEvent.model_validate(ENDED)
    for other in (None, {}, {**EVENT, "outcome": "ended"}):
        assert parse_step_ended(other) is None
    with pytest.raises(TriggerEventError) as caught:
        parse_step_ended({**EVENT, "status": "s3cret!"})
    assert str(caught.value) == (
        "Airflow resumed the task with an event that is not this provider's event (status: String should match pattern "
        "'^[A-Za-z]{1,64}$'). If another version of the provider was installed meanwhile, clear the task. An execution "
        "that it has started may still be running."
    )


@pytest.mark.parametrize("name", ["Ask", "Ask[0]", "Ask-0[0]", "Ask-x", "Wait-0"])
def test_name_that_no_iteration_has(name: str) -> None:
    """The names of its steps are known, not how many items there will be."""
    with pytest.raises(ParametersError) as caught:
        check_step_declared(name, LOOP, "Callback")

    meant = "Wait" if name == "Wait-0" else "Ask-0"
    assert str(caught.value) == (
        f"step_name = '{name}' is not a step of type Callback of the pipeline: do you mean '{meant}'?"
    )


def test_iteration_of_another_type() -> None:
    """The type is that of the step in the body."""
    loop = DeclaredStep("Loop", "ForEach", body=[DeclaredStep("Ask-0", "Lambda")])
    problem = "step_name = 'Ask-7' is a step of type Lambda: "
    with pytest.raises(ParametersError, match=problem):
        check_step_declared("Ask-7", [loop], "Callback")
