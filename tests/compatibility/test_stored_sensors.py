"""
A sensor that an earlier version has deferred is finished by this version.

``stored_by_a61349f.json`` was written by the code of that commit: the row of the
trigger, and the method in which Airflow resumes the task.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization

from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from sagemaker_emulator import EmulatorServer
from tests.sensors.registry import Registry, version
from tests.sensors.sessions import start_execution
from tests.tasks import EmulatedTime, TaskInstance, resume_task

STORED = json.loads(Path(__file__).with_name("stored_by_a61349f.json").read_text())
SENSORS: dict[str, Any] = {
    "approval": PolysyncModelApprovalSensor(
        task_id="wait", model_package_arn=version(1), deferrable=True
    ),
    # The timeout counts from the time in the file, and other tests may have let weeks
    # pass since.
    "search": PolysyncPipelineSensor(
        task_id="wait",
        pipeline_name="fanout",
        deferrable=True,
        timeout=10 * 365 * 24 * 3600,
    ),
}


@pytest.mark.parametrize("name", STORED)
def test_stored_row_is_run_and_resumes_the_task(
    name: str, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    The trigger is made from the row, keeps its arguments, and its event is read by the
    method that was stored.
    """
    registry = Registry(PolysyncSageMakerHook())
    registry.create_group()
    registry.register("Approved")
    emulated_time.after(300, partial(start_execution, Shards="9"))
    path, kwargs = (
        STORED[name]["trigger"]["classpath"],
        STORED[name]["trigger"]["kwargs"],
    )
    # The row is as old as the file; the emulated time is another one.
    arguments = BaseSerialization.deserialize(kwargs) | {
        "deadline": emulated_time.time() + 3600
    }
    sensor, ti = SENSORS[name], TaskInstance("wait")

    run = resume_task(sensor, ti, (path, arguments), STORED[name]["next_method"])

    assert run.error is None
    assert run.result == (
        version(1) if name == "approval" else ti.xcoms["execution_arn"]
    )


@pytest.mark.parametrize("name", STORED)
def test_stored_event_of_a_deleted_connection_is_read(name: str) -> None:
    """
    An earlier version stored no code for it, as for any other error of a connection.
    """
    events: dict[str, Any] = {
        "approval": {
            "outcome": "refused",
            "model_package_arn": version(1),
            "message": "deleted",
        },
        "search": {
            "outcome": "refused",
            "began_at": "2025-06-15T15:06:40Z",
            "message": "deleted",
        },
    }
    sensor = SENSORS[name]

    with pytest.raises(CredentialsError, match="deleted"):
        getattr(sensor, STORED[name]["next_method"])(
            TaskInstance("wait").context(sensor), events[name]
        )
