"""
Events as AWS documents them:
https://docs.aws.amazon.com/sagemaker/latest/dg/automating-sagemaker-with-eventbridge.html.
"""

from __future__ import annotations

import json
from typing import Any

PIPELINE_ARN = "arn:aws:sagemaker:us-east-1:111122223333:pipeline/myPipeline-123"
EXECUTION_ARN = f"{PIPELINE_ARN}/execution/p4jn9xou8a8s"
PACKAGE_ARN = "arn:aws:sagemaker:us-east-2:111122223333:model-package/versionedmp-p-idy6c3e1fiqj/2"
EXECUTION = "SageMaker Model Building Pipeline Execution Status Change"
STEP = "SageMaker Model Building Pipeline Execution Step Status Change"
MODEL_PACKAGE = "SageMaker Model Package State Change"


def event(kind: str, detail: dict[str, Any], **more: Any) -> str:
    """Return an event as the body of a message."""
    envelope = {
        "version": "0",
        "id": "315c1398-40ff-a850-213b-158f73kd93ir",
        "detail-type": kind,
        "source": "aws.sagemaker",
        "account": "111122223333",
        "time": "2021-03-15T16:10:11Z",
        "region": "us-east-1",
        "resources": [],
    }
    return json.dumps({**envelope, "detail": detail, **more})


def execution(status: str = "Succeeded", **detail: Any) -> str:
    """Return the event of an execution; a member that is None is left out."""
    members = {
        "pipelineExecutionDisplayName": "SomeDisplayName",
        "currentPipelineExecutionStatus": status,
        "previousPipelineExecutionStatus": "Executing",
        "executionStartTime": "2021-03-15T16:03:13Z",
        "executionEndTime": "2021-03-15T16:10:10Z",
        "pipelineExecutionDescription": "SomeDescription",
        "pipelineArn": PIPELINE_ARN,
        "pipelineExecutionArn": EXECUTION_ARN,
        **detail,
    }
    present = {name: value for name, value in members.items() if value is not None}
    return event(EXECUTION, present)


def of_step(status: str = "Succeeded", **detail: Any) -> str:
    """Return the event of a step."""
    arn = "arn:aws:sagemaker:us-east-1:111122223333:processing-job/pipelines-p4jn9xou8a8s-myprocessingstep1"
    members = {
        "metadata": {"processingJob": {"arn": arn}},
        "stepStartTime": "2021-03-15T16:03:14Z",
        "stepEndTime": "2021-03-15T16:10:09Z",
        "stepName": "myprocessingstep1",
        "stepType": "Processing",
        "previousStepStatus": "Executing",
        "currentStepStatus": status,
        "pipelineArn": PIPELINE_ARN,
        "pipelineExecutionArn": EXECUTION_ARN,
        **detail,
    }
    return event(STEP, members)


def model_package(approval: str = "Rejected", **detail: Any) -> str:
    """Return the event of a model package. The list is as in AWS's example."""
    members = {
        "ModelPackageGroupName": "versionedmp-p-idy6c3e1fiqj",
        "ModelPackageVersion": 2,
        "ModelPackageArn": PACKAGE_ARN,
        "CreationTime": "2021-02-24T17:00:14Z",
        "InferenceSpecification": {"SupportedContentTypes": ["text/csv"]},
        "ModelPackageStatus": "Completed",
        "ModelPackageStatusDetails": {
            "ValidationStatuses": [],
            "ImageScanStatuses": [],
        },
        "CertifyForMarketplace": False,
        "ModelApprovalStatus": approval,
        "MetadataProperties": {"GeneratedBy": EXECUTION_ARN},
        "UpdatedModelPackageFields": ["ModelApprovalStatus"],
        "LastModifiedTime": "2021-02-24T17:00:15Z",
        **detail,
    }
    return event(MODEL_PACKAGE, members, source=["aws.sagemaker"])
