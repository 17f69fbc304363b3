"""The model registry of the sensors' tests."""

from __future__ import annotations

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.tasks import EmulatedTime
from tests.unit.sensors.registry import Registry
from tests.unit.sensors.sessions import airflow_time  # noqa: F401 # fixture


@pytest.fixture
def registry(emulated_time: EmulatedTime) -> Registry:
    """Return a registry with the group, which has no version yet."""
    registry = Registry(PolysyncSageMakerHook())
    registry.create_group()
    return registry
