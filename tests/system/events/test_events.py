"""
A DAG starts soon after an execution has ended, and a killed triggerer loses no event.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from tests.system.events.measurement import (
    EXAMPLE,
    EXAMPLE_QUEUE,
    TIMEOUT,
    Deployment,
    deployed,
    kill_between_receive_and_store,
    measure,
)
from tests.system.process.sessions import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.nightly,
    pytest.mark.skipif(
        not CAPABILITIES.shared_event_streams,
        reason="this version of Airflow has no shared streams",
    ),
]
MAX_SECONDS = 5.0


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """An Airflow of its own, whose scheduler creates runs by itself."""
    with deployed(tmp_path_factory.mktemp("events")) as running:
        yield running


def test_a_dag_starts_soon(deployment: Deployment) -> None:
    """
    Each execution that ends makes one asset event, and a DAG run starts within seconds.
    """
    reactions = measure(deployment, 10)

    assert len(reactions) == 10
    assert max(reaction.started for reaction in reactions) <= MAX_SECONDS


@pytest.mark.nightly
def test_a_killed_triggerer_loses_nothing(deployment: Deployment) -> None:
    """Killed between receive and store with 20 events: 20 asset events, each once."""
    stored = kill_between_receive_and_store(deployment, 20)

    assert len(stored) == len(set(stored)) == 20


@pytest.mark.nightly
def test_the_example_reacts(deployment: Deployment) -> None:
    """
    The example DAG runs when a pipeline that somebody else has started ends, and knows
    its execution.
    """
    client = deployment.airflow.client
    client.wait_for_dag(EXAMPLE)
    client.unpause(EXAMPLE)
    deployment.wait_for_reader(EXAMPLE_QUEUE)
    arn = deployment.start_execution("churn-tuning")

    def runs() -> list[str]:
        return client.dag_runs(EXAMPLE)

    assert wait_until(lambda: bool(runs()), timeout=TIMEOUT, interval=1)
    (run_id,) = runs()
    assert client.wait_for_run(EXAMPLE, run_id, timeout=TIMEOUT) == "success"
    assert client.xcom(EXAMPLE, run_id, "report", "return_value") == [
        f"churn-tuning: Success ({arn})"
    ]
