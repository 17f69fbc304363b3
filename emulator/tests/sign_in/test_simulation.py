"""
Tests of SimulatePrincipalPolicy: which actions the policies of a user, a group or a
role allow.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import CALLER
from sagemaker_emulator.builders import ROLE as PIPELINE_ROLE
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of
from tests.sign_in.policies import PIPELINES, document, statement
from tests.sign_in.test_sts import ACCOUNT, ROLE, policy

OTHER = f"{PIPELINES}/Other"
DEMO = f"{PIPELINES}/Demo"
GROUP = f"arn:aws:iam::{ACCOUNT}:group/team"
USER = f"arn:aws:iam::{ACCOUNT}:user/people/me"
START, STOP = "sagemaker:StartPipelineExecution", "sagemaker:StopPipelineExecution"
PASS_ROLE = statement(
    "iam:PassRole",
    "*",
    Condition={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
)


@pytest.fixture
def iam(client_of: ClientOf) -> Any:
    """IAM with a role, a group and a user in it, each with policies."""
    client = client_of("iam")
    client.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(policy("*")))
    own = statement("sagemaker:DescribePipeline", f"{PIPELINES}/${{aws:username}}")
    inline = document(
        statement("sagemaker:St*", DEMO), statement(STOP, "*", "Deny"), PASS_ROLE, own
    )
    client.put_role_policy(RoleName="R", PolicyName="p", PolicyDocument=inline)
    created = client.create_policy(
        PolicyName="a", PolicyDocument=document(statement("s3:*"))
    )
    client.attach_role_policy(RoleName="R", PolicyArn=created["Policy"]["Arn"])
    client.create_group(GroupName="team")
    team = document(statement(START, f"{PIPELINES}/${{aws:username}}"))
    client.put_group_policy(GroupName="team", PolicyName="p", PolicyDocument=team)
    client.create_user(UserName="me", Path="/people/")
    client.add_user_to_group(GroupName="team", UserName="me")
    return client


def decisions(
    iam: Any, source: str, *actions: str, **more: Any
) -> list[tuple[str, str, str]]:
    """Return the action, the resource and the decision of each result, of all pages."""
    pages = iam.get_paginator("simulate_principal_policy").paginate(
        PolicySourceArn=source, ActionNames=list(actions), **more
    )
    names = ("EvalActionName", "EvalResourceName", "EvalDecision")
    found = [result for page in pages for result in page["EvaluationResults"]]
    return [(result[names[0]], result[names[1]], result[names[2]]) for result in found]


@pytest.mark.parametrize(
    ("source", "action", "resource", "decision"),
    [
        (ROLE, START, DEMO, "allowed"),
        (ROLE, START, OTHER, "implicitDeny"),
        (ROLE, START, "*", "implicitDeny"),
        (ROLE, STOP, DEMO, "explicitDeny"),
        (ROLE, "s3:PutObject", "arn:aws:s3:::bucket/*", "allowed"),
        (ROLE, "iam:PassRole", ROLE, "implicitDeny"),
        (ROLE, "sagemaker:DescribePipeline", f"{PIPELINES}/R", "implicitDeny"),
        (USER, START, f"{PIPELINES}/me", "allowed"),
        (USER, START, DEMO, "implicitDeny"),
        (GROUP, START, f"{PIPELINES}/me", "implicitDeny"),
    ],
)
def test_decision(
    iam: Any, source: str, action: str, resource: str, decision: str
) -> None:
    """
    The inline, attached and group policies decide, whether the emulator enforces them
    or not.
    """
    assert decisions(iam, source, action, ResourceArns=[resource]) == [
        (action, resource, decision)
    ]


def test_results(iam: Any) -> None:
    """
    Each action is evaluated for each resource, and what a condition needs is named
    where AWS names it.
    """
    request = {"PolicySourceArn": ROLE, "ActionNames": [START, "iam:PassRole"]}
    missing = ["aws:username", "iam:PassedToService"]
    assert iam.simulate_principal_policy(**request)["EvaluationResults"][0] == {
        "EvalActionName": START,
        "EvalResourceName": "*",
        "EvalDecision": "implicitDeny",
        "MissingContextValues": missing,
    }
    response = iam.simulate_principal_policy(**request, ResourceArns=[DEMO, OTHER])
    assert (response["IsTruncated"], len(response["EvaluationResults"])) == (False, 4)
    assert response["EvaluationResults"][0] == {
        "EvalActionName": START,
        "EvalResourceName": DEMO,
        "EvalDecision": "allowed",
        "MissingContextValues": [],
        "ResourceSpecificResults": [
            {
                "EvalResourceName": DEMO,
                "EvalResourceDecision": "allowed",
                "MissingContextValues": missing,
            }
        ],
    }


def test_context_and_further_policies(iam: Any) -> None:
    """Context keys and policies of the request count, too."""
    for service, decision in (("sagemaker", "allowed"), ("lambda", "implicitDeny")):
        entry = {
            "ContextKeyName": "iam:passedtoservice",
            "ContextKeyValues": [f"{service}.amazonaws.com"],
            "ContextKeyType": "string",
        }
        assert (
            decisions(iam, ROLE, "iam:PassRole", ContextEntries=[entry])[0][2]
            == decision
        )
    more = [document(statement("sagemaker:DeletePipeline"))]
    assert (
        decisions(iam, ROLE, "sagemaker:DeletePipeline", PolicyInputList=more)[0][2]
        == "allowed"
    )


def test_pages(iam: Any) -> None:
    """A request with many results is answered in pages, in order."""
    found = decisions(
        iam,
        ROLE,
        START,
        STOP,
        ResourceArns=[OTHER, DEMO, "*"],
        PaginationConfig={"PageSize": 2},
    )
    assert [each[:2] for each in found] == [
        (a, r) for a in (START, STOP) for r in (OTHER, DEMO, "*")
    ]
    request = {"PolicySourceArn": ROLE, "ActionNames": [START, STOP], "MaxItems": 1}
    first = iam.simulate_principal_policy(**request)
    assert (first["IsTruncated"], len(first["EvaluationResults"])) == (True, 1)
    last = iam.simulate_principal_policy(**request, Marker=first["Marker"])
    assert (last["IsTruncated"], len(last["EvaluationResults"]), "Marker" in last) == (
        False,
        1,
        False,
    )


@pytest.mark.parametrize(
    ("request_members", "error"),
    [
        (
            {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:role/Gone"},
            ("NoSuchEntity", "The role with name Gone cannot be found."),
        ),
        (
            {"PolicySourceArn": f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"},
            (
                "InvalidInput",
                f"Invalid Entity Arn: arn:aws:sts::{ACCOUNT}:assumed-role/R/me does not clearly define "
                "entity type and name.",
            ),
        ),
        (
            {"PolicySourceArn": f"arn:aws:iam::{ACCOUNT}:root"},
            (
                "InvalidInput",
                f"Invalid Entity Arn: arn:aws:iam::{ACCOUNT}:root does not clearly define entity type and name.",
            ),
        ),
        (
            {"ActionNames": ["s3:Put*"]},
            ("InvalidInput", "Invalid Entity Action: s3:Put*"),
        ),
        ({"Marker": "x"}, ("InvalidInput", "Invalid Marker: x")),
        (
            {"ResourcePolicy": "{}"},
            ("InvalidInput", "The emulator does not simulate ResourcePolicy."),
        ),
        (
            {"PolicyInputList": ["{"]},
            ("MalformedPolicyDocument", "Syntax errors in policy."),
        ),
    ],
)
def test_refused_request(
    iam: Any, request_members: dict[str, Any], error: tuple[str, str]
) -> None:
    """
    What AWS refuses is refused as by AWS, and so is what the emulator does not
    simulate.
    """
    request = {"PolicySourceArn": ROLE, "ActionNames": [START], **request_members}
    assert error_of(iam.simulate_principal_policy, **request) == error


def test_simulation_needs_a_permission(
    iam: Any, user: Callable[..., Any], server: EmulatorServer
) -> None:
    """
    Where policies are enforced, the caller needs the permission to simulate; the call
    log shows what it asked.
    """
    server.control.set_sign_in(enforce_iam=True)
    caller = user("iam")
    code, text = error_of(
        caller.simulate_principal_policy, PolicySourceArn=ROLE, ActionNames=[START]
    )
    assert code == "AccessDenied"
    assert (
        f"not authorized to perform: iam:SimulatePrincipalPolicy on resource: {ROLE} because"
        in text
    )
    granted = document(statement("iam:SimulatePrincipalPolicy", ROLE))
    iam.put_user_policy(UserName="airflow", PolicyName="p", PolicyDocument=granted)
    assert decisions(caller, ROLE, START)[0][2] == "implicitDeny"
    assert server.control.calls("SimulatePrincipalPolicy")[-1]["request"] == {
        "PolicySourceArn": ROLE,
        "ActionNames": [START],
        "ResourceArns": [],
    }


def test_default_role(client_of: ClientOf) -> None:
    """
    Invented keys are those of a role that exists, that SageMaker may assume, and that
    may do everything.
    """
    me = client_of("sts").get_caller_identity()
    name = me["Arn"].split("/")[1]
    iam = client_of("iam")
    role = iam.get_role(RoleName=name)["Role"]
    assert me["Arn"] == CALLER
    assert role["Arn"] == PIPELINE_ROLE
    assert me["UserId"] == f"{role['RoleId']}:emulator"
    (trust,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert (trust["Principal"], trust["Action"]) == (
        {"Service": "sagemaker.amazonaws.com"},
        "sts:AssumeRole",
    )
    assert decisions(iam, role["Arn"], "s3:PutObject")[0][2] == "allowed"
    china = client_of("sts", "cn-north-1").get_caller_identity()["Arn"]
    assert china == CALLER.replace("arn:aws:", "arn:aws-cn:")
    assert (
        client_of("iam", "cn-north-1")
        .get_role(RoleName=name)["Role"]["Arn"]
        .startswith("arn:aws-cn:")
    )
