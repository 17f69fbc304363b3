"""The surroundings of the tasks, which most tests of operators and triggers have."""

from __future__ import annotations

import threading

import pytest

from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.world import World


@pytest.fixture
def world(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """Return AWS, its clock, and what happens in it."""
    return World(emulator, emulated_time, monkeypatch)


@pytest.fixture
def gate(
    emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch
) -> threading.Event:
    """
    An event; time stands still until it is set, so that all waits can begin before
    that.
    """
    opened = threading.Event()
    timeout = emulated_time.timeout

    def timeout_once_opened(seconds: float | None, *, idle: bool) -> float | None:
        return timeout(seconds, idle=idle) if opened.is_set() else 0.01

    monkeypatch.setattr(emulated_time, "timeout", timeout_once_opened)
    return opened
