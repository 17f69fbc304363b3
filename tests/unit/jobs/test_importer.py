"""The number of concurrent calls of an import."""

from __future__ import annotations

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from polysync_airflow.aws import rate_limiter
from polysync_airflow.aws.concurrent_calls import WORKERS
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import concurrent_calls
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.unit.aws.concurrent.recording import threads, wait_until


@pytest.mark.parametrize(
    ("connections", "workers"), [(None, 14), (3, 2), (1, 1), (50, 14)]
)
def test_calls_do_not_need_more_connections_than_the_client_has(
    connections: int | None,
    workers: int,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The Airflow connection's ``max_pool_connections`` limits the threads."""
    extra: dict[str, Any] = {"endpoint_url": emulator.endpoint_url}
    if connections is not None:
        extra["config_kwargs"] = {"max_pool_connections": connections}
    value = connection(conn_type="aws", **extra)
    monkeypatch.setenv("AIRFLOW_CONN_OWN", value)
    monkeypatch.setattr(rate_limiter, "_RATE_LIMITERS", {})
    hook = PolysyncSageMakerHook("own", config=RATE_LIMITED_CONFIG)
    are_queued = Event()

    def describe(_: int) -> None:
        # Until then, each item gets a thread, as long as there may be another one.
        are_queued.wait()
        hook.describe_pipeline("abalone")

    def items() -> Iterator[int]:
        yield from range(3 * workers)
        are_queued.set()

    wait_until(lambda: not threads())
    with concurrent_calls(hook) as concurrent:
        for _ in concurrent.map(describe, items()):
            assert len(threads()) == workers <= WORKERS
            concurrent.call(lambda: next(hook.list_pipelines()))

    assert hook.max_pool_connections == (connections or 32)
