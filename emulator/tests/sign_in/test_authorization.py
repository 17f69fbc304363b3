"""Tests of permissions on pipeline operations, with the policies in IAM enforced."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE as PIPELINE_ROLE
from tests.builders import chain
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of
from tests.sign_in.conftest import Grant
from tests.sign_in.policies import (
    PIPELINES,
    SESSION,
    USER,
    access_denied,
    document,
    statement,
)
from tests.sign_in.test_sts import ACCOUNT, policy

HAS_START_ROLE = "RoleArn" in (
    boto3.client("sagemaker", region_name="us-east-1")
    .meta.service_model.operation_model("StartPipelineExecution")
    .input_shape.members
)

pytestmark = pytest.mark.usefixtures("_enforced")


def test_nothing_is_allowed_without_a_policy(
    sagemaker_of_user: Any, create: Callable[..., str]
) -> None:
    """
    A user without policies may do nothing, and the error contains the action and the
    ARN.
    """
    create(chain("A"), "MyPipeline")
    start = sagemaker_of_user.start_pipeline_execution
    expected = access_denied(
        "sagemaker:StartPipelineExecution", f"{PIPELINES}/MyPipeline"
    )
    assert error_of(start, PipelineName="MyPipeline") == expected
    assert error_of(start, PipelineName=f"{PIPELINES}/MyPipeline") == expected
    assert error_of(sagemaker_of_user.list_pipelines) == access_denied(
        "sagemaker:ListPipelines", "*"
    )


RESOURCES = f"arn:aws:sagemaker:us-east-1:{ACCOUNT}"
EXECUTION = f"{PIPELINES}/MyPipeline/execution/abcdefghijkl"


@pytest.mark.parametrize(
    ("operation", "request_members", "resource"),
    [
        ("DescribePipeline", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/MyPipeline"),
        ("DeletePipeline", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/MyPipeline"),
        ("UpdatePipeline", {"PipelineName": "MyPipeline"}, f"{PIPELINES}/MyPipeline"),
        (
            "ListPipelineExecutions",
            {"PipelineName": "MyPipeline"},
            f"{PIPELINES}/MyPipeline",
        ),
        ("DescribePipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("StopPipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("RetryPipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("UpdatePipelineExecution", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        ("ListPipelineExecutionSteps", {"PipelineExecutionArn": EXECUTION}, EXECUTION),
        (
            "ListPipelineParametersForExecution",
            {"PipelineExecutionArn": EXECUTION},
            EXECUTION,
        ),
        (
            "DescribePipelineDefinitionForExecution",
            {"PipelineExecutionArn": EXECUTION},
            EXECUTION,
        ),
        (
            "ListTags",
            {"ResourceArn": f"{PIPELINES}/MyPipeline"},
            f"{PIPELINES}/MyPipeline",
        ),
        ("ListPipelines", {"PipelineNamePrefix": "MyPipeline"}, "*"),
        (
            "DescribeTrainingJob",
            {"TrainingJobName": "j"},
            f"{RESOURCES}:training-job/j",
        ),
        (
            "ListTrainingJobsForHyperParameterTuningJob",
            {"HyperParameterTuningJobName": "j"},
            f"{RESOURCES}:hyper-parameter-tuning-job/j",
        ),
        (
            "DescribeProcessingJob",
            {"ProcessingJobName": "j"},
            f"{RESOURCES}:processing-job/j",
        ),
        (
            "DescribeTransformJob",
            {"TransformJobName": "j"},
            f"{RESOURCES}:transform-job/j",
        ),
        ("DescribeEndpoint", {"EndpointName": "e"}, f"{RESOURCES}:endpoint/e"),
        (
            "DescribeModelPackage",
            {"ModelPackageName": "p"},
            f"{RESOURCES}:model-package/p",
        ),
        (
            "DeleteModelPackage",
            {"ModelPackageName": "p/1"},
            f"{RESOURCES}:model-package/p/1",
        ),
        (
            "CreateModelPackage",
            {"ModelPackageGroupName": "g"},
            f"{RESOURCES}:model-package-group/g",
        ),
        (
            "UpdatePipelineVersion",
            {"PipelineArn": f"{PIPELINES}/MyPipeline", "PipelineVersionId": 1},
            f"{PIPELINES}/MyPipeline",
        ),
        (
            "UpdateModelPackage",
            {
                "ModelPackageArn": f"{RESOURCES}:model-package/p/1",
                "ModelApprovalStatus": "Approved",
            },
            f"{RESOURCES}:model-package/p/1",
        ),
        (
            "ListModelPackages",
            {"ModelPackageGroupName": "g"},
            f"{RESOURCES}:model-package/g/*",
        ),
        (
            "ListModelPackages",
            {"ModelPackageGroupName": f"{RESOURCES}:model-package-group/g"},
            f"{RESOURCES}:model-package/g/*",
        ),
    ],
)
def test_permission_is_checked_before_existence(
    sagemaker_of_user: Any,
    grant: Grant,
    operation: str,
    request_members: dict[str, Any],
    resource: str,
) -> None:
    """
    Only a caller with permission gets ResourceNotFound for a pipeline or an execution
    that does not exist.
    """
    call = getattr(sagemaker_of_user, boto3_name(operation))
    assert error_of(call, **request_members) == access_denied(
        f"sagemaker:{operation}", resource
    )
    grant(statement(f"sagemaker:{operation}", resource))
    if operation == "ListPipelines":
        assert call(**request_members)["PipelineSummaries"] == []
    else:
        # moto's error for a job, and AWS's, is a ValidationException.
        missing = (
            "ResourceNotFound"
            if "Pipeline" in operation
            or operation in ("ListTags", "ListTrainingJobsForHyperParameterTuningJob")
            else "ValidationException"
        )
        assert error_of(call, **request_members)[0] == missing


def test_lists_of_all_model_packages_need_a_permission_for_all(
    sagemaker_of_user: Any, grant: Grant
) -> None:
    """Without a group, a request lists the packages of all groups."""
    everything = f"{RESOURCES}:model-package/*"
    grant(statement("sagemaker:ListModelPackages", f"{everything}/*"))
    assert sagemaker_of_user.list_model_packages()["ModelPackageSummaryList"] == []
    grant(statement("sagemaker:ListModelPackages", f"{RESOURCES}:model-package/g/*"))
    code, _ = error_of(sagemaker_of_user.list_model_packages)
    assert code == "AccessDeniedException"


@pytest.mark.parametrize("answer", ["Success", "Failure"])
def test_answers_to_callback_steps_need_a_permission_for_the_execution(
    shared_definitions: Path,
    server: EmulatorServer,
    sagemaker_of_user: Any,
    grant: Grant,
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Callable[[str], dict[str, dict[str, Any]]],
    answer: str,
) -> None:
    """The token names the execution, and one that nobody has is not found."""
    action = f"SendPipelineExecutionStep{answer}"
    send = getattr(sagemaker_of_user, boto3_name(action))
    create((shared_definitions / "callback_lambda.json").read_text())
    arn = start("Demo", Approver="me")
    server.control.advance(24 * 3600)
    callback = steps_of(arn)["WaitForApproval"]["Metadata"]["Callback"]
    token = callback["CallbackToken"]

    grant(statement(f"sagemaker:{action}", f"{PIPELINES}/Other/execution/*"))
    denied = error_of(send, CallbackToken=token)
    grant(statement(f"sagemaker:{action}", f"{PIPELINES}/Demo/execution/*"))

    assert denied == access_denied(f"sagemaker:{action}", arn)
    assert error_of(send, CallbackToken="0" * 10)[0] == "ResourceNotFound"
    assert send(CallbackToken=token)["PipelineExecutionArn"] == arn


@pytest.mark.parametrize(
    ("request_members", "allowed"),
    [
        ({"ModelApprovalStatus": "Approved"}, True),
        ({"ModelApprovalStatus": "Rejected"}, False),
        ({"ApprovalDescription": "good"}, False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_approval_status_is_a_condition_key(
    sagemaker: Any,
    sagemaker_of_user: Any,
    grant: Grant,
    request_members: dict[str, str],
    allowed: bool,
) -> None:
    """It has the status of the request; a request without one does not have it."""
    group = {"ModelPackageGroupName": "g"}
    sagemaker.create_model_package_group(**group)
    arn = sagemaker.create_model_package(**group)["ModelPackageArn"]
    condition = {"StringEquals": {"sagemaker:ModelApprovalStatus": "Approved"}}
    grant(statement("sagemaker:UpdateModelPackage", arn, Condition=condition))
    update = sagemaker_of_user.update_model_package

    if allowed:
        assert update(ModelPackageArn=arn, **request_members)["ModelPackageArn"] == arn
    else:
        denied = access_denied("sagemaker:UpdateModelPackage", arn)
        assert error_of(update, ModelPackageArn=arn, **request_members) == denied


def test_tags_need_a_permission(sagemaker_of_user: Any, grant: Grant) -> None:
    """Whoever creates a pipeline with tags needs AddTags, too."""
    arn = f"{PIPELINES}/Demo"
    grant(
        statement("sagemaker:CreatePipeline", arn),
        statement("iam:PassRole", PIPELINE_ROLE),
    )
    request = {
        "PipelineDefinition": chain("A"),
        "RoleArn": PIPELINE_ROLE,
        "ClientRequestToken": "t" * 32,
    }
    tagged = {
        "PipelineName": "Demo",
        "Tags": [{"Key": "team", "Value": "ml"}],
        **request,
    }
    assert error_of(sagemaker_of_user.create_pipeline, **tagged) == access_denied(
        "sagemaker:AddTags", arn
    )
    assert (
        sagemaker_of_user.create_pipeline(PipelineName="Demo", **request)["PipelineArn"]
        == arn
    )


def test_object_in_s3_needs_a_permission(
    user: Any, client_of: ClientOf, grant: Grant
) -> None:
    """A caller without s3:GetObject is denied the object, and one with it reads it."""
    root = client_of("s3")
    root.create_bucket(Bucket="ml-bucket")
    root.put_object(Bucket="ml-bucket", Key="a b/report.json", Body=b"{}")
    read = user("s3").get_object
    code, message = error_of(read, Bucket="ml-bucket", Key="a b/report.json")
    assert code == "AccessDenied"
    assert (
        "not authorized to perform: s3:GetObject on resource: arn:aws:s3:::ml-bucket/a b/report.json"
        in message
    )
    grant(statement("s3:GetObject", "arn:aws:s3:::ml-bucket/a b/*"))
    assert read(Bucket="ml-bucket", Key="a b/report.json")["Body"].read() == b"{}"


def boto3_name(operation: str) -> str:
    """Return the name of the method of a boto3 client."""
    return "".join(
        f"_{letter.lower()}" if letter.isupper() else letter for letter in operation
    ).lstrip("_")


def test_permission_is_checked_before_validation(
    sagemaker_of_user: Any, create: Callable[..., str]
) -> None:
    """Only a caller with permission gets the error of an invalid request."""
    create(chain("A"))
    invalid_request = {
        "PipelineName": "Demo",
        "PipelineParameters": [{"Name": "Unknown", "Value": "1"}],
    }
    assert (
        error_of(sagemaker_of_user.start_pipeline_execution, **invalid_request)[0]
        == "AccessDeniedException"
    )


@pytest.mark.parametrize(
    ("statements", "allowed"),
    [
        ([statement("sagemaker:StartPipelineExecution", f"{PIPELINES}/Demo")], True),
        ([statement("SageMaker:Start*", f"{PIPELINES}/D?mo")], True),
        (
            [statement(["s3:*", "sagemaker:*"], ["arn:aws:s3:::x", f"{PIPELINES}/*"])],
            True,
        ),
        ([statement("sagemaker:StartPipelineExecution", f"{PIPELINES}/demo")], False),
        ([statement("sagemaker:StartPipelineExecution", f"{PIPELINES}/Demo/*")], False),
        ([statement("sagemaker:StopPipelineExecution")], False),
        (
            [
                {
                    "Effect": "Allow",
                    "NotAction": "iam:*",
                    "NotResource": f"{PIPELINES}/other",
                }
            ],
            True,
        ),
        ([{"Effect": "Allow", "NotAction": "sagemaker:*", "Resource": "*"}], False),
        ([statement("*", f"{PIPELINES}/${{aws:username}}")], False),
        (
            [
                statement(
                    "*", "*", Condition={"StringEquals": {"aws:username": "airflow"}}
                )
            ],
            True,
        ),
        (
            [
                statement(
                    "*", "*", Condition={"StringEquals": {"aws:PrincipalArn": USER}}
                )
            ],
            True,
        ),
        (
            [
                statement(
                    "*",
                    "*",
                    Condition={"StringEquals": {"aws:RequestedRegion": "eu-west-1"}},
                )
            ],
            False,
        ),
        (
            [
                statement(
                    "*", "*", Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}
                )
            ],
            False,
        ),
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
    Actions, resources and conditions of an Allow statement work as in IAM; resources
    are case-sensitive.
    """
    create(chain("A"))
    grant(*statements)
    if allowed:
        assert sagemaker_of_user.start_pipeline_execution(PipelineName="Demo")[
            "PipelineExecutionArn"
        ]
    else:
        error = error_of(
            sagemaker_of_user.start_pipeline_execution, PipelineName="Demo"
        )
        assert error == access_denied(
            "sagemaker:StartPipelineExecution", f"{PIPELINES}/Demo"
        )


@pytest.mark.parametrize(
    "effective",
    [
        statement("sagemaker:*", f"{PIPELINES}/Demo", "Deny"),
        statement(
            "sagemaker:*",
            "*",
            "Deny",
            Condition={"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}},
        ),
        statement("sagemaker:*", f"{PIPELINES}/${{aws:SourceIp}}", "Deny"),
    ],
)
def test_deny_overrides_allow(
    sagemaker_of_user: Any,
    grant: Grant,
    create: Callable[..., str],
    effective: dict[str, Any],
) -> None:
    """
    A Deny that applies or might apply overrides every Allow, and the error reports an
    explicit deny.
    """
    create(chain("A"))
    grant(statement("*"), effective)
    action = "sagemaker:StartPipelineExecution"
    assert error_of(
        sagemaker_of_user.start_pipeline_execution, PipelineName="Demo"
    ) == (
        "AccessDeniedException",
        f"User: {USER} is not authorized to perform: {action} on resource: {PIPELINES}/Demo "
        "with an explicit deny in an identity-based policy",
    )


def test_all_policies_of_a_user_apply(
    client_of: ClientOf, sagemaker_of_user: Any, grant: Grant
) -> None:
    """The inline and attached policies of the user and of its groups all apply."""
    iam = client_of("iam")
    iam.create_group(GroupName="g")
    iam.add_user_to_group(GroupName="g", UserName="airflow")
    grant(statement("sagemaker:DescribePipeline"))
    text = document(statement("sagemaker:DeletePipeline"))
    iam.put_group_policy(GroupName="g", PolicyName="q", PolicyDocument=text)
    for name, owner in (
        ("StartPipelineExecution", "user"),
        ("ListPipelineExecutions", "group"),
    ):
        created = iam.create_policy(
            PolicyName=owner, PolicyDocument=document(statement(f"sagemaker:{name}"))
        )
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
        assert (
            error_of(getattr(sagemaker_of_user, name), PipelineName="x")[0]
            == "ResourceNotFound"
        )
    assert error_of(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"
    iam.remove_user_from_group(GroupName="g", UserName="airflow")
    assert (
        error_of(sagemaker_of_user.delete_pipeline, PipelineName="x")[0]
        == "AccessDeniedException"
    )


def test_default_version_of_a_managed_policy_applies(
    client_of: ClientOf, sagemaker_of_user: Any
) -> None:
    """Only the default version of a managed policy applies."""
    iam = client_of("iam")
    arn = iam.create_policy(
        PolicyName="p", PolicyDocument=document(statement("sagemaker:*"))
    )["Policy"]["Arn"]
    iam.attach_user_policy(UserName="airflow", PolicyArn=arn)
    assert sagemaker_of_user.list_pipelines()["PipelineSummaries"] == []
    iam.create_policy_version(
        PolicyArn=arn, PolicyDocument=document(statement("s3:*")), SetAsDefault=True
    )
    assert error_of(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"


def test_passing_a_role_requires_a_permission(
    sagemaker_of_user: Any, grant: Grant
) -> None:
    """
    A caller that names a role in a request needs the permission to pass it to
    SageMaker.
    """
    request = {
        "PipelineName": "P",
        "PipelineDefinition": chain("A"),
        "RoleArn": PIPELINE_ROLE,
    }
    create = sagemaker_of_user.create_pipeline
    assert error_of(create, **request) == access_denied(
        "sagemaker:CreatePipeline", f"{PIPELINES}/P"
    )
    grant(statement("sagemaker:*"))
    assert error_of(create, **request) == access_denied("iam:PassRole", PIPELINE_ROLE)
    passed = {"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
    grant(
        statement("sagemaker:*"),
        statement("iam:PassRole", PIPELINE_ROLE, Condition=passed),
    )
    assert error_of(create, **request) == access_denied("iam:PassRole", PIPELINE_ROLE)
    passed["StringEquals"]["iam:PassedToService"] = "sagemaker.amazonaws.com"
    grant(
        statement("sagemaker:*"),
        statement("iam:PassRole", PIPELINE_ROLE, Condition=passed),
    )
    assert create(**request)["PipelineArn"] == f"{PIPELINES}/P"


@pytest.mark.skipif(
    not HAS_START_ROLE,
    reason="this botocore does not support RoleArn in StartPipelineExecution",
)
def test_starting_with_a_role_requires_a_permission(
    sagemaker_of_user: Any, grant: Grant, create: Callable[..., str]
) -> None:
    """
    The permission to pass the role is checked before the request is rejected because
    the pipeline has its own role.
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
    A trust policy that names the user is sufficient; with one that names the account,
    the user needs a permission.
    """
    iam, sts = client_of("iam"), user("sts")
    for name, principal in (("Named", USER), ("Account", ACCOUNT)):
        trust = json.dumps(policy({"AWS": principal}))
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    named, account = (
        f"arn:aws:iam::{ACCOUNT}:role/{name}" for name in ("Named", "Account")
    )
    assert sts.assume_role(RoleArn=named, RoleSessionName="me")["Credentials"]
    assert error_of(sts.assume_role, RoleArn=account, RoleSessionName="me") == (
        "AccessDenied",
        f"User: {USER} is not authorized to perform: sts:AssumeRole on resource: {account}",
    )
    grant(statement("sts:AssumeRole", account))
    assert sts.assume_role(RoleArn=account, RoleSessionName="me")["Credentials"]
    grant(statement("sts:AssumeRole", "*", "Deny"))
    assert (
        error_of(sts.assume_role, RoleArn=named, RoleSessionName="me")[0]
        == "AccessDenied"
    )


def test_caller_in_another_account_needs_a_permission_to_assume(
    client_of: ClientOf, new_client_of: ClientOf
) -> None:
    """
    Across accounts, both the trust policy and the policies of the caller must allow
    AssumeRole.
    """
    other = "210987654321"
    home = new_client_of("iam")
    # moto creates the user in the account that this header names.
    home.meta.events.register(
        "before-sign.iam",
        lambda request, **_: request.headers.add_header("x-moto-account-id", other),
    )
    home.create_user(UserName="guest")
    keys = home.create_access_key(UserName="guest")["AccessKey"]
    pair = {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
    }
    guest = client_of("sts", **pair)
    me = guest.get_caller_identity()
    assert (me["Account"], me["Arn"]) == (other, f"arn:aws:iam::{other}:user/guest")
    trust = json.dumps(policy({"AWS": me["Arn"]}))
    client_of("iam").create_role(RoleName="R", AssumeRolePolicyDocument=trust)
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/R", "RoleSessionName": "me"}
    assert error_of(guest.assume_role, **request)[0] == "AccessDenied"
    home.put_user_policy(
        UserName="guest",
        PolicyName="p",
        PolicyDocument=document(statement("sts:AssumeRole")),
    )
    assert guest.assume_role(**request)["AssumedRoleUser"]["Arn"] == SESSION


def test_invented_keys(
    client_of: ClientOf, sagemaker: Any, create: Callable[..., str]
) -> None:
    """Invented keys may do everything, until the policy of their role is changed."""
    create(chain("A"))
    assert sagemaker.start_pipeline_execution(PipelineName="Demo")[
        "PipelineExecutionArn"
    ]
    denied = document(statement("sagemaker:Start*", "*", "Deny"))
    client_of("iam").put_role_policy(
        RoleName="SageMakerRole", PolicyName="p", PolicyDocument=denied
    )
    assert (
        error_of(sagemaker.start_pipeline_execution, PipelineName="Demo")[0]
        == "AccessDeniedException"
    )


def test_enforce_iam_can_be_switched_off(
    sagemaker_of_user: Any, server: EmulatorServer
) -> None:
    """
    enforce_iam can be changed while the emulator is running, and policies do not apply
    if it is off.
    """
    assert error_of(sagemaker_of_user.list_pipelines)[0] == "AccessDeniedException"
    server.control.set_sign_in(enforce_iam=False)
    assert sagemaker_of_user.list_pipelines()["PipelineSummaries"] == []
