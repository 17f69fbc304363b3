"""Tests of trust policies: which callers may assume which role."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator.builders import CALLER
from sagemaker_emulator.sign_in.policies import trusts
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/R"


def policy(
    principal: Any, condition: Any = None, action: str = "sts:AssumeRole"
) -> dict[str, Any]:
    """Return a trust policy with one statement."""
    statement = {
        "Effect": "Allow",
        "Principal": principal,
        "Action": action,
        "Condition": condition or {},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.fixture
def role(client_of: ClientOf) -> Callable[[dict[str, Any]], None]:
    """Create the role R with a trust policy."""

    def make(trust: dict[str, Any]) -> None:
        client_of("iam").create_role(
            RoleName="R", AssumeRolePolicyDocument=json.dumps(trust)
        )

    return make


def test_role_that_does_not_exist_is_rejected(client_of: ClientOf) -> None:
    """AssumeRole requires that the role exists in IAM."""
    error = error_of(client_of("sts").assume_role, RoleArn=ROLE, RoleSessionName="me")
    assert error == (
        "AccessDenied",
        f"User: {CALLER} is not authorized to perform: sts:AssumeRole on resource: {ROLE}",
    )


@pytest.mark.parametrize(
    "principal",
    [
        "*",
        {"AWS": "*"},
        {"AWS": ACCOUNT},
        {"AWS": ["arn:aws:iam::1:root", f"arn:aws:iam::{ACCOUNT}:root"]},
    ],
)
def test_trust_policy_that_names_the_account(
    client_of: ClientOf,
    role: Callable[[dict[str, Any]], None],
    create_session: Callable[..., Any],
    principal: Any,
) -> None:
    """
    If the trust policy names everyone or the account, the keys of the account can
    assume the role, and the session works.
    """
    role(policy(principal))
    response = client_of("sts").assume_role(RoleArn=ROLE, RoleSessionName="me")
    me = create_session("sts", response).get_caller_identity()
    assert (
        me["Arn"]
        == response["AssumedRoleUser"]["Arn"]
        == f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"
    )
    assert me["UserId"] == response["AssumedRoleUser"]["AssumedRoleId"]
    assert me["Account"] == ACCOUNT


@pytest.mark.parametrize(
    "trust",
    [
        policy({"AWS": "arn:aws:iam::999999999999:root"}),
        policy({"AWS": f"arn:aws:iam::{ACCOUNT}:user/somebody"}),
        policy({"Service": "sagemaker.amazonaws.com"}),
        policy("*", action="sts:TagSession"),
        policy("*", {"StringEquals": {"sts:ExternalId": "e"}}),
        policy("*", {"NumericLessThan": {"aws:MultiFactorAuthAge": "1"}}),
    ],
)
def test_caller_that_the_trust_policy_does_not_match_is_rejected(
    client_of: ClientOf, role: Callable[[dict[str, Any]], None], trust: dict[str, Any]
) -> None:
    """
    A trust policy for another principal, or with a condition that is not met, results
    in AccessDenied.
    """
    role(trust)
    assert (
        error_of(client_of("sts").assume_role, RoleArn=ROLE, RoleSessionName="me")[0]
        == "AccessDenied"
    )


def test_external_id_must_match(
    client_of: ClientOf, role: Callable[[dict[str, Any]], None]
) -> None:
    """A role with an external id can be assumed only with this external id."""
    role(policy("*", {"StringEquals": {"sts:ExternalId": "right"}}))
    request = {"RoleArn": ROLE, "RoleSessionName": "me"}
    assert client_of("sts").assume_role(ExternalId="right", **request)["Credentials"]
    assert (
        error_of(client_of("sts").assume_role, ExternalId="wrong", **request)[0]
        == "AccessDenied"
    )


def test_trust_policy_that_names_a_user_or_a_role(
    client_of: ClientOf,
    role: Callable[[dict[str, Any]], None],
    user: Callable[..., Any],
    create_session: Callable[..., Any],
) -> None:
    """
    If the trust policy names a user or a role, no other caller can assume the role.
    """
    sts = user("sts")
    role(policy({"AWS": f"arn:aws:iam::{ACCOUNT}:user/airflow"}))
    trust = json.dumps(policy({"AWS": ROLE}))
    client_of("iam").create_role(RoleName="S", AssumeRolePolicyDocument=trust)
    second = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/S", "RoleSessionName": "me"}
    assert (
        error_of(client_of("sts").assume_role, RoleArn=ROLE, RoleSessionName="me")[0]
        == "AccessDenied"
    )
    assert error_of(sts.assume_role, **second)[0] == "AccessDenied"
    session = create_session("sts", sts.assume_role(RoleArn=ROLE, RoleSessionName="me"))
    assert session.assume_role(**second)["Credentials"]


OTHER = {"AWS": {"arn:aws:iam::1:user/u", "1"}}


@pytest.mark.parametrize(
    ("condition", "context", "expected"),
    [
        ({"StringLike": {"k": "a*"}}, {"K": ["abc"]}, True),
        ({"StringLike": {"k": "a[b]c"}}, {"k": ["abc"]}, False),
        ({"StringNotEquals": {"k": "a"}}, {"k": ["b"]}, True),
        ({"StringNotEquals": {"k": "a"}}, {"k": ["a"]}, False),
        ({"StringEqualsIfExists": {"k": "a"}}, {}, True),
        ({"StringEquals": {"k": "a"}}, {}, False),
        ({"StringEquals": {"k": ["a", "b"]}}, {"k": ["b"]}, True),
        ({"ForAnyValue:StringEquals": {"k": "b"}}, {"k": ["a", "b"]}, True),
        ({"StringEquals": {"k": "${x}!"}}, {"k": ["a!"], "X": ["a"]}, True),
        ({"StringEquals": {"k": "${x}!"}}, {"k": ["a!"], "X": ["b"]}, False),
        ({"StringNotEquals": {"k": "${x}"}}, {"k": ["a"]}, False),
        ({"StringNotEquals": {"k": ["${x}", "b"]}}, {"k": ["a"], "x": ["c"]}, True),
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Bool": {"k": True}}, {"k": ["true"]}, True),
        (
            {"StringEquals": {"k": "a"}, "IpAddress": {"aws:SourceIp": "0.0.0.0/0"}},
            {"k": ["a"]},
            False,
        ),
    ],
)
def test_conditions(
    condition: dict[str, Any], context: dict[str, list[str]], expected: bool
) -> None:
    """
    Condition operators work as in IAM, and an unknown operator never grants access.
    """
    assert (
        trusts(policy({"AWS": "1"}, condition), "sts:AssumeRole", OTHER, context)
        is expected
    )


@pytest.mark.parametrize(
    "condition", [{}, {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}]
)
def test_deny_overrides_allow(condition: dict[str, Any]) -> None:
    """A Deny that applies or might apply overrides every Allow."""
    trust = policy("*")
    trust["Statement"].append(
        {"Effect": "Deny", "Principal": "*", "Action": "sts:*", "Condition": condition}
    )
    assert not trusts(trust, "sts:AssumeRole", OTHER, {})
    trust["Statement"][1]["Condition"] = {"StringEquals": {"k": "x"}}
    assert trusts(trust, "sts:AssumeRole", OTHER, {"k": ["y"]})


@pytest.mark.parametrize(
    ("effect", "excluded", "expected"),
    [
        ("Deny", {"AWS": "1"}, True),
        ("Deny", {"AWS": ["arn:aws:iam::1:user/u", "2"]}, True),
        ("Deny", {"AWS": "2"}, False),
        ("Allow", "*", False),
    ],
)
def test_not_principal(effect: str, excluded: Any, expected: bool) -> None:
    """
    A statement with NotPrincipal applies to every principal that it does not name.
    """
    trust = policy("*")
    statement = {"Effect": effect, "NotPrincipal": excluded, "Action": "sts:*"}
    trust["Statement"] = [*(trust["Statement"] if effect == "Deny" else []), statement]
    assert trusts(trust, "sts:AssumeRole", OTHER, {}) is expected
