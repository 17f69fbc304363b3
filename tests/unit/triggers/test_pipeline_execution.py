"""
The trigger: what Airflow stores of it is stable, and it may run twice at the same time.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger
from sagemaker_emulator import EmulatorServer
from tests.fakes.simulated_airflow import SimulatedAirflow
from tests.tasks import EmulatedTime, TaskInstance, fire, run_task
from tests.unit.triggers.test_poller import make_trigger, start_executions

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
KWARGS = {
    "execution_arn": ARN,
    "pipeline_name": "fanout",
    "polysync_conn_id": "polysync_default",
    "region_name": None,
    "poll_interval": 30.0,
    "since": 1_750_000_000.0,
    "deadline": 1_750_003_600.0,
    "attempt": 1,
    "stop_on_kill": True,
    "stop_at": ["timed_out"],
    "progress_interval": 60.0,
    "declared_steps": None,
    "step_task_ids": None,
}


def test_stored_trigger_is_stable_and_has_no_credentials() -> None:
    """
    The class path and the names of the arguments are fixed, so that later versions can
    resume the task.
    """
    path, kwargs = PolysyncPipelineExecutionTrigger(**KWARGS).serialize()  # type: ignore[arg-type]

    assert path == "polysync_airflow.triggers.PolysyncPipelineExecutionTrigger"
    assert kwargs == KWARGS
    stored = BaseSerialization.serialize(kwargs)
    assert BaseSerialization.deserialize(stored) == kwargs


def test_two_triggerers_get_the_same_event_and_only_poll(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    During a failover a trigger runs twice: both fire the same event, and make no calls
    that change something.
    """
    arn = run_task(
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="fanout", wait_for_completion=False
        )
    ).result
    emulator.control.clear_calls()
    now = emulated_time.time()
    path, kwargs = PolysyncPipelineExecutionTrigger(
        **{**KWARGS, "execution_arn": arn, "since": now, "deadline": now + 3600}
    ).serialize()

    async def both() -> list[object]:
        return list(await asyncio.gather(fire(path, kwargs), fire(path, kwargs)))

    first, second = asyncio.run(both())

    assert first == second
    operations = {call["operation"] for call in emulator.control.calls()}
    assert operations == {"DescribePipelineExecution", "ListPipelineExecutionSteps"}


def test_deadline_is_absolute(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """A trigger that moves to another triggerer keeps its deadline."""
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    arn = run_task(
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="fanout", wait_for_completion=False
        )
    ).result
    now = emulated_time.time()
    kwargs = {
        **KWARGS,
        "execution_arn": arn,
        "since": now - 3500,
        "deadline": now + 100,
    }

    event = asyncio.run(
        fire("polysync_airflow.triggers.PolysyncPipelineExecutionTrigger", kwargs)
    )

    assert event["outcome"] == "timed_out"
    assert sum(emulated_time.slept) == 100


def test_event_is_fired_after_the_push_that_runs(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    simulated_airflow: SimulatedAirflow,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    What the worker pushes at the end must not be overwritten by what the trigger has
    pushed before.
    """
    running, pushed = list[str](), list[str]()

    def put_slowly(*arguments: Any) -> None:
        running.append("push")
        time.sleep(0.3)
        running.pop()
        pushed.append("push")

    monkeypatch.setattr(simulated_airflow, "put_xcom", put_slowly)
    (arn,) = start_executions(emulator, 1)
    now = emulated_time.time()
    trigger: Any = make_trigger(arn, now, poll_interval=10.0, progress_interval=10.0)
    trigger.task_instance = TaskInstance("t")

    async def running_at_the_end() -> list[str]:
        async for _ in trigger.run():
            return list(running)
        raise AssertionError("the trigger has fired no event")

    assert asyncio.run(running_at_the_end()) == []
    assert pushed
