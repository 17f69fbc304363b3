"""
The trigger stops the execution at the end of its wait, before its event: Airflow may
not go on with the task for days, for example because its DAG is paused.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow import exceptions
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.operators import PolysyncStopPipelineOperator
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from polysync_airflow.records import variable_key
from polysync_airflow.sensors import PolysyncPipelineSensor
from polysync_airflow.triggers import stopping
from sagemaker_emulator import EmulatorServer
from tests.fakes.simulated_airflow import AIRFLOW, SimulatedAirflow
from tests.tasks import EmulatedTime, fire, run_task
from tests.unit.operators.recovery.harness import (
    DESCRIBE,
    NEVER_ENDS,
    START,
    STOP,
    ExecutionLog,
    RequestInterceptor,
    RetryEverything,
    Task,
    calls,
    tokens,
)

HOUR = 3600.0
# Seconds. No step of these tests may take this long, even on a busy machine.
LONG = 20.0
DENIED = {"code": "AccessDeniedException", "message": "not you"}
BY_TRIGGERER = "The execution was asked to stop by the triggerer, at "
MakeDeferred = Callable[..., Task]


@pytest.fixture
def make_deferred(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> MakeDeferred:
    """A factory of tasks whose executions never end by themselves."""
    emulator.control.put_scenario(NEVER_ENDS)

    def make(retries: int = 0, **arguments: Any) -> Task:
        arguments = {"timeout": HOUR, **arguments}
        return Task(deferrable=True, arguments=arguments, retries=retries)

    return make


def run_of(task: Task) -> dict[str, Any]:
    """Return the XCom ``run``."""
    run: dict[str, Any] = task.ti.xcoms["run"]
    return run


def test_execution_is_stopped_though_nobody_resumes_the_task(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    The DAG is paused: the trigger alone stops the execution once, and its event says
    so.
    """
    task = make_deferred()
    deferral = task.defer()
    assert calls(emulator, STOP) == []

    event = task.fire(deferral)
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]
    assert calls(emulator, STOP) == [STOP]
    assert event["outcome"] == "timed_out"
    assert event["stop"]["status"] == "Stopping"
    assert task.record["stop_requested_by"] == 1
    stop = run_of(task)["stop"]
    told = (stop["process"], stop["reason"], stop["result"], run_of(task)["status"])
    assert told == ("triggerer", "timeout", "accepted", "Stopping")
    assert stop["requested_at"] == event["stop"]["requested_at"]


def test_event_that_comes_days_later_stops_nothing_again(
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    The error says who has requested the stop, and when. The retry starts after the end.
    """
    task = make_deferred(retries=1)
    deferral = task.defer()
    event = task.fire(deferral)
    emulated_time.sleep(3 * 24 * HOUR)

    run = task.resume(deferral, event)

    assert isinstance(run.error, exceptions.PipelineExecutionTimeoutError)
    at = event["stop"]["requested_at"].replace("T", " ")[:19]
    assert f"{BY_TRIGGERER}{at} UTC." in str(run.error)
    assert calls(emulator, STOP) == [STOP]
    told = run_of(task)["status"], run_of(task)["stop"]["process"]
    assert told == ("Stopping", "triggerer")
    emulator.control.put_scenario({})
    task.next_try()
    assert calls(emulator, START, STOP) == [START, STOP, START]
    assert execution_log.statuses == ["Stopped", "Succeeded"]
    assert execution_log.max_concurrent == 1


def test_announcement_is_stored_before_the_request(
    make_deferred: MakeDeferred, interceptor: RequestInterceptor
) -> None:
    """A later try tells the stop from a cancellation by a user."""
    task = make_deferred()
    deferral = task.defer()
    seen: list[Any] = []

    def look(_: Any) -> None:
        seen.append((task.record["stop_requested_by"], run_of(task)["stop"]["result"]))

    interceptor.before(STOP, look)

    task.fire(deferral)

    assert seen == [(1, "requested")]


def test_worker_repeats_a_stop_that_was_refused(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    The announcement is withdrawn, and the event is that of a trigger that stops
    nothing.
    """
    task = make_deferred()
    deferral = task.defer()
    emulator.control.add_fault("error", STOP, count=1, **DENIED)

    event = task.fire(deferral)

    assert event["stop"] is None
    assert "stop_requested_by" not in task.record
    assert run_of(task)["stop"]["result"] == "failed"
    assert execution_log.statuses == ["Executing"]

    run = task.resume(deferral, event)
    emulator.control.advance(60)

    assert isinstance(run.error, exceptions.PipelineExecutionTimeoutError)
    assert "The execution was asked to stop." in str(run.error)
    assert execution_log.statuses == ["Stopped"]
    assert calls(emulator, STOP) == [STOP, STOP]
    assert run_of(task)["stop"]["process"] == "worker"


def test_stop_on_kill_false_keeps_the_execution(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Neither the trigger nor the worker stops it."""
    task = make_deferred(stop_on_kill=False)
    deferral = task.defer()

    run = task.resume(deferral, task.fire(deferral))

    assert "keeps running" in str(run.error)
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Executing"]


def test_later_try_keeps_its_execution(
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """
    A triggerer that was frozen runs the trigger of the first try to its deadline, when
    the second try, with more time, has gone on with the execution.
    """
    task = make_deferred(retries=1)
    of_first_try = task.defer()
    first = task.ti
    task.lose_heartbeat()
    task.arguments["timeout"] = 2 * HOUR
    of_second_try = task.defer()

    class_path, arguments = of_first_try.trigger.serialize()
    event = asyncio.run(fire(class_path, arguments, first))

    assert event["stop"] is None
    assert calls(emulator, STOP) == []
    assert execution_log.statuses == ["Executing"]
    task.fire(of_second_try)
    assert calls(emulator, STOP) == [STOP]


def test_two_triggerers_make_one_stop(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """
    During a failover the trigger runs twice. Both requests have the same token, and
    Airflow takes either event.
    """
    task = make_deferred()
    deferral = task.defer()
    emulator.control.add_fault("latency", STOP, delay=0.2)

    async def run_twice() -> list[Any]:
        class_path, arguments = deferral.trigger.serialize()
        twice = [fire(class_path, arguments, task.ti) for _ in range(2)]
        return await asyncio.gather(*twice)

    events = asyncio.run(run_twice())

    assert len(set(tokens(emulator, STOP))) == 1
    assert [event["stop"]["status"] for event in events] == ["Stopping", "Stopping"]
    for event in events:
        assert BY_TRIGGERER in str(task.resume(deferral, event).error)
    emulator.control.advance(60)
    assert execution_log.statuses == ["Stopped"]
    assert run_of(task)["stop"]["result"] == "accepted"


@pytest.mark.parametrize("state", ["scheduled", "queued", "up_for_retry"])
def test_trigger_is_silent_after_the_event_of_another(
    state: str,
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """Airflow has gone on with the task: the worker decides."""
    task = make_deferred()
    deferral = task.defer()
    task.state = state

    event = task.fire(deferral)

    assert event["stop"] is None
    assert calls(emulator, STOP) == []


@pytest.mark.parametrize("state", ["failed", "success", None, "deleted"])
def test_task_that_was_ended_at_the_deadline_loses_its_execution(
    state: Any,
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """Airflow calls no ``on_kill`` of a trigger that has fired its event."""
    task = make_deferred()
    deferral = task.defer()
    task.state = state

    task.fire(deferral)
    emulator.control.advance(60)

    assert execution_log.statuses == ["Stopped"]


@pytest.mark.parametrize(
    "refuses", [AIRFLOW.task_state, AIRFLOW.variable, AIRFLOW.put_variable]
)
def test_worker_stops_if_airflow_does_not_answer_the_trigger(
    refuses: Callable[..., Any],
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Nothing is stopped before it is known whose execution it is, and announced. The
    event is fired, and the worker decides.
    """
    task = make_deferred()
    deferral = task.defer()

    def fail(*_: Any) -> None:
        raise ConnectionError("no API server")

    with monkeypatch.context() as patch:
        patch.setattr(SimulatedAirflow, refuses.__name__, fail)
        event = task.fire(deferral)

    assert event["stop"] is None
    assert calls(emulator, STOP) == []
    assert "was asked to stop" in str(task.resume(deferral, event).error)
    assert calls(emulator, STOP) == [STOP]


def test_trigger_asks_airflow_again(
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A short outage of the API server does not keep the execution running."""
    task = make_deferred()
    deferral = task.defer()
    read = SimulatedAirflow.task_state
    asked: list[str] = []

    def fail_twice(airflow: SimulatedAirflow, *key: Any) -> Any:
        asked.append(task.task_id)
        if len(asked) <= 2:
            raise ConnectionError("no API server")
        return read(airflow, *key)

    monkeypatch.setattr(SimulatedAirflow, "task_state", fail_twice)

    assert task.fire(deferral)["stop"]["status"] == "Stopping"


@pytest.mark.parametrize("record", [None, "a text", {"execution_arn": "x"}])
def test_lost_record_does_not_keep_the_execution_running(
    record: Any,
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """The stored trigger names the execution, and the task is still deferred."""
    task = make_deferred()
    deferral = task.defer()
    if record is None:
        AIRFLOW.delete_variable(variable_key(TaskKey.of(task.ti)))
    else:
        task.store.set("polysync_execution", record)

    event = task.fire(deferral)
    emulator.control.advance(60)

    assert event["stop"]["status"] == "Stopping"
    assert execution_log.statuses == ["Stopped"]
    assert BY_TRIGGERER in str(task.resume(deferral, event).error)


def test_event_does_not_wait_for_a_stop_that_hangs(
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    interceptor: RequestInterceptor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    The worker requests it again. The late answer, a refusal, does not withdraw the
    announcement of the worker.
    """
    monkeypatch.setattr(stopping, "BEFORE_EVENT_SECONDS", 0.05)
    task = make_deferred()
    deferral = task.defer()
    is_sent, is_answered = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        is_sent.set()
        assert is_answered.wait(LONG)

    interceptor.before(STOP, hang)

    event = task.fire(deferral)

    assert event["stop"] is None
    assert is_sent.wait(LONG)
    assert "was asked to stop" in str(task.resume(deferral, event).error)
    for operation in (STOP, DESCRIBE):
        emulator.control.add_fault("error", operation, **DENIED)
    is_answered.set()
    until = time.monotonic() + LONG
    while any(each.name.startswith("polysync-stop") for each in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.02)
    emulator.control.advance(60)
    assert calls(emulator, STOP) == [STOP, STOP]
    assert execution_log.statuses == ["Stopped"]
    assert task.record["stop_requested_by"] == 1


def test_error_in_the_stop_does_not_cost_the_event(
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without its event, the task would fail without a reason."""
    task = make_deferred()
    deferral = task.defer()

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopAtEndOfWait, "carry_out", fail)
        event = task.fire(deferral)

    assert event["stop"] is None
    assert "was asked to stop" in str(task.resume(deferral, event).error)
    assert calls(emulator, STOP) == [STOP]


def test_wait_for_an_earlier_execution_ends_with_a_stop(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    A cleared task whose old execution does not end in time: the error names the stop,
    and the failure callback makes none.
    """
    arguments = {
        "pipeline_name": "callback-lambda",
        "pipeline_parameters": {"Approver": "me"},
        "timeout": HOUR,
    }
    task = Task(deferrable=True, arguments=arguments, retries=0)
    task.defer()
    emulated_time.sleep(120)
    task.clear()
    deferral = task.defer()
    assert deferral.method_name == "execute_after_end"

    event = task.fire(deferral)
    run = task.resume(deferral, event)
    stops = len(tokens(emulator, STOP))
    stop_orphaned_execution({"ti": task.ti, "task": run.operator})  # type: ignore[typeddict-item]

    assert isinstance(run.error, exceptions.PipelineExecutionTimeoutError)
    assert "No new execution was started beside it." in str(run.error)
    assert BY_TRIGGERER in str(run.error)
    assert len(tokens(emulator, STOP)) == stops
    assert len(set(tokens(emulator, STOP))) == 1
    assert execution_log.statuses == ["Stopping"]


def test_retry_waits_for_an_earlier_execution_again(
    execution_log: ExecutionLog, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """So it is asked to stop only as long as the clear asks for it."""
    arguments = {"pipeline_name": "callback-lambda", "timeout": HOUR}
    arguments["pipeline_parameters"] = {"Approver": "me"}
    task = Task(deferrable=True, arguments=arguments, retries=1)
    task.defer()
    emulated_time.sleep(120)
    task.clear()
    deferral = task.defer()
    stops = calls(emulator, STOP)

    event = task.fire(deferral)

    assert event["outcome"] == "timed_out"
    assert event["stop"] is None
    assert calls(emulator, STOP) == stops


def test_task_of_a_group_of_steps_loses_its_execution(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """Its time is up, whichever of the steps were cleared."""
    task = make_deferred()
    path, arguments = task.defer().trigger.serialize()
    arguments["step_task_ids"] = ["steps.Merge"]

    event = asyncio.run(fire(path, arguments, task.ti))

    assert event["stop"]["status"] == "Stopping"
    assert calls(emulator, STOP) == [STOP]


def refused(task: Task, emulator: EmulatorServer, **error: Any) -> Any:
    """Defer a task, and return the event of its trigger, whose polls are refused."""
    deferral = task.defer()
    for operation in (DESCRIBE, "ListPipelineExecutions"):
        emulator.control.add_fault("error", operation, **{**DENIED, **error})
    return deferral, task.fire(deferral)


def test_lasting_refusal_without_retry_stops_the_execution(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """The provider's own policy does not retry it, so nobody goes on."""
    task = make_deferred(retries=2)

    deferral, event = refused(task, emulator)
    emulator.control.advance(60)

    assert event["outcome"] == "refused"
    assert event["stop"]["status"] == "Stopping"
    assert execution_log.statuses == ["Stopped"]
    assert run_of(task)["stop"]["reason"] == "failure"
    run = task.resume(deferral, event)
    assert isinstance(run.error, exceptions.SageMakerApiError)
    assert BY_TRIGGERER in str(run.error)
    assert calls(emulator, STOP) == [STOP]
    assert task.state == "failed"


@pytest.mark.parametrize(("retries", "stops"), [(1, []), (0, [STOP])])
def test_refusal_that_may_be_retried_is_left_to_the_worker(
    retries: int,
    stops: list[str],
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
) -> None:
    """
    What the policy of a DAG author says is known to the worker only; after the last
    try, it does not matter.
    """
    task = make_deferred(retries=retries, retry_policy=RetryEverything())

    deferral, event = refused(task, emulator)

    assert event["outcome"] == "refused"
    assert calls(emulator, STOP) == stops
    task.resume(deferral, event)
    assert calls(emulator, STOP) == stops
    assert task.state == ("up_for_retry" if retries else "failed")


def test_deleted_connection_is_used_for_nothing(
    make_deferred: MakeDeferred,
    execution_log: ExecutionLog,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor for the stop, although the triggerer may still have its credentials."""
    task = make_deferred()
    deferral = task.defer()
    emulated_time.after(
        100, lambda: monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    )

    event = task.fire(deferral)

    assert event["outcome"] == "refused"
    assert calls(emulator, STOP) == []


def test_trigger_outside_of_airflow_stops_nothing(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """``dag.test()`` gives triggers no task instance, and goes on with the task."""
    task = make_deferred()
    deferral = task.defer()

    event = asyncio.run(fire(*deferral.trigger.serialize()))

    assert event["outcome"] == "timed_out"
    assert calls(emulator, STOP) == []


def test_sensor_and_stop_task_stop_nothing_at_their_timeout(
    make_deferred: MakeDeferred, execution_log: ExecutionLog, emulator: EmulatorServer
) -> None:
    """They wait for an execution that is not theirs."""
    task = make_deferred()
    task.defer()
    arn = task.record["execution_arn"]
    arguments: Any = {"execution_arn": arn, "timeout": HOUR, "deferrable": True}
    stopping_task = PolysyncStopPipelineOperator(task_id="stop", **arguments)
    sensor = PolysyncPipelineSensor(task_id="wait", **arguments)

    sensed = run_task(sensor)

    assert sensed.trigger is not None
    assert isinstance(sensed.error, exceptions.PipelineExecutionTimeoutError)
    assert calls(emulator, STOP) == []
    emulator.control.add_fault("lost_response", STOP, count=1)
    stopped = run_task(stopping_task)
    assert stopped.error is None
