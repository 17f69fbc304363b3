"""
The example DAG react_to_others, whose sensors wait for an execution that somebody else
has started.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow.hooks import PolysyncSageMakerHook
from sagemaker_emulator import EmulatorServer
from tests.documentation.examples.test_example_dags import (
    database,
    endpoint,
    example,
    states_of,
    xcom,
)

__all__ = ["database", "endpoint", "example"]  # fixtures


@pytest.mark.documentation
def test_react_to_others_waits_for_a_step_and_for_the_end(
    example: Any,
    endpoint: EmulatorServer,
) -> None:
    """
    Both sensors wait for the execution that somebody has started; the report has what
    the step made.
    """
    client: Any = PolysyncSageMakerHook().conn
    data = [{"Name": "InputDataUrl", "Value": "s3://ml-bucket/abalone.csv"}]
    arn = client.start_pipeline_execution(
        PipelineName="abalone", PipelineParameters=data
    )["PipelineExecutionArn"]

    run = example("react_to_others")

    assert states_of(run) == [
        (task, -1, "success") for task in ("ended", "evaluated", "report")
    ]
    assert (
        xcom(run, "evaluated", "return_value")
        == xcom(run, "ended", "execution_arn")
        == arn
    )
    assert xcom(run, "ended", "state") == "Success"
    assert xcom(run, "report", "return_value").startswith("Evaluated by pipelines-")
    starts = endpoint.control.calls("StartPipelineExecution")
    assert len(starts) == 1
