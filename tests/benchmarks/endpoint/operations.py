"""
The operations of the AWS test server, with responses in the format that botocore
parses.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
and the other operations of the same API,
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from math import inf
from typing import Any, Final

from tests.benchmarks.endpoint.account import (
    ACCOUNT_ID,
    REGION,
    ROLE_ARN,
    Account,
    Execution,
    Pipeline,
)

LARGEST_PAGE: Final = 100
# Steps of each pipeline. All fit in one page of ListPipelineExecutionSteps.
STEPS: Final = 20
SESSION_SECONDS: Final = 3600.0
# How many lines each job writes.
LOG_LINES_PER_SECOND: Final = 1
Operation = Callable[[Account, Mapping[str, Any], float], Any]

_CALLER: Final = "arn:aws:iam::123456789012:user/benchmark"
DEFINITION: Final = json.dumps(
    {
        "Version": "2020-12-01",
        "Parameters": [
            {
                "Name": "InputDataUrl",
                "Type": "String",
                "DefaultValue": "s3://ml-bucket/abalone.csv",
            },
            {"Name": "InstanceCount", "Type": "Integer", "DefaultValue": 1},
            {"Name": "LearningRate", "Type": "Float", "DefaultValue": 0.1},
            {
                "Name": "Approval",
                "Type": "String",
                "DefaultValue": "Manual",
                "EnumValues": ["Manual", "Auto"],
            },
        ],
        # Real definitions have tens of kilobytes.
        "Steps": [
            {
                "Name": f"Step{number}",
                "Type": "Processing",
                "Arguments": {"AppSpecification": "x" * 400},
            }
            for number in range(STEPS)
        ],
    }
)
_ASSUME_ROLE_RESPONSE: Final = """\
<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><AssumedRoleUser>\
<AssumedRoleId>AROAEXAMPLE:benchmark</AssumedRoleId><Arn>arn:aws:sts::{account}:assumed-role/polysync/benchmark</Arn>\
</AssumedRoleUser><Credentials><AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId><SecretAccessKey>{secret}\
</SecretAccessKey><SessionToken>{secret}</SessionToken><Expiration>{expiry}</Expiration></Credentials>\
</AssumeRoleResult><ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></AssumeRoleResponse>"""


class ApiError(Exception):
    """
    An error response of AWS.

    :param code: the error code.
    :param message: the error message.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def assume_role(now: float) -> str:
    """
    Return the response of AssumeRole (XML).

    :param now: the time as Unix time.
    """
    expiry = datetime.fromtimestamp(now + SESSION_SECONDS, UTC)
    return _ASSUME_ROLE_RESPONSE.format(
        account=ACCOUNT_ID, secret="x" * 40, expiry=f"{expiry:%Y-%m-%dT%H:%M:%SZ}"
    )


def describe_pipeline_execution(
    account: Account, request: Mapping[str, Any], now: float
) -> Any:
    """Return the description of an execution, and record the poll."""
    execution = _execution(account, request)
    execution.record_poll(now)
    return {
        "PipelineArn": execution.arn.partition("/execution/")[0],
        "PipelineExecutionArn": execution.arn,
        "PipelineExecutionDisplayName": "benchmark",
        "PipelineExecutionStatus": execution.status(now),
        "CreationTime": execution.start,
        "LastModifiedTime": execution.end if now >= execution.end else execution.start,
        "CreatedBy": {"IamIdentity": {"Arn": _CALLER, "PrincipalId": "AIDABENCHMARK"}},
        "LastModifiedBy": {},
        "PipelineVersionId": 1,
    }


def list_pipeline_executions(
    account: Account, request: Mapping[str, Any], now: float
) -> Any:
    """
    Return a page of a pipeline's executions by creation time, by default newest first;
    record the polls.
    """
    executions = _pipeline(account, request).executions
    after, before = request.get("CreatedAfter", -inf), request.get("CreatedBefore", inf)
    first, end = _pipeline(account, request).created_between(after, min(before, now))
    size = request.get("MaxResults", LARGEST_PAGE)
    # The token is an index in the list that has the oldest first: new executions do not
    # change it.
    if request.get("SortOrder") == "Ascending":
        first = int(request.get("NextToken", first))
        page, following = executions[first : min(first + size, end)], first + size
        more = following < end
    else:
        end = int(request.get("NextToken", end))
        following = max(first, end - size)
        page, more = executions[following:end][::-1], following > first
    for execution in page:
        execution.record_poll(now)
    summaries = [_execution_summary(execution, now) for execution in page]
    return {
        "PipelineExecutionSummaries": summaries,
        **({"NextToken": str(following)} if more else {}),
    }


def _execution_summary(execution: Execution, now: float) -> dict[str, Any]:
    return {
        "PipelineExecutionArn": execution.arn,
        "StartTime": execution.start,
        "PipelineExecutionStatus": execution.status(now),
        "PipelineExecutionDisplayName": "benchmark",
    }


def list_pipeline_execution_steps(
    account: Account, request: Mapping[str, Any], now: float
) -> Any:
    """
    Return the steps that an execution has begun, newest first. The steps run one after
    another.
    """
    execution = _execution(account, request)
    step_seconds = (execution.end - execution.start) / STEPS
    begun = min(STEPS, int((now - execution.start) / step_seconds) + 1)
    return {
        "PipelineExecutionSteps": [
            _step(execution, number, now) for number in reversed(range(begun))
        ]
    }


def _step(execution: Execution, number: int, now: float) -> dict[str, Any]:
    step_seconds = (execution.end - execution.start) / STEPS
    start = execution.start + number * step_seconds
    end = start + step_seconds
    job_name = f"pipelines-{execution.arn.rpartition('/')[2]}-step{number}"
    job = f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:processing-job/{job_name}"
    return {
        "StepName": f"Step{number}",
        "StepStatus": "Executing" if now < end else "Succeeded",
        "StartTime": start,
        "AttemptCount": 1,
        "CacheHitResult": {"SourcePipelineExecutionArn": ""},
        "Metadata": {"ProcessingJob": {"Arn": job}},
        **({"EndTime": end} if now >= end else {}),
    }


def describe_processing_job(
    account: Account, request: Mapping[str, Any], now: float
) -> Any:
    """Return the description of a step's job, as long as those of AWS."""
    name = request["ProcessingJobName"]
    return {
        "ProcessingJobName": name,
        "ProcessingJobArn": f"arn:aws:sagemaker:{REGION}:{ACCOUNT_ID}:processing-job/{name}",
        "ProcessingJobStatus": "Completed",
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.xlarge",
                "VolumeSizeInGB": 30,
            }
        },
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": output,
                    "S3Output": {
                        "S3Uri": f"s3://ml-bucket/{name}/{output}",
                        "LocalPath": f"/opt/ml/processing/{output}",
                        "S3UploadMode": "EndOfJob",
                    },
                }
                for output in ("train", "validation", "test")
            ]
        },
        "AppSpecification": {
            "ImageUri": "x" * 200,
            "ContainerEntrypoint": ["python3", "x" * 100],
        },
        "Environment": {"SETTINGS": "x" * 400},
        "RoleArn": ROLE_ARN,
        "CreationTime": now - 90,
        "ProcessingStartTime": now - 60,
        "ProcessingEndTime": now,
    }


def describe_log_streams(
    account: Account, request: Mapping[str, Any], now: float
) -> Any:
    """Return the log stream of a job."""
    stream = {"logStreamName": f"{request['logStreamNamePrefix']}algo-1-1"}
    return {"logStreams": [stream]}


def get_log_events(account: Account, request: Mapping[str, Any], now: float) -> Any:
    """Return the lines since those to which the token belongs."""
    written = int(now * LOG_LINES_PER_SECOND)
    lines = min(request["limit"], written - int(request.get("nextToken", 0)))
    event = {"timestamp": int(now * 1000), "message": "x" * 100, "ingestionTime": 0}
    return {"events": [event] * lines, "nextForwardToken": str(written)}


def start_pipeline_execution(
    account: Account, request: Mapping[str, Any], now: float
) -> Any:
    """Start an execution; a repeated token returns the same execution."""
    token = request.get("ClientRequestToken")
    execution = account.start(_pipeline(account, request), now, account.seconds, token)
    return {"PipelineExecutionArn": execution.arn}


def list_pipelines(account: Account, request: Mapping[str, Any], now: float) -> Any:
    """Return a page of the pipelines, sorted by name."""
    prefix, size = (
        request.get("PipelineNamePrefix", ""),
        request.get("MaxResults", LARGEST_PAGE),
    )
    pipelines = [
        pipeline
        for name, pipeline in sorted(account.pipelines.items())
        if name.startswith(prefix)
    ]
    if request.get("SortOrder") != "Ascending":
        pipelines.reverse()
    first = int(request.get("NextToken", 0))
    summaries = [
        _pipeline_summary(pipeline) for pipeline in pipelines[first : first + size]
    ]
    more = first + size < len(pipelines)
    return {
        "PipelineSummaries": summaries,
        **({"NextToken": str(first + size)} if more else {}),
    }


def describe_pipeline(account: Account, request: Mapping[str, Any], now: float) -> Any:
    """Return the description of a pipeline, with its definition."""
    return {
        **_pipeline_summary(_pipeline(account, request)),
        "PipelineDefinition": DEFINITION,
        "PipelineStatus": "Active",
        "CreatedBy": {},
        "LastModifiedBy": {},
    }


def _pipeline_summary(pipeline: Pipeline) -> dict[str, Any]:
    return {
        "PipelineArn": pipeline.arn,
        "PipelineName": pipeline.name,
        "PipelineDisplayName": pipeline.name,
        "RoleArn": ROLE_ARN,
        "CreationTime": 1_700_000_000.0,
        "LastModifiedTime": 1_700_000_000.0,
    }


def _pipeline(account: Account, request: Mapping[str, Any]) -> Pipeline:
    pipeline = account.pipeline(request["PipelineName"])
    if pipeline is None:
        raise ApiError(
            "ResourceNotFound", f"Pipeline {request['PipelineName']!r} does not exist."
        )
    return pipeline


def _execution(account: Account, request: Mapping[str, Any]) -> Execution:
    execution = account.executions.get(request["PipelineExecutionArn"])
    if execution is None:
        raise ApiError(
            "ResourceNotFound",
            f"Execution {request['PipelineExecutionArn']!r} does not exist.",
        )
    return execution


OPERATIONS: Final[Mapping[str, Operation]] = {
    "DescribePipelineExecution": describe_pipeline_execution,
    "ListPipelineExecutions": list_pipeline_executions,
    "ListPipelineExecutionSteps": list_pipeline_execution_steps,
    "DescribeProcessingJob": describe_processing_job,
    "DescribeLogStreams": describe_log_streams,
    "GetLogEvents": get_log_events,
    "StartPipelineExecution": start_pipeline_execution,
    "ListPipelines": list_pipelines,
    "DescribePipeline": describe_pipeline,
}
