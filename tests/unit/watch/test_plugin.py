"""In which processes the plugin of the watch registers its listener."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.watch.plugin import PolysyncWatchPlugin

NEEDS_CALLBACKS = pytest.mark.skipif(
    not CAPABILITIES.triggerer_callbacks,
    reason="this Airflow tells no listener of ends",
)
SCHEDULER = "airflow.jobs.scheduler_job_runner"
API_SERVER = "airflow.api_fastapi.main"


def test_airflow_loads_the_plugin() -> None:
    """The entry point names the plugin."""
    (entry_point,) = entry_points(group="airflow.plugins", name="polysync_watch")

    assert entry_point.load() is PolysyncWatchPlugin


@NEEDS_CALLBACKS
@pytest.mark.parametrize("module", [SCHEDULER, API_SERVER])
def test_scheduler_and_api_server_have_a_listener(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    """By what they have imported. The tasks that a scheduler forks have none."""
    for other in (SCHEDULER, API_SERVER):
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    forks: list[Any] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **at: forks.append(at))

    names = [type(each).__name__ for each in PolysyncWatchPlugin().listeners]

    assert names == ["EndListener"]
    assert len(forks) == (module == SCHEDULER)


def test_other_processes_have_no_listener(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Where Airflow parses a DAG file, it refuses tasks with ``end_from_trigger=True`` if
    there is a listener.
    """
    for module in (SCHEDULER, API_SERVER):
        monkeypatch.delitem(sys.modules, module, raising=False)

    assert PolysyncWatchPlugin().listeners == []


@NEEDS_CALLBACKS
def test_interface_that_has_changed_is_logged_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so once, with what to do, and Airflow starts."""
    monkeypatch.setitem(sys.modules, API_SERVER, ModuleType(API_SERVER))
    monkeypatch.setitem(sys.modules, "polysync_airflow.watch.listeners", None)
    plugin = PolysyncWatchPlugin()

    with caplog.at_level(logging.WARNING):
        assert plugin.listeners == plugin.listeners == []

    (line,) = caplog.messages
    assert "polysync records --stop-orphans" in line
