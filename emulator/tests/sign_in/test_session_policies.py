"""Tests of the permissions of role sessions, and of session policies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of
from tests.sign_in.policies import (
    PIPELINES,
    SESSION,
    access_denied,
    document,
    statement,
)
from tests.sign_in.test_sts import ACCOUNT

pytestmark = pytest.mark.usefixtures("_enforced")


def test_session_has_the_permissions_of_its_role(session: Callable[..., Any]) -> None:
    """
    A role session has the permissions of the role's inline and attached policies, and
    errors name the session.
    """
    client = session(
        statement("sagemaker:ListPipelines"), statement("sagemaker:DescribePipeline")
    )
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
        Policy=document(
            statement(["sagemaker:ListPipelines", "sagemaker:DeletePipeline"])
        ),
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
    """
    The error names the policy type that denies, even if another policy type does not
    allow the action.
    """
    action = "sagemaker:ListPipelines"
    both = [
        statement(action, "*", effect) if effect else statement("s3:*")
        for effect in (roles, sessions)
    ]
    client = session(both[0], Policy=document(both[1]))
    assert error_of(client.list_pipelines)[1] == (
        f"User: {SESSION} is not authorized to perform: {action} on resource: * "
        f"with an explicit deny in {where} policy"
    )


def test_session_policy_restricts_assume_role(
    session: Callable[..., Any], client_of: ClientOf, create_session: Callable[..., Any]
) -> None:
    """
    A session policy also restricts AssumeRole, even if the trust policy names the role
    of the session.
    """
    session(statement("sts:AssumeRole"))
    request = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/R", "RoleSessionName": "me"}
    sts = client_of("sts")
    bound = create_session(
        "sts", sts.assume_role(Policy=document(statement("sagemaker:*")), **request)
    )
    assert error_of(bound.assume_role, **request)[0] == "AccessDenied"
    assert create_session("sts", sts.assume_role(**request)).assume_role(**request)[
        "Credentials"
    ]


def test_managed_session_policy(
    client_of: ClientOf, session: Callable[..., Any]
) -> None:
    """
    A session has no permissions if its session policy is a managed policy that does not
    exist.
    """
    nothing = session(
        statement("*"), PolicyArns=[{"arn": f"arn:aws:iam::{ACCOUNT}:policy/none"}]
    )
    assert error_of(nothing.list_pipelines)[0] == "AccessDeniedException"
