"""Owns what recovery tests share: both modes, the wire, the ledger, and one task."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.loaders import JSONFileLoader

from polysync_airflow.emulator import EmulatorServer
from tests.operators.recovery.histories import Ledger, Task, Wire
from tests.tasks import EmulatedTime

MakeTask = Callable[..., Task]


@pytest.fixture(autouse=True, scope="package")
def _sign_in_quickly() -> Iterator[None]:
    """Every try signs in anew: botocore would read megabytes of JSON, and the hook every frame's source."""
    with pytest.MonkeyPatch.context() as patch:
        load = cache(JSONFileLoader().load_file)
        patch.setattr(JSONFileLoader, "load_file", lambda _, path: load(path))
        patch.setattr(AwsBaseHook, "_get_caller", lambda *_: "Unknown")  # of the user agent
        yield


@pytest.fixture(params=[False, True], ids=["here", "deferred"])
def deferrable(request: pytest.FixtureRequest) -> bool:
    """Each test runs in both modes: the wait on a worker, and the wait in the triggerer."""
    return bool(request.param)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """Where requests can be looked at, and processes can die."""
    return Wire(monkeypatch)


@pytest.fixture
def ledger(emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Which executions ran when."""
    return Ledger(emulator, monkeypatch)


@pytest.fixture
def make_task(deferrable: bool, emulated_time: EmulatedTime) -> MakeTask:
    """Make a task in the test's mode, in emulated time."""

    def make(*, retries: int = 2, **arguments: Any) -> Task:
        return Task(deferrable, arguments, retries)

    return make
