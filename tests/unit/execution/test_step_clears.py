"""
What the execution task of a group does after a clear: each rule of the core.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models
from polysync_airflow.execution.lifecycle import decisions
from polysync_airflow.execution.lifecycle.instructions import Command
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.step_clears import (
    Clear,
    ClearedSteps,
    FirstListing,
    after_clear,
    after_unanswered_start,
    cleared_steps,
    first_listing,
    is_left_to_next_try,
    is_note_since,
    listing_of_clear,
    still_cleared,
    waiting_steps,
    what_to_clear,
    with_needed,
)
from polysync_airflow.states import STATE_OF_STATUS
from tests.unit.execution.lifecycle.builders import choose, listed_step, stored

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abc"


KEPT = (
    "success",
    "skipped",
    "failed",
    "upstream_failed",
    "removed",
    "up_for_retry",
    "up_for_reschedule",
)

# The states of the tasks of A, B and C, which needs both, after a clear.
RUNS, NEW = "deferred", None


def test_which_steps_were_cleared() -> None:
    """By the states of their tasks, and their notes."""
    for states, noted, status, expected in (
        # A is cleared with what follows, while B runs.
        ((RUNS, RUNS, NEW), "A", "Executing", ("AC", False, False)),
        ((NEW, RUNS, NEW), "", "Executing", ("AC", False, False)),
        # B has ended, waits for its retry, or was removed from the DAG.
        ((RUNS, "success", NEW), "A", "Executing", ("AC", False, True)),
        ((RUNS, "failed", NEW), "A", "Failed", ("AC", False, True)),
        ((RUNS, "up_for_retry", NEW), "A", "Executing", ("AC", False, True)),
        ((RUNS, "removed", NEW), "A", "Executing", ("AC", False, True)),
        # The execution alone, while they run.
        ((RUNS, RUNS, NEW), "", "Executing", ("C", False, False)),
        # Nothing has begun: the first tasks would, after a clear of all.
        ((NEW, NEW, NEW), "", "Executing", ("ABC", False, False)),
        (("scheduled", "queued", NEW), "", "Executing", ("C", False, False)),
        # All.
        ((RUNS, RUNS, NEW), "AB", "Executing", ("ABC", True, True)),
        (("running", RUNS, NEW), "AB", "Stopping", ("ABC", True, True)),
        (("restarting", RUNS, NEW), "B", "Executing", ("ABC", True, True)),
        ((RUNS, RUNS, NEW), "AB", "Failed", ("ABC", True, True)),
        ((NEW, NEW, NEW), "", "Failed", ("ABC", True, True)),
        # One of two roots has not left its note yet.
        ((RUNS, RUNS, NEW), "A", "Failed", ("AC", False, False)),
        # None, after the end.
        (("success", "failed", "upstream_failed"), "", "Failed", ("", False, True)),
    ):
        cleared = cleared_steps(dict(zip("ABC", states, strict=True)), noted, status)

        steps, are_all, is_certain = expected
        assert cleared == ClearedSteps([*steps], are_all, is_certain)


def test_note_of_an_earlier_clear_does_not_count() -> None:
    """A task keeps it until it sees the execution that this clear has begun."""
    began_at = datetime.fromtimestamp(1000, UTC)
    for note, counts in ((1000, True), (999, False), (None, False), ("x", False)):
        assert is_note_since(note, began_at) is counts
    assert is_note_since(999.0, None)


def test_clear_of_some_is_never_taken_for_one_of_all() -> None:
    """
    Whatever the states are: if a task has begun, and was not cleared, the execution
    that runs is not stopped.
    """
    begun = ["scheduled", "queued", "running", RUNS, *KEPT]
    others = [(NEW, False), (RUNS, False), (RUNS, True), ("success", False)]
    for state, status in itertools.product(begun, ("Executing", "Failed")):
        for (a, a_noted), (c, c_noted) in itertools.product(others, others):
            noted = [*"A" * a_noted, *"C" * c_noted]
            tasks = {"A": a, "B": state, "C": c}
            cleared = cleared_steps(tasks, noted, status)
            assert not cleared.are_all
            assert "B" not in cleared.steps
            clear = after_clear(cleared, "Executing", ())
            assert clear == Clear("wait")


def test_steps_of_an_earlier_clear_are_repeated_as_well() -> None:
    """While their tasks wait, and the execution is the same attempt of the same."""
    listing = FirstListing(
        execution_arn=ARN, epoch=1, succeeded=[], cleared=["A"], resumes=2
    )
    stored = listing.model_dump(mode="json")
    assert waiting_steps(stored, ARN, 2) == ["A"]
    for value, arn, resumes in (
        (stored, ARN, 1),
        (stored, f"{ARN}d", 2),
        (None, ARN, 2),
    ):
        assert not waiting_steps(value, arn, resumes)

    tasks = {"A": RUNS, "B": RUNS, "C": NEW}
    cleared = cleared_steps(tasks, "B", "Executing", ["A"])
    assert cleared == ClearedSteps(["A", "B", "C"])
    # All of them, again.
    cleared = cleared_steps(tasks, "AB", "Executing", ["A"])
    assert cleared.are_all
    # They have ended meanwhile, for example because a person marked them.
    assert still_cleared(listing, tasks) == ClearedSteps(["A"])
    ended = {**tasks, "A": "success"}
    assert still_cleared(listing, ended) == ClearedSteps([])


STEPS = [listed_step("Train", "Succeeded"), listed_step("Check", "Failed")]
TWO = ("Train", "Register")
FORTY_NINE = tuple(map(str, range(49)))


def test_clear_does_what_the_cleared_steps_need() -> None:
    """One of three steps has succeeded, and one has failed."""
    for cleared, status, expected in (
        (("Train", "Check", "Register"), "Succeeded", Clear("new")),
        (("Check", "Register"), "Executing", Clear("wait")),
        ((), "Executing", Clear("wait")),
        (("Check", "Register"), "Failed", Clear("resume")),
        (("Check",), "CompletedWithFailures", Clear("resume")),
        ((), "Failed", Clear("resume")),
        (("Train", "Check"), "Failed", Clear("select", ("Train", "Check"))),
        (("Train",), "Succeeded", Clear("select", ("Train",))),
        (("Register",), "Succeeded", Clear("select", ("Register",))),
        (("Train", *FORTY_NINE), "Succeeded", Clear("select", ("Train", *FORTY_NINE))),
    ):
        steps = ClearedSteps(cleared, are_all=len(cleared) == 3)
        assert after_clear(steps, status, STEPS) == expected


def test_start_without_an_answer_is_replaced_only_by_a_clear_of_all() -> None:
    """No task can have shown a step of it."""
    for are_all, expected in ((True, Clear("new")), (False, Clear("resume"))):
        cleared = ClearedSteps(("Train", "Check"), are_all=are_all)
        assert after_unanswered_start(cleared) == expected


def test_selection_has_what_its_steps_need_and_lacks() -> None:
    """AWS takes the results of the source only from steps that have succeeded."""
    declared = [
        DeclaredStep("Prepare", "Processing"),
        DeclaredStep("Train", "Training", needs=frozenset({"Prepare"})),
        DeclaredStep("Check", "Processing"),
        DeclaredStep("Other", "Processing"),
        DeclaredStep("Register", "RegisterModel", needs=frozenset({"Train", "Check"})),
    ]
    steps = [listed_step("Prepare", "Succeeded"), *STEPS]
    steps.append(listed_step("Other", "Failed"))

    def needed(*names: str) -> Clear:
        return with_needed(Clear("select", names), declared, steps)

    assert needed("Train", "Register").steps == ("Check", "Train", "Register")
    assert needed("Train").steps == ("Train",)
    many = tuple(map(str, range(models.MAX_SELECTED_STEPS - 1)))
    with pytest.raises(ParametersError, match="51 steps are to be repeated"):
        needed("Register", *many)


def test_clear_does_not_repeat_what_has_succeeded_since() -> None:
    """
    What has succeeded only since the clear is not repeated: nobody knows whether its
    task was cleared.
    """
    for cleared, status, before, expected in (
        (("Train", "Check"), "Failed", (), Clear("resume")),
        (("Train", "Check"), "Failed", ("Train",), Clear("select", ("Train", "Check"))),
        (("Check",), "Failed", ("Train",), Clear("resume")),
        (("Train", "Register"), "Succeeded", (), Clear("resume")),
        (TWO, "Succeeded", ("Train",), Clear("select", TWO)),
        ((), "Succeeded", (), Clear("resume")),
    ):
        first = FirstListing(
            execution_arn=ARN, epoch=1, succeeded=list(before), cleared=[], resumes=0
        )

        steps = ClearedSteps(cleared)
        assert after_clear(steps, status, STEPS, first) == expected


def test_first_listing_after_a_clear_counts_until_the_next_clear() -> None:
    """What the first look has stored counts until the next clear."""
    context = {"Index": 0, "ParentStepName": "Loop"}
    item = listed_step("Score", "Succeeded", IterationContext=context)
    running = [
        listed_step("Train", "Executing"),
        item,
        listed_step("Report", "Succeeded"),
    ]
    first = first_listing(ARN, 1, running, ClearedSteps(("Train",)), 2)
    assert (first.succeeded, first.cleared) == (["Report"], ["Train"])
    assert first.resumes == 2
    value = first.model_dump(mode="json")

    assert listing_of_clear(value, ARN, 1) == first
    for other, arn, epoch in (
        (None, ARN, 1),
        (value, ARN, 2),
        (value, f"{ARN}d", 1),
        ({"succeeded": 1}, ARN, 1),
    ):
        assert listing_of_clear(other, arn, epoch) is None


@pytest.mark.parametrize(
    ("action", "on_clear", "stops"),
    [
        ("new", "new", True),
        ("select", "new", True),
        ("wait", "new", False),
        ("resume", "resume", False),
    ],
)
def test_only_a_new_execution_stops_the_one_that_runs(
    action: Any, on_clear: str, stops: bool
) -> None:
    """Only what starts another execution stops the one that runs."""
    assert Clear(action).options == {"on_clear": on_clear, "stop_on_clear": stops}


NO_SOURCE = (
    "^AWS can repeat single steps of an execution that has succeeded or failed only,"
    " and this one has the status"
)


def test_clear_that_aws_cannot_do_is_refused_with_the_cure() -> None:
    """The sentence says what to clear in place of it."""
    for cleared, status, text in (
        ((), "Succeeded", "no step was cleared"),
        ((), "Stopped", "no step was cleared"),
        (("Check",), "Stopped", f"{NO_SOURCE} Stopped\\."),
        (("Train",), "CompletedWithFailures", f"{NO_SOURCE} CompletedWithFailures\\."),
        (
            ("Train", *map(str, range(50))),
            "Succeeded",
            "51 steps are to be repeated. AWS repeats at most 50 selected steps.",
        ),
    ):
        with pytest.raises(ParametersError, match=text) as error:
            after_clear(ClearedSteps(cleared), status, STEPS)

        assert "clear the first task of the group" in str(error.value)


CLEAR_FAILED = (
    "Next: mend the cause, then clear the task of the failed step with the tasks that"
    " follow (Downstream).\n  That or the button repeats only the steps that had not"
    " succeeded."
)


@pytest.mark.parametrize("status", ["Pausing", None, *STATE_OF_STATUS])
@pytest.mark.parametrize("resumes", [True, False])
def test_message_of_a_group_follows_from_the_decision(
    status: str | None, resumes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It says which clear lets AWS resume the execution, if one does: also with other
    rules than those of today.
    """
    if not resumes:
        other = Command.PREPARE
        monkeypatch.setattr(decisions, "next_command", lambda *_: other)
    button = "or the button "

    text = what_to_clear(stored(), status, choose(), button=button)

    has_failed = status in ("Failed", "CompletedWithFailures")
    assert text == (CLEAR_FAILED if has_failed and resumes else None)
    for record in (None, decisions.Nothing.FOUND):
        assert what_to_clear(record, status, choose(), button=button) is None


@pytest.mark.parametrize(
    ("state", "expected"),
    [(None, True), ("scheduled", True), ("queued", True)]
    + [(state, False) for state in ("running", "deferred", "restarting", *KEPT)],
)
def test_cleared_execution_goes_on_until_its_next_try(
    state: str | None, expected: bool
) -> None:
    """Only that can know which steps were cleared."""
    assert is_left_to_next_try(state) is expected
