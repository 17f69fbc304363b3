"""
Tests a connection: reports the identity that signs in, and which of the provider's IAM actions are granted.

``PolysyncSageMakerHook.test_connection``, in a layer above, calls it with the hook for the "Test" button of
the connection form.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from polysync_airflow import exceptions
from polysync_airflow.auth import iam_policies as iam
from polysync_airflow.execution.results import JOB_KINDS
from polysync_airflow.execution.texts import clean_line

GRANTED, DENIED, UNKNOWN = "granted", "denied", "unknown"
# A group that the policy allows. It exists where a training job has run.
_LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"


def describe_identity(hook: Any) -> str:
    """
    Describe the identity that signs in: ARN, account, region, sign-in method, expiry.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html needs no permission.

    :raises PolysyncError: if the connection cannot sign in.
    """
    identity = hook.get_caller_identity()
    expires_at = hook.credentials_expire_at
    expiry = (
        f"credentials expire at {expires_at:%Y-%m-%d %H:%M:%SZ} and are refreshed before"
        if expires_at
        else "credentials have no known expiry"
    )
    return (
        f"Signed in as {clean_line(identity['Arn'])} (account {clean_line(identity['Account'])}) in "
        f"{hook.region_name} with {hook.auth_description}; {expiry}."
    )


def report(hook: Any) -> tuple[bool, str]:
    """
    Test a connection.

    :return: whether no required operation is denied, and the report.
    :raises PolysyncError: if the connection cannot sign in.
    """
    lines = [describe_identity(hook)]
    results = {operation: _check(call) for operation, call in _calls(hook).items()}
    lines += [f"{operation}: {result}" for operation, result in results.items()]
    if denied := [operation for operation, result in results.items() if result == DENIED]:
        lines.append(
            "The test used a pipeline that does not exist. A policy that allows only certain pipelines "
            "denies such calls too. To allow the denied operations for all pipelines, add to the policy: "
            + ", ".join(_missing_statements(denied, hook.pipelines_arn))
        )
    usable = not any(operation in denied for operation in (*iam.LIST_OPERATIONS, *iam.REQUIRED_OPERATIONS))
    return usable, " -- ".join(lines)


def _missing_statements(denied: Sequence[str], pipelines_arn: str) -> Iterator[str]:
    of_jobs, of_logs = (
        [each for each in denied if each in known] for known in (iam.JOB_OPERATIONS, iam.LOG_OPERATIONS)
    )
    if of_pipelines := [operation for operation in denied if operation not in (*of_jobs, *of_logs)]:
        yield json.dumps(iam.missing_statement(of_pipelines, pipelines_arn))
    if of_jobs:
        arns = iam.job_arns(pipelines_arn.removesuffix("pipeline/*"), of_jobs)
        yield json.dumps(iam.missing_statement(of_jobs, arns))
    if of_logs:
        _, partition, _, region, account, _ = pipelines_arn.split(":")
        groups = f"arn:{partition}:logs:{region}:{account}:log-group:{iam.SAGEMAKER_LOG_GROUPS}"
        yield json.dumps(iam.missing_statement(of_logs, groups, service="logs"))


def _calls(hook: Any) -> Mapping[str, Callable[[], Any]]:
    # The names and ARNs cannot exist, so the calls start, stop, change and return nothing.
    pipeline_name = f"polysync-permission-probe-{uuid.uuid4().hex[:12]}"
    execution_arn = f"{hook.pipelines_arn.removesuffix('*')}{pipeline_name}/execution/000000000000"
    token = f"{pipeline_name}-{'0' * 32}"[:128]
    requests: dict[str, Mapping[str, Any]] = {
        "ListPipelines": {"MaxResults": 1},
        "DescribePipeline": {"PipelineName": pipeline_name},
        "StartPipelineExecution": {"PipelineName": pipeline_name, "ClientRequestToken": token},
        "DescribePipelineExecution": {"PipelineExecutionArn": execution_arn},
        "StopPipelineExecution": {"PipelineExecutionArn": execution_arn, "ClientRequestToken": token},
        "ListPipelineExecutionSteps": {"PipelineExecutionArn": execution_arn},
        "DescribePipelineDefinitionForExecution": {"PipelineExecutionArn": execution_arn},
        "RetryPipelineExecution": {"PipelineExecutionArn": execution_arn, "ClientRequestToken": token},
        "ListPipelineExecutions": {"PipelineName": pipeline_name},
        "ListPipelineParametersForExecution": {"PipelineExecutionArn": execution_arn},
        **{kind.operation: {kind.member: pipeline_name} for kind in JOB_KINDS.values()},
    }
    logs = {"logGroupName": _LOG_GROUP}
    log_requests: dict[str, Mapping[str, Any]] = {
        "DescribeLogStreams": {**logs, "logStreamNamePrefix": pipeline_name},
        "GetLogEvents": {**logs, "logStreamName": pipeline_name},
    }
    calls = {each: partial(hook.call, each, **request) for each, request in requests.items()}
    return calls | {each: partial(hook.call_logs, each, **request) for each, request in log_requests.items()}


def _check(call: Callable[[], Any]) -> str:
    try:
        call()
    except exceptions.SageMakerApiError as error:
        if exceptions.has_code(error, exceptions.ACCESS_DENIED):
            return DENIED
        # AWS checks the permissions before it looks for the resource.
        if exceptions.has_code(error, exceptions.RESOURCE_NOT_FOUND, exceptions.VALIDATION):
            return GRANTED
        return f"{UNKNOWN}: {error.error_code}"
    except exceptions.PolysyncError as error:
        return f"{UNKNOWN}: {error}"
    return GRANTED
