"""One DAG for each case of `tests/exhaustion`, with the number of the case."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.operators import PolysyncStartPipelineOperator
from tests.chaos.kill_points import record_process

ON_WORKER: dict[str, Any] = {"pre_execute": record_process(), "deferrable": False}
HALF_AN_HOUR: dict[str, Any] = {"timeout": 1800}
# A try that cannot write its log fails. Retries that follow at once are used up.
AFTER_OUTAGE = timedelta(seconds=75)
CASES: dict[str, dict[str, Any]] = {
    "1a": {"retry_delay": AFTER_OUTAGE},
    "1b": ON_WORKER,
    "1c": {"retries": 0},
    "1d": {**ON_WORKER, "retries": 0},
    "1e": {"retry_delay": AFTER_OUTAGE},
    "1f": ON_WORKER,
    "2a": {},
    "2b": ON_WORKER,
    "2c": {},
    "2d": ON_WORKER,
    "2e": {},
    "2f": ON_WORKER,
    "3a": {},
    "3b": {"polysync_conn_id": "exhaustion_other"},
    "4": {**ON_WORKER, "retries": 5},
    "5a": HALF_AN_HOUR,
    "5b": HALF_AN_HOUR,
    "5c": ON_WORKER | HALF_AN_HOUR,
    "5d": ON_WORKER | HALF_AN_HOUR,
    "6a": {"polysync_conn_id": "exhaustion_named"},
    "6b": {"polysync_conn_id": "exhaustion_named", **ON_WORKER},
    "6c": {"polysync_conn_id": "exhaustion_named"},
    "7a": {"polysync_conn_id": "exhaustion_proxied"},
    "7b": {"polysync_conn_id": "exhaustion_proxied", **ON_WORKER},
    "7c": {"polysync_conn_id": "exhaustion_proxied"},
    "8": {"polysync_conn_id": "exhaustion_untrusted", "retries": 1},
    "9a": {"polysync_conn_id": "exhaustion_sts"},
    "9b": {"polysync_conn_id": "exhaustion_sts", **ON_WORKER},
}
COMMON: dict[str, Any] = {
    "task_id": "start",
    "pipeline_name": "{{ dag_run.conf['pipeline'] }}",
    "deferrable": True,
    "poll_interval": 2,
    "retries": 2,
    "retry_delay": timedelta(seconds=2),
}
for number, arguments in CASES.items():
    with DAG(dag_id=f"exhaustion_{number}", schedule=None):
        PolysyncStartPipelineOperator(**{**COMMON, **arguments})
