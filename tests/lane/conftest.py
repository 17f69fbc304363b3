"""Owns the lane that its tests use: to the emulator, at a pace that nothing reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from polysync_airflow import lane as room
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.lane import Lane
from polysync_airflow.pacing import Pace
from polysync_airflow.sessions import PACED
from tests.lane.calls import WORKERS


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pause before a repeat short."""
    monkeypatch.setattr(room, "SHORTEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def pace() -> Pace:
    """A pace that nothing here reaches."""
    return Pace(time.monotonic(), rate=100_000)


@pytest.fixture
def open_lane(emulator: EmulatorServer, pace: Pace) -> Callable[..., Lane]:
    """Return a lane to the emulator."""
    hook = PolysyncSageMakerHook(config=PACED)
    return lambda **settings: Lane(hook, pace, **{"workers": WORKERS, **settings})
