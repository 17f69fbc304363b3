"""Who may assume which role."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.emulator.trust import allows

from .conftest import ClientOf
from .test_pipelines import refusal

ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/R"
ISSUER = "login.example.com/tenant/v2.0"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/{ISSUER}"


def policy(principal: Any, condition: Any = None, action: str = "sts:AssumeRole") -> dict[str, Any]:
    """Return a trust policy of one statement."""
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, "Condition": condition or {}}
    return {"Version": "2012-10-17", "Statement": [statement]}


@pytest.fixture
def role(client_of: ClientOf) -> Callable[[dict[str, Any]], None]:
    """Create the role R with a trust policy."""

    def make(trust: dict[str, Any]) -> None:
        client_of("iam").create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(trust))

    return make


def test_a_role_that_does_not_exist_is_refused(client_of: ClientOf) -> None:
    """AssumeRole needs a role in IAM."""
    found = refusal(client_of("sts").assume_role, RoleArn=ROLE, RoleSessionName="me")
    assert found == (
        "AccessDenied",
        f"User: arn:aws:iam::{ACCOUNT}:root is not authorized to perform: sts:AssumeRole on resource: {ROLE}",
    )


@pytest.mark.parametrize(
    "principal",
    ["*", {"AWS": "*"}, {"AWS": ACCOUNT}, {"AWS": ["arn:aws:iam::1:root", f"arn:aws:iam::{ACCOUNT}:root"]}],
)
def test_the_account_is_let_in(
    client_of: ClientOf, role: Callable[[dict[str, Any]], None], principal: Any
) -> None:
    """A trust policy that names everybody or the account lets its keys in, and the session works."""
    role(policy(principal))
    answer = client_of("sts").assume_role(RoleArn=ROLE, RoleSessionName="me")
    keys = answer["Credentials"]
    session = client_of(
        "sts",
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    assert session.get_caller_identity()["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"


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
def test_others_are_refused(
    client_of: ClientOf, role: Callable[[dict[str, Any]], None], trust: dict[str, Any]
) -> None:
    """A trust policy that means somebody else, or wants more, is AccessDenied."""
    role(trust)
    assert refusal(client_of("sts").assume_role, RoleArn=ROLE, RoleSessionName="me")[0] == "AccessDenied"


def test_an_external_id_must_match(client_of: ClientOf, role: Callable[[dict[str, Any]], None]) -> None:
    """A role with an external id is only assumed with that one."""
    role(policy("*", {"StringEquals": {"sts:ExternalId": "right"}}))
    request = {"RoleArn": ROLE, "RoleSessionName": "me"}
    assert client_of("sts").assume_role(ExternalId="right", **request)["Credentials"]
    assert refusal(client_of("sts").assume_role, ExternalId="wrong", **request)[0] == "AccessDenied"


def test_a_user_or_a_role_can_be_named(client_of: ClientOf, role: Callable[[dict[str, Any]], None]) -> None:
    """A trust policy may name one user or one role, and then means nobody else."""
    iam = client_of("iam")
    iam.create_user(UserName="airflow")
    keys = iam.create_access_key(UserName="airflow")["AccessKey"]
    user = client_of(
        "sts", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"]
    )
    role(policy({"AWS": f"arn:aws:iam::{ACCOUNT}:user/airflow"}))
    iam.create_role(RoleName="S", AssumeRolePolicyDocument=json.dumps(policy({"AWS": ROLE})))
    second = {"RoleArn": f"arn:aws:iam::{ACCOUNT}:role/S", "RoleSessionName": "me"}
    assert refusal(client_of("sts").assume_role, RoleArn=ROLE, RoleSessionName="me")[0] == "AccessDenied"
    assert refusal(user.assume_role, **second)[0] == "AccessDenied"
    keys = user.assume_role(RoleArn=ROLE, RoleSessionName="me")["Credentials"]
    session = client_of(
        "sts", aws_access_key_id=keys["AccessKeyId"], aws_secret_access_key=keys["SecretAccessKey"]
    )
    assert session.assume_role(**second)["Credentials"]


def token(**claims: Any) -> str:
    """Return an unsigned web identity token; a claim of None is left out."""
    body = {"iss": f"https://{ISSUER}", "aud": "app", "sub": "airflow", "exp": time.time() + 600, **claims}
    parts = [{"alg": "RS256"}, {name: value for name, value in body.items() if value is not None}, {}]
    encoded = (base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return ".".join(encoded)


@pytest.fixture
def federated(client_of: ClientOf, role: Callable[[dict[str, Any]], None]) -> Callable[..., Any]:
    """Assume R with a web identity token; IAM knows the issuer and R wants audience and subject."""
    client_of("iam").create_open_id_connect_provider(
        Url=f"https://{ISSUER}", ClientIDList=["app", "other-app"], ThumbprintList=["0" * 40]
    )
    wanted = {"StringEquals": {f"{ISSUER}:aud": "app", f"{ISSUER}:sub": "airflow"}}
    role(policy({"Federated": PROVIDER}, wanted, "sts:AssumeRoleWithWebIdentity"))
    sts = client_of("sts")

    def assume(web_identity: str) -> Any:
        return sts.assume_role_with_web_identity(
            RoleArn=ROLE, RoleSessionName="me", WebIdentityToken=web_identity
        )

    return assume


def test_a_web_identity_is_let_in(federated: Callable[..., Any]) -> None:
    """A token of the right issuer, audience and subject is exchanged for credentials."""
    assert federated(token())["AssumedRoleUser"]["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"
    assert federated(token(aud=["x", "app"]))["Credentials"]


@pytest.mark.parametrize(
    ("claims", "code", "message"),
    [
        ({"sub": "somebody"}, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        ({"aud": "other-app"}, "AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        ({"aud": "stranger"}, "InvalidIdentityToken", "Incorrect token audience"),
        (
            {"iss": "https://evil.example.com"},
            "InvalidIdentityToken",
            "No OpenIDConnect provider found in your account for https://evil.example.com",
        ),
        ({"exp": None}, "InvalidIdentityToken", "Missing a required claim: exp"),
    ],
)
def test_another_web_identity_is_refused(
    federated: Callable[..., Any], claims: dict[str, Any], code: str, message: str
) -> None:
    """Each claim that does not fit is refused in its own way."""
    assert refusal(federated, web_identity=token(**claims)) == (code, message)


def test_an_expired_web_identity_is_refused(federated: Callable[..., Any]) -> None:
    """A token is good until its expiry, in real time."""
    code, message = refusal(federated, web_identity=token(exp=time.time() - 1))
    assert (code, message[:13]) == ("ExpiredTokenException", "Token expired")


@pytest.mark.parametrize("text", ["no-token", "a.b.c", "a.bm90IGpzb24.c", "a.W10.c"])
def test_what_is_no_token_is_refused(federated: Callable[..., Any], text: str) -> None:
    """A text that is no JSON web token is an InvalidIdentityToken."""
    assert refusal(federated, web_identity=text)[0] == "InvalidIdentityToken"


CALLER = {"AWS": {"arn:aws:iam::1:user/u", "1"}}


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
        ({"Null": {"k": "true"}}, {}, True),
        ({"Null": {"k": "false"}}, {}, False),
        ({"Bool": {"k": True}}, {"k": ["true"]}, True),
        ({"StringEquals": {"k": "a"}, "IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}, {"k": ["a"]}, False),
    ],
)
def test_conditions(condition: dict[str, Any], context: dict[str, list[str]], expected: bool) -> None:
    """Condition operators have IAM's meaning; an unknown one opens no door."""
    assert allows(policy({"AWS": "1"}, condition), "sts:AssumeRole", CALLER, context) is expected


@pytest.mark.parametrize("condition", [{}, {"IpAddress": {"aws:SourceIp": "0.0.0.0/0"}}])
def test_a_deny_wins(condition: dict[str, Any]) -> None:
    """A Deny that applies, or might, is stronger than any Allow."""
    trust = policy("*")
    trust["Statement"].append({"Effect": "Deny", "Principal": "*", "Action": "sts:*", "Condition": condition})
    assert not allows(trust, "sts:AssumeRole", CALLER, {})
    trust["Statement"][1]["Condition"] = {"StringEquals": {"k": "x"}}
    assert allows(trust, "sts:AssumeRole", CALLER, {"k": ["y"]})
