"""The pipeline and the DAG of a plan."""

from __future__ import annotations

import functools
import json
import tempfile
from copy import copy
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from airflow.sdk import DAG

from polysync_airflow.operators import (
    PolysyncRunJobOperator,
    PolysyncStartPipelineOperator,
)
from polysync_airflow.sensors import PolysyncPipelineSensor
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from tests.simulation.airflow.database import DAG_ID
from tests.simulation.plans import STARTS, STEPS, Account, Plan

PIPELINE: Final = "pipe"
_ROLE: Final = "arn:aws:iam::123456789012:role/SageMakerRole"
_FOLDER: Final = tempfile.TemporaryDirectory(prefix="simulation-")


def definition_of(account: Account) -> str:
    """Return the definition: the last of three steps needs the others."""
    first, *_, last = STEPS
    steps = [_step(name) for name in STEPS]
    steps[-1]["DependsOn"] = [name for name in STEPS if name != last]
    if account.repeats_jobs:
        steps[STEPS.index(first)]["RetryPolicies"] = [
            {
                "ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"],
                "IntervalSeconds": 5,
                "BackoffRate": 1.0,
                "MaxAttempts": 20,
            }
        ]
    return json.dumps(
        {"Version": "2020-12-01", "Metadata": {}, "Parameters": [], "Steps": steps}
    )


def _step(name: str) -> dict[str, Any]:
    image = "683313688378.dkr.ecr.us-east-1.amazonaws.com/x:1"
    cluster = {
        "InstanceType": "ml.m5.large",
        "InstanceCount": 1,
        "VolumeSizeInGB": 1,
    }
    return {
        "Name": name,
        "Type": "Processing",
        "Arguments": {
            "ProcessingResources": {"ClusterConfig": cluster},
            "AppSpecification": {"ImageUri": image},
            "RoleArn": _ROLE,
        },
    }


# Written before there are several processes.
_DEFINITION: Final = Path(_FOLDER.name, "definition.json")
_DEFINITION.write_text(definition_of(Account()))


def scenario_of(account: Account) -> dict[str, Any]:
    """Return how executions go, as the emulator's control API takes it."""
    steps: dict[str, Any] = {
        name: {"duration": seconds} for name, seconds in account.durations.items()
    }
    if account.failing:
        steps[STEPS[0]]["fail"] = {"reason": account.reason, "times": account.failing}
    # The step of a job has the name of its task.
    steps |= dict.fromkeys(STARTS, steps[STEPS[0]])
    scenario: dict[str, Any] = {"steps": steps}
    if account.end_as and account.failing:
        scenario["end_as"] = account.end_as
    if account.unknown_status:
        shown = {"status": "Pausing", "after": 50, "until": 300}
        scenario["statuses"] = [shown]
    return scenario


def parse(plan: Plan) -> dict[str, Any]:
    """Return the tasks of the DAG by their ids, as a parse of its file does."""
    tasks = _tasks(json.dumps([each.model_dump() for each in plan.tasks]))
    return {task_id: copy(task) for task_id, task in tasks.items()}


@functools.lru_cache(8)
def _tasks(text: str) -> dict[str, Any]:
    defaults = {"retry_delay": timedelta(seconds=20)}
    with DAG(DAG_ID, schedule=None, default_args=defaults) as dag:
        for task in json.loads(text):
            arguments = {"pipeline_name": PIPELINE, **task["arguments"]}
            if "execution_timeout" in arguments:
                seconds = arguments["execution_timeout"]
                arguments["execution_timeout"] = timedelta(seconds=seconds)
            if task["kind"] == "group":
                PolysyncPipelineTaskGroup(
                    task["id"],
                    prefix_group_id=False,
                    definition=_DEFINITION,
                    **arguments,
                )
            elif task["kind"] == "start":
                PolysyncStartPipelineOperator(task_id=task["id"], **arguments)
            elif task["kind"] == "job":
                config = {
                    **_step("")["Arguments"],
                    "Environment": {"RUN": "{{ run_id }}"},
                }
                del arguments["pipeline_name"]
                PolysyncRunJobOperator(
                    task_id=task["id"],
                    job_type="Processing",
                    config=config,
                    **arguments,
                )
            elif task["kind"] == "mapped":
                PolysyncStartPipelineOperator.partial(
                    task_id=task["id"], **arguments
                ).expand(execution_description=["one", "another"])
            elif task["kind"] == "sensor":
                PolysyncPipelineSensor(
                    task_id=task["id"], created_after="2020-01-01", **arguments
                )
            else:
                raise ValueError(f"{task['kind']!r} is no kind of a task")
    return dict(dag.task_dict)
