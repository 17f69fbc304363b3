"""The decision core: the status table against AWS's own list, backoff, deadlines."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.models import ExecutionDescription
from polysync_airflow.execution.waiter import (
    FIRST_POLL_DELAY_SECONDS,
    MAX_BACKOFF_SECONDS,
    Finish,
    Wait,
    Waiter,
)
from polysync_airflow.states import STATE_OF_STATUS, PolysyncState, has_ended, is_stoppable, state_of

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abcdefghijkl"


def watch(**members: Any) -> Waiter:
    """Make a watch that began at 0 and ends at 3,600."""
    return Waiter(
        **{
            "execution_arn": ARN,
            "pipeline_name": "churn",
            "poll_interval": 30,
            "since": 0,
            "deadline": 3600,
            **members,
        }
    )


def seen(status: str) -> ExecutionDescription:
    """Make an answer of AWS."""
    return ExecutionDescription.model_validate(
        {"PipelineExecutionArn": ARN, "PipelineExecutionStatus": status}
    )


def trouble(permanent: bool = False, text: str = "Rate exceeded") -> SageMakerApiError:
    """Make a failed look."""
    return SageMakerApiError(
        text, error_code="ThrottlingException", operation="Describe", permanent=permanent
    )


def test_the_table_knows_every_status_of_aws() -> None:
    """A status that AWS adds to its own list fails here until the table has it."""
    model: Any = botocore.session.get_session().get_service_model("sagemaker")
    listed = set(model.shape_for("PipelineExecutionStatus").enum)

    assert listed <= STATE_OF_STATUS.keys()
    # botocore before 1.43 does not list CompletedWithFailures; nothing else may be ours alone.
    assert STATE_OF_STATUS.keys() - listed <= {"CompletedWithFailures"}


@pytest.mark.parametrize(
    ("status", "state", "ended", "stoppable"),
    [
        ("Executing", "Running", False, True),
        ("Stopping", "Running", False, False),
        ("Succeeded", "Success", True, False),
        ("Failed", "Failed", True, False),
        ("Stopped", "Cancelled", True, False),
        ("CompletedWithFailures", "Failed", True, False),
        ("Pausing", "Unknown", False, True),
        ("succeeded", "Unknown", False, True),
    ],
)
def test_every_status_has_one_state(status: str, state: str, ended: bool, stoppable: bool) -> None:
    """The mapping, whether it is final, and whether a stop makes sense."""
    assert (state_of(status), has_ended(status), is_stoppable(status)) == (state, ended, stoppable)
    assert state_of(None) is PolysyncState.UNKNOWN


@pytest.mark.parametrize(("interval", "first"), [(1, FIRST_POLL_DELAY_SECONDS), (30, 30), (600, 600)])
def test_the_first_look_is_never_within_the_first_seconds(interval: float, first: float) -> None:
    """A task resumed at once after deferring can be failed by the scheduler."""
    assert watch(poll_interval=interval).begin(0).seconds == first


def test_no_sleep_goes_past_the_deadline() -> None:
    """The last look comes at the deadline, not an interval later."""
    step = watch(poll_interval=600).decide(seen("Executing"), 3300)

    assert isinstance(step, Wait)
    assert step.seconds == 300


@pytest.mark.parametrize(
    ("status", "outcome"), [("Executing", "timed_out"), ("Succeeded", "ended"), ("New", "timed_out")]
)
def test_the_deadline_gives_one_last_look(status: str, outcome: str) -> None:
    """An execution that ended in time counts as ended even if it is seen only at the deadline."""
    step = watch().decide(seen(status), 3600)

    assert isinstance(step, Finish)
    assert step.event.outcome == outcome


def test_failed_looks_back_off_and_recover() -> None:
    """Intervals double up to the longest, one warning tells of it, and a good look begins anew."""
    step = watch().begin(0)
    sleeps, warnings = [], 0
    for _ in range(7):
        following = step.watch.decide(trouble(), 100)
        assert isinstance(following, Wait)
        sleeps.append(following.seconds)
        warnings += len(following.notes)
        step = following
    recovered = step.watch.decide(seen("Executing"), 200)

    assert sleeps == [
        30,
        60,
        120,
        240,
        MAX_BACKOFF_SECONDS,
        MAX_BACKOFF_SECONDS,
        MAX_BACKOFF_SECONDS,
    ]
    assert warnings == 1
    assert isinstance(recovered, Wait)
    assert recovered.seconds == 30
    assert any("can be seen again" in note.text for note in recovered.notes)


def test_backoff_never_looks_more_often_than_asked() -> None:
    """A poll interval above the longest backoff stays what it is."""
    step = watch(poll_interval=900).decide(trouble(), 0)

    assert isinstance(step, Wait)
    assert step.seconds == 900


def test_a_lasting_refusal_ends_the_wait_at_once() -> None:
    """What time cannot cure is not waited for; the event says which call was refused."""
    step = watch().decide(trouble(permanent=True, text="not you"), 10)

    assert isinstance(step, Finish)
    assert (step.event.outcome, step.event.message) == ("refused", "not you")
    assert (step.event.error_code, step.event.operation) == ("ThrottlingException", "Describe")


def test_every_new_trouble_is_told_once() -> None:
    """Another kind of trouble is news, the same is not."""
    first = watch().decide(trouble(text="A"), 0)
    assert isinstance(first, Wait)
    same = first.watch.decide(trouble(text="A"), 30)
    assert isinstance(same, Wait)
    other = same.watch.decide(trouble(text="B"), 60)

    assert [len(step.notes) for step in (first, same, other)] == [1, 0, 1]


def test_after_trouble_the_same_status_is_news() -> None:
    known = watch().decide(seen("Executing"), 1.0)
    assert isinstance(known, Wait)
    troubled = known.watch.decide(trouble(), 2.0)
    assert isinstance(troubled, Wait)

    again = troubled.watch.decide(seen("Executing"), 3.0)

    assert isinstance(again, Wait)
    assert (again.watch.failures, again.watch.last_error) == (0, None)
    assert ["can be seen again" in note.text for note in again.notes] == [True]


def test_the_same_status_ends_a_wait_at_its_deadline() -> None:
    known = watch().decide(seen("Executing"), 1.0)
    assert isinstance(known, Wait)

    end = known.watch.decide(seen("Executing"), known.watch.deadline)

    assert isinstance(end, Finish)
    assert end.event.outcome == "timed_out"
