"""The trigger that waits for the approval of a model package."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from polysync_airflow.triggers import PolysyncModelApprovalTrigger, poller
from tests.tasks import EmulatedTime, fire
from tests.unit.sensors.registry import Registry
from tests.unit.triggers.test_poller import all_events
from tests.world import World

ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"


def arguments(time: EmulatedTime, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a stored trigger."""
    return {
        "model_package_arn": ARN,
        "polysync_conn_id": "polysync_default",
        "region_name": "us-east-1",
        "poll_interval": 60.0,
        "since": time.time(),
        "deadline": time.time() + 3600,
        **changes,
    }


PATH = "polysync_airflow.triggers.PolysyncModelApprovalTrigger"


def test_late_trigger_looks_once_more(world: World, registry: Registry) -> None:
    """
    A model that was approved while no triggerer ran counts as approved, after the
    deadline, too.
    """
    registry.register("Approved")
    late = arguments(
        world.time, since=world.time.time() - 7200, deadline=world.time.time() - 3600
    )

    event = asyncio.run(fire(PATH, late))

    assert (event["outcome"], event["model_package_arn"]) == ("approved", ARN)
    assert world.time.slept[:1] == [5.0]


def test_triggers_share_calls_and_leave_nothing(
    world: World, registry: Registry, gate: threading.Event
) -> None:
    """
    Any number of waits with a connection and region has one poller, and those for the
    same version one call.
    """
    arns = 2 * [registry.register("Rejected") for _ in range(10)]
    stored = [arguments(world.time, model_package_arn=arn) for arn in arns]

    events = all_events([PolysyncModelApprovalTrigger(**each) for each in stored], gate)

    assert {(event["outcome"], event["model_package_arn"]) for (event,) in events} == {
        ("rejected", arn) for arn in arns
    }
    assert len(world.control.calls("DescribeModelPackage")) == 10
    assert poller._POLLERS == {}
