"""The next try of the same epoch: it goes on with the execution of the tries before."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.links import PolysyncPipelineExecutionLink
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.histories import (
    DESCRIBE,
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    DeathError,
    Ledger,
    Task,
    Wire,
    attempts,
    calls,
    die,
)
from tests.tasks import EmulatedTime

MUCH_LATER = 7200
COMPLETED = {"end_as": "CompletedWithFailures", **MERGE_FAILS}


def leave_behind(task: Task, time: EmulatedTime, emulator: EmulatorServer, *, later: float = 0) -> None:
    """Let a try die in its wait, and time pass until the next one."""
    time.after(100, die)
    assert isinstance(task.next_try().error, DeathError)
    emulator.control.advance(later)


def stopped_by_hand(ledger: Ledger) -> None:
    """Stop the execution, as somebody does in the console."""
    PolysyncSageMakerHook().stop_pipeline_execution(ledger.arns[-1])


@dataclass
class Row:
    """
    A row of the decision table as what it does.

    :param found: the status in which the next try finds the execution.
    :param ends: the statuses in which all executions end.
    :param moves: what the next try asks of AWS besides looks.
    """

    found: str
    ends: list[str]
    moves: list[str]
    scenario: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    later: float = 0
    stopped: float | None = None
    state: str = "Success"
    name: str = ""


ROWS = [
    Row("Executing", ["Succeeded"], []),
    Row("Executing", ["Succeeded"], [], arguments={"retry_mode": "resume"}, name="Executing, resume"),
    Row("Succeeded", ["Succeeded"], [], later=MUCH_LATER),
    Row("Stopping", ["Stopped", "Succeeded"], [START], stopped=0),
    Row("Stopped", ["Stopped", "Succeeded"], [START], stopped=60),
    Row(
        "Stopped",
        ["Stopped", "Succeeded"],
        [START],
        stopped=60,
        arguments={"retry_mode": "resume"},
        name="Stopped, resume",
    ),
    Row("Failed", ["Failed", "Succeeded"], [START], scenario=MERGE_FAILS, later=MUCH_LATER),
    Row(
        "Failed",
        ["Succeeded"],
        [RETRY],
        scenario=MERGE_FAILS,
        arguments={"retry_mode": "resume"},
        later=MUCH_LATER,
        name="Failed, resume",
    ),
    Row(
        "CompletedWithFailures",
        ["CompletedWithFailures", "Succeeded"],
        [START],
        scenario=COMPLETED,
        later=MUCH_LATER,
    ),
    Row(
        "CompletedWithFailures",
        ["Succeeded"],
        [RETRY],
        scenario=COMPLETED,
        arguments={"retry_mode": "resume"},
        later=MUCH_LATER,
        name="CompletedWithFailures, resume",
    ),
    Row(
        "CompletedWithFailures",
        ["CompletedWithFailures"],
        [],
        scenario=COMPLETED,
        arguments={"on_completed_with_failures": "succeed", "retry_mode": "resume"},
        later=MUCH_LATER,
        state="Failed",
        name="CompletedWithFailures, which succeeds",
    ),
    Row(
        "Pausing",
        ["Succeeded"],
        [],
        scenario={"statuses": [{"status": "Pausing", "after": 50, "until": 400}]},
        name="a status that AWS invented",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name or row.found)
def test_the_next_try_does_what_its_row_says(
    row: Row, make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Each status that a retry may find, to the end: which executions there are, and what AWS was asked."""
    emulator.control.put_scenario(row.scenario)
    task = make_task(**row.arguments)
    leave_behind(task, emulated_time, emulator, later=row.later)
    if row.stopped is not None:
        stopped_by_hand(ledger)
        emulator.control.advance(row.stopped)
    found = ledger.executions[0].engine.shown_status(emulator.clock.now())
    assert found == row.found
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP, RETRY) == row.moves
    assert ledger.statuses == row.ends
    assert ledger.most_at_once == 1
    assert run.result == ledger.arns[-1]
    assert run.xcoms["state"] == run.xcoms["run"]["state"] == row.state


@pytest.mark.parametrize("status", ["Succeeded", "CompletedWithFailures"])
def test_what_has_ended_is_adopted_at_once_with_all_its_xcoms(
    status: str,
    make_task: MakeTask,
    ledger: Ledger,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """No wait, no trigger, one look; and later tasks find every XCom that an ordinary end leaves."""
    emulator.control.put_scenario({} if status == "Succeeded" else COMPLETED)
    task = make_task(on_completed_with_failures="succeed", pipeline_parameters={"Shards": 4})
    usual = make_task(on_completed_with_failures="succeed", pipeline_parameters={"Shards": 4}).next_try()
    leave_behind(task, emulated_time, emulator, later=MUCH_LATER)
    emulated_time.slept.clear()
    emulator.control.clear_calls()

    run = task.next_try()

    assert emulated_time.slept == []
    assert run.trigger is None
    assert calls(emulator, DESCRIBE, START, STOP, RETRY) == [DESCRIBE]
    assert run.result == run.xcoms["execution_arn"] == ledger.arns[-1]
    assert run.xcoms.keys() == usual.xcoms.keys() >= {"console_url", PolysyncPipelineExecutionLink().xcom_key}
    mine, theirs = dict(run.xcoms["run"]), dict(usual.xcoms["run"])
    for facts in (mine, theirs):
        assert facts.pop("started_at") < facts.pop("ended_at")
        assert facts.pop("execution_arn") in ledger.arns
    assert mine == theirs
    assert mine["status"] == status
    assert mine["parameters"] == {"Shards": "4"}


def test_reattaching_says_so(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Who reads the log of a retry learns that nothing new was started, and which execution it is about."""
    task = make_task()
    leave_behind(task, emulated_time, emulator)

    with capture_logs() as logs:
        task.next_try()

    lines = [entry["event"] % entry.get("positional_args", ()) for entry in logs]
    (line,) = [line for line in lines if "no other is started" in line]
    assert line == (
        f"Going on with execution {ledger.arns[0]} of an earlier try (AWS status Executing); "
        "no other is started."
    )


def test_time_spent_by_earlier_tries_counts(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``timeout`` is the execution's from its start: a retry does not give it as long again."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=3600)
    leave_behind(task, emulated_time, emulator, later=3000)

    run = task.next_try()

    created = ledger.executions[0].engine.created_at
    assert "had not ended when the time was up" in str(run.error)
    assert 3600 <= emulated_time.time() - created < 3700
    assert calls(emulator, STOP) == [STOP]


def test_a_retry_after_a_timeout_starts_anew_once_the_old_one_has_ended(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """The timeout asked for a stop; the retry comes at once, waits for the end, and then starts its own."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=3600)
    task.next_try()
    assert task.state == "up_for_retry"
    assert ledger.statuses == ["Stopping"]
    emulator.control.put_scenario({})

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Stopped", "Succeeded"]
    assert ledger.most_at_once == 1


def test_what_was_stopping_may_succeed_after_all(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A stop can come too late; then the result is adopted and nothing is done twice."""
    task = make_task()
    emulated_time.after(480, die)
    # The last step ends before the stop interrupts it.
    emulator.control.put_scenario({"steps": {"Merge": {"duration": 258}}})
    task.next_try()
    stopped_by_hand(ledger)
    assert ledger.statuses == ["Stopping"]

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]


def test_an_execution_that_no_longer_exists_is_replaced(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If somebody deleted the pipeline and made it anew, its executions are gone: a new one is started."""
    task = make_task()
    leave_behind(task, emulated_time, emulator)
    (record,) = ledger.executions
    record.pipeline.executions.clear()

    run = task.next_try()

    assert run.error is None
    assert record.arn not in ledger.arns
    assert ledger.statuses == ["Succeeded"]
    assert task.record["execution_arn"] == run.result


def test_an_ordinary_retry_starts_anew_with_todays_values(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """After an execution has failed and been told of, the next try's own values are sent."""
    emulator.control.put_scenario(MERGE_FAILS)
    task = make_task()
    task.next_try(pipeline_parameters={"Shards": 4})
    emulator.control.put_scenario({})

    run = task.next_try(pipeline_parameters={"Shards": 3})

    sent = [call["request"] for call in emulator.control.calls(START)]
    assert [request["PipelineParameters"][0]["Value"] for request in sent] == ["4", "3"]
    assert len({request["ClientRequestToken"] for request in sent}) == 2
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}


def test_who_does_not_wait_is_content_with_what_runs(
    make_task: MakeTask, wire: Wire, ledger: Ledger, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``wait_for_completion=False``: a try that died after the start is followed by one that only tells of it."""
    task = make_task(wait_for_completion=False)
    wire.after(START, die)
    assert isinstance(task.next_try().error, DeathError)

    run = task.next_try()

    assert run.error is None
    assert run.result == ledger.arns[0]
    assert run.xcoms["state"] == "Running"
    assert calls(emulator, START, STOP) == [START, START]
    assert ledger.statuses == ["Executing"]
    assert emulated_time.slept == []


def test_a_result_that_could_not_be_published_is_adopted_by_the_next_try(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Airflow's API server is away at the very end, hours of training are not done again."""
    from tests.tasks import TaskInstance

    push = TaskInstance.xcom_push

    def unreachable(self: TaskInstance, key: str, value: Any) -> None:
        if self.try_number == 1 and value == "Success":
            raise ConnectionError("no API server")
        push(self, key, value)

    monkeypatch.setattr(TaskInstance, "xcom_push", unreachable)
    task = make_task()
    assert isinstance(task.next_try().error, ConnectionError)

    run = task.next_try()

    assert run.error is None
    assert ledger.statuses == ["Succeeded"]
    assert attempts(ledger.executions[0])["Merge"] == 1


def test_failing_once_and_resuming_is_not_adopting(
    make_task: MakeTask, ledger: Ledger, emulator: EmulatorServer
) -> None:
    """With ``retry_mode=new`` a failed execution is left as it is."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task()

    task.next_try()
    task.next_try()

    assert calls(emulator, RETRY) == []
    assert ledger.statuses == ["Failed", "Failed"]
