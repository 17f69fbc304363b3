"""Owns the lane that its tests use: to the emulator, at a pace that nothing reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from polysync_airflow.aws import concurrent_calls
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.aws.concurrent.calls import WORKERS


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pause before a repeat short."""
    monkeypatch.setattr(concurrent_calls, "MIN_BACKOFF_SECONDS", 0.01)


@pytest.fixture
def pace() -> RateLimiter:
    """A pace that nothing here reaches."""
    return RateLimiter(time.monotonic(), rate=100_000)


@pytest.fixture
def open_lane(emulator: EmulatorServer, pace: RateLimiter) -> Callable[..., ConcurrentCalls]:
    """Return a lane to the emulator."""
    hook = PolysyncSageMakerHook(config=RATE_LIMITED_CONFIG)
    return lambda **settings: ConcurrentCalls(hook, pace, **{"workers": WORKERS, **settings})
