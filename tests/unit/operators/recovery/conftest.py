"""The tasks and the triggerer of the recovery tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes import airflow_service
from tests.unit.operators.recovery.fake_triggerer import FakeSupervisor, start_execution
from tests.unit.operators.recovery.harness import Task
from tests.world import World

MakeTask = Callable[..., Task]
MakeSupervisor = Callable[..., FakeSupervisor]


@pytest.fixture
def make_task(deferrable: bool, world: World) -> MakeTask:
    """A factory of simulated tasks that run in the test's mode and in emulated time."""

    def make(*, retries: int = 2, **arguments: Any) -> Task:
        return Task(deferrable, arguments, retries)

    return make


@pytest.fixture
def make_supervisor(monkeypatch: pytest.MonkeyPatch) -> MakeSupervisor:
    """A factory of fake supervisors, which the triggerer then uses."""

    def make(state: Any) -> FakeSupervisor:
        supervisor = FakeSupervisor(state)
        airflow_service.install(monkeypatch, supervisor)
        return supervisor

    return make


@pytest.fixture
def arn(world: World) -> str:
    """The ARN of a running execution of the task that the fake supervisor knows."""
    return start_execution()
