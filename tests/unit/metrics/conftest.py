"""Fixtures of the metrics' tests: servers that receive them."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest

from polysync_airflow import metrics as sending
from tests.fakes.metrics import HOST, StatsdServer, metrics_to


@pytest.fixture(autouse=True)
def _no_errors_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test see the first error of its own."""
    monkeypatch.setattr(sending, "_logged", set())


# The threads of pollers.
POLLERS = ("polysync-poll", "polysync-search", "polysync-approval")


@pytest.fixture(autouse=True)
def _no_poller_of_another_test() -> None:
    """
    Wait until earlier pollers have ended: they would report their calls to this test's
    server.

    That of approvals ends when nothing refers to it any more.
    """
    deadline = time.monotonic() + 60
    while left := [
        each.name for each in threading.enumerate() if each.name.startswith(POLLERS)
    ]:
        assert time.monotonic() < deadline, left
        gc.collect()
        time.sleep(0.01)


@pytest.fixture
def server() -> Iterator[StatsdServer]:
    """A StatsD server to which nothing is sent yet."""
    pytest.importorskip(
        "statsd", reason="the environments of make matrix have no client of StatsD"
    )
    with StatsdServer() as running:
        yield running


@pytest.fixture
def statsd(
    server: StatsdServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[StatsdServer]:
    """A StatsD server that gets the metrics of this process, with tags."""
    options = {"statsd_on": True, "statsd_host": HOST, "statsd_port": server.port}
    with metrics_to(monkeypatch, **options, statsd_influxdb_enabled=True):
        yield server
