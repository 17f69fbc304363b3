"""What is said of what comes next, for each state of a task, and what it has pushed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.execution.what_next import (
    TaskNow,
    needs_choice,
    read_run,
    what_comes_next,
)

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn-tuning/execution/4jg7o29joci6"
NOW = datetime(2026, 3, 1, 13, tzinfo=UTC)
START = "PolysyncStartPipelineOperator"
GROUP = "PolysyncStepsExecutionOperator"
RUNS = {"execution_arn": ARN, "state": "Running", "stops_with_task": True}
STAYS = {**RUNS, "stops_with_task": False}
STOPPING = {**RUNS, "status": "Stopping"}
FAILED = {**RUNS, "state": "Failed", "status": "Failed"}
STOPPED = {**RUNS, "state": "Cancelled", "status": "Stopped"}
EARLIER = {"execution_arn": ARN, "state": "Stopping", "status": "Stopping"}
REST = {"resumable": True, "repeats": 3, "steps": 6}
NOTHING = "Nothing follows by itself: the task has failed."
NEW = "starts a new execution"
IF_FAILED = (
    "resumes the failed steps if the execution fails before it is stopped, and else"
    f" {NEW}"
)
AFTER_STOP = f"{NEW} after the end of the one that is being stopped"
KILL = "If somebody ends the task, the execution is stopped."
ASKS = "The stop of the execution is requested by 2026-03-01 13:02:00 UTC."
STOPS = "The execution is being stopped; its end is stored by 2026-03-01 13:15:00 UTC."
UNSEEN = "The end of the execution is not known here: the AWS console shows it."


def at(**delta: float) -> str:
    """Return a time before or after now, as JSON."""
    return (NOW + timedelta(**delta)).isoformat()


def plan(run: dict[str, Any], **members: Any) -> dict[str, Any]:
    """Return ``run`` with what the first of three tries knows."""
    return {**run, "next": {"try_number": 1, "max_tries": 2, **members}}


def retried(does: str | None, run: dict[str, Any] = FAILED, **also: Any) -> Any:
    """Return ``run`` of a try that is retried in 14 minutes."""
    retry = {"does": does, "at": at(minutes=14), **also}
    return plan(run, retry=retry, clear="start", **REST)


def waits(run: dict[str, Any] = FAILED, **changes: Any) -> dict[str, Any]:
    """Return ``run`` of a task that waits for capacity."""
    wait = {"try_number": 1, "since": at(hours=-1), "pauses": 3, "reason": "no quota"}
    wait |= {"asks_at": at(minutes=20), "nothing_runs": True, **changes}
    return plan({**run, "capacity": wait}, until=at(hours=1), clear="resume")


def stopped(run: dict[str, Any] = STOPPING, **changes: Any) -> dict[str, Any]:
    """Return ``run`` after a stop was requested a minute ago."""
    stop = {"requested_at": at(minutes=-1), "reason": "ended_task"}
    stop |= {"process": "triggerer", "result": "accepted", **changes}
    return plan({**run, "stop": stop})


# The state of the task, the number of its try, what Airflow says beside it, the XCom
# ``run``, and what is said.
CASES: list[tuple[str | None, int, dict[str, Any], Any, list[str]]] = [
    # It works.
    ("running", 1, {}, None, []),
    (
        "running",
        1,
        {},
        plan(RUNS, until=at(hours=2)),
        [
            "The execution may run until 2026-03-01 15:00:00 UTC.",
            "Then the try fails, and the execution is stopped.",
            KILL,
        ],
    ),
    (
        "deferred",
        1,
        {"is_paused": True},
        plan(STAYS, until=at(hours=2)),
        [
            "The execution may run until 2026-03-01 15:00:00 UTC.",
            "Then the try fails, and the execution goes on (stop_on_kill=False).",
            "If somebody ends the task, the execution goes on (stop_on_kill=False).",
            "After that, the task goes on when the DAG is unpaused.",
        ],
    ),
    # A worker goes on, whether or not the DAG is paused.
    ("running", 1, {"is_paused": True}, plan(RUNS), [KILL]),
    # The XComs are those of the try before, until the try has begun.
    ("running", 2, {}, retried("resume"), []),
    (
        "deferred",
        1,
        {},
        stopped(reason="timeout"),
        ["The execution is being stopped, and the try ends with it."],
    ),
    (
        "running",
        2,
        {},
        {**EARLIER, "next": {"try_number": 2, "max_tries": 2}},
        ["A new execution starts as soon as that of an earlier try has stopped."],
    ),
    # A sensor, which stops nothing.
    ("running", 1, {"operator": "PolysyncPipelineSensor"}, STAYS, []),
    # It waits for capacity.
    (
        "deferred",
        1,
        {},
        waits(),
        [
            "AWS is asked again at 2026-03-01 13:20:00 UTC.",
            "The task gives up at 2026-03-01 14:00:00 UTC.",
            "To give up now, mark the task failed.",
        ],
    ),
    (
        "deferred",
        1,
        {"is_paused": True},
        waits({"state": "Waiting", "execution_arn": None}),
        [
            "AWS is asked again when the DAG is unpaused, not before"
            " 2026-03-01 13:20:00 UTC.",
            "The task gives up at 2026-03-01 14:00:00 UTC.",
            "To give up now, mark the task failed.",
        ],
    ),
    (
        "running",
        1,
        {"is_paused": True},
        waits(asks_at=at(minutes=-3)),
        [
            "AWS should have been asked again at 2026-03-01 12:57:00 UTC.",
            "The task gives up at 2026-03-01 14:00:00 UTC.",
            "To give up now, mark the task failed.",
        ],
    ),
    (
        "queued",
        1,
        {},
        waits(),
        ["As soon as a worker is free, AWS is asked again."],
    ),
    (
        "failed",
        1,
        {},
        waits(),
        [NOTHING, "A clear of the task resumes the failed steps."],
    ),
    # A retry follows.
    (
        "up_for_retry",
        1,
        {},
        retried("resume"),
        ["Try 2 of 3 resumes the failed steps (3 of 6) at 2026-03-01 13:14:00 UTC."],
    ),
    (
        "up_for_retry",
        1,
        {},
        retried("start", is_earliest=True),
        [f"Try 2 of 3 {NEW}, not before 2026-03-01 13:14:00 UTC."],
    ),
    (
        "up_for_retry",
        1,
        {"is_paused": True},
        retried("resume"),
        ["When the DAG is unpaused, try 2 of 3 resumes the failed steps (3 of 6)."],
    ),
    (
        "up_for_retry",
        1,
        {},
        retried("start", at=at(minutes=-5)),
        [f"Try 2 of 3 {NEW}; it was due at 2026-03-01 12:55:00 UTC."],
    ),
    (
        "up_for_reschedule",
        1,
        {},
        retried("start", {"execution_arn": None, "state": "Failed"}, is_same_try=True),
        [f"Try 1 of 3 {NEW} at 2026-03-01 13:14:00 UTC."],
    ),
    (
        "scheduled",
        2,
        {},
        retried("resume"),
        ["As soon as a worker is free, try 2 of 3 resumes the failed steps (3 of 6)."],
    ),
    (
        "scheduled",
        2,
        {"is_paused": True},
        retried("resume"),
        ["When the DAG is unpaused, try 2 of 3 resumes the failed steps (3 of 6)."],
    ),
    # Its execution is being stopped, and has ended since in one way or the other.
    (
        "up_for_retry",
        1,
        {},
        retried("start_or_resume", STOPPING),
        [f"Try 2 of 3 {IF_FAILED} at 2026-03-01 13:14:00 UTC."],
    ),
    (
        "up_for_retry",
        1,
        {},
        retried("start_or_resume"),
        ["Try 2 of 3 resumes the failed steps (3 of 6) at 2026-03-01 13:14:00 UTC."],
    ),
    (
        "up_for_retry",
        1,
        {},
        retried("start_or_resume", STOPPED),
        [f"Try 2 of 3 {NEW} at 2026-03-01 13:14:00 UTC."],
    ),
    # Its process has died.
    (
        "up_for_retry",
        1,
        {},
        plan(RUNS),
        ["After the retry delay, try 2 of 3 goes on with the same execution."],
    ),
    # Somebody has cleared it while it ran.
    (
        "up_for_retry",
        1,
        {},
        stopped(),
        [f"After the retry delay, try 2 of 3 {AFTER_STOP}."],
    ),
    ("up_for_retry", 1, {}, None, ["After the retry delay, try 2 of 3 begins."]),
    # The wait has ended.
    ("queued", 1, {}, plan(RUNS), ["As soon as a worker is free, the task goes on."]),
    # Its first try.
    (
        None,
        0,
        {},
        None,
        ["When Airflow schedules it, try 1 of 3 starts an execution."],
    ),
    (
        "scheduled",
        1,
        {"is_paused": True},
        None,
        ["When the DAG is unpaused, try 1 of 3 starts an execution."],
    ),
    # Cleared.
    (
        None,
        1,
        {"max_tries": 3},
        plan(FAILED, clear="start", **REST),
        [f"When Airflow schedules it, try 2 of 4 {NEW}."],
    ),
    (
        "queued",
        2,
        {"max_tries": 3},
        # Whatever the retry would have done.
        retried("resume"),
        [f"As soon as a worker is free, try 2 of 4 {NEW}."],
    ),
    (
        None,
        1,
        {"max_tries": 3},
        plan(RUNS),
        [f"When Airflow schedules it, try 2 of 4 {AFTER_STOP}."],
    ),
    (
        None,
        1,
        {"max_tries": 3},
        plan(STOPPING, clear="start"),
        [f"When Airflow schedules it, try 2 of 4 {AFTER_STOP}."],
    ),
    (
        None,
        1,
        {"max_tries": 3},
        plan(STOPPING, clear="start_or_resume"),
        [f"When Airflow schedules it, try 2 of 4 {IF_FAILED}."],
    ),
    (
        None,
        1,
        {"max_tries": 3},
        plan(FAILED, clear="start_or_resume"),
        ["When Airflow schedules it, try 2 of 4 resumes the failed steps."],
    ),
    (
        None,
        1,
        {"max_tries": 3},
        plan(STAYS),
        [
            "When Airflow schedules it, try 2 of 4 first waits for the end of the"
            " execution that runs."
        ],
    ),
    (
        None,
        1,
        {"max_tries": 3},
        plan({**RUNS, "state": "Success", "status": "Succeeded"}),
        [f"When Airflow schedules it, try 2 of 4 {NEW}."],
    ),
    (
        "restarting",
        1,
        {},
        plan(RUNS),
        [f"When Airflow schedules it, try 2 of 3 {AFTER_STOP}."],
    ),
    (
        None,
        1,
        {"max_tries": 3, "operator": GROUP},
        plan(FAILED, **REST),
        [
            "When Airflow schedules it, try 2 of 4 repeats the steps that were cleared"
            " or have failed."
        ],
    ),
    (
        None,
        1,
        {"max_tries": 3, "operator": GROUP},
        plan(RUNS),
        [
            "When Airflow schedules it, try 2 of 4 waits for the execution, or stops it"
            " if all steps were cleared."
        ],
    ),
    # It has ended.
    ("success", 1, {}, plan({**RUNS, "state": "Success"}), []),
    ("failed", 1, {}, None, [NOTHING]),
    ("upstream_failed", 0, {}, None, ["Nothing follows: the task is upstream_failed."]),
    (
        "failed",
        3,
        {},
        {**plan(FAILED), "next": {"try_number": 3, "max_tries": 2, **REST}},
        [NOTHING, '"Resume failed steps" repeats 3 of 6 steps.'],
    ),
    (
        "failed",
        1,
        {},
        # Somebody has marked it before the retry.
        retried("resume"),
        [
            NOTHING,
            f'"Resume failed steps" repeats 3 of 6 steps, and a clear {NEW}.',
        ],
    ),
    (
        "failed",
        1,
        {},
        plan(FAILED, clear="resume", resumable=True),
        [
            NOTHING,
            '"Resume failed steps" repeats what has not succeeded, and so does a clear.',
        ],
    ),
    (
        "failed",
        1,
        {},
        plan(FAILED, clear="start"),
        [NOTHING, f"A clear of the task {NEW}."],
    ),
    ("failed", 1, {}, plan(STOPPED), [NOTHING, f"A clear of the task {NEW}."]),
    (
        "failed",
        1,
        {"operator": GROUP},
        plan(STOPPED),
        [NOTHING, f"A clear of all steps {NEW}."],
    ),
    # Somebody has marked it while its execution ran.
    (
        "failed",
        1,
        {"ended_at": NOW},
        plan(RUNS),
        [ASKS, NOTHING, f"A clear of the task {NEW}."],
    ),
    ("success", 1, {"ended_at": NOW}, plan(RUNS), [ASKS]),
    (
        "success",
        1,
        {"ended_at": NOW - timedelta(hours=1)},
        plan(RUNS),
        [UNSEEN],
    ),
    ("success", 1, {}, stopped(), [STOPS]),
    ("success", 1, {}, stopped(error="no network"), [UNSEEN]),
    (
        "success",
        1,
        {},
        stopped(RUNS, result="failed"),
        ["The stop has failed: the execution may still be running."],
    ),
    (
        "failed",
        1,
        {},
        stopped(reason="timeout", process="worker"),
        [
            "The execution is being stopped; its end is stored after that of the DAG"
            " run.",
            NOTHING,
            f"A clear of the task {NEW}.",
        ],
    ),
    (
        "failed",
        1,
        {"ended_at": NOW},
        plan(STOPPING, clear="start_or_resume"),
        [ASKS, NOTHING, f"A clear of the task {IF_FAILED}."],
    ),
    (
        "failed",
        1,
        {},
        stopped(reason="timeout", process="worker", error="AWS refuses the look."),
        [UNSEEN, NOTHING, f"A clear of the task {NEW}."],
    ),
    ("success", 1, {}, plan(STAYS), ["The execution goes on without the task."]),
]


@pytest.mark.parametrize(("state", "number", "airflow", "run", "said"), CASES)
def test_each_state_says_what_comes_next(
    state: str | None, number: int, airflow: dict[str, Any], run: Any, said: list[str]
) -> None:
    """What the try knew counts only for the state that it had in mind."""
    task = TaskNow(
        **{"operator": START, "max_tries": 2, **airflow}, state=state, try_number=number
    )

    sentences = what_comes_next(task, run and read_run(run), NOW)

    assert [sentence.line for sentence in sentences] == said


@pytest.mark.parametrize(
    ("choice", "resumable", "effect"),
    [
        ("resume", True, "resumes the failed steps (3 of 6)"),
        ("new", True, NEW),
        # AWS refuses that, or the record has gone.
        ("resume", False, NEW),
    ],
)
def test_choice_of_a_person_counts(choice: Any, resumable: bool, effect: str) -> None:
    """Whatever ``on_clear`` says, and for a group of steps, too."""
    members = {**REST, "clear": "start", "resumable": resumable}
    for operator in (START, GROUP):
        task = TaskNow(None, 1, 3, operator)
        run = read_run(plan(FAILED, **members))

        assert needs_choice(task, run)
        (sentence,) = what_comes_next(task, run, NOW, choice)
        assert sentence.text == f"When Airflow schedules it, try 2 of 4 {effect}"
    assert not needs_choice(task._replace(state="failed"), run)


@pytest.mark.parametrize(
    "run",
    [
        "a text",
        {"state": "Failed", "next": {"try_number": 1}},
        {**RUNS, "execution_arn": "<script>"},
        plan(FAILED, steps=10**9),
        plan(RUNS, until="tomorrow"),
        {**RUNS, "stop": {"reason": "none"}},
    ],
)
def test_edited_run_is_not_believed(run: Any) -> None:
    """Users may edit XComs."""
    assert read_run(run) is None


def test_sentences_in_json_have_their_time() -> None:
    """The browser shows it in the time zone of the UI."""
    task = TaskNow("up_for_retry", 1, 2, START)

    (sentence,) = what_comes_next(task, read_run(retried("start")), NOW)

    assert sentence.as_json == {
        "text": f"Try 2 of 3 {NEW} at",
        "at": "2026-03-01T13:14:00+00:00",
    }


def test_other_tasks_have_nothing_to_say() -> None:
    """The tab is on the page of each task."""
    task = TaskNow("up_for_retry", 1, 2, "BashOperator")

    assert what_comes_next(task, None, NOW) == []
