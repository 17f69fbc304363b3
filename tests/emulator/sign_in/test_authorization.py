"""Tests of permissions on pipeline operations, with the policies in IAM enforced."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from polysync_airflow.emulator import EmulatorServer
from tests.emulator.builders import ROLE as PIPELINE_ROLE
from tests.emulator.builders import chain
from tests.emulator.conftest import ClientOf
from tests.emulator.sagemaker.test_pipelines import error_of
from tests.emulator.sign_in.test_sts import ACCOUNT, policy

PIPELINES = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:pipeline"
USER = f"arn:aws:iam::{ACCOUNT}:user/airflow"
HAS_START_ROLE = "RoleArn" in (
    boto3.client("sagemaker", region_name="us-east-1")
    .meta.service_model.operation_model("StartPipelineExecution")
    .input_shape.members
)
Grant = Callable[..., None]


@pytest.fixture(autouse=True)
def _enforced(server: EmulatorServer) -> None:
    server.control.set_sign_in(enforce_iam=True)


def statement(action: Any, resource: Any = "*", effect: str = "Allow", **more: Any) -> dict[str, Any]:
    """Return a statement of an identity-based policy."""
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


def document(*statements: dict[str, Any]) -> str:
    """Return the text of a policy."""
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture
def sagemaker_of_user(user: Callable[..., Any]) -> Any:
    """A SageMaker client of the user airflow, who has no policy yet."""
    return user("sagemaker")


@pytest.fixture
def grant(client_of: ClientOf, sagemaker_of_user: Any) -> Grant:
    """Give the user airflow an inline policy."""

    def make(*statements: dict[str, Any]) -> None:
        client_of("iam").put_user_policy(
            UserName="airflow", PolicyName="p", PolicyDocument=document(*statements)
        )

    return make


def access_denied(action: str, resource: str, caller: str = USER) -> tuple[str, str]:
    """Return AWS's error for an action that no policy allows."""
    text = f"User: {caller} is not authorized to perform: {action} on resource: {resource} "
    return "AccessDeniedException", f"{text}because no identity-based policy allows the {action} action"


def test_nothing_is_allowed_without_a_policy(sagemaker_of_user: Any, create: Callable[..., str]) -> None:
    """
    A user without policies may do nothing, and the error contains the action and the ARN with the name in
    lower case.
    """
    create(chain("A"), "MyPipeline")
    start = sagemaker_of_user.start_pipeline_execution
    expected = access_denied("sagemaker:StartPipelineExecution", f"{PIPELINES}/mypipeline")
    assert error_of(start, PipelineName="MyPipeline") == expected
    assert error_of(start, PipelineName=f"{PIPELINES}/mypipeline") == expected
    assert error_of(sagemaker_of_user.list_pipelines) == access_denied("sagemaker:ListPipelines", "*")


EXECUTION = f"{PIPELINES}/mypipeline/execution/abcdefghijkl"


@pytest.mark.parametrize(
    ("operation", "request_members", "resource"),
    [
        ("DescribePipeline", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/mypipeline"),
        ("DeletePipeline", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/mypipeline"),
        ("UpdatePipeline", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/mypipeline"),
        ("ListPipelineExecutions", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/mypipeline"),
        ("DescribePipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("StopPipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("RetryPipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("UpdatePipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("ListPipelineExecutionSteps", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("ListPipelineParametersForExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("DescribePipelineDefinitionForExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("ListTags", {"ResourceArn": f"{PIPELINES}/mypipeline"}, f"{PIPELINES}/mypipeline"),
        ("ListPipelines", {"PipelineNamePrefix": "MyPipeline"}, "*"),
    ],
)
def test_permission_is_checked_before_existence(
    sagemaker_of_user: Any, grant: Grant, operation: str, request_members: dict[str, Any], resource: str
) -> None:
    """
    Only a caller with permission gets ResourceNotFound for a pipeline or an execution that does not exist.
    """
    call = getattr(sagemaker_of_user, boto3_name(operation))
    assert error_of(call, **request_members) == access_denied(f"sagemaker:{operation}", resource)
    grant(statement(f"sagemaker:{operation}", resource))
    if operation == "ListPipelines":
        assert call(**request_members)["PipelineSummaries"] == []
    else:
        assert error_of(call, **request_members)[0] == "ResourceNotFound"


def boto3_name(operation: str) -> str:
    """Return the name of the method of a boto3 client."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation).lstrip("_")


def test_permission_is_checked_before_validation(sagemaker_of_user: Any, create: Callable[..., str]) -> None:
    """Only a caller with permission gets the error of an invalid request."""
    create(chain("A"))
    invalid_request = {"PipelineName": "Demo", "PipelineParameters": [{"Name": "Unknown", "Value": "1"}]}
    assert (
        error_of(sagemaker_of_user.start_pipeline_execution, **invalid_request)[0] == "AccessDeniedException"
    )


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([statement("sagemaker:StartPipelineExecution", f"{PIPELINES}/demo")], True),
        ([statement("SageMaker:Start*", f"{PIPELINES}/d?mo")], True),
        ([statement(["s3:*", "sagemaker:*"], ["arn:aws:s3:::x", f"{PIPELINES}/*"])], True),
        ([statement("sagemaker:StartPipelineExecution", f"{PIPELINES}/Demo")], False),
        ([statement("sagemaker:StartPipelineExecution", f"{PIPELINES}/demo/*")], False),
        ([statement("sagemaker:StopPipelineExecution")], False),
        ([{"Effect": "Allow", "NotAction": "iam:*", "NotResource": f"{PIPELINES}/other"}], True),
        ([{"Effect": "Allow", "NotAction": "sagemaker:*", "Resource": "*"}], False),
        ([statement("*", f"{PIPELINES}/${{aws:username}}")], False),
        ([statement("*", "*", Condition={"StringEquals": {"aws:username": "airflow"}})], True),
        ([statement("*", "*", Condition={"StringEquals": {"aws:PrincipalArn": USER}})], True),
        ([statement("*", "*", Condition={"StringEquals": {"aws:RequestedRegion": "eu-west-1"}})], False),
        ([statement("*", "*", Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}})], False),
    ],
)
def test_allow_statement(
    sagemaker_of_user: Any,
    grant: Grant,
    create: Callable[..., str],
    statements: list[dict[str, Any]],
    allowed: bool,
) -> None:
    """
    Actions, resources and conditions of an Allow statement work as in IAM; resources are case-sensitive.
    """
    create(chain("A"))
    grant(*statements)
    if allowed:
        assert sagemaker_of_user.start_pipeline_execution(PipelineName="Demo")["PipelineExecutionArn"]
    else:
        error = error_of(sagemaker_of_user.start_pipeline_execution, PipelineName="Demo")
        assert error == access_denied("sagemaker:StartPipelineExecution", f"{PIPELINES}/demo")


@pytest.mark.parametrize(
    "effective",
    [
        statement("sagemaker:*", f"{PIPELINES}/demo", "Deny"),
        statement("sagemaker:*", "*", "Deny", Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),
        statement("sagemaker:*", f"{PIPELINES}/${{aws:SourceIp}}", "Deny"),
    ],
)
def test_deny_overrides_allow(
    sagemaker_of_user: Any, grant: Grant, create: Callable[..., str], effective: dict[str, Any]
) -> None:
    """A Deny that applies or might apply overrides every Allow, and the error reports an explicit deny."""
    create(chain("A"))
    grant(statement("*"), effective)
    action = "sagemaker:StartPipelineExecution"
    assert error_of(sagemaker_of_user.start_pipeline_execution, PipelineName="Demo") == (
        "AccessDeniedException",
        f"User: {USER} is not authorized to perform: {action} on resource: {PIPELINES}/demo "
        "with an explicit deny in an identity-based policy",
    )


def test_all_policies_of_a_user_apply(client_of: ClientOf, sagemaker_of_user: Any, grant: Grant) -> None:
    """The inline and attached policies of the user and of its groups all apply."""
    iam = client_of("iam")
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="airflow")
    grant(statement("sagemaker:DescribePipeline"))
    text = document(statement("sagemaker:DeletePipeline"))
    iam.put_group_policy(GroupName="g", PolicyName="q", PolicyDocument=text)
    for name, owner in (("StartPipelineExecution", "user"), ("ListPipelineExecutions", "group")):
        created = iam.create_policy(PolicyName=owner, PolicyDocument=document(statement(f"sagemaker:{name}")))
        arn = created["Policy"]["Arn"]
        if owner == "user":
            iam.attach_user_policy(UserName="airflow", PolicyArn=arn)
        else:
            iam.attach_group_policy(GroupName="g", PolicyArn=arn)
    for name in (
        "describe_pipeline",
        "delete_pipeline",
        "start_pipeline_execution",
        "list_pipeline_executions",
    ):
        assert error_of(getattr(sagemaker_of_user, name), PipelineName="x")[0] == "ResourceNotFound"
    assert error_of(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"
    iam.remove_user_from_group(GroupName="g", UserName="airflow")
    assert error_of(sagemaker_of_user.delete_pipeline, PipelineName="x")[0] == "AccessDeniedException"


def test_default_version_of_a_managed_policy_applies(client_of: ClientOf, sagemaker_of_user: Any) -> None:
    """Only the default version of a managed policy applies."""
    iam = client_of("iam")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=document(statement("sagemaker:*")))["Policy"][
        "Arn"
    ]
    iam.attach_user_policy(UserName="airflow", PolicyArn=arn)
    assert sagemaker_of_user.list_pipelines()["PipelineSummaries"] == []
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(statement("s3:*")), SetAsDefault=True)
    assert error_of(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"


@pytest.fixture
def session(client_of: ClientOf, create_session: Callable[..., Any]) -> Callable[..., Any]:
    """Create a SageMaker client with a session of the role R, which has the given policy statements."""

    def make(*statements: dict[str, Any], **more: Any) -> Any:
        iam = client_of("iam")
        iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(policy("*")))
        iam.put_role_policy(RoleName="R", PolicyName="inline", PolicyDocument=document(statements[0]))
        for number, entry in enumerate(statements[1:]):
            created = iam.create_policy(PolicyName=f"p{number}", PolicyDocument=document(entry))
            iam.attach_role_policy(RoleName="R", PolicyArn=created["Policy"]["Arn"])
        role = f"arn:aws:iam::{ACCOUNT}:role/R"
        response = client_of("sts").assume_role(RoleArn=role, RoleSessionName="me", **more)
        return create_session("sagemaker", response)

    return make


SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"


def test_session_has_the_permissions_of_its_role(session: Callable[..., Any]) -> None:
    """
    A role session has the permissions of the role's inline and attached policies, and errors name the
    session.
    """
    client = session(statement("sagemaker:ListPipelines"), statement("sagemaker:DescribePipeline"))
    assert client.list_pipelines()["PipelineSummaries"] == []
    assert error_of(client.describe_pipeline, PipelineName="x")[0] == "ResourceNotFound"
    assert error_of(client.delete_pipeline, PipelineName="x") == access_denied(
        "sagemaker:DeletePipeline", f"{PIPELINES}/x", SESSION
    )


def test_session_policy_restricts_permissions(session: Callable[..., Any]) -> None:
    """A session may do only what both its role and its session policy allow."""
    client = session(
        statement("sagemaker:ListPipelines"),
        statement("sagemaker:DescribePipeline"),
        Policy=document(statement(["sagemaker:ListPipelines", "sagemaker:DeletePipeline"])),
    )
    assert client.list_pipelines()["PipelineSummaries"] == []
    action = "sagemaker:DescribePipeline"
    assert error_of(client.describe_pipeline, PipelineName="x") == (
        "AccessDeniedException",
        f"User: {SESSION} is not authorized to perform: {action} on resource: {PIPELINES}/x "
        f"because no session policy allows the {action} action",
    )
    assert error_of(client.delete_pipeline, PipelineName="x") == access_denied(
        "sagemaker:DeletePipeline", f"{PIPELINES}/x", SESSION
    )


@pytest.mark.parametrize(
    ("roles", "sessions", "where"),
    [
        ("Deny", "Allow", "an identity-based"),
        ("Deny", None, "an identity-based"),
        ("Allow", "Deny", "a session"),
        (None, "Deny", "a session"),
    ],
)
def test_error_reports_a_deny_before_a_missing_permission(
    session: Callable[..., Any], roles: str | None, sessions: str | None, where: str
) -> None:
    """The error names the policy type that denies, even if another policy type does not allow the action."""
    action = "sagemaker:ListPipelines"
    both = [statement(action, "*", effect) if effect else statement("s3:*") for effect in (roles, sessions)]
    client = session(both[0], Policy=document(both[1]))
    assert error_of(client.list_pipelines)[1] == (
        f"User: {SESSION} is not authorized to perform: {action} on resource: * "
        f"with an explicit deny in {where} policy"
    )


def test_session_policy_restricts_assume_role(
    session: Callable[..., Any], client_of: ClientOf, create_session: Callable[..., Any]
) -> None:
    """A session policy also restricts AssumeRole, even if the trust policy names the role of the session."""
    session(statement("sts:AssumeRole"))
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/R", "RoleSessionName": "me"}
    sts = client_of("sts")
    bound = create_session("sts", sts.assume_role(Policy=document(statement("sagemaker:*")), **request))
    assert error_of(bound.assume_role, **request)[0] == "AccessDenied"
    assert create_session("sts", sts.assume_role(**request)).assume_role(**request)["Credentials"]


def test_managed_session_policy(client_of: ClientOf, session: Callable[..., Any]) -> None:
    """A session has no permissions if its session policy is a managed policy that does not exist."""
    nothing = session(statement("*"), PolicyArns=[{"arn": f"arn:aws:iam::{ACCOUNT}:policy/none"}])
    assert error_of(nothing.list_pipelines)[0] == "AccessDeniedException"


def test_passing_a_role_requires_a_permission(sagemaker_of_user: Any, grant: Grant) -> None:
    """A caller that names a role in a request needs the permission to pass it to SageMaker."""
    request = {"PipelineName": "P", "PipelineDefinition": chain("A"), "RoleArn": PIPELINE_ROLE}
    create = sagemaker_of_user.create_pipeline
    assert error_of(create, **request) == access_denied("sagemaker:CreatePipeline", f"{PIPELINES}/p")
    grant(statement("sagemaker:*"))
    assert error_of(create, **request) == access_denied("iam:PassRole", PIPELINE_ROLE)
    passed = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    grant(statement("sagemaker:*"), statement("iam:PassRole", PIPELINE_ROLE, Condition=passed))
    assert error_of(create, **request) == access_denied("iam:PassRole", PIPELINE_ROLE)
    passed["StringEquals"]["iam:PassedToService"] = "sagemaker.amazonaws.com"
    grant(statement("sagemaker:*"), statement("iam:PassRole", PIPELINE_ROLE, Condition=passed))
    assert create(**request)["PipelineArn"] == f"{PIPELINES}/p"


@pytest.mark.skipif(
    not HAS_START_ROLE, reason="this botocore does not support RoleArn in StartPipelineExecution"
)
def test_starting_with_a_role_requires_a_permission(
    sagemaker_of_user: Any, grant: Grant, create: Callable[..., str]
) -> None:
    """
    The permission to pass the role is checked before the request is rejected because the pipeline has its own
    role.
    """
    create(chain("A"))
    request = {"PipelineName": "Demo", "RoleArn": PIPELINE_ROLE}
    grant(statement("sagemaker:*"))
    start = sagemaker_of_user.start_pipeline_execution
    assert error_of(start, **request) == access_denied("iam:PassRole", PIPELINE_ROLE)
    grant(statement(["sagemaker:*", "iam:PassRole"]))
    assert error_of(start, **request)[0] == "ValidationException"


def test_caller_named_in_the_trust_policy_needs_no_permission_to_assume(
    client_of: ClientOf, user: Callable[..., Any], grant: Grant
) -> None:
    """
    A trust policy that names the user is sufficient; with one that names the account, the user needs a
    permission.
    """
    iam, sts = client_of("iam"), user("sts")
    for name, principal in (("Named", USER), ("Account", ACCOUNT)):
        trust = json.dumps(policy({"AWS": principal}))
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    named, account = (f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("Named", "Account"))
    assert sts.assume_role(RoleArn=named, RoleSessionName="me")["Credentials"]
    assert error_of(sts.assume_role, RoleArn=account, RoleSessionName="me") == (
        "AccessDenied",
        f"User: {USER} is not authorized to perform: sts:AssumeRole on resource: {account}",
    )
    grant(statement("sts:AssumeRole", account))
    assert sts.assume_role(RoleArn=account, RoleSessionName="me")["Credentials"]
    grant(statement("sts:AssumeRole", "*", "Deny"))
    assert error_of(sts.assume_role, RoleArn=named, RoleSessionName="me")[0] == "AccessDenied"


def test_caller_in_another_account_needs_a_permission_to_assume(client_of: ClientOf) -> None:
    """Across accounts, both the trust policy and the policies of the caller must allow AssumeRole."""
    other = "210987654321"
    home = client_of("iam")
    # moto creates the user in the account that this header names.
    home.meta.events.register(
        "before-sign.iam", lambda request, **_: request.headers.add_header("x-moto-account-id", other)
    )
    home.create_user(UserName="guest")
    keys = home.create_access_key(UserName="guest")["AccessKey"]
    pair = {"aws_access_key_id": keys["AccessKeyId"], "aws_secret_access_key": keys["SecretAccessKey"]}
    guest = client_of("sts", **pair)
    me = guest.get_caller_identity()
    assert (me["Account"], me["Arn"]) == (other, f"arn:aws:iam::{other}:user/guest")
    trust = json.dumps(policy({"AWS": me["Arn"]}))
    client_of("iam").create_role(RoleName="R", AssumeRolePolicyDocument=trust)
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/R", "RoleSessionName": "me"}
    assert error_of(guest.assume_role, **request)[0] == "AccessDenied"
    home.put_user_policy(
        UserName="guest", PolicyName="p", PolicyDocument=document(statement("sts:AssumeRole"))
    )
    assert guest.assume_role(**request)["AssumedRoleUser"]["Arn"] == SESSION


def test_root_user_may_perform_every_operation(sagemaker: Any, create: Callable[..., str]) -> None:
    """No policy applies to the account's root user, to whom invented keys belong."""
    create(chain("A"))
    assert sagemaker.start_pipeline_execution(PipelineName="Demo")["PipelineExecutionArn"]


def test_enforce_iam_can_be_switched_off(sagemaker_of_user: Any, server: EmulatorServer) -> None:
    """enforce_iam can be changed while the emulator is running, and policies do not apply if it is off."""
    assert error_of(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"
    server.control.set_sign_in(enforce_iam=False)
    assert sagemaker_of_user.list_pipelines()["PipelineSummaries"] == []
