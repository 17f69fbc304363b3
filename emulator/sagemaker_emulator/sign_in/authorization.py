"""
Authorizes requests: decides whether the policies in IAM allow the caller to perform an
operation, and the roles of pipelines and jobs what their steps need.

It evaluates identity-based policies (inline, attached, and those of a user's groups)
and session policies, by the rules of
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html.
It does not evaluate permissions boundaries, the policies of an organization and
condition keys for tags. All pipelines are in the emulator's own account, even if the
caller is in another account.

Like AWS, the emulator authorizes a request before it validates it. A caller without
permission gets AccessDeniedException even for a pipeline that does not exist; only a
caller with permission gets ResourceNotFound. An answer to a callback step names the
execution by the token of the step, so a token that nobody has is not authorized: it is
not found.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.protocol import AwsRequest
from sagemaker_emulator.sagemaker.jobs.descriptions import OPERATIONS as JOB_OPERATIONS
from sagemaker_emulator.sagemaker.role_calls import RoleCall
from sagemaker_emulator.sagemaker.store import partition, resource_arn
from sagemaker_emulator.sign_in import iam
from sagemaker_emulator.sign_in.iam import Caller
from sagemaker_emulator.sign_in.policies import (
    AuthorizationRequest,
    Context,
    Decision,
    evaluate,
    trusts,
)

# https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonsagemaker.html
# lists the resource of each action, and the condition keys.
_RESOURCE_MEMBERS = (
    "PipelineName",
    "PipelineArn",
    "PipelineExecutionArn",
    "ResourceArn",
)
# The operations on jobs and model packages, with the member that names one, and the
# type of the resource.
_NAMED_BY = {
    "CreateModelPackage": ("ModelPackageGroupName", "model-package-group"),
    "DescribeModelPackage": ("ModelPackageName", "model-package"),
    "UpdateModelPackage": ("ModelPackageArn", "model-package"),
    "DeleteModelPackage": ("ModelPackageName", "model-package"),
    **{name: (job.member, job.resource) for name, job in JOB_OPERATIONS.items()},
}
_S3_OBJECT = re.compile(r"(?:GET|HEAD) /([^/]+)/(.+)")
# The requests that name an execution by the token of a callback step only.
_BY_TOKEN = frozenset(
    {"SendPipelineExecutionStepSuccess", "SendPipelineExecutionStepFailure"}
)
# The operations with the condition key sagemaker:ModelApprovalStatus, and the member
# that has its value.
_APPROVING = frozenset({"CreateModelPackage", "UpdateModelPackage"})
_APPROVAL = "ModelApprovalStatus"
_PASSED_TO_SERVICE = "sagemaker.amazonaws.com"
_IDENTITY_BASED = "identity-based"
_SESSION = "session"
_WITH_ARTICLE = {_IDENTITY_BASED: "an identity-based", _SESSION: "a session"}


def check_operation(
    caller: Caller,
    operation: str,
    region: str,
    body: Any,
    execution_with_token: Callable[[str], str | None],
) -> None:
    """
    Check that a caller may perform an operation of SageMaker, may give the tags of the
    request, if any, and may pass the role that it names, if any.

    :param caller: the caller.
    :param operation: the name of the operation.
    :param region: the AWS region of the request.
    :param body: the request, parsed from JSON and not validated.
    :param execution_with_token: returns the ARN of the execution whose callback step
        has a token; None if nobody has it.
    :raises ApiError: AccessDeniedException.
    """
    request: Mapping[str, Any] = {}
    if isinstance(body, dict):
        request = body
    context = caller.context(region)
    if operation in _BY_TOKEN:
        execution = execution_with_token(str(request.get("CallbackToken")))
        if execution is None:
            return
        resource = execution
    else:
        resource = _resource(operation, region, request)
    action_context = dict(context)
    if operation in _APPROVING and _APPROVAL in request:
        action_context[f"sagemaker:{_APPROVAL}"] = [str(request[_APPROVAL])]
    _require(caller, f"sagemaker:{operation}", resource, action_context)
    if request.get("Tags"):
        # https://docs.aws.amazon.com/sagemaker/latest/dg/security_iam_id-based-policy-examples.html#grant-tagging-permissions
        _require(caller, "sagemaker:AddTags", resource, context)
    role_arn = request.get("RoleArn")
    if isinstance(role_arn, str):
        _require(
            caller,
            "iam:PassRole",
            role_arn,
            {**context, "iam:PassedToService": [_PASSED_TO_SERVICE]},
        )


def check_read(caller: Caller | None, aws: AwsRequest) -> None:
    """
    Check that a caller may read from moto what a step has made: an S3 object.

    :param caller: the caller; None for a request that nobody has signed.
    :param aws: any request that moto will handle. Those for something else are not
        checked.
    :raises ApiError: AccessDeniedException, and AccessDenied for S3.
    """
    if aws.service != "s3":
        return
    s3_object = _S3_OBJECT.fullmatch(aws.operation)
    if s3_object is None:
        return
    if caller is None:
        raise ApiError("AccessDenied", "Access Denied", 403)
    bucket, key = s3_object.groups()
    arn = f"arn:{partition(aws.region)}:s3:::{bucket}/{key}"
    try:
        _require(caller, "s3:GetObject", arn, caller.context(aws.region))
    except ApiError as error:
        raise ApiError("AccessDenied", error.message, 403) from error


def refusal_of_role(call: RoleCall) -> str | None:
    """
    Return why a role may not make a call that a step needs; None if it may.

    https://docs.aws.amazon.com/sagemaker/latest/dg/security-confused-deputy-prevention.html
    """
    role = iam.role(call.role_arn)
    source = {
        "aws:SourceArn": [call.source_arn],
        "aws:SourceAccount": [call.source_arn.split(":")[4]],
    }
    sagemaker = {"Service": [_PASSED_TO_SERVICE]}
    if role is None or not trusts(
        role.trust_policy, "sts:AssumeRole", sagemaker, source
    ):
        return f"SageMaker was unable to assume the role '{call.role_arn}'"
    caller = role.session(call.session, ())
    context = caller.context(call.region)
    if call.passed_to:
        context["iam:PassedToService"] = [call.passed_to]
    try:
        _require(caller, call.action, call.resource, context)
    except ApiError as error:
        return error.message
    return None


def check_simulation(caller: Caller, region: str, source_arn: str) -> None:
    """
    Check that a caller may simulate the policies of a user, a group or a role.

    :param caller: the caller.
    :param region: the AWS region of the request.
    :param source_arn: the ARN of the user, the group or the role.
    :raises ApiError: AccessDenied.
    """
    try:
        _require(
            caller, "iam:SimulatePrincipalPolicy", source_arn, caller.context(region)
        )
    except ApiError as error:
        raise ApiError("AccessDenied", error.message, 403) from error


def decide(
    caller: Caller, action: str, resource: str, context: Context
) -> tuple[Decision, str]:
    """
    Return the decision of all policies of a caller, and the type of the policies that
    it comes from: ``identity-based`` or ``session``.

    :param caller: the caller.
    :param action: the action, such as ``sts:AssumeRole``.
    :param resource: the ARN of the resource, or ``*``.
    :param context: the values of the condition keys.
    """
    request = AuthorizationRequest(action, resource, context)
    policies = iam.identity_policies(caller.principal_arn) or []
    decisions = [(evaluate(policies, request), _IDENTITY_BASED)]
    if caller.session_policies:
        decisions.append((evaluate(caller.session_policies, request), _SESSION))
    for denial in (Decision.EXPLICIT_DENY, Decision.IMPLICIT_DENY):
        for decision, policy_type in decisions:
            if decision is denial:
                return decision, policy_type
    return Decision.ALLOWED, _IDENTITY_BASED


def _resource(operation: str, region: str, request: Mapping[str, Any]) -> str:
    """Return the ARN of the resource of a request, or ``*``."""
    if operation == "ListModelPackages":
        # The versions of a group, which may be named by its ARN, or of all groups.
        group = str(request.get("ModelPackageGroupName", "*")).rpartition("/")[2]
        return resource_arn(region, "model-package", f"{group}/*")
    if operation in _NAMED_BY:
        member, kind = _NAMED_BY[operation]
        if operation == "CreateModelPackage" and member not in request:
            # A package without a group has a name of its own.
            return _arn_of(
                str(request.get("ModelPackageName")), "model-package", region
            )
        return _arn_of(str(request.get(member)), kind, region)

    for member in _RESOURCE_MEMBERS:
        name_or_arn = request.get(member)
        if isinstance(name_or_arn, str):
            return _arn_of(name_or_arn, "pipeline", region)
    return "*"


def _arn_of(name_or_arn: str, kind: str, region: str) -> str:
    """Return the ARN of a resource. The API accepts an ARN wherever it takes a name."""
    if name_or_arn.startswith("arn:"):
        return name_or_arn
    return resource_arn(region, kind, name_or_arn)


def _require(caller: Caller, action: str, resource: str, context: Context) -> None:
    """
    Check that all policies of a caller together allow an action.

    :raises ApiError: AccessDeniedException, with the type of the policies that deny it.
    """
    decision, policy_type = decide(caller, action, resource, context)
    if decision is Decision.ALLOWED:
        return
    if decision is Decision.EXPLICIT_DENY:
        reason = f"with an explicit deny in {_WITH_ARTICLE[policy_type]} policy"
    else:
        reason = f"because no {policy_type} policy allows the {action} action"
    raise ApiError(
        "AccessDeniedException",
        f"User: {caller.arn} is not authorized to perform: {action} on resource:"
        f" {resource} {reason}",
    )
