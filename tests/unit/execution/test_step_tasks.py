"""
How the task of a step ends: each rule of the core.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from polysync_airflow.execution import step_tasks
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.outcome import RequestedStop, RunSummary
from polysync_airflow.execution.pipelines import DeclaredStep
from polysync_airflow.execution.step_clears import FirstListing
from polysync_airflow.execution.step_tasks import (
    StepsSnapshot,
    StepTaskEndArguments,
    StepTaskWaiter,
    steps_snapshot,
    verdict_of,
)
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.waiter import FIRST_POLL_DELAY_SECONDS, Finish, Wait
from tests.unit.execution.lifecycle.builders import api_error, listed_step

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abc"
SOURCE = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/old"
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AN_HOUR_AGO = NOW - timedelta(hours=1)
ORDER = [
    DeclaredStep("Train", "Training"),
    DeclaredStep("Check", "Condition"),
    DeclaredStep("Register", "RegisterModel", condition="Check", branch="True"),
    DeclaredStep("Report", "Processing", condition="Check", branch="False"),
]
TASK = TaskKey("dag", "run", "group.execution", -1)
OVER = ("success", "failed", "upstream_failed", "skipped", "removed", "deleted")
ALIVE = ("deferred", "up_for_retry", "up_for_reschedule")
WITHOUT_OWN_XCOMS = (None, "scheduled", "queued", "running", "restarting")


def run_of(**members: Any) -> RunSummary:
    """Return the XCom ``run`` of the execution."""
    return RunSummary(
        execution_arn=ARN,
        pipeline_name="churn",
        state="Running",
        parameters={},
        **members,
    )


def seen(
    *steps: StepDescription,
    state: str | None = "deferred",
    status: str | None = None,
    run: RunSummary | None = None,
    order: Any = ORDER,
) -> StepsSnapshot:
    """Return what a poll has seen."""
    return steps_snapshot(state, run or run_of(), order, steps, status)


def outcome(name: str, found: StepsSnapshot, *, is_retry: bool = False) -> str | None:
    """Return the outcome of the task of a step; None if it waits."""
    verdict = verdict_of(name, found, is_retry=is_retry)
    return verdict[0] if verdict else None


def test_step_without_capacity_waits_for_the_resume() -> None:
    """So does a step that AWS has stopped because of it."""
    for reason, state, verdict in (
        ("CapacityError: none", "deferred", None),
        ("CapacityError: none", "failed", "failed"),
        ("AlgorithmError: no data", "deferred", "failed"),
    ):
        steps = [
            listed_step("Train", "Failed", FailureReason=reason),
            listed_step("Report", "Stopped"),
        ]
        snapshot = seen(*steps, state=state, status="Failed")
        for name in ("Train", "Report"):
            assert outcome(name, snapshot) == verdict


def test_steps_of_an_execution_that_is_too_expensive_say_so() -> None:
    """Those that were stopped, and those that AWS has not run."""
    stop = RequestedStop(requested_at=NOW, reason="cost", process="triggerer")
    snapshot = seen(
        listed_step("Train", "Stopped"),
        listed_step("Check", "Succeeded"),
        state="failed",
        status="Stopped",
        run=run_of(stop=stop),
    )

    assert snapshot.rows["Check"].reason is None
    why = "The execution was stopped, because its task has spent max_cost."
    assert snapshot.rows["Train"].reason == why
    text = (
        f"AWS has not run step Report: the execution has ended before (status Stopped)."
        f" {why}"
    )
    assert verdict_of("Report", snapshot, is_retry=False) == ("failed", text)


def test_xcom_run_is_that_of_the_current_try() -> None:
    """
    From a clear until a worker has begun the next try, Airflow still has the XComs of
    the try before.
    """
    for state, current in (
        *((each, True) for each in (*ALIVE, *OVER)),
        *((each, False) for each in WITHOUT_OWN_XCOMS),
    ):
        assert step_tasks.is_current(state, run_of()) is current
        assert not step_tasks.is_current(state, None)


@pytest.mark.parametrize("state", OVER)
def test_step_fails_without_an_execution(state: str) -> None:
    """The text says how the execution task has ended."""
    verdict = verdict_of("Train", StepsSnapshot(state), is_retry=False)

    assert verdict == (
        "failed",
        f"The task of the execution has ended (state {state}) without an execution.",
    )


def test_status_of_the_step_decides() -> None:
    """While the execution runs."""
    for status, expected in (
        ("Executing", None),
        ("Stopping", None),
        ("New", None),
        ("Succeeded", ("success", "Step Train succeeded.")),
        ("Failed", ("failed", "Step Train failed (AWS status Failed).")),
        ("Stopped", ("failed", "Step Train was stopped (AWS status Stopped).")),
    ):
        listed = seen(listed_step("Train", status))

        assert verdict_of("Train", listed, is_retry=False) == expected


def test_text_of_a_success_says_where_the_result_is_from() -> None:
    """From the cache, from an earlier execution, or made by this one."""
    began = {"StartTime": NOW, "EndTime": NOW + timedelta(minutes=2)}
    source = {"SourcePipelineExecutionArn": SOURCE}
    texts: dict[str, Any] = {
        " after 2 min.": began,
        ": its result was in the cache.": {**began, "CacheHitResult": source},
        ": its result is that of the earlier execution old.": {
            **began,
            "SelectiveExecutionResult": source,
        },
    }

    for text, members in texts.items():
        succeeded = seen(listed_step("Train", "Succeeded", **members))
        verdict = verdict_of("Train", succeeded, is_retry=False)
        assert verdict == ("success", f"Step Train succeeded{text}")


@pytest.mark.parametrize(
    ("outcome_of_check", "taken", "not_taken"),
    [("True", "Register", "Report"), ("False", "Report", "Register")],
)
def test_branch_that_is_not_taken_is_skipped_at_once(
    outcome_of_check: str, taken: str, not_taken: str
) -> None:
    """While the execution still runs."""
    metadata = {"Condition": {"Outcome": outcome_of_check}}
    condition = listed_step("Check", "Succeeded", Metadata=metadata)
    found = seen(listed_step("Train", "Succeeded"), condition)

    assert outcome(taken, found) is None
    text = f"Step {not_taken} was not run: condition Check had the other outcome."
    assert verdict_of(not_taken, found, is_retry=False) == ("skipped", text)


def test_step_that_is_not_selected_is_skipped() -> None:
    """AWS neither runs it nor takes its result."""
    found = seen(order=[ORDER[0]._replace(not_selected=True), *ORDER[1:]])

    text = "Step Train was not selected, and no selected step needs it."
    assert verdict_of("Train", found, is_retry=False) == ("skipped", text)
    assert outcome("Check", found) is None


def test_step_of_another_definition_is_skipped_with_a_warning() -> None:
    """The text names the command that writes the file again."""
    verdict = verdict_of("Old", seen(), is_retry=False)

    assert verdict == (
        "unknown",
        (
            "The execution has no step Old: the pipeline has changed since the file of"
            " this group was written. Write it again: polysync jobs import"
        ),
    )


def test_step_waits_if_the_definition_is_not_known() -> None:
    """It may begin later."""
    assert outcome("Train", seen(order=())) is None
    assert outcome("Train", seen(order=(), status="Succeeded")) == "skipped"


@pytest.mark.parametrize("steps", [[], [listed_step("Train", "Executing")]])
@pytest.mark.parametrize(
    ("status", "state", "expected"),
    [
        ("Executing", "deferred", None),
        ("Succeeded", "running", "skipped"),
        ("Failed", "deferred", None),
        ("Failed", "up_for_retry", None),
        ("Failed", "failed", "failed"),
        ("Stopped", "failed", "failed"),
        ("CompletedWithFailures", "success", "failed"),
    ],
)
def test_step_ends_with_its_execution_unless_that_may_be_resumed(
    status: str, state: str, expected: str | None, steps: list[Any]
) -> None:
    """Only if nobody resumes it any more, the step has failed."""
    found = seen(*steps, status=status, state=state)
    verdict = verdict_of("Train", found, is_retry=False)

    if expected is None:
        assert verdict is None
        return
    reason = "the execution has succeeded without it."
    if expected == "failed":
        reason = f"the execution has ended before (status {status})."
    assert verdict == (expected, f"AWS has not run step Train: {reason}")


def test_failure_before_a_resume_does_not_count() -> None:
    """AWS lists it until the step begins again."""
    for ended_at, status, expected in (
        (NOW - timedelta(seconds=1), "Executing", None),
        (NOW - timedelta(seconds=1), "Failed", "failed"),
        (NOW, "Executing", "failed"),
        (NOW + timedelta(seconds=1), "Executing", "failed"),
    ):
        failed = listed_step("Train", "Failed", StartTime=AN_HOUR_AGO, EndTime=ended_at)
        run = run_of(resumes=1, attempt_started_at=NOW)

        assert outcome("Train", seen(failed, run=run, status=status)) == expected


# ---- the wait


def make_waiter(**members: Any) -> StepTaskWaiter:
    """Return the wait of the step Train."""
    times = {"poll_interval": 5.0, "since": 0.0, "deadline": 1000.0}
    arguments: Any = {"execution_task": TASK, "step_name": "Train", **times, **members}
    return StepTaskWaiter(**arguments)


def test_all_steps_of_a_group_share_their_polls() -> None:
    """Those of another task, DAG run or map index do not."""
    waiters = [make_waiter(), make_waiter(step_name="Check", deadline=9)]
    others = [
        TaskKey("dag", "run", "other", -1),
        TaskKey("dag", "run2", "group.execution", -1),
        TaskKey("dag", "run", "group.execution", 1),
    ]

    assert len({waiter.group for waiter in waiters}) == 1
    assert len({waiter.name for waiter in waiters}) == 2
    groups = {make_waiter(execution_task=key).group for key in (TASK, *others)}
    assert len(groups) == 4


def test_log_has_each_change_of_the_step_once() -> None:
    """
    The execution once, and each change of the step, and of those that a loop runs,
    once.
    """
    began = {"StartTime": NOW, "EndTime": NOW + timedelta(minutes=2)}
    item = {"IterationContext": {"Index": 0, "ParentStepName": "Train"}}
    runs = listed_step("Train", "Executing", StartTime=NOW)
    score = listed_step("Score-0", "Succeeded", **item, **began)
    polls = [
        StepsSnapshot(None),
        seen(runs, listed_step("Other", "Executing", StartTime=NOW)),
        seen(runs, score),
        seen(listed_step("Train", "Failed", **began), score),
    ]
    waiter = make_waiter()
    lines = []
    for at, poll in enumerate(polls):
        end = waiter.decide(poll, float(at))
        lines.append([line.text for line in end.log_lines])
        waiter = end.waiter if isinstance(end, Wait) else waiter

    assert lines == [
        [],
        [f"Execution: {ARN}", "Step Train started"],
        ["Step Score-0 succeeded after 2 min"],
        ["Step Train failed after 2 min"],
    ]
    assert isinstance(end, Finish)
    assert end.event.outcome == "failed"
    assert end.event.execution_arn == ARN
    assert end.event.pipeline_name == "churn"
    assert end.event.row
    assert end.event.row.status == "Failed"
    # Only for the process that has read it.
    assert end.event.description
    assert end.event.description.name == "Train"
    assert "description" not in end.event.model_dump(mode="json")
    stored = end.event.model_dump(mode="json")
    event = step_tasks.StepTaskEvent.model_validate(stored)
    assert event.model_dump(mode="json") == stored


def test_log_says_what_is_older_than_a_resume() -> None:
    """As that of the execution task does."""
    ended_at = NOW - timedelta(minutes=1)
    old = listed_step("Train", "Failed", StartTime=AN_HOUR_AGO, EndTime=ended_at)
    run = run_of(resumes=1, attempt_started_at=NOW)

    waits = make_waiter().decide(seen(old, run=run, status="Executing"), 1.0)

    assert [(line.level, line.text) for line in waits.log_lines] == [
        (logging.INFO, f"Execution: {ARN}"),
        (logging.ERROR, "Step Train failed after 59 min, before the last resume"),
    ]


@pytest.mark.parametrize(("due", "seconds"), [(None, 5.0), (12.5, 2.5), (9.0, 0.0)])
def test_next_poll_is_that_of_the_group(due: float | None, seconds: float) -> None:
    """Whichever task of the group has listed the steps last."""
    listed = steps_snapshot("deferred", run_of(), ORDER, (), "Executing", due)
    waits = make_waiter().decide(listed, 10.0)

    assert isinstance(waits, Wait)
    assert waits.seconds == seconds
    assert waits.waiter.step_name == "Train"


def test_retry_waits_though_the_step_has_failed() -> None:
    """The wait knows that it is one of a retry."""
    failed = seen(listed_step("Train", "Failed"), status="Failed", state="up_for_retry")

    assert isinstance(make_waiter(is_retry=True).decide(failed, 1.0), Wait)
    finish = make_waiter().decide(failed, 1.0)
    assert isinstance(finish, Finish)
    assert finish.event.text == "Step Train failed (AWS status Failed)."


def test_step_that_has_not_begun_has_no_description() -> None:
    """Its event is that of a task which is skipped."""
    order = [ORDER[0]._replace(not_selected=True)]
    finish = make_waiter().decide(seen(order=order), 1.0)

    assert isinstance(finish, Finish)
    assert finish.event.outcome == "skipped"
    assert finish.event.description is None


def test_text_of_an_event_is_bounded() -> None:
    """Whatever AWS's error says. Without a text, it is empty."""
    assert len(make_waiter().event("refused", "x" * 5000).text) == 4096
    assert make_waiter().event("refused", None).text == ""


def test_refused_list_ends_the_wait() -> None:
    """With AWS's error. After an error that may pass, the wait goes on."""
    error = api_error("AccessDenied", "denied", permanent=True)

    end = make_waiter().decide(error, 1.0)

    assert isinstance(end, Finish)
    assert end.event.outcome == "refused"
    assert end.event.text == "denied"
    assert end.event.error_code == "AccessDenied"
    error.permanent = False
    assert isinstance(make_waiter().decide(error, 1.0), Wait)


@pytest.mark.parametrize(
    ("retries", "try_number", "is_retry"),
    [(0, 1, False), (0, 3, False), (1, 1, False), (1, 2, True)],
)
def test_stored_trigger_waits_for_the_task_of_its_dag_run(
    retries: int, try_number: int, is_retry: bool
) -> None:
    """It waits for the task of the same DAG run and map index."""
    arguments = step_tasks.StepTaskArguments(
        execution_task_id="group.execution",
        step_name="Train",
        polysync_conn_id="aws",
        region_name=None,
        poll_interval=7.0,
        retries=retries,
    )
    keys = {"dag_id": "dag", "run_id": "run", "task_id": "group.Train", "map_index": 3}
    ti: Any = SimpleNamespace(**keys, try_number=try_number)

    waiter = arguments.waiter_of(ti, 100.0)

    assert waiter == make_waiter(
        execution_task=TaskKey("dag", "run", "group.execution", 3),
        task=TaskKey.of(ti) if try_number > 1 else None,
        is_repeated=try_number > 1,
        poll_interval=7.0,
        since=100.0,
        deadline=100.0 + step_tasks.MAX_SECONDS,
        is_retry=is_retry,
        rate_limited=True,
    )
    assert waiter.first_delay == FIRST_POLL_DELAY_SECONDS
    # A task that no worker has begun takes what others have listed just now.
    of_whole_task = StepTaskEndArguments(**arguments.kwargs())
    without_delay = of_whole_task.waiter_of(ti, 100.0)
    assert without_delay.first_delay == 0.0
    assert replace(without_delay, ends_task=False) == waiter


# ---- a clear of other steps


def test_cleared_step_waits_for_the_end_of_the_execution() -> None:
    """
    Rule 7: it is repeated then, unless it has succeeded since. When the execution was
    resumed, or its task is over, it does not wait any more.
    """
    for status, cleared, succeeded, waits in (
        ("Failed", ["Train"], [], True),
        (None, ["Train"], [], True),
        ("Succeeded", ["Train"], ["Train"], True),
        ("Succeeded", ["Train"], [], False),
        ("Failed", ["Check"], [], False),
    ):
        listing = FirstListing(
            execution_arn=ARN,
            epoch=1,
            succeeded=succeeded,
            cleared=cleared,
            resumes=0,
        )
        found = replace(
            seen(listed_step("Train", status), status="Failed"), listing=listing
        )

        assert (outcome("Train", found) is None) is (waits or status is None)
        for later in (
            replace(found, state="failed"),
            replace(found, state="failed", run=run_of(resumes=1)),
        ):
            assert outcome("Train", later) is not None
        assert found.run
        resumed = run_of(resumes=1, attempt_started_at=AN_HOUR_AGO)
        assert replace(found, run=resumed).is_repeated("Train") is False


def test_task_that_begins_again_leaves_a_note_until_the_execution_is_current() -> None:
    """Rule 8: it looks often, and what others have listed before does not count."""
    own = replace(TASK, task_id="group.Train")
    waiter = make_waiter(task=own, is_repeated=True, poll_interval=300.0)
    assert not make_waiter().leaves_note(StepsSnapshot(None))
    assert not waiter.leaves_note(StepsSnapshot("failed"))
    for state in (*WITHOUT_OWN_XCOMS, "deferred"):
        assert waiter.leaves_note(StepsSnapshot(state))

    waits = waiter.decide(StepsSnapshot(None), 1.0)
    assert isinstance(waits, Wait)
    assert waits.seconds == 5.0
    assert not waits.waiter.leaves_note(StepsSnapshot(None))
    running = listed_step("Train", "Executing")
    before = waits.waiter.decide(seen(running, state=None), 6.0)
    assert isinstance(before, Wait)
    assert before.waiter.task == own
    after = before.waiter.decide(seen(running), 11.0)
    assert isinstance(after, Wait)
    assert (after.waiter.task, after.seconds) == (None, 300.0)
