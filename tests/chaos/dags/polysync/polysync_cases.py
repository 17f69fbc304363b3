"""One DAG for each test case, with the operators of this provider."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.common.compat.sdk import DAG, Asset, BaseOperator
from airflow.providers.common.compat.standard.triggers import TimeDeltaTrigger

from polysync_airflow.execution.lifecycle import ending
from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncStartPipelineOperator,
)
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from tests.chaos import markers
from tests.chaos.deployment.kubernetes import BARE_POD_TEMPLATE
from tests.chaos.kill_points import (
    announce_call,
    hang_after_call,
    hang_at_deferral,
    kill_at_begin,
    kill_at_call,
    kill_at_deferral,
    record_process,
)

START = "StartPipelineExecution"
ANSWER = "SendPipelineExecutionStepSuccess"
BEFORE_START = kill_at_call(START, after_response=False)
AFTER_START = kill_at_call(START, after_response=True)
AFTER_FIRST_POLL = kill_at_call("DescribePipelineExecution", after_response=True)
PIPELINE = "{{ dag_run.conf['pipeline'] }}"

# The task waits in its worker, and records its processes.
SYNCHRONOUS: dict[str, Any] = {"pre_execute": record_process(), "deferrable": False}


class TakeSlot(BaseOperator):
    """Takes a slot of a triggerer for an hour."""

    def execute(self, context: Any) -> None:
        self.defer(
            trigger=TimeDeltaTrigger(timedelta(hours=1)), method_name="execute_complete"
        )


def shorten_grace(_: Any) -> None:
    """Let Airflow return the task to a worker a minute after its deadline."""
    vars(ending)["TRIGGER_GRACE_SECONDS"] = 60.0


# The operator's arguments, by test case.
CASES: dict[str, dict[str, Any]] = {
    "1": {"pre_execute": BEFORE_START},
    "2": {"pre_execute": AFTER_START},
    "3a": {},
    "3b": {},
    "4": {"pre_execute": kill_at_deferral()},
    "5": SYNCHRONOUS,
    "6a": {},
    "6b": {},
    "7": {},
    "8a": {},
    "8b": {},
    "8c": {},
    "8d": {},
    "9a": {"execution_timeout": timedelta(seconds=60), "retries": 0},
    "9b": {
        "execution_timeout": timedelta(seconds=60),
        "retries": 0,
        "deferrable": False,
    },
    "9c": {},
    "9d": {"execution_timeout": timedelta(seconds=90), "retries": 0},
    "10": {"retry_mode": "resume"},
    "11": {"retry_mode": "new"},
    "12": {
        "pre_execute": AFTER_START,
        "pipeline_parameters": {"Value": "try-{{ ti.try_number }}"},
    },
    "15a": {**SYNCHRONOUS, "retries": 0},
    "15b": {"pre_execute": AFTER_START, "retries": 0},
    "16a": {**SYNCHRONOUS, "retries": 0},
    "17a": {},
    "17b": {"deferrable": False},
    "17c": {"deferrable": False},
    "18a": {**SYNCHRONOUS, "pre_execute": announce_call(START)},
    "18b": {**SYNCHRONOUS, "pre_execute": hang_after_call(START)},
    "19a": SYNCHRONOUS,
    "19b": {**SYNCHRONOUS, "retries": 0},
    "20a": SYNCHRONOUS,
    "20b": SYNCHRONOUS,
    "21a": {**SYNCHRONOUS, "pre_execute": announce_call(START)},
    "21b": {"pre_execute": announce_call(START)},
    "21c": SYNCHRONOUS,
    "22a": SYNCHRONOUS,
    "22b": SYNCHRONOUS,
    "22c": SYNCHRONOUS,
    "23a": {},
    "23b": SYNCHRONOUS,
    "24": SYNCHRONOUS,
    "25a": {},
    "25b": SYNCHRONOUS,
    "26": {},
    "28a": {"retries": 0, "on_clear": "resume"},
    "28b": {
        "pre_execute": kill_at_call(
            "RetryPipelineExecution", after_response=True, try_number=3
        ),
        "retries": 1,
        "retry_mode": "resume",
        "on_clear": "resume",
    },
    "42a": {"pre_execute": kill_at_deferral(), "retries": 0},
    "42b": {"pre_execute": AFTER_FIRST_POLL, "deferrable": False, "retries": 0},
    "42c": {"stop_on_kill": False, "retries": 0},
    "42d": {"stop_on_kill": False, "retries": 0, "deferrable": False},
    "43a": {},
    "43b": {},
    "43c": {"deferrable": False},
    # Each run has a connection of its own.
    "45a": {"polysync_conn_id": PIPELINE, "retry_delay": timedelta(seconds=20)},
    "45b": {"polysync_conn_id": PIPELINE, "retries": 1},
    "46a": {},
    "46b": {"deferrable": False},
    "46c": {"pre_execute": kill_at_begin()},
    "46d": {"pre_execute": kill_at_begin(), "deferrable": False},
    "56": {},
    "48a": {"polysync_conn_id": PIPELINE, "deferrable": False},
    "48b": {"polysync_conn_id": PIPELINE, "retries": 0},
    "49a": {"wait_for_completion": False},
    "49b": {"wait_for_completion": False, "deferrable": False},
    "65": {"retries": 0},
    "50a": {},
    "50b": {"pre_execute": AFTER_START, "retry_delay": timedelta(seconds=120)},
    "50c": {},
}
# Half of them wait on a worker. Some are acted upon in a pause of 30 to 50 seconds.
for number in "abcdefghijk":
    CASES[f"61{number}"] = {"wait_for_capacity": True}
    if number in "bdegik":
        CASES[f"61{number}"] |= SYNCHRONOUS
    if number in "efghi":
        CASES[f"61{number}"] |= {"poll_interval": 40}
    if number in "jk":
        CASES[f"61{number}"] |= {"timeout": 30, "retries": 0}
# Each execution costs 1 USD a second.
CASES["62a"] = {"max_cost": 40, "progress_interval": 10}
CASES["62b"] = CASES["62a"]
CASES["62c"] = CASES["62a"] | SYNCHRONOUS
# No triggerer has a free slot. Airflow returns them to a worker long after their
# deadline, which here is sooner.
CASES["63a"] = {}
CASES["63b"] = {"timeout": 30, "retries": 0, "pre_execute": shorten_grace}
CASES["63c"] = {**CASES["62a"], **CASES["63b"], "timeout": 60}
# They end before their retry.
for number in ("60a", "60b", "60c", "60d", "60e", "60f", "60g"):
    CASES[number] = {**SYNCHRONOUS, "retry_delay": timedelta(seconds=600)}
CASES["60h"] = {"pre_execute": kill_at_deferral(), "retries": 0}
BARE_POD = {"pod_template_file": str(BARE_POD_TEMPLATE)}
# The cases in a pod with and without an entry point.
POD_CASES: dict[str, dict[str, Any]] = {
    "30": SYNCHRONOUS,
    "31": {**SYNCHRONOUS, "retries": 0},
    "32": {**SYNCHRONOUS, "pre_execute": announce_call(START)},
    "33": {"pre_execute": hang_at_deferral(8)},
    "34": {"pre_execute": hang_at_deferral(90)},
    "35": {"pre_execute": hang_at_deferral(90), "retries": 0},
}
for number, options in POD_CASES.items():
    CASES |= {
        f"{number}a": options,
        f"{number}b": {**options, "executor_config": BARE_POD},
    }
for number, options in {
    "36a": {},
    "36b": {"retries": 0},
    "37a": {},
    "37b": {"retries": 0},
}.items():
    CASES[number] = {**SYNCHRONOUS, **options}
CASES |= {
    "36c": CASES["36a"],
    "36d": CASES["36b"],
    "29": {},
    "39a": {},
    "39b": SYNCHRONOUS,
    "39c": SYNCHRONOUS,
}
# The number of mapped tasks and their arguments, by test case.
MAPPED_TASKS: dict[str, tuple[int, dict[str, Any]]] = {
    "13": (50, {}),
    "14": (20, {}),
    "16b": (1, CASES["16a"]),
    "27": (50, {}),
    "38": (20, {}),
}
DAGRUN_TIMEOUT = {"9c": timedelta(seconds=90), "60c": timedelta(seconds=180)}

COMMON: dict[str, Any] = {
    "task_id": "start",
    "pipeline_name": PIPELINE,
    "deferrable": True,
    "poll_interval": 2,
    "retries": 2,
    "retry_delay": timedelta(seconds=2),
}

with DAG(dag_id="polysync_slot", schedule=None):
    TakeSlot(task_id="take_slot")

for case, options in CASES.items():
    with DAG(
        dag_id=f"polysync_{case}",
        schedule=None,
        dagrun_timeout=DAGRUN_TIMEOUT.get(case),
    ):
        PolysyncStartPipelineOperator(**{**COMMON, **options})

# The event that starts a DAG run names the pipeline. Airflow 2 calls assets datasets.
EVENTS = "(triggering_asset_events or triggering_dataset_events).values()"
# Airflow 2 wants a start from each DAG with a schedule.
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
with DAG(dag_id="polysync_47", schedule=[Asset("polysync_47")], start_date=BEGIN):
    PolysyncStartPipelineOperator.partial(
        **{
            **COMMON,
            "pipeline_name": f"{{{{ ({EVENTS} | first | first).extra.pipeline }}}}",
        },
        max_active_tis_per_dag=16,
    ).expand(pipeline_parameters=[{"Value": str(number)} for number in range(20)])

for case, (tasks, options) in MAPPED_TASKS.items():
    with DAG(dag_id=f"polysync_{case}", schedule=None):
        PolysyncStartPipelineOperator.partial(**{**COMMON, **options}).expand(
            pipeline_parameters=[{"Value": str(number)} for number in range(tasks)]
        )


def serve(pipeline: str, try_number: str, **arguments: Any) -> dict[str, str]:
    """
    Answer the callback step of a test case. In its first try, the function may take
    longer.
    """
    markers.write(pipeline, f"serving-{try_number}", pid=os.getpid())
    time.sleep(
        SERVING_SECONDS.get(pipeline.split("-")[1], 0) if try_number == "1" else 0
    )
    return {"try_number": try_number}


# How long the function takes in the first try, by test case.
SERVING_SECONDS = {"40c": 60.0}
CALLBACK_CASES: dict[str, dict[str, Any]] = {
    "40a": {"pre_execute": kill_at_call(ANSWER, after_response=False)},
    "40b": {"pre_execute": kill_at_call(ANSWER, after_response=True)},
    "40c": {},
}
for case, options in CALLBACK_CASES.items():
    with DAG(dag_id=f"polysync_{case}", schedule=None):
        # The task waits in its worker, because the kill point is one of its first
        # session.
        PolysyncCallbackStepOperator(
            task_id="start",
            execution_arn="{{ dag_run.conf['execution_arn'] }}",
            step_name="Third",
            python_callable=serve,
            op_kwargs={
                "pipeline": "{{ dag_run.conf['pipeline'] }}",
                "try_number": "{{ ti.try_number }}",
            },
            **{
                **{
                    name: COMMON[name]
                    for name in ("poll_interval", "retries", "retry_delay")
                },
                "deferrable": False,
                **options,
            },
        )

SENSING: dict[str, Any] = {"task_id": "start", "deferrable": True, "poke_interval": 2}
with DAG(dag_id="polysync_41a", schedule=None):
    PolysyncPipelineSensor(
        pipeline_name="{{ dag_run.conf['pipeline'] }}",
        created_after="2026-01-01",
        **SENSING,
    )
with DAG(dag_id="polysync_41b", schedule=None):
    PolysyncPipelineSensor(
        execution_arn="{{ dag_run.conf['execution_arn'] }}", **SENSING
    )
with DAG(dag_id="polysync_41c", schedule=None):
    PolysyncModelApprovalSensor(
        model_package_arn="{{ dag_run.conf['model_package_arn'] }}", **SENSING
    )
