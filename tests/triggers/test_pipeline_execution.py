"""The trigger: what Airflow stores of it is public, and running it twice harms nothing."""

from __future__ import annotations

import asyncio

from airflow.serialization.serialized_objects import BaseSerialization

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger
from tests.tasks import EmulatedTime, fire, run_task

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
}


def test_what_is_stored_is_stable_and_holds_no_credentials() -> None:
    """Tasks that were deferred by this version must be resumable by the next: path and names are fixed."""
    path, kwargs = PolysyncPipelineExecutionTrigger(**KWARGS).serialize()  # type: ignore[arg-type]

    assert path == "polysync_airflow.triggers.PolysyncPipelineExecutionTrigger"
    assert kwargs == KWARGS
    stored = BaseSerialization.serialize(kwargs)
    assert BaseSerialization.deserialize(stored) == kwargs


def test_two_triggerers_at_once_see_the_same_and_change_nothing(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """During a failover a trigger runs twice: one event each, the same, and no call but looks."""
    arn = run_task(
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", wait_for_completion=False)
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
    assert {call["operation"] for call in emulator.control.calls()} == {"DescribePipelineExecution"}


def test_a_deadline_is_absolute(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """A trigger that moves to another triggerer does not begin its time anew."""
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    arn = run_task(
        PolysyncStartPipelineOperator(task_id="t", pipeline_name="fanout", wait_for_completion=False)
    ).result
    now = emulated_time.time()
    kwargs = {**KWARGS, "execution_arn": arn, "since": now - 3500, "deadline": now + 100}

    event = asyncio.run(fire("polysync_airflow.triggers.PolysyncPipelineExecutionTrigger", kwargs))

    assert event["outcome"] == "timed_out"
    assert sum(emulated_time.slept) == 100
