"""
Fixtures: ``ConcurrentCalls`` with a rate limit that no test reaches, and with short
backoff.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from polysync_airflow.aws import retry
from polysync_airflow.aws.concurrent_calls import ConcurrentCalls
from polysync_airflow.aws.rate_limiter import RateLimiter
from tests.unit.aws.concurrent.recording import WORKERS


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the backoff before a retry short."""
    monkeypatch.setattr(retry, "MIN_BACKOFF_SECONDS", 0.01)


@pytest.fixture
def limiter() -> RateLimiter:
    """A rate limiter whose limit no test reaches."""
    return RateLimiter(time.monotonic(), rate=100_000)


@pytest.fixture
def warnings() -> list[str]:
    """The messages about transient errors."""
    return []


@pytest.fixture
def open_calls(
    limiter: RateLimiter, warnings: list[str]
) -> Callable[..., ConcurrentCalls]:
    """
    Return a function that makes a ``ConcurrentCalls``; its arguments are settings.
    """
    return lambda **settings: ConcurrentCalls(
        limiter, warnings.append, **{"workers": WORKERS, **settings}
    )
