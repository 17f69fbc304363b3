"""
Runs sensors in tests as Airflow does in each mode, and starts the executions for which
they wait.
"""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import BaseSensorOperator

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import AirflowRescheduleException
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.sensors import PolysyncPipelineSensor
from tests.tasks import EmulatedTime, Run, TaskInstance, run_task
from tests.unit.sensors.triggerer import run_from_trigger

MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "deferrable": {"deferrable": True},
}
if CAPABILITIES.start_from_trigger:
    MODES["triggerer"] = {"start_from_trigger": True}
HOUR = 3600.0


@pytest.fixture
def airflow_time(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> EmulatedTime:
    """Let Airflow's own waits of sensors take no time, as those of the provider."""
    module: Any = import_module(BaseSensorOperator.__module__)
    host = SimpleNamespace(sleep=emulated_time.sleep, monotonic=emulated_time.monotonic)
    utcnow = SimpleNamespace(utcnow=lambda: at(emulated_time.time()))
    monkeypatch.setattr(module, "time", host)
    monkeypatch.setattr(module, "timezone", utcnow)
    if not CAPABILITIES.task_sdk:
        monkeypatch.setattr(module, "_orig_start_date", _first_session)
    return emulated_time


_SESSIONS: list[datetime | None] = [None]


def _first_session(*_: Any, **__: Any) -> datetime | None:
    return _SESSIONS[0]


def at(seconds: float) -> datetime:
    """Return a time as Unix time as a datetime."""
    return datetime.fromtimestamp(seconds, UTC)


def make_sensor(mode: str, **arguments: Any) -> PolysyncPipelineSensor:
    """Return a sensor in one of ``MODES``."""
    return PolysyncPipelineSensor(
        **{"task_id": "wait", "poke_interval": 60, **MODES[mode], **arguments}
    )


def run_sensor(
    sensor: BaseSensorOperator, ti: TaskInstance | None = None, *, most: int = 300
) -> Run:
    """
    Run a sensor to its end, with all sessions into which Airflow reschedules it.

    :param most: the number of sessions after which the test fails.
    """
    from polysync_airflow.execution import clock

    ti = ti or TaskInstance(sensor.task_id)
    if getattr(sensor, "start_from_trigger", False):
        return run_from_trigger(sensor, ti)
    _SESSIONS[0] = ti.first_session
    for _ in range(most):
        session = copy(sensor)
        began_at = clock.now()
        run = run_task(session, ti)
        if not isinstance(run.error, AirflowRescheduleException):
            return run
        ti.first_session = _SESSIONS[0] = ti.first_session or began_at
        clock.sleep(max(0.0, run.error.reschedule_date.timestamp() - clock.time()))
        # Airflow deletes the XComs when a session begins that does not continue a
        # deferral.
        ti.xcoms.clear()
    raise AssertionError(f"the sensor has not ended after {most} sessions")


def start_execution(
    pipeline: str = "fanout",
    name: str | None = None,
    role: str | None = None,
    **parameters: str,
) -> str:
    """Start an execution as somebody else does, and return its ARN."""
    client: Any = PolysyncSageMakerHook().conn
    optional = {"PipelineExecutionDisplayName": name} if name else {}
    optional |= {"RoleArn": role} if role else {}
    values = [{"Name": key, "Value": value} for key, value in parameters.items()]
    response = client.start_pipeline_execution(
        PipelineName=pipeline, PipelineParameters=values, **optional
    )
    return str(response["PipelineExecutionArn"])


def stop_execution(arn: str) -> None:
    """Stop an execution as somebody else does."""
    PolysyncSageMakerHook().stop_pipeline_execution(arn)
