"""Reattaching: a retry continues with the execution of the earlier tries."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.links import PolysyncPipelineExecutionLink
from sagemaker_emulator import EmulatorServer
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs
from tests.operators.recovery.conftest import MakeTask
from tests.operators.recovery.harness import (
    DESCRIBE,
    MERGE_FAILS,
    MERGE_FAILS_ONCE,
    NEVER_ENDS,
    RETRY,
    START,
    STOP,
    CrashError,
    ExecutionLog,
    RequestInterceptor,
    Task,
    calls,
    crash,
    step_attempts,
)
from tests.tasks import EmulatedTime

MUCH_LATER = 7200
COMPLETED = {"end_as": "CompletedWithFailures", **MERGE_FAILS}


def crash_while_waiting(
    task: Task, time: EmulatedTime, emulator: EmulatorServer, *, later: float = 0
) -> None:
    """Let a try crash while it waits, and let time pass until the next try."""
    time.after(100, crash)
    assert isinstance(task.next_try().error, CrashError)
    emulator.control.advance(later)


def stop_by_user(execution_log: ExecutionLog) -> None:
    """Stop the latest execution, as a user does in the console."""
    PolysyncSageMakerHook().stop_pipeline_execution(execution_log.arns[-1])


@dataclass
class Case:
    """
    A status of the earlier execution, and what the next try does.

    :param status: the AWS status of the execution when the next try begins.
    :param final_statuses: the statuses in which all executions end.
    :param requests: the requests of the next try that change something in AWS.
    :param later: seconds between the crash and the next try.
    :param stopped: seconds between a user's stop and the next try; None without a stop.
    :param state: the Polysync state that the next try pushes at the end.
    """

    status: str
    final_statuses: list[str]
    requests: list[str]
    scenario: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    later: float = 0
    stopped: float | None = None
    state: str = "Success"
    name: str = ""


CASES = [
    Case("Executing", ["Succeeded"], []),
    Case("Executing", ["Succeeded"], [], arguments={"retry_mode": "resume"}, name="Executing, resume"),
    Case("Succeeded", ["Succeeded"], [], later=MUCH_LATER),
    Case("Stopping", ["Stopped", "Succeeded"], [START], stopped=0),
    Case("Stopped", ["Stopped", "Succeeded"], [START], stopped=60),
    Case(
        "Stopped",
        ["Stopped", "Succeeded"],
        [START],
        stopped=60,
        arguments={"retry_mode": "resume"},
        name="Stopped, resume",
    ),
    Case("Failed", ["Failed", "Succeeded"], [START], scenario=MERGE_FAILS, later=MUCH_LATER),
    Case(
        "Failed",
        ["Succeeded"],
        [RETRY],
        scenario=MERGE_FAILS,
        arguments={"retry_mode": "resume"},
        later=MUCH_LATER,
        name="Failed, resume",
    ),
    Case(
        "CompletedWithFailures",
        ["CompletedWithFailures", "Succeeded"],
        [START],
        scenario=COMPLETED,
        later=MUCH_LATER,
    ),
    Case(
        "CompletedWithFailures",
        ["Succeeded"],
        [RETRY],
        scenario=COMPLETED,
        arguments={"retry_mode": "resume"},
        later=MUCH_LATER,
        name="CompletedWithFailures, resume",
    ),
    Case(
        "CompletedWithFailures",
        ["CompletedWithFailures"],
        [],
        scenario=COMPLETED,
        arguments={"on_completed_with_failures": "succeed", "retry_mode": "resume"},
        later=MUCH_LATER,
        state="Failed",
        name="CompletedWithFailures, succeed",
    ),
    Case(
        "Pausing",
        ["Succeeded"],
        [],
        scenario={"statuses": [{"status": "Pausing", "after": 50, "until": 400}]},
        name="unknown status",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name or case.status)
def test_next_try_per_status(
    case: Case,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """For each status of the earlier execution, the next try does what the test case says."""
    emulator.control.put_scenario(case.scenario)
    task = make_task(**case.arguments)
    crash_while_waiting(task, emulated_time, emulator, later=case.later)
    if case.stopped is not None:
        stop_by_user(execution_log)
        emulator.control.advance(case.stopped)
    status = execution_log.executions[0].engine.shown_status(emulator.clock.now())
    assert status == case.status
    emulator.control.put_scenario({})
    emulator.control.clear_calls()

    run = task.next_try()

    assert run.error is None
    assert calls(emulator, START, STOP, RETRY) == case.requests
    assert execution_log.statuses == case.final_statuses
    assert execution_log.max_concurrent == 1
    assert run.result == execution_log.arns[-1]
    assert run.xcoms["state"] == run.xcoms["run"]["state"] == case.state


@pytest.mark.parametrize("status", ["Succeeded", "CompletedWithFailures"])
def test_ended_execution_is_reattached_without_waiting(
    status: str,
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """An ended execution needs one poll and no wait, and the try pushes the same XComs as an ordinary one."""
    emulator.control.put_scenario({} if status == "Succeeded" else COMPLETED)
    task = make_task(on_completed_with_failures="succeed", pipeline_parameters={"Shards": 4})
    other = make_task(on_completed_with_failures="succeed", pipeline_parameters={"Shards": 4})
    other.run_id = "manual__other"
    ordinary = other.next_try()
    crash_while_waiting(task, emulated_time, emulator, later=MUCH_LATER)
    emulated_time.slept.clear()
    emulator.control.clear_calls()

    run = task.next_try()

    assert emulated_time.slept == []
    assert run.trigger is None
    assert calls(emulator, DESCRIBE, START, STOP, RETRY) == [DESCRIBE]
    assert run.result == run.xcoms["execution_arn"] == execution_log.arns[-1]
    button = {PolysyncPipelineExecutionLink().xcom_key} if CAPABILITIES.links_are_xcoms else set()
    assert run.xcoms.keys() == ordinary.xcoms.keys() >= {"console_url", *button}
    record, ordinary_record = dict(run.xcoms["run"]), dict(ordinary.xcoms["run"])
    for values in (record, ordinary_record):
        assert values.pop("started_at") < values.pop("ended_at")
        assert values.pop("execution_arn") in execution_log.arns
    assert record == ordinary_record
    assert record["status"] == status
    assert record["parameters"] == {"Shards": "4"}


def test_reattaching_is_logged(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """The log of a retry says that no new execution is started and which execution it continues with."""
    task = make_task()
    crash_while_waiting(task, emulated_time, emulator)

    with capture_logs() as logs:
        task.next_try()

    lines = [entry["event"] % entry.get("positional_args", ()) for entry in logs]
    (line,) = [line for line in lines if "Reattached" in line]
    assert line == (
        "Reattached to the execution of an earlier try (AWS status Executing); no new one is started: execution "
        f"{execution_log.arns[0]}"
    )


@IN_BOTH_MODES
def test_timeout_counts_from_the_start_of_the_execution(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """``timeout`` counts from the start of the execution, so that a retry does not extend it."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=3600)
    crash_while_waiting(task, emulated_time, emulator, later=3000)

    run = task.next_try()

    created = execution_log.executions[0].engine.created_at
    assert "did not end before the timeout" in str(run.error)
    # Rounded, because the response has the creation time in microseconds only.
    assert 3600 <= round(emulated_time.time() - created, 3) < 3700
    assert calls(emulator, STOP) == [STOP]


def test_retry_after_a_timeout_waits_for_the_stop(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """The retry after a timeout waits for the end of the stopped execution and then starts a new one."""
    emulator.control.put_scenario(NEVER_ENDS)
    task = make_task(timeout=3600)
    task.next_try()
    assert task.state == "up_for_retry"
    assert execution_log.statuses == ["Stopping"]
    emulator.control.put_scenario({})

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_stopping_execution_that_succeeds_is_reattached(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If a stopping execution still succeeds, the retry takes its result and starts nothing."""
    task = make_task()
    emulated_time.after(480, crash)
    # The last step ends before the stop interrupts it.
    emulator.control.put_scenario({"steps": {"Merge": {"duration": 256}}})
    task.next_try()
    stop_by_user(execution_log)
    assert execution_log.statuses == ["Stopping"]

    run = task.next_try()

    assert run.error is None
    assert execution_log.statuses == ["Succeeded"]


def test_deleted_execution_is_replaced(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """If the pipeline was deleted and created again, its executions are gone, and a new one is started."""
    task = make_task()
    crash_while_waiting(task, emulated_time, emulator)
    (record,) = execution_log.executions
    record.pipeline.executions.clear()

    run = task.next_try()

    assert run.error is None
    assert record.arn not in execution_log.arns
    assert execution_log.statuses == ["Succeeded"]
    assert task.last_record["execution_arn"] == run.result


def test_retry_after_a_failure_sends_its_own_arguments(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """After a failed execution, the next try starts a new one with its own arguments."""
    emulator.control.put_scenario(MERGE_FAILS)
    task = make_task()
    task.next_try(pipeline_parameters={"Shards": 4})
    emulator.control.put_scenario({})

    run = task.next_try(pipeline_parameters={"Shards": 3})

    sent = [call["request"] for call in emulator.control.calls(START)]
    assert [request["PipelineParameters"][0]["Value"] for request in sent] == ["4", "3"]
    assert len({request["ClientRequestToken"] for request in sent}) == 2
    assert run.xcoms["run"]["parameters"] == {"Shards": "3"}


def test_reattaching_without_waiting(
    make_task: MakeTask,
    interceptor: RequestInterceptor,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """With ``wait_for_completion=False``, the try after a crash only pushes XComs."""
    task = make_task(wait_for_completion=False)
    interceptor.after(START, crash)
    assert isinstance(task.next_try().error, CrashError)

    run = task.next_try()

    assert run.error is None
    assert run.result == execution_log.arns[0]
    assert run.xcoms["state"] == "Running"
    assert calls(emulator, START, STOP) == [START]
    assert execution_log.statuses == ["Executing"]
    assert emulated_time.slept == []


def test_result_is_reattached_if_pushing_xcoms_failed(
    make_task: MakeTask,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the API server is down at the end of the wait, the next try takes the result of the execution."""
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
    assert execution_log.statuses == ["Succeeded"]
    assert step_attempts(execution_log.executions[0])["Merge"] == 1


def test_failed_execution_is_replaced_by_default(
    make_task: MakeTask, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """With ``retry_mode=new``, a failed execution is neither reattached nor resumed."""
    emulator.control.put_scenario(MERGE_FAILS_ONCE)
    task = make_task()

    task.next_try()
    task.next_try()

    assert calls(emulator, RETRY) == []
    assert execution_log.statuses == ["Failed", "Failed"]
