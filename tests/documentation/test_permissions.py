"""
The permissions that the documentation names for operators and arguments are those that
they use.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from polysync_airflow.auth.iam_policies import JOB_OPERATIONS
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncListImportOperator,
    PolysyncPutPipelineOperator,
    PolysyncRunJobOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step
from tests.pages import page
from tests.tasks import EmulatedTime, run_task

ROWS = page("how-to/least-privilege.md").rows(
    "Which permissions does each operator and argument need?"
)


def permissions(*cells: str) -> set[str]:
    """Return the operations that cells of the table name."""
    return {name for cell in cells for name in re.findall(r"`([A-Z]\w+)`", cell)}


def calls_of(emulator: EmulatorServer, operator: Any) -> set[str]:
    """Run a task, and return the operations that it has called."""
    before = len(emulator.control.calls())
    run_task(operator)
    return {call["operation"] for call in emulator.control.calls()[before:]}


def start(**arguments: Any) -> PolysyncStartPipelineOperator:
    """Return a Start task. The execution of its pipeline takes some minutes."""
    arguments = {"deferrable": True, "pipeline_name": "fanout", **arguments}
    return PolysyncStartPipelineOperator(task_id="start", **arguments)


@pytest.mark.parametrize("deferrable", [False, True])
def test_start(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    All that it needs is named as needed; one that has time also calls all others,
    unless it polls alone.
    """
    needed, optional = ROWS["PolysyncStartPipelineOperator"].split("|")[:2]
    wrong = start(deferrable=deferrable, pipeline_parameters={"Wrong": 1})
    misspelt = start(deferrable=deferrable, pipeline_name="fanuot")

    stopped = calls_of(emulator, start(deferrable=deferrable, timeout=60))
    refused = calls_of(emulator, wrong) | calls_of(emulator, misspelt)

    # The pipeline has processing jobs only.
    others = JOB_OPERATIONS.keys() - {"DescribeProcessingJob"}
    assert permissions(optional) >= others
    assert (
        stopped | refused
        == permissions(needed, optional) - {"ListPipelineExecutions"} - others
    )
    assert permissions(needed) <= stopped


def test_arguments(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """The arguments change the calls as the table says."""
    emulator.control.put_scenario(
        {"steps": {"Shard3": {"fail": {"reason": "no data"}}}}
    )

    assert "DescribePipeline" in calls_of(emulator, start(validate_parameters=True))
    assert "DescribePipeline" in calls_of(emulator, start(selected_steps=["Shard0"]))
    latest = start(selected_steps=["Merge"], source_execution="latest")
    assert "ListPipelineExecutions" in calls_of(emulator, latest)
    assert "StopPipelineExecution" not in calls_of(
        emulator, start(timeout=60, stop_on_kill=False)
    )
    row = ROWS["wait_for_completion=False"].partition(" only")[0]
    assert calls_of(emulator, start(wait_for_completion=False)) == permissions(row)


@pytest.mark.parametrize("deferrable", [False, True])
def test_stop(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """It calls exactly what it needs."""
    arn = run_task(start(wait_for_completion=False)).result
    stop = PolysyncStopPipelineOperator(
        task_id="stop", execution_arn=arn, deferrable=deferrable
    )

    assert calls_of(emulator, stop) == permissions(
        ROWS["PolysyncStopPipelineOperator"].split("|")[0]
    )


@pytest.mark.parametrize("deferrable", [False, True])
def test_sensor(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    It changes nothing, and calls what is named; by the ARN, it lists no executions
    unless many are polled.
    """
    needed, optional = map(permissions, ROWS["PolysyncPipelineSensor"].split("|")[:2])
    optional |= JOB_OPERATIONS.keys()
    by_arn = needed - {"ListPipelineExecutions"}
    arn = run_task(start(wait_for_completion=False)).result
    emulated_time.sleep(4 * 3600)
    search: Any = {
        "pipeline_name": "fanout",
        "created_after": "2025-01-01",
        "deferrable": deferrable,
    }

    called = calls_of(
        emulator,
        PolysyncPipelineSensor(task_id="arn", execution_arn=arn, deferrable=deferrable),
    )
    searched = calls_of(emulator, PolysyncPipelineSensor(task_id="search", **search))

    assert by_arn <= called <= by_arn | optional - {"ListPipelineExecutions"}
    assert searched - called == {"ListPipelineExecutions"}
    assert not {
        name for name in called | searched if not name.startswith(("Describe", "List"))
    }


def test_import(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """It lists pipelines only if it has no names."""
    needed = permissions(
        ROWS["PolysyncListImportOperator, polysync jobs"].split("|")[0]
    )

    assert calls_of(emulator, PolysyncListImportOperator(task_id="all")) == needed
    for name in ("fanout", "fanuot"):
        named = PolysyncListImportOperator(task_id="named", pipeline_names=[name])
        assert (
            calls_of(emulator, named)
            == needed - {"ListPipelines"}
            == {"DescribePipeline"}
        )


def test_put(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """It sends tags with the creation, for which AWS requires another permission."""
    operator = PolysyncPutPipelineOperator(
        task_id="put",
        pipeline_name="new",
        definition=definition(step("A")),
        role_arn=ROLE,
    )

    called = calls_of(emulator, operator)

    assert called == permissions(ROWS["PolysyncPutPipelineOperator"]) - {"AddTags"}


def test_job(emulator: EmulatorServer, emulated_time: EmulatedTime) -> None:
    """It makes its pipeline, with tags."""
    operator = PolysyncRunJobOperator(
        task_id="job", job_type="Processing", config=step("A")["Arguments"]
    )

    called = calls_of(emulator, operator)

    assert called >= permissions(ROWS["PolysyncRunJobOperator"]) - {"AddTags"}
    (created,) = emulator.control.calls("CreatePipeline")
    assert created["request"]["Tags"]


@pytest.mark.parametrize("deferrable", [False, True])
def test_model_approval(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """It lists versions only if it has a group, and changes nothing."""
    client: Any = PolysyncSageMakerHook().conn
    client.create_model_package_group(ModelPackageGroupName="Churn")
    created = client.create_model_package(
        ModelPackageGroupName="Churn", ModelApprovalStatus="Approved"
    )
    needed = permissions(ROWS["PolysyncModelApprovalSensor"].split("|")[0])

    def sensor(**arguments: Any) -> PolysyncModelApprovalSensor:
        return PolysyncModelApprovalSensor(
            task_id="approval", deferrable=deferrable, **arguments
        )

    assert calls_of(emulator, sensor(model_package_group="Churn")) == needed
    by_arn = calls_of(emulator, sensor(model_package_arn=created["ModelPackageArn"]))
    assert by_arn == needed - {"ListModelPackages"} == {"DescribeModelPackage"}


@pytest.mark.parametrize("deferrable", [False, True])
def test_callback_step(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """It calls what it needs, and one of the two answers."""
    started = start(
        pipeline_name="callback-lambda",
        pipeline_parameters={"Approver": "me"},
        wait_for_completion=False,
    )
    row = permissions(*ROWS["PolysyncCallbackStepOperator"].split("|")[:2])

    def calls(function: Any) -> set[str]:
        arn = run_task(started).result
        task = PolysyncCallbackStepOperator(
            task_id="answer",
            execution_arn=arn,
            step_name="WaitForApproval",
            python_callable=function,
            deferrable=deferrable,
        )
        # The actions of IAM are those for one message.
        return {name.removesuffix("Batch") for name in calls_of(emulator, task)}

    def fail(**_: Any) -> None:
        raise ValueError

    # The message is hidden for as long as the function runs, which is no time here, and
    # there are no others.
    more = {"ChangeMessageVisibility", "SendMessage", "GetQueueAttributes"}
    assert calls(lambda **_: None) | calls(fail) | more == row - {
        "ListPipelineExecutions"
    }
