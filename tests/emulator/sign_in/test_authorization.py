"""Who may do what with pipelines, where IAM's policies decide."""

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
from tests.emulator.sagemaker.test_pipelines import refusal
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
    """Return a statement of an identity policy."""
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


def denied(action: str, resource: str, caller: str = USER) -> tuple[str, str]:
    """Return AWS's refusal of what no policy allows."""
    text = f"User: {caller} is not authorized to perform: {action} on resource: {resource} "
    return "AccessDeniedException", f"{text}because no identity-based policy allows the {action} action"


def test_nothing_is_allowed_without_a_policy(sagemaker_of_user: Any, create: Callable[..., str]) -> None:
    """A user without policies may do nothing, and is told what on which ARN, with the name in lower case."""
    create(chain("A"), "MyPipeline")
    start = sagemaker_of_user.start_pipeline_execution
    expected = denied("sagemaker:StartPipelineExecution", f"{PIPELINES}/mypipeline")
    assert refusal(start, PipelineName="MyPipeline") == expected
    assert refusal(start, PipelineName=f"{PIPELINES}/mypipeline") == expected
    assert refusal(sagemaker_of_user.list_pipelines) == denied("sagemaker:ListPipelines", "*")


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
def test_permission_comes_before_existence(
    sagemaker_of_user: Any, grant: Grant, operation: str, request_members: dict[str, Any], resource: str
) -> None:
    """Who may not learns nothing, and who may learns that there is no such pipeline or execution."""
    call = getattr(sagemaker_of_user, boto3_name(operation))
    assert refusal(call, **request_members) == denied(f"sagemaker:{operation}", resource)
    grant(statement(f"sagemaker:{operation}", resource))
    if operation == "ListPipelines":
        assert call(**request_members)["PipelineSummaries"] == []
    else:
        assert refusal(call, **request_members)[0] == "ResourceNotFound"


def boto3_name(operation: str) -> str:
    """Return the name of a client's method."""
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in operation).lstrip("_")


def test_permission_comes_before_validation(sagemaker_of_user: Any, create: Callable[..., str]) -> None:
    """What is wrong with a request is only told to those who may send it."""
    create(chain("A"))
    wrong = {"PipelineName": "Demo", "PipelineParameters": [{"Name": "Unknown", "Value": "1"}]}
    assert refusal(sagemaker_of_user.start_pipeline_execution, **wrong)[0] == "AccessDeniedException"


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
def test_a_statement_allows(
    sagemaker_of_user: Any,
    grant: Grant,
    create: Callable[..., str],
    statements: list[dict[str, Any]],
    allowed: bool,
) -> None:
    """Actions, resources and conditions of an Allow have IAM's meaning; resources tell upper from lower case."""
    create(chain("A"))
    grant(*statements)
    if allowed:
        assert sagemaker_of_user.start_pipeline_execution(PipelineName="Demo")["PipelineExecutionArn"]
    else:
        found = refusal(sagemaker_of_user.start_pipeline_execution, PipelineName="Demo")
        assert found == denied("sagemaker:StartPipelineExecution", f"{PIPELINES}/demo")


@pytest.mark.parametrize(
    "effective",
    [
        statement("sagemaker:*", f"{PIPELINES}/demo", "Deny"),
        statement("sagemaker:*", "*", "Deny", Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}),
        statement("sagemaker:*", f"{PIPELINES}/${{aws:SourceIp}}", "Deny"),
    ],
)
def test_a_deny_wins(
    sagemaker_of_user: Any, grant: Grant, create: Callable[..., str], effective: dict[str, Any]
) -> None:
    """A Deny that applies, or might, is stronger than any Allow, and the refusal says that it was one."""
    create(chain("A"))
    grant(statement("*"), effective)
    action = "sagemaker:StartPipelineExecution"
    assert refusal(sagemaker_of_user.start_pipeline_execution, PipelineName="Demo") == (
        "AccessDeniedException",
        f"User: {USER} is not authorized to perform: {action} on resource: {PIPELINES}/demo "
        "with an explicit deny in an identity-based policy",
    )


def test_all_of_a_users_policies_count(client_of: ClientOf, sagemaker_of_user: Any, grant: Grant) -> None:
    """Inline and attached policies of the user and of its groups are taken together."""
    iam = client_of("iam")
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="airflow")
    grant(statement("sagemaker:DescribePipeline"))
    text = document(statement("sagemaker:DeletePipeline"))
    iam.put_group_policy(GroupName="g", PolicyName="q", PolicyDocument=text)
    for name, owner in (("StartPipelineExecution", "user"), ("ListPipelineExecutions", "group")):
        made = iam.create_policy(PolicyName=owner, PolicyDocument=document(statement(f"sagemaker:{name}")))
        arn = made["Policy"]["Arn"]
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
        assert refusal(getattr(sagemaker_of_user, name), PipelineName="x")[0] == "ResourceNotFound"
    assert refusal(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"
    iam.remove_user_from_group(GroupName="g", UserName="airflow")
    assert refusal(sagemaker_of_user.delete_pipeline, PipelineName="x")[0] == "AccessDeniedException"


def test_a_managed_policy_counts_in_its_default_version(client_of: ClientOf, sagemaker_of_user: Any) -> None:
    """What a managed policy said in an older version is no longer so."""
    iam = client_of("iam")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=document(statement("sagemaker:*")))["Policy"][
        "Arn"
    ]
    iam.attach_user_policy(UserName="airflow", PolicyArn=arn)
    assert sagemaker_of_user.list_pipelines()["PipelineSummaries"] == []
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=document(statement("s3:*")), SetAsDefault=True)
    assert refusal(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"


@pytest.fixture
def session(client_of: ClientOf, create_session: Callable[..., Any]) -> Callable[..., Any]:
    """Make a SageMaker client of a session of the role R, whose policies allow what is given."""

    def make(*statements: dict[str, Any], **more: Any) -> Any:
        iam = client_of("iam")
        iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(policy("*")))
        iam.put_role_policy(RoleName="R", PolicyName="inline", PolicyDocument=document(statements[0]))
        for number, entry in enumerate(statements[1:]):
            made = iam.create_policy(PolicyName=f"p{number}", PolicyDocument=document(entry))
            iam.attach_role_policy(RoleName="R", PolicyArn=made["Policy"]["Arn"])
        role = f"arn:aws:iam::{ACCOUNT}:role/R"
        answer = client_of("sts").assume_role(RoleArn=role, RoleSessionName="me", **more)
        return create_session("sagemaker", answer)

    return make


SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"


def test_a_session_has_its_roles_permissions(session: Callable[..., Any]) -> None:
    """A role session may what the role's inline and attached policies allow, and is named as a session."""
    client = session(statement("sagemaker:ListPipelines"), statement("sagemaker:DescribePipeline"))
    assert client.list_pipelines()["PipelineSummaries"] == []
    assert refusal(client.describe_pipeline, PipelineName="x")[0] == "ResourceNotFound"
    assert refusal(client.delete_pipeline, PipelineName="x") == denied(
        "sagemaker:DeletePipeline", f"{PIPELINES}/x", SESSION
    )


def test_a_session_policy_takes_permissions_away(session: Callable[..., Any]) -> None:
    """A session may only what both its role and the policy it was made with allow."""
    client = session(
        statement("sagemaker:ListPipelines"),
        statement("sagemaker:DescribePipeline"),
        Policy=document(statement(["sagemaker:ListPipelines", "sagemaker:DeletePipeline"])),
    )
    assert client.list_pipelines()["PipelineSummaries"] == []
    action = "sagemaker:DescribePipeline"
    assert refusal(client.describe_pipeline, PipelineName="x") == (
        "AccessDeniedException",
        f"User: {SESSION} is not authorized to perform: {action} on resource: {PIPELINES}/x "
        f"because no session policy allows the {action} action",
    )
    assert refusal(client.delete_pipeline, PipelineName="x") == denied(
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
def test_a_deny_is_told_before_a_missing_permission(
    session: Callable[..., Any], roles: str | None, sessions: str | None, where: str
) -> None:
    """The refusal names the kind of policy that denies, even where another kind allows nothing."""
    action = "sagemaker:ListPipelines"
    both = [statement(action, "*", effect) if effect else statement("s3:*") for effect in (roles, sessions)]
    client = session(both[0], Policy=document(both[1]))
    assert refusal(client.list_pipelines)[1] == (
        f"User: {SESSION} is not authorized to perform: {action} on resource: * "
        f"with an explicit deny in {where} policy"
    )


def test_a_session_policy_forbids_assuming(
    session: Callable[..., Any], client_of: ClientOf, create_session: Callable[..., Any]
) -> None:
    """A session that was given less may not assume a role either, even one whose trust policy names it."""
    session(statement("sts:AssumeRole"))
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/R", "RoleSessionName": "me"}
    sts = client_of("sts")
    bound = create_session("sts", sts.assume_role(Policy=document(statement("sagemaker:*")), **request))
    assert refusal(bound.assume_role, **request)[0] == "AccessDenied"
    assert create_session("sts", sts.assume_role(**request)).assume_role(**request)["Credentials"]


def test_a_session_policy_may_be_a_managed_one(client_of: ClientOf, session: Callable[..., Any]) -> None:
    """Managed policies limit a session, too; one that does not exist leaves it nothing."""
    nothing = session(statement("*"), PolicyArns=[{"arn": f"arn:aws:iam::{ACCOUNT}:policy/none"}])
    assert refusal(nothing.list_pipelines)[0] == "AccessDeniedException"


def test_passing_a_role_needs_a_permission(sagemaker_of_user: Any, grant: Grant) -> None:
    """Whoever names a role in a request must be allowed to pass it to SageMaker."""
    request = {"PipelineName": "P", "PipelineDefinition": chain("A"), "RoleArn": PIPELINE_ROLE}
    create = sagemaker_of_user.create_pipeline
    assert refusal(create, **request) == denied("sagemaker:CreatePipeline", f"{PIPELINES}/p")
    grant(statement("sagemaker:*"))
    assert refusal(create, **request) == denied("iam:PassRole", PIPELINE_ROLE)
    passed = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    grant(statement("sagemaker:*"), statement("iam:PassRole", PIPELINE_ROLE, Condition=passed))
    assert refusal(create, **request) == denied("iam:PassRole", PIPELINE_ROLE)
    passed["StringEquals"]["iam:PassedToService"] = "sagemaker.amazonaws.com"
    grant(statement("sagemaker:*"), statement("iam:PassRole", PIPELINE_ROLE, Condition=passed))
    assert create(**request)["PipelineArn"] == f"{PIPELINES}/p"


@pytest.mark.skipif(not HAS_START_ROLE, reason="this botocore starts without a role")
def test_starting_with_a_role_needs_a_permission(
    sagemaker_of_user: Any, grant: Grant, create: Callable[..., str]
) -> None:
    """A role at start is passed as well, before it is found that this pipeline takes none."""
    create(chain("A"))
    request = {"PipelineName": "Demo", "RoleArn": PIPELINE_ROLE}
    grant(statement("sagemaker:*"))
    start = sagemaker_of_user.start_pipeline_execution
    assert refusal(start, **request) == denied("iam:PassRole", PIPELINE_ROLE)
    grant(statement(["sagemaker:*", "iam:PassRole"]))
    assert refusal(start, **request)[0] == "ValidationException"


def test_a_named_caller_of_the_account_needs_no_permission_to_assume(
    client_of: ClientOf, user: Callable[..., Any], grant: Grant
) -> None:
    """A trust policy that names the user suffices; one that names the account leaves it to the user's policies."""
    iam, sts = client_of("iam"), user("sts")
    for name, principal in (("Named", USER), ("Account", ACCOUNT)):
        trust = json.dumps(policy({"AWS": principal}))
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    named, account = (f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("Named", "Account"))
    assert sts.assume_role(RoleArn=named, RoleSessionName="me")["Credentials"]
    assert refusal(sts.assume_role, RoleArn=account, RoleSessionName="me") == (
        "AccessDenied",
        f"User: {USER} is not authorized to perform: sts:AssumeRole on resource: {account}",
    )
    grant(statement("sts:AssumeRole", account))
    assert sts.assume_role(RoleArn=account, RoleSessionName="me")["Credentials"]
    grant(statement("sts:AssumeRole", "*", "Deny"))
    assert refusal(sts.assume_role, RoleArn=named, RoleSessionName="me")[0] == "AccessDenied"


def test_a_caller_of_another_account_needs_a_permission_to_assume(client_of: ClientOf) -> None:
    """Between accounts both sides must agree: the trust policy, and the caller's own policies."""
    other = "210987654321"
    home = client_of("iam")
    # moto makes a user in whichever account it is told.
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
    assert refusal(guest.assume_role, **request)[0] == "AccessDenied"
    home.put_user_policy(
        UserName="guest", PolicyName="p", PolicyDocument=document(statement("sts:AssumeRole"))
    )
    assert guest.assume_role(**request)["AssumedRoleUser"]["Arn"] == SESSION


def test_the_root_may_do_all(sagemaker: Any, create: Callable[..., str]) -> None:
    """No policy binds the account's root, which is what made-up keys are."""
    create(chain("A"))
    assert sagemaker.start_pipeline_execution(PipelineName="Demo")["PipelineExecutionArn"]


def test_policies_decide_only_when_asked_to(sagemaker_of_user: Any, server: EmulatorServer) -> None:
    """Whether IAM is enforced can be changed while the emulator runs, and is off unless asked for."""
    assert refusal(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"
    server.control.set_sign_in(enforce_iam=False)
    assert sagemaker_of_user.list_pipelines()["PipelineSummaries"] == []
