"""Runs a sensor in each of its modes, as Airflow does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from tests.tasks import EmulatedTime, Run, TaskInstance, run_task

MODES = ("poke", "reschedule", "deferrable")


def arguments_of(mode: str) -> dict[str, Any]:
    """Return the arguments of a sensor that select its mode."""
    return {"deferrable": True} if mode == "deferrable" else {"deferrable": False, "mode": mode}


def run_sensor(
    make: Callable[..., Any],
    mode: str,
    time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
    ti: TaskInstance | None = None,
) -> Run:
    """
    Run a sensor to its end.

    :param make: makes the sensor, with the arguments of its mode. A rescheduled sensor is made anew each time.
    :param ti: the task instance; None for a new one.
    """
    begin, real = time.time(), datetime.now(UTC)

    def first_date(*_: Any, **__: Any) -> datetime | None:
        # The run duration is compared with the host's time, which does not pass.
        passed = time.time() - begin
        return real - timedelta(seconds=passed) if passed else None

    module = import_module("airflow.sdk.bases.sensor" if CAPABILITIES.task_sdk else "airflow.sensors.base")
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=time.sleep, monotonic=time.monotonic))
    monkeypatch.setattr(TaskInstance, "get_first_reschedule_date", first_date, raising=False)
    if not CAPABILITIES.task_sdk:
        monkeypatch.setattr(module, "_orig_start_date", first_date)
        monkeypatch.setattr(module, "_is_metadatabase_mysql", lambda: False)
    sensor = make(**arguments_of(mode))
    run = run_task(sensor, ti)
    while _is_reschedule(run.error):
        assert mode == "reschedule"
        time.sleep(sensor.poke_interval)
        # Airflow clears the XComs before each session that does not resume a deferred task.
        run.ti.xcoms.clear()
        run = run_task(make(**arguments_of(mode)), run.ti)
    return run


def _is_reschedule(error: BaseException | None) -> bool:
    return isinstance(error, AirflowException) and type(error).__name__ == "AirflowRescheduleException"
