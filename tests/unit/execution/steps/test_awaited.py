"""
The step for which a task waits: whether its name is one, and whether the pipeline has
it.
"""

from __future__ import annotations

import pytest

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.steps.descriptions import StepRow
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
from tests.unit.execution.lifecycle.builders import end_of_wait, listed_step

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x/execution/abcdefghijkl"

DECLARED = [DeclaredStep("Wait", "Callback"), DeclaredStep("Train", "Training")]
BODY = [DeclaredStep("Ask-0", "Callback")]
LOOP = [*DECLARED, DeclaredStep("Loop", "ForEach", body=BODY)]


@pytest.mark.parametrize("name", ["", "x" * 257, "a\nb", "a\x7f", 7, None])
def test_value_that_is_no_name_of_a_step_is_refused(name: object) -> None:
    """What is no name of a step is refused before AWS is called."""
    with pytest.raises(ParametersError) as caught:
        check_step_name(name)

    assert str(caught.value) == (
        f"step_name = {shorten(name)} is not the name of a step: give the name of a"
        " step of the pipeline, of 1 to 256 characters without control characters."
    )


def test_step_of_the_definition_is_accepted() -> None:
    """Names of iterations are accepted, and any name if the definition is not known."""
    for name, declared, kind in (
        ("Wait", DECLARED, "Callback"),
        ("Train", DECLARED, None),
        ("Train-2", [DeclaredStep("Train-2", "Training")], "Training"),
        ("Other", [], "Callback"),
        ("Ask-0", LOOP, "Callback"),
        ("Ask-3", LOOP, "Callback"),
        ("Loop", LOOP, None),
    ):
        check_step_name(name)
        check_step_declared(name, declared, kind)


NO_STEP = "is not a step of the pipeline:"
NO_CALLBACK = "is not a step of type Callback of the pipeline:"
OTHER_TYPE = "give the name of a step of type Callback."
ONLY_TRAINING = [DeclaredStep("Train", "Training")]
LOOP_OF_CALLS = [
    DeclaredStep("Loop", "ForEach", body=[DeclaredStep("Ask-0", "Lambda")])
]


def test_step_that_the_pipeline_lacks_is_refused() -> None:
    """A step that the pipeline does not have would be waited for in vain."""
    for name, declared, kind, text in (
        ("Wai", DECLARED, "Callback", f"{NO_CALLBACK} do you mean 'Wait'?"),
        ("Trai", DECLARED, "Callback", f"{NO_CALLBACK} it has Wait."),
        ("Wait", ONLY_TRAINING, "Callback", f"{NO_CALLBACK} it has none."),
        ("Trai", DECLARED, None, f"{NO_STEP} do you mean 'Train'?"),
        ("Z", DECLARED, None, f"{NO_STEP} it has Wait, Train."),
        ("Train", DECLARED, "Callback", f"is a step of type Training: {OTHER_TYPE}"),
        ("Train-1", DECLARED, None, f"{NO_STEP} do you mean 'Train'?"),
        # The names of its iterations are known, not how many there will be.
        ("Ask", LOOP, "Callback", f"{NO_CALLBACK} do you mean 'Ask-0'?"),
        ("Ask-x", LOOP, "Callback", f"{NO_CALLBACK} do you mean 'Ask-0'?"),
        ("Ask-7", LOOP_OF_CALLS, "Callback", f"is a step of type Lambda: {OTHER_TYPE}"),
    ):
        with pytest.raises(ParametersError) as caught:
            check_step_declared(name, declared, kind)

        assert str(caught.value) == f"step_name = '{name}' {text}"


def test_only_an_end_of_the_awaited_step_ends_the_wait() -> None:
    """Only an end of the awaited step ends the wait."""
    for steps, status in (
        (None, None),
        ([listed_step("Train", "Executing")], None),
        ([listed_step("Train", "Pausing")], None),
        ([listed_step("Train", None)], None),
        ([listed_step("Other", "Succeeded")], None),
        ([listed_step("Other", "Succeeded"), listed_step("Train", "Failed")], "Failed"),
        (
            [listed_step("Train", "Executing"), listed_step("Train", "Stopped")],
            "Stopped",
        ),
    ):
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
def test_row_of_an_awaited_step_is_made_from_the_event_where_the_list_lags(
    name: str, ended: StepRow | None
) -> None:
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
    end = end_of_step(ARN, "fanout", ROWS[1])

    assert end == end_of_wait("ended", "Failed", execution_arn=ARN)


ENDED = {"execution_arn": ARN, "step_name": "Train", "status": "Failed"}
EVENT = {"outcome": "step_ended", **ENDED}


def test_event_of_the_trigger_is_told_from_others() -> None:
    """Other events are for others; one that says it is this one must be complete."""
    assert parse_step_ended(EVENT) == StepEndedEvent.model_validate(ENDED)
    for other in (None, {}, {**EVENT, "outcome": "ended"}):
        assert parse_step_ended(other) is None
    with pytest.raises(TriggerEventError) as caught:
        parse_step_ended({**EVENT, "status": "s3cret!"})
    assert str(caught.value) == (
        "Airflow resumed the task with an event that is not this provider's event"
        " (status: String should match pattern '^[A-Za-z]{1,64}$'). If another version"
        " of the provider was installed meanwhile, clear the task. An execution that"
        " it has started may still be running."
    )
