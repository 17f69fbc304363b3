"""
The IAM policies that the provider needs, and the test whether a connection has them.

``polysync iam`` prints the identity policy of the provider's identity, and trust
policies of roles. ``PolysyncSageMakerHook.test_connection``, in a layer above, asks for
the report of the "Test" button: the identity that signs in, and which of the actions
are granted.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from polysync_airflow import exceptions
from polysync_airflow.execution.models import pipeline_arns
from polysync_airflow.execution.results import JOB_KINDS, LIST_TRAINING_JOBS
from polysync_airflow.execution.texts import clean_line

# The SageMaker operations that the provider calls. Each operation has the same name as
# its IAM action. Each tuple is for one type of resource, so that a statement allows an
# action only for what it is about.
LIST_OPERATIONS: Final = ("ListPipelines",)
PIPELINE_OPERATIONS: Final = ("DescribePipeline", "StartPipelineExecution")
EXECUTION_OPERATIONS: Final = ("DescribePipelineExecution", "StopPipelineExecution")
REQUIRED_OPERATIONS: Final = (*PIPELINE_OPERATIONS, *EXECUTION_OPERATIONS)
# If one of these is denied, the provider works without it and says so in its messages.
OPTIONAL_PIPELINE_OPERATIONS: Final = ("ListPipelineExecutions",)
OPTIONAL_EXECUTION_OPERATIONS: Final = (
    "ListPipelineExecutionSteps",
    "DescribePipelineDefinitionForExecution",
    "RetryPipelineExecution",
    "ListPipelineParametersForExecution",
)
# For metrics, artefacts and billable seconds, by operation: the type of the resource.
JOB_OPERATIONS: Final = {
    **{kind.operation: kind.resource for kind in JOB_KINDS.values()},
    LIST_TRAINING_JOBS: "hyper-parameter-tuning-job",
}
# For the last lines of the log of a failed step, by operation: the end of the ARN. A
# Lambda step's function has a log group of its own.
LOG_OPERATIONS: Final = {"DescribeLogStreams": "", "GetLogEvents": ":log-stream:*"}
SAGEMAKER_LOG_GROUPS: Final = "/aws/sagemaker/*"
# For the sensor that waits for the approval of a model.
MODEL_OPERATIONS: Final = ("ListModelPackages", "DescribeModelPackage")
# For a task that answers callback steps. AWS knows the execution by the token.
ANSWER_OPERATIONS: Final = (
    "SendPipelineExecutionStepSuccess",
    "SendPipelineExecutionStepFailure",
)
# For whoever reads a queue. The last one lets it hold messages, or give them back.
QUEUE_OPERATIONS: Final = ("ReceiveMessage", "DeleteMessage", "ChangeMessageVisibility")
# With these, the tasks of parallel executions keep each other's messages out of the
# dead-letter queue.
SHARED_QUEUE_OPERATIONS: Final = ("SendMessage", "GetQueueAttributes")

# For ``polysync verify``, beside what it has in common with tasks, and the pipelines
# that it makes. AWS asks for AddTags, too, when a pipeline is created with tags.
VERIFY_OPERATIONS: Final = (
    "CreatePipeline",
    "AddTags",
    "ListTags",
    "UpdatePipeline",
    "DeletePipeline",
)
VERIFY_PIPELINES: Final = "polysync-verify-*"
# For tasks that make pipelines, and the pipelines whose names follow from the task.
MAKE_OPERATIONS: Final = ("CreatePipeline", "UpdatePipeline", "AddTags")
MADE_PIPELINES: Final = "airflow-*"

ISSUER_V1: Final = "sts.windows.net/{tenant}/"
ISSUER_V2: Final = "login.microsoftonline.com/{tenant}/v2.0"


def _executions_arn(pipeline_arn: str, account: str) -> str:
    # The executions of a pipeline that AWS manages, whose ARN has no account, run in
    # the account of the caller.
    own = pipeline_arn.replace(":aws:pipeline/", f":{account}:pipeline/")
    return f"{own}/execution/*"


def identity_policy(  # noqa: PLR0913 (options of a command)
    *,
    account: str = "ACCOUNT",
    region: str = "REGION",
    partition: str = "aws",
    pipelines: Sequence[str] = (),
    make_pipelines: Sequence[str | None] = (),
    pass_roles: Iterable[str] = (),
    property_files: Iterable[str] = (),
    model_package_groups: Iterable[str] = (),
    approve_models: bool = False,
    callback_queues: Sequence[str] = (),
    optional: bool = True,
    verify: bool = False,
    simulate_policy: Iterable[str] = (),
) -> dict[str, Any]:
    """
    Return the identity policy with the least privileges that the provider needs.

    :param account: 12-digit AWS account id.
    :param partition: the AWS partition, such as ``aws`` or ``aws-eusc``.
    :param pipelines: names or ARNs of the pipelines that tasks may use; empty for all
        of the account and region, or for none with ``make_pipelines`` or ``verify``.
    :param make_pipelines: names of the pipelines that tasks may also create and update;
        None for those whose names follow from the task.
    :param pass_roles: ARNs of the roles that a start or a pipeline may name.
    :param property_files: ``s3://<bucket>/<prefix>`` of the outputs with property files
        that may be read.
    :param model_package_groups: names of the model package groups whose approval a
        sensor may wait for.
    :param approve_models: also allow to approve and reject their versions.
    :param callback_queues: ARNs of the SQS queues of callback steps that tasks may
        answer.
    :param optional: also allow the operations that tasks can work without. They list
        steps and executions, resume executions, describe jobs, and read the logs of
        failed steps.
    :param verify: also allow what ``polysync verify`` does to its pipelines.
    :param simulate_policy: ARNs of the users and roles whose permissions it may ask IAM
        for.
    """
    sagemaker = f"arn:{partition}:sagemaker:{region}:{account}:"
    own = f"{sagemaker}pipeline/"
    own_names = [name or MADE_PIPELINES for name in make_pipelines]
    made = [arn for name in own_names for arn in pipeline_arns(own, name)]
    verified = []
    if verify:
        verified.append(own + VERIFY_PIPELINES)
    names = [*pipelines, *own_names, *verified] or ["*"]
    allowed = [arn for name in names for arn in pipeline_arns(own, name)]
    executions = [_executions_arn(arn, account) for arn in allowed]
    statements = [
        _allow("ListPipelines", LIST_OPERATIONS, ["*"]),
        _allow("RunPipelines", PIPELINE_OPERATIONS, allowed),
        _allow("RunExecutions", EXECUTION_OPERATIONS, executions),
    ]
    queue_operations = [*QUEUE_OPERATIONS]
    if optional:
        queue_operations += SHARED_QUEUE_OPERATIONS
        statements += [
            _allow("OptionalPipelines", OPTIONAL_PIPELINE_OPERATIONS, allowed),
            _allow("OptionalExecutions", OPTIONAL_EXECUTION_OPERATIONS, executions),
        ]
        if pipelines or own_names or not verify:
            logs = f"arn:{partition}:logs:{region}:{account}:log-group:"
            statements += _job_statements(sagemaker, logs)
    if callback_queues:
        statements.append(_allow("AnswerCallbackSteps", ANSWER_OPERATIONS, executions))

    # As with pipelines, ARNs may have the name in lower case.
    versions = [
        f"{sagemaker}model-package/{spelling}/*"
        for name in model_package_groups
        for spelling in (name, name.lower())
    ]
    if approve_models:
        # The approval status decides about deployments. A request without it, which
        # changes something else, does not have the key.
        status = {"sagemaker:ModelApprovalStatus": ["Approved", "Rejected"]}
        approval = ["UpdateModelPackage"]
        statements.append(_allow("ApproveModels", approval, versions, required=status))
    objects = [
        f"arn:{partition}:s3:::{uri.removeprefix('s3://')}*" for uri in property_files
    ]
    simulation = ["SimulatePrincipalPolicy"]
    service = {"iam:PassedToService": "sagemaker.amazonaws.com"}
    statements += [
        _allow("ReceiveCallbackMessages", queue_operations, callback_queues, "sqs"),
        _allow("ReadModels", MODEL_OPERATIONS, versions),
        _allow("ReadPropertyFiles", ["GetObject"], objects, "s3"),
        _allow("MakePipelines", MAKE_OPERATIONS, made),
        _allow("VerifyPipelines", VERIFY_OPERATIONS, verified),
        _allow("SimulatePolicy", simulation, simulate_policy, "iam"),
        _allow("PassExecutionRole", ["PassRole"], pass_roles, "iam", service),
    ]
    about_something = [each for each in statements if each["Resource"]]
    return {"Version": "2012-10-17", "Statement": about_something}


def _job_statements(sagemaker: str, logs: str) -> list[dict[str, Any]]:
    """
    Return what describes the jobs of steps, and reads their logs.

    :param sagemaker: the beginning of the ARNs of SageMaker's resources.
    :param logs: the beginning of the ARNs of log groups.
    """
    statements = []
    for kind in dict.fromkeys(JOB_OPERATIONS.values()):
        operations = [name for name in JOB_OPERATIONS if JOB_OPERATIONS[name] == kind]
        sid = "Optional" + kind.title().replace("-", "")
        statements.append(_allow(sid, operations, [f"{sagemaker}{kind}/*"]))
    for operation, suffix in LOG_OPERATIONS.items():
        resource = f"{logs}{SAGEMAKER_LOG_GROUPS}{suffix}"
        statements.append(
            _allow(f"Optional{operation}", [operation], [resource], "logs")
        )
    return statements


def web_identity_trust(
    *, account: str, issuer: str, audience: str, subject: str, partition: str = "aws"
) -> dict[str, Any]:
    """
    Return the trust policy of a role that a web identity token may assume.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_create_for-idp_oidc.html.
    STS makes no condition keys of other claims, such as ``oid``, so a condition on one
    would refuse every token:
    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif

    :param account: 12-digit id of the AWS account that has the role and the OIDC
        provider.
    :param issuer: ``iss`` of the token. ``https://`` may be left out, a slash at the
        end may not.
    :param audience: ``azp`` of the token if it has one, otherwise ``aud``.
    :param subject: ``sub`` of the token.
    :param partition: the AWS partition, such as ``aws`` or ``aws-eusc``.
    """
    provider = issuer.removeprefix("https://")
    principal = {
        "Federated": f"arn:{partition}:iam::{account}:oidc-provider/{provider}"
    }
    required = {f"{provider}:aud": audience, f"{provider}:sub": subject}
    return _trust(principal, "sts:AssumeRoleWithWebIdentity", required)


def caller_trust(*, principal: str, external_id: str | None = None) -> dict[str, Any]:
    """
    Return the trust policy of a role that an AWS identity may assume.

    :param principal: ARN of the user or role that assumes the role.
    :param external_id: external id that the caller must send; None if none is required.
    """
    required = {}
    if external_id:
        required["sts:ExternalId"] = external_id
    return _trust({"AWS": principal}, "sts:AssumeRole", required)


def _trust(
    principal: dict[str, str], action: str, required: dict[str, str]
) -> dict[str, Any]:
    statement: dict[str, Any] = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": action,
    }
    if required:
        statement["Condition"] = {"StringEquals": required}
    return {"Version": "2012-10-17", "Statement": [statement]}


def _allow(
    sid: str,
    operations: Iterable[str],
    resources: Iterable[str],
    service: str = "sagemaker",
    required: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Return a statement.

    :param required: the values of condition keys that a request must have.
    """
    statement: dict[str, Any] = {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"{service}:{operation}" for operation in operations],
        "Resource": sorted(set(resources)),
    }
    if required:
        statement["Condition"] = {"StringEquals": required}
    return statement


GRANTED: Final = "granted"
DENIED: Final = "denied"
UNKNOWN: Final = "unknown"
# A group that the policy allows. It exists where a training job has run.
_LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"


def describe_identity(hook: Any) -> str:
    """
    Describe the identity that signs in: ARN, account, region, sign-in method, expiry.

    https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html needs
    no permission.

    :raises PolysyncError: if the connection cannot sign in.
    """
    identity = hook.get_caller_identity()
    expires_at = hook.credentials_expire_at
    expiry = "credentials have no known expiry"
    if expires_at:
        expiry = (
            f"credentials expire at {expires_at:%Y-%m-%d %H:%M:%SZ} and are refreshed"
            " before"
        )
    return (
        f"Signed in as {clean_line(identity['Arn'])} (account"
        f" {clean_line(identity['Account'])}) in {hook.region_name} with"
        f" {hook.auth_description}; {expiry}."
    )


def connection_report(hook: Any) -> tuple[bool, str]:
    """
    Test a connection.

    :return: whether no required operation is denied, and the report.
    :raises PolysyncError: if the connection cannot sign in.
    """
    lines = [describe_identity(hook)]
    denied = []
    for operation, call in _probes(hook).items():
        permission = _check(call)
        lines.append(f"{operation}: {permission}")
        if permission == DENIED:
            denied.append(operation)
    if denied:
        lines.append(
            "The test used a pipeline that does not exist. A policy that allows only"
            " certain pipelines denies such calls too. To allow the denied operations"
            " for all pipelines, add to the policy: "
            + ", ".join(_missing_statements(denied, hook.pipelines_arn))
        )
    is_usable = not {*LIST_OPERATIONS, *REQUIRED_OPERATIONS}.intersection(denied)
    return is_usable, " -- ".join(lines)


def _missing_statements(denied: Sequence[str], pipelines_arn: str) -> Iterator[str]:
    """Yield the statements of the policy, each with the denied actions only."""
    _, partition, _, region, account, _ = pipelines_arn.split(":")
    policy = identity_policy(account=account, region=region, partition=partition)
    for statement in policy["Statement"]:
        actions = [
            action
            for action in statement["Action"]
            if action.partition(":")[2] in denied
        ]
        if actions:
            yield json.dumps({**statement, "Action": actions})


def _probes(hook: Any) -> Mapping[str, Callable[[], Any]]:
    """
    Return a call of each operation, by its name.

    The names and ARNs in the calls cannot exist, so the calls start, stop, change and
    return nothing.
    """
    pipeline_name = f"polysync-permission-probe-{uuid.uuid4().hex[:12]}"
    pipelines_arn = hook.pipelines_arn.removesuffix("*")
    by_name = {"PipelineName": pipeline_name}
    by_arn = {
        "PipelineExecutionArn": f"{pipelines_arn}{pipeline_name}/execution/000000000000"
    }
    token = {"ClientRequestToken": f"{pipeline_name}-{'0' * 32}"[:128]}
    requests: dict[str, Mapping[str, Any]] = {
        "ListPipelines": {"MaxResults": 1},
        "DescribePipeline": by_name,
        "StartPipelineExecution": by_name | token,
        "DescribePipelineExecution": by_arn,
        "StopPipelineExecution": by_arn | token,
        "ListPipelineExecutionSteps": by_arn,
        "DescribePipelineDefinitionForExecution": by_arn,
        "RetryPipelineExecution": by_arn | token,
        "ListPipelineExecutions": by_name,
        "ListPipelineParametersForExecution": by_arn,
        **{kind.operation: {kind.member: pipeline_name} for kind in JOB_KINDS.values()},
        LIST_TRAINING_JOBS: {"HyperParameterTuningJobName": pipeline_name},
    }
    probes = {
        operation: partial(hook.call, operation, **request)
        for operation, request in requests.items()
    }
    in_log_group = partial(hook.call_logs, logGroupName=_LOG_GROUP)
    probes["DescribeLogStreams"] = partial(
        in_log_group, "DescribeLogStreams", logStreamNamePrefix=pipeline_name
    )
    probes["GetLogEvents"] = partial(
        in_log_group, "GetLogEvents", logStreamName=pipeline_name
    )
    return probes


def _check(call: Callable[[], Any]) -> str:
    """Return whether the permission for a call is granted, denied or unknown."""
    try:
        call()
    except exceptions.SageMakerApiError as error:
        if exceptions.has_code(error, exceptions.ACCESS_DENIED):
            return DENIED
        # AWS checks the permissions before it looks for the resource.
        if exceptions.has_code(
            error, exceptions.RESOURCE_NOT_FOUND, exceptions.VALIDATION
        ):
            return GRANTED
        is_unreachable = exceptions.has_code(error, exceptions.NO_CONNECTION)
        if is_unreachable and error.operation not in LOG_OPERATIONS:
            # The call for each further operation would take as long.
            raise
        return f"{UNKNOWN}: {error.error_code}"
    except exceptions.PolysyncError as error:
        return f"{UNKNOWN}: {error}"
    return GRANTED
