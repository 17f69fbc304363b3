"""
The emulator with the operators of the Amazon provider, which read no connection but the
variables of AWS.
"""

from __future__ import annotations

import asyncio
import importlib
import json
from typing import Any

import pytest
from airflow.providers.amazon.aws.operators.sagemaker import (
    SageMakerStartPipelineOperator,
    SageMakerStopPipelineOperator,
)
from airflow.providers.amazon.aws.sensors.sagemaker import SageMakerPipelineSensor
from airflow.providers.common.compat.sdk import (
    AirflowException,
    BaseOperator,
    TaskDeferred,
)
from botocore.exceptions import WaiterError

from sagemaker_emulator import EmulatorServer, RealClock
from sagemaker_emulator.builders import ROLE, definition, step

ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/{}/execution/"


def run(operator: BaseOperator) -> Any:
    """
    Execute an operator, and if it defers, its trigger and the method that follows.
    """
    try:
        return operator.execute({})
    except TaskDeferred as deferral:
        path, arguments = json.loads(json.dumps(deferral.trigger.serialize()))
        module, _, name = path.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(**arguments)

        async def first_event() -> dict[str, Any]:
            return dict((await anext(trigger.run())).payload)

        event = asyncio.run(first_event())
        return getattr(operator, deferral.method_name)({}, event)


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an emulator with the pipelines ``Good``, ``Bad`` and ``Long``."""
    import boto3

    with EmulatorServer(clock=RealClock(speed=600)) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint_url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        made = boto3.client("sagemaker")
        for name, body in {
            "Good": step("A"),
            "Bad": step("B", "Fail", Arguments={"ErrorMessage": "No data"}),
            "Long": step("C"),
        }.items():
            made.create_pipeline(
                PipelineName=name, PipelineDefinition=definition(body), RoleArn=ROLE
            )
        server.control.put_scenario(
            {"steps": {"C": {"duration": None}}}, pipeline="Long"
        )
        yield made


@pytest.mark.parametrize("deferrable", [False, True])
def test_amazon_operators_use_the_emulator(client: Any, deferrable: bool) -> None:
    """They start, wait, fail, stop and look, on a worker and in a triggerer."""
    if deferrable:
        pytest.importorskip(
            "aiobotocore",
            reason="the Amazon provider's triggers need its extra aiobotocore",
        )
    waiting: dict[str, Any] = {
        "aws_conn_id": None,
        "check_interval": 0,
        "deferrable": deferrable,
        "wait_for_completion": True,
    }

    def start(pipeline: str, **more: Any) -> BaseOperator:
        return SageMakerStartPipelineOperator(
            task_id="start", pipeline_name=pipeline, **{**waiting, **more}
        )

    def look(arn: str) -> Any:
        sensor = SageMakerPipelineSensor(
            task_id="look", pipeline_exec_arn=arn, aws_conn_id=None
        )
        return sensor.poke({})

    good = run(start("Good"))
    assert good.startswith(ARN.format("Good"))
    assert look(good)
    # The trigger raises what botocore's waiter raises.
    with pytest.raises(
        (AirflowException, WaiterError),
        match=r"One or multiple steps failed|terminal failure",
    ):
        run(start("Bad"))
    bad = client.list_pipeline_executions(PipelineName="Bad")[
        "PipelineExecutionSummaries"
    ][0]
    with pytest.raises(AirflowException, match="pipeline failed"):
        look(bad["PipelineExecutionArn"])

    long = run(start("Long", wait_for_completion=False, deferrable=False))
    assert not look(long)
    stop = SageMakerStopPipelineOperator(
        task_id="stop", pipeline_exec_arn=long, **waiting
    )
    assert run(stop) == "Stopped"
    assert (
        client.describe_pipeline_execution(PipelineExecutionArn=long)[
            "PipelineExecutionStatus"
        ]
        == "Stopped"
    )
