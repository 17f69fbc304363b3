"""The number of concurrent calls of an import."""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.aws import rate_limiter
from polysync_airflow.aws.concurrent_calls import WORKERS
from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.importer import concurrent_calls
from sagemaker_emulator import EmulatorServer
from tests.conftest import connection
from tests.unit.aws.concurrent.recording import Calls


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
    emulator.control.add_fault("latency", "DescribePipeline", delay=0.1)
    hook = PolysyncSageMakerHook("own", config=RATE_LIMITED_CONFIG)
    calls = Calls(lambda item: hook.describe_pipeline("abalone"))

    with concurrent_calls(hook) as concurrent:
        for _ in concurrent.map(calls, range(3 * workers)):
            concurrent.call(lambda: next(hook.list_pipelines()))

    assert calls.most_at_once == workers <= WORKERS
    assert len(calls.begun) == 3 * workers
    assert hook.max_pool_connections == (connections or 32)
