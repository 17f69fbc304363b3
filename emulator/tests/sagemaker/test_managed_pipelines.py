"""
The pipeline that AWS manages. Its ARN has no account; its executions are the account's.
"""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE
from tests.builders import chain

MANAGED = "arn:aws:sagemaker:us-east-1:aws:pipeline/model-eval"
MODEL = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"
START = {
    "PipelineName": MANAGED,
    "PipelineParameters": [{"Name": "ModelPackageArn", "Value": MODEL}],
}

pytestmark = pytest.mark.skipif(
    "RoleArn"
    not in boto3.client("sagemaker", region_name="us-east-1")
    .meta.service_model.operation_model("StartPipelineExecution")
    .input_shape.members,
    reason="this botocore cannot name the role of an execution",
)


def test_execution_is_the_accounts(sagemaker: Any, server: EmulatorServer) -> None:
    """
    It is described, listed by the ARN of the pipeline, and runs its job under the role
    of the start.
    """
    arn = sagemaker.start_pipeline_execution(RoleArn=ROLE, **START)[
        "PipelineExecutionArn"
    ]

    assert arn.startswith(
        "arn:aws:sagemaker:us-east-1:123456789012:pipeline/model-eval/execution/"
    )
    described = sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)
    assert (described["PipelineArn"], described["RoleArn"]) == (MANAGED, ROLE)
    listed = sagemaker.list_pipeline_executions(PipelineName=MANAGED)[
        "PipelineExecutionSummaries"
    ]
    assert [row["PipelineExecutionArn"] for row in listed] == [arn]
    server.control.advance(3600)
    (step,) = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)[
        "PipelineExecutionSteps"
    ]
    job = step["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
    assert sagemaker.describe_processing_job(ProcessingJobName=job)["RoleArn"] == ROLE


def test_listed_on_request_only(sagemaker: Any) -> None:
    """
    Without ``ManagedBy``, the response includes only pipelines that the account has
    created.
    """
    sagemaker.create_pipeline(
        PipelineName="model-eval", PipelineDefinition=chain("A"), RoleArn=ROLE
    )

    listed = {
        managed_by: [
            row["PipelineArn"]
            for row in sagemaker.list_pipelines(
                **({"ManagedBy": managed_by} if managed_by else {})
            )["PipelineSummaries"]
        ]
        for managed_by in (None, "CUSTOMER", "AWS")
    }

    own = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/model-eval"
    assert listed == {None: [own], "CUSTOMER": [own], "AWS": [MANAGED]}
    assert "RoleArn" not in sagemaker.describe_pipeline(PipelineName=MANAGED)


def test_its_name_alone_is_that_of_another_pipeline(sagemaker: Any) -> None:
    """A name means a pipeline of the account."""
    with pytest.raises(
        ClientError, match="123456789012:pipeline/model-eval' does not exist"
    ):
        sagemaker.describe_pipeline(PipelineName="model-eval")


@pytest.mark.parametrize(
    ("operation", "request_", "message"),
    [
        ("start_pipeline_execution", START, "RoleArn is required"),
        (
            "delete_pipeline",
            {"PipelineName": MANAGED, "ClientRequestToken": "t" * 32},
            "failed to satisfy",
        ),
        (
            "update_pipeline_version",
            {"PipelineArn": MANAGED, "PipelineVersionId": 1},
            "AWS manages it",
        ),
    ],
)
def test_refused(
    sagemaker: Any, operation: str, request_: dict[str, Any], message: str
) -> None:
    """A start needs a role, and nobody changes the pipeline."""
    with pytest.raises(ClientError, match=message) as error:
        getattr(sagemaker, operation)(**request_)
    assert error.value.response["Error"]["Code"] == "ValidationException"


def test_not_among_the_accounts_pipelines(
    sagemaker: Any, server: EmulatorServer
) -> None:
    """Neither a search nor the names that the program prints have it."""
    sagemaker.list_pipelines()

    assert sagemaker.search(Resource="Pipeline")["Results"] == []
    assert server.pipelines == {"us-east-1": []}
