"""The trigger's pushes of the XCom ``steps``: one at a time, and none after the end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.triggers.step_pusher import StepPusher
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import TaskInstance
from tests.unit.triggers.test_poller import events_of, make_trigger, start_executions
from tests.world import World

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/churn/execution/abc"


class SlowAirflow:
    """
    Lets Airflow store an XCom only when ``gate`` is open. ``stored`` has the status of
    the step in each.
    """

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.called = threading.Event()
        self.stored: list[str] = []

    def put_xcom(self, *arguments: Any) -> None:
        """Store an XCom."""
        self.called.set()
        self.gate.wait(10)
        self.stored.append(arguments[-1][0]["status"])


@pytest.fixture
def airflow(
    simulated_airflow: SimulatedAirflow, monkeypatch: pytest.MonkeyPatch
) -> SlowAirflow:
    """Return the Airflow that the pusher asks."""
    slow = SlowAirflow()
    monkeypatch.setattr(simulated_airflow, "put_xcom", slow.put_xcom)
    return slow


def steps(status: str) -> list[StepDescription]:
    """Return the only step of an execution, as AWS lists it."""
    return [StepDescription.model_validate({"StepName": "Train", "StepStatus": status})]


def test_end_waits_for_the_push_that_runs(airflow: SlowAirflow, world: World) -> None:
    """Otherwise it could overwrite what the worker pushes after the event."""
    (arn,) = start_executions(world.emulator, 1)
    trigger: Any = make_trigger(
        arn, world.time.time(), poll_interval=10.0, progress_interval=10.0
    )
    trigger.task_instance = TaskInstance("train")

    async def run() -> list[Any]:
        wait = asyncio.create_task(events_of(trigger))
        await asyncio.to_thread(airflow.called.wait, 10)
        world.time.sleep(3600)
        # The next poll finds the end.
        await asyncio.wait((wait,), timeout=0.5)
        assert not wait.done()
        airflow.gate.set()
        return await wait

    (event,) = asyncio.run(run())

    assert event["status"] == "Succeeded"
    assert airflow.stored


def test_only_the_last_of_those_that_wait_is_pushed(airflow: SlowAirflow) -> None:
    """While Airflow is slow, the steps change again and again."""

    async def run() -> None:
        pusher = StepPusher(TaskInstance("train"), ARN, print)
        pusher.push(steps("Starting"))
        await asyncio.to_thread(airflow.called.wait, 10)
        for status in ("Executing", "Stopping", "Stopped"):
            pusher.push(steps(status))
        airflow.gate.set()
        await pusher.finish()

    asyncio.run(run())

    assert airflow.stored == ["Starting", "Stopped"]


def test_nothing_is_pushed_after_a_cancellation(airflow: SlowAirflow) -> None:
    """The trigger has moved to another triggerer, which pushes from now on."""

    async def run() -> None:
        pusher = StepPusher(TaskInstance("train"), ARN, print)
        pusher.push(steps("Starting"))
        await asyncio.to_thread(airflow.called.wait, 10)
        pusher.push(steps("Executing"))
        pusher.cancel()
        airflow.gate.set()
        await asyncio.sleep(0.2)

    asyncio.run(run())

    assert airflow.stored == ["Starting"]


def test_the_order_of_the_definition_is_read_once(
    simulated_airflow: SimulatedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Each push has the steps that AWS has not begun, and a wait costs one request for
    them.
    """
    ti = TaskInstance("train")
    reads = []
    pushed = []
    declared = [
        {"name": name, "type": "Training", "state": "NotStarted"}
        for name in ("Prepare", "Train")
    ]

    def read(*_: Any, **__: Any) -> Any:
        reads.append(1)
        return declared

    async def run() -> None:
        pusher = StepPusher(ti, ARN, print)
        for status in ("Executing", "Succeeded"):
            pusher.push(steps(status))
            await pusher.finish()

    monkeypatch.setattr(simulated_airflow, "xcom", read)
    monkeypatch.setattr(
        simulated_airflow, "put_xcom", lambda *arguments: pushed.append(arguments[-1])
    )
    asyncio.run(run())

    rows = [
        [(row["name"], row["state"], row["type"]) for row in value] for value in pushed
    ]
    assert rows == [
        [("Prepare", "NotStarted", "Training"), ("Train", state, "Training")]
        for state in ("Running", "Success")
    ]
    assert len(reads) == 1


def test_error_of_airflow_is_logged_only(
    simulated_airflow: SimulatedAirflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait goes on without the XCom, and the next change is pushed again."""
    warnings: list[str] = []

    def fail(*_: Any) -> None:
        raise ConnectionError("no API server")

    async def run() -> None:
        pusher = StepPusher(TaskInstance("train"), ARN, warnings.append)
        for status in ("Starting", "Stopped"):
            pusher.push(steps(status))
            await pusher.finish()

    monkeypatch.setattr(simulated_airflow, "put_xcom", fail)
    asyncio.run(run())

    text = "Airflow does not store the steps of the execution:"
    assert warnings == [f"{text} ConnectionError: no API server"] * 2
