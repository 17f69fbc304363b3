"""Metrics of a real Airflow: they leave the processes of tasks and of the triggerer."""

from __future__ import annotations

import pytest

from tests.fakes.metrics import StatsdServer
from tests.system.airflow.private_airflow import PrivateAirflow

pytestmark = [pytest.mark.system, pytest.mark.nightly]
DAG_ID = "measured"
PLACE = {"connection": "polysync_default", "region": "us-east-1"}


def test_metrics_leave_tasks_and_triggerer(
    airflow: PrivateAirflow, statsd: StatsdServer
) -> None:
    """
    Airflow's Stats work in both kinds of processes; the counters agree with what the
    tasks have done.
    """
    client = airflow.client
    client.wait_for_dag(DAG_ID)
    before = statsd.total("polysync.executions.started", **PLACE)
    ended = statsd.total("polysync.executions.ended", state="Success", **PLACE)
    run_id = client.trigger(DAG_ID)
    client.unpause(DAG_ID)
    assert client.wait_for_run(DAG_ID, run_id, timeout=120) == "success"

    statsd.wait_for(
        lambda: statsd.total("polysync.executions.started", **PLACE) == before + 2
    )
    statsd.wait_for(
        lambda: (
            statsd.total("polysync.executions.ended", state="Success", **PLACE)
            == ended + 2
        )
    )
    triggerer = {"poller": "executions", **PLACE}
    statsd.wait_for(
        lambda: (
            statsd.total(
                "polysync.calls", operation="DescribePipelineExecution", **triggerer
            )
            >= 1
        )
    )

    def waits() -> list[float]:
        series = statsd.gauges["polysync.waits"].items()
        return [
            value
            for tags, values in series
            if set(triggerer.items()) <= set(tags)
            for value in values
        ]

    statsd.wait_for(lambda: bool(waits()) and waits()[-1] == 0)
    assert not [line for line in statsd.unreadable if "polysync" in line]
