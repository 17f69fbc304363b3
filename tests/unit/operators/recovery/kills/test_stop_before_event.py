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
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.operators.failure_callback import stop_orphaned_execution
from polysync_airflow.triggers import stopping
from sagemaker_emulator import EmulatorServer
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import fire
from tests.unit.operators.recovery.harness import RetryEverything, Task
from tests.world import DESCRIBE, LIST, NEVER_ENDS, STOP, World

HOUR = 3600.0
# Seconds. No step of these tests may take this long, even on a busy machine.
LONG = 20.0
DENIED = {"code": "AccessDeniedException", "message": "not you"}
BEFORE_3_4 = [] if CAPABILITIES.reschedules else [STOP]
BY_TRIGGERER = "The execution was asked to stop by the triggerer, at "
MakeDeferred = Callable[..., Task]


@pytest.fixture
def make_deferred(world: World) -> MakeDeferred:
    """A factory of tasks whose executions never end by themselves."""
    world.control.put_scenario(NEVER_ENDS)

    def make(retries: int = 0, **arguments: Any) -> Task:
        arguments = {"timeout": HOUR, **arguments}
        return Task(deferrable=True, arguments=arguments, retries=retries)

    return make


def run_of(task: Task) -> dict[str, Any]:
    """Return the XCom ``run``."""
    run: dict[str, Any] = task.ti.xcoms["run"]
    return run


def test_execution_is_stopped_though_nobody_resumes_the_task(
    make_deferred: MakeDeferred, world: World
) -> None:
    """
    The DAG is paused, or the workers are busy: the trigger alone stops the execution
    once, its event says so, and it stores the end when the task has ended.
    """
    task = make_deferred()
    deferral = task.defer()
    assert world.calls(STOP) == []

    class_path, arguments = deferral.trigger.serialize()

    async def run_triggerer() -> Any:
        event = await fire(class_path, arguments, task.ti)
        stop = run_of(task)["stop"]
        told = (stop["process"], stop["reason"], stop["result"], run_of(task)["status"])
        assert told == ("triggerer", "timeout", "accepted", "Stopping")
        assert stop["requested_at"] == event["stop"]["requested_at"]
        task.state = "running"
        world.time.after(540, lambda: setattr(task, "state", "failed"))
        await asyncio.gather(*stopping.FOLLOWING)
        return event

    event = asyncio.run(run_triggerer())

    assert run_of(task)["status"] == "Stopped"
    assert world.calls(STOP) == [STOP]
    assert event["outcome"] == "timed_out"
    assert event["stop"]["status"] == "Stopping"
    assert task.record["stop_requested_by"] == 1


def test_worker_repeats_a_stop_that_was_refused(
    make_deferred: MakeDeferred, world: World
) -> None:
    """
    The announcement is withdrawn, and the event is that of a trigger that stops
    nothing.
    """
    task = make_deferred()
    deferral = task.defer()
    world.deny(STOP, count=1)

    event = task.fire(deferral)

    assert "stop" not in event
    assert "stop_requested_by" not in task.record
    assert run_of(task)["stop"]["result"] == "failed"
    assert world.log.statuses == ["Executing"]

    run = task.resume(deferral, event)
    world.control.advance(60)

    assert isinstance(run.error, exceptions.PipelineExecutionTimeoutError)
    assert "The execution was asked to stop." in str(run.error)
    assert world.log.statuses == ["Stopped"]
    assert world.calls(STOP) == [STOP, STOP]
    assert run_of(task)["stop"]["process"] == "worker"


@pytest.mark.parametrize(
    ("owner", "fails"),
    [
        (SimulatedAirflow, "task_state"),
        (SimulatedAirflow, "variable"),
        (SimulatedAirflow, "put_variable"),
        (stopping.StopAtEndOfWait, "carry_out"),
    ],
)
def test_worker_stops_if_the_trigger_cannot(
    owner: type, fails: str, make_deferred: MakeDeferred, world: World
) -> None:
    """
    Nothing is stopped before it is known whose execution it is, and announced. The
    event is fired, and the worker decides.
    """
    task = make_deferred()
    deferral = task.defer()

    def fail(*_: Any) -> None:
        raise ConnectionError("no API server")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(owner, fails, fail)
        event = task.fire(deferral)

    assert "stop" not in event
    assert world.calls(STOP) == []
    assert "was asked to stop" in str(task.resume(deferral, event).error)
    assert world.calls(STOP) == [STOP]


def test_event_does_not_wait_for_a_stop_that_hangs(
    make_deferred: MakeDeferred, world: World
) -> None:
    """
    The worker requests it again. The late answer, a refusal, does not withdraw the
    announcement of the worker.
    """
    world.patch.setattr(stopping, "BEFORE_EVENT_SECONDS", 0.05)
    task = make_deferred()
    deferral = task.defer()
    is_sent, is_answered = threading.Event(), threading.Event()

    def hang(_: Any) -> None:
        is_sent.set()
        assert is_answered.wait(LONG)

    world.requests.before(STOP, hang)

    event = task.fire(deferral)

    assert "stop" not in event
    assert is_sent.wait(LONG)
    assert "was asked to stop" in str(task.resume(deferral, event).error)
    for operation in (STOP, DESCRIBE):
        world.deny(operation)
    is_answered.set()
    until = time.monotonic() + LONG
    while any(each.name.startswith("polysync-stop") for each in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.02)
    world.control.advance(60)
    assert world.calls(STOP) == [STOP, STOP]
    assert world.log.statuses == ["Stopped"]
    assert task.record["stop_requested_by"] == 1


def test_wait_for_an_earlier_execution_ends_with_a_stop(world: World) -> None:
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
    world.time.sleep(120)
    task.clear()
    deferral = task.defer()
    assert deferral.method_name == "execute_after_end"

    event = task.fire(deferral)
    run = task.resume(deferral, event)
    stops = len(world.tokens(STOP))
    stop_orphaned_execution({"ti": task.ti, "task": run.operator})  # type: ignore[typeddict-item]

    assert isinstance(run.error, exceptions.PipelineExecutionTimeoutError)
    assert "No new execution was started beside it." in str(run.error)
    assert BY_TRIGGERER in str(run.error)
    assert len(world.tokens(STOP)) == stops
    assert len(set(world.tokens(STOP))) == 1
    assert world.log.statuses == ["Stopping"]


def refused(task: Task, emulator: EmulatorServer, **error: Any) -> Any:
    """Defer a task, and return the event of its trigger, whose polls are refused."""
    deferral = task.defer()
    for operation in (DESCRIBE, LIST):
        emulator.control.add_fault("error", operation, **{**DENIED, **error})
    return deferral, task.fire(deferral)


@pytest.mark.parametrize(
    ("retries", "arguments", "stops", "state"),
    [
        (2, {}, [STOP], "failed"),
        # On Airflow 3.4, it might reschedule the last try.
        (0, {"retry_policy": RetryEverything()}, BEFORE_3_4, "failed"),
        (1, {"retry_policy": RetryEverything()}, [], "up_for_retry"),
    ],
)
def test_lasting_refusal_stops_the_execution_unless_it_may_be_retried(
    retries: int,
    arguments: dict[str, Any],
    stops: list[str],
    state: str,
    make_deferred: MakeDeferred,
    world: World,
) -> None:
    """
    The provider's own policy does not retry it. What that of a DAG author says is known
    to the worker only, which then stops what the trigger has left.
    """
    task = make_deferred(retries=retries, **arguments)

    deferral, event = refused(task, world.emulator)

    assert event["outcome"] == "refused"
    assert world.calls(STOP) == stops
    run = task.resume(deferral, event)
    assert isinstance(run.error, exceptions.SageMakerApiError)
    assert (BY_TRIGGERER in str(run.error)) is bool(stops)
    assert (world.calls(STOP) == [STOP]) is (state == "failed")
    assert task.state == state
