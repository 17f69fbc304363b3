"""
One DAG for each test case of a task group of steps. The scenarios create the pipeline
from the same file.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from tests.chaos.kill_points import kill_at_call

START = "StartPipelineExecution"
RETRIED: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(seconds=2)}
DEFAULTS: dict[str, Any] = {
    "definition": "step_group.json",
    "poll_interval": 2,
    "retries": 0,
}
PARALLEL: dict[str, Any] = {"definition": "parallel_steps.json"}

# The arguments of the group, by test case. A kill point is one of the task that starts
# the execution.
CASES: dict[str, dict[str, Any]] = {
    "51a": {},
    "51b": {},
    "51c": {},
    "52a": {},
    "52b": {},
    "52c": {},
    "52d": {},
    "53a": {},
    "53b": {},
    "53c": {},
    "53d": {},
    "53e": {},
    "53f": PARALLEL,
    "53g": PARALLEL,
    "54a": {"pre_execute": kill_at_call(START, after_response=False), **RETRIED},
    "54b": {"pre_execute": kill_at_call(START, after_response=True), **RETRIED},
}

for case, options in CASES.items():
    with DAG(dag_id=f"polysync_{case}", schedule=None):
        PolysyncPipelineTaskGroup(
            "steps",
            pipeline_name="{{ dag_run.conf['pipeline'] }}",
            **{**DEFAULTS, **options},
        )
