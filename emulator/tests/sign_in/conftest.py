"""Fixtures of the tests in which the emulator enforces the policies in IAM."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from tests.conftest import ClientOf
from tests.sign_in.policies import document
from tests.sign_in.test_sts import ACCOUNT, policy

Grant = Callable[..., None]


@pytest.fixture
def _enforced(server: EmulatorServer) -> None:
    server.control.set_sign_in(enforce_iam=True)


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


@pytest.fixture
def session(
    client_of: ClientOf, create_session: Callable[..., Any]
) -> Callable[..., Any]:
    """
    Create a SageMaker client with a session of the role R, which has the given policy
    statements.
    """

    def make(*statements: dict[str, Any], **more: Any) -> Any:
        iam = client_of("iam")
        iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(policy("*")))
        iam.put_role_policy(
            RoleName="R", PolicyName="inline", PolicyDocument=document(statements[0])
        )
        for number, entry in enumerate(statements[1:]):
            created = iam.create_policy(
                PolicyName=f"p{number}", PolicyDocument=document(entry)
            )
            iam.attach_role_policy(RoleName="R", PolicyArn=created["Policy"]["Arn"])
        role = f"arn:aws:iam::{ACCOUNT}:role/R"
        response = client_of("sts").assume_role(
            RoleArn=role, RoleSessionName="me", **more
        )
        return create_session("sagemaker", response)

    return make
