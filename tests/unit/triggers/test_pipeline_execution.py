"""
The trigger: what Airflow stores of it is stable, and it may run twice at the same time.
"""

from __future__ import annotations

import asyncio

from airflow.serialization.serialized_objects import BaseSerialization

from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger
from tests.tasks import fire, run_task
from tests.world import World

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


def test_two_triggerers_get_the_same_event_and_only_poll(world: World) -> None:
    """
    During a failover a trigger runs twice: both fire the same event, and make no calls
    that change something.
    """
    arn = run_task(
        PolysyncStartPipelineOperator(
            task_id="t", pipeline_name="fanout", wait_for_completion=False
        )
    ).result
    world.control.clear_calls()
    now = world.time.time()
    path, kwargs = PolysyncPipelineExecutionTrigger(
        **{**KWARGS, "execution_arn": arn, "since": now, "deadline": now + 3600}
    ).serialize()

    async def both() -> list[object]:
        return list(await asyncio.gather(fire(path, kwargs), fire(path, kwargs)))

    first, second = asyncio.run(both())

    assert first == second
    operations = {call["operation"] for call in world.control.calls()}
    assert operations == {"DescribePipelineExecution", "ListPipelineExecutionSteps"}
