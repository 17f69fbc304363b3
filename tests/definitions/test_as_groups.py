"""
Pipelines with the structure of real ones as task groups: each step's task ends as AWS
says of its step.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import DAG

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.auth import base_hook
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.jobs.catalogue import catalogue_jobs
from polysync_airflow.jobs.importer import import_jobs
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup
from sagemaker_emulator import EmulatorServer
from tests.definitions.test_real_structures import Choice, choices
from tests.fakes.simulated_dag_run import SimulatedDagRun
from tests.tasks import EmulatedTime
from tests.unit.jobs.catalogue.builders import put_pipelines

OUTCOMES = {"Succeeded": "success", "Failed": "failed"}


# All of them in `make nightly`.
@pytest.mark.parametrize(
    ("choice", "in_triggerer"),
    [
        pytest.param(
            choice,
            CAPABILITIES.start_from_trigger and number % 12 != 0,
            id=str(choice),
            marks=[pytest.mark.nightly] if number % 6 else [],
        )
        for number, choice in enumerate(choices())
    ],
)
def test_each_task_ends_as_its_step(
    choice: Choice,
    in_triggerer: bool,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    Imported, shown as a group, and run. What AWS has not begun was not to run, or
    follows a failure.
    """
    name = choice.structure.name
    put_pipelines(emulator, {name: json.loads(choice.structure.definition())})
    emulator.control.put_scenario(choice.scenario())
    # Hours would be many reads of the connection, which nobody changes here.
    monkeypatch.setattr(base_hook, "READ_SECONDS", 1e9)
    (job,) = catalogue_jobs(import_jobs(PolysyncSageMakerHook(), names=[name]), None)
    with DAG("structures", schedule=None) as dag:
        group = PolysyncPipelineTaskGroup(
            "g",
            job=job,
            pipeline_parameters=choice.values(),
            poll_interval=3600,
            progress_interval=None,
        )
    dag_run = SimulatedDagRun(dag, in_triggerer=in_triggerer)

    states = dag_run.run()

    client: Any = PolysyncSageMakerHook().conn
    arn = dag_run.runs["g.execution"].ti.xcoms["execution_arn"]
    listed = client.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
        "PipelineExecutionSteps"
    ]
    by_aws = {each["StepName"]: OUTCOMES[each["StepStatus"]] for each in listed}
    by_airflow = {
        step: states[task_id] for step, task_id in group.step_task_ids.items()
    }
    assert len(emulator.control.calls("StartPipelineExecution")) == 1
    assert by_aws.keys() == choice.expected()
    assert {step: by_airflow[step] for step in by_aws} == by_aws
    is_failed = "failed" in by_aws.values()
    assert states["g.execution"] == ("failed" if is_failed else "success")
    others = {step: state for step, state in by_airflow.items() if step not in by_aws}
    assert set(others.values()) <= (
        {"skipped", "upstream_failed"} if is_failed else {"skipped"}
    ), others
