"""Tests of the lifetime of credentials, and of requests with invalid credentials."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config

from sagemaker_emulator import ControlRefused, EmulatorServer, VirtualClock
from sagemaker_emulator.builders import CALLER
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of
from tests.sign_in.issuer import Issuer, token
from tests.sign_in.test_sts import ACCOUNT, ROLE, policy
from tests.sign_in.test_web_identity import ACTION

SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"
EXPIRED = "The security token included in the request is expired"
INVALID = "The security token included in the request is invalid"
GetCredentials = Callable[..., dict[str, Any]]


@pytest.fixture
def assume(client_of: ClientOf) -> GetCredentials:
    """Assume the role R, which trusts everyone, for up to two hours."""
    trust = json.dumps(policy("*"))
    client_of("iam").create_role(
        RoleName="R", AssumeRolePolicyDocument=trust, MaxSessionDuration=7200
    )

    def make(**more: Any) -> dict[str, Any]:
        response: dict[str, Any] = client_of("sts").assume_role(
            RoleArn=ROLE, RoleSessionName="me", **more
        )
        return response

    return make


def create_federated_role(iam: Any, issuer: Issuer) -> None:
    """
    Create a provider for the issuer in IAM, and a role R that trusts its subject
    airflow and every AWS caller.
    """
    provider = iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app"])
    federated = {"Federated": provider["OpenIDConnectProviderArn"]}
    trust = policy(
        federated, {"StringEquals": {f"{issuer.name}:sub": "airflow"}}, ACTION
    )
    trust["Statement"] += policy("*")["Statement"]
    iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(trust))


@pytest.fixture
def credential_sources(
    client_of: ClientOf, user: Callable[..., Any], issuer: Issuer
) -> dict[str, GetCredentials]:
    """The ways to get session credentials, by name."""
    create_federated_role(client_of("iam"), issuer)
    role_arguments = {"RoleArn": ROLE, "RoleSessionName": "me"}
    return {
        "assumed": lambda: client_of("sts").assume_role(**role_arguments),
        "federated": lambda: client_of("sts").assume_role_with_web_identity(
            WebIdentityToken=token(issuer.url), **role_arguments
        ),
        "user's": lambda: user("sts").get_session_token(),
    }


def seconds_left(response: dict[str, Any], now: float) -> float:
    """Return the number of seconds until credentials expire."""
    return float(response["Credentials"]["Expiration"].timestamp()) - now


@pytest.mark.parametrize(
    ("kind", "caller"),
    [
        ("assumed", SESSION),
        ("federated", SESSION),
        ("user's", f"arn:aws:iam::{ACCOUNT}:user/airflow"),
    ],
)
def test_expired_credentials_are_rejected(
    credential_sources: dict[str, GetCredentials],
    create_session: Callable[..., Any],
    server: EmulatorServer,
    kind: str,
    caller: str,
) -> None:
    """
    Credentials work until the configured lifetime in real seconds is over; then each
    service returns its own error.
    """
    server.control.set_sign_in(sts={"lifetime": 1.5})
    response = credential_sources[kind]()
    assert 0 < seconds_left(response, time.time()) <= 1.5
    sagemaker, sts = (
        create_session("sagemaker", response),
        create_session("sts", response),
    )
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    assert sts.get_caller_identity()["Arn"] == caller
    assert [call["caller"] for call in server.control.calls()[-2:]] == [caller, caller]
    time.sleep(max(0.0, seconds_left(response, time.time())) + 0.05)
    assert error_of(sagemaker.list_pipelines) == ("ExpiredTokenException", EXPIRED)
    assert error_of(sts.get_caller_identity) == ("ExpiredToken", EXPIRED)
    assert error_of(sts.assume_role, RoleArn=ROLE, RoleSessionName="me") == (
        "ExpiredToken",
        EXPIRED,
    )
    assert {call["caller"] for call in server.control.calls()[-3:]} == {caller}
    # Without the setting, new credentials are valid for the requested duration.
    server.control.set_sign_in(sts={"lifetime": None})
    assert (
        create_session("sagemaker", credential_sources[kind]()).list_pipelines()[
            "PipelineSummaries"
        ]
        == []
    )


@pytest.mark.parametrize("token_of", [None, "another"])
def test_session_token_must_match_the_access_key(
    assume: GetCredentials, client_of: ClientOf, token_of: str | None
) -> None:
    """The access key of a session is rejected without its own session token."""
    keys = assume()["Credentials"]
    other = assume()["Credentials"]["SessionToken"] if token_of else None
    more = {"aws_session_token": other} if other else {}
    pair = {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        **more,
    }
    assert error_of(client_of("sagemaker", **pair).list_pipelines) == (
        "UnrecognizedClientException",
        f"{INVALID}.",
    )
    assert error_of(client_of("sts", **pair).get_caller_identity) == (
        "InvalidClientTokenId",
        INVALID,
    )


def test_unknown_temporary_key_requires_a_session_token(client_of: ClientOf) -> None:
    """
    A temporary key that the emulator did not issue is one of the default role, but only
    with a session token.
    """
    pair = {
        "aws_access_key_id": "ASIAELSEWHERE0000000",
        "aws_secret_access_key": "secret",
    }
    assert (
        error_of(client_of("sts", **pair).get_caller_identity)[0]
        == "InvalidClientTokenId"
    )
    with_token = client_of("sts", aws_session_token="token", **pair)
    assert with_token.get_caller_identity()["Arn"] == CALLER


def test_key_of_a_user_must_be_used_without_session_token(
    user: Callable[..., Any], client_of: ClientOf, server: EmulatorServer
) -> None:
    """The key of a user works without a session token, as long as the key is active."""
    sts = user("sts")
    me = sts.get_caller_identity()
    assert (me["Arn"], me["Account"]) == (
        f"arn:aws:iam::{ACCOUNT}:user/airflow",
        ACCOUNT,
    )
    key = client_of("iam").list_access_keys(UserName="airflow")["AccessKeyMetadata"][0][
        "AccessKeyId"
    ]
    pair = {
        "aws_access_key_id": key,
        "aws_secret_access_key": "secret",
        "aws_session_token": "token",
    }
    assert (
        error_of(client_of("sts", **pair).get_caller_identity)[0]
        == "InvalidClientTokenId"
    )
    client_of("iam").update_access_key(
        UserName="airflow", AccessKeyId=key, Status="Inactive"
    )
    assert error_of(sts.get_caller_identity)[0] == "InvalidClientTokenId"
    assert (
        error_of(user("sagemaker").list_pipelines)[0] == "UnrecognizedClientException"
    )
    assert server.control.calls()[-1]["detail"] == "the access key is inactive"


def test_invented_keys_belong_to_the_default_role(
    client_of: ClientOf, server: EmulatorServer
) -> None:
    """Without users in IAM, the emulator accepts every key."""
    me = client_of("sts").get_caller_identity()
    assert (me["Arn"], me["Account"]) == (CALLER, ACCOUNT)
    assert server.control.calls()[-1]["caller"] == CALLER


def test_session_duration(assume: GetCredentials) -> None:
    """
    By the host's clock, credentials are valid for an hour or for the requested
    duration.
    """
    now = time.time()
    assert 3598 <= seconds_left(assume(), now) <= 3602
    assert 898 <= seconds_left(assume(DurationSeconds=900), now) <= 902
    expiration = assume()["Credentials"]["Expiration"]
    assert expiration.microsecond == 0


@pytest.mark.parametrize(
    ("request_members", "message"),
    [
        (
            {"DurationSeconds": 43201},
            "1 validation error detected: Value '43201' at 'durationSeconds' failed to satisfy constraint: "
            "Member must have value less than or equal to 43200",
        ),
        (
            {"DurationSeconds": 7201},
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
        ),
        (
            {"RoleSessionName": "a b"},
            "1 validation error detected: Value 'a b' at 'roleSessionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [\\w+=,.@-]*",
        ),
    ],
)
def test_invalid_request_is_rejected(
    assume: GetCredentials,
    client_of: ClientOf,
    request_members: dict[str, Any],
    message: str,
) -> None:
    """STS validates the duration and the session name like AWS."""
    assume()
    request = {"RoleArn": ROLE, "RoleSessionName": "me", **request_members}
    assert error_of(client_of("sts").assume_role, **request) == (
        "ValidationError",
        message,
    )


def test_minimum_duration(assume: GetCredentials, server: EmulatorServer) -> None:
    """
    STS rejects a duration below AWS's minimum, and a missing session name, if the
    client does not.
    """
    assume()
    factory: Any = boto3.client
    sts = factory(
        "sts",
        endpoint_url=server.endpoint_url,
        region_name="us-east-1",
        aws_access_key_id="AKIATEST",
        aws_secret_access_key="secret",
        config=Config(parameter_validation=False),
    )
    error = error_of(
        sts.assume_role, RoleArn=ROLE, RoleSessionName="me", DurationSeconds=899
    )
    assert error == (
        "ValidationError",
        "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: "
        "Member must have value greater than or equal to 900",
    )
    assert error_of(sts.assume_role, RoleArn=ROLE) == (
        "ValidationError",
        "1 validation error detected: Value null at 'roleSessionName' failed to satisfy constraint: "
        "Member must not be null",
    )


def test_maximum_duration_of_role_chaining(
    assume: GetCredentials, create_session: Callable[..., Any]
) -> None:
    """A role session can assume another role for at most an hour."""
    sts = create_session("sts", assume())
    request = {"RoleArn": ROLE, "RoleSessionName": "chained"}
    assert sts.assume_role(DurationSeconds=3600, **request)["Credentials"]
    assert error_of(sts.assume_role, DurationSeconds=3601, **request) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
    )


def test_session_cannot_call_get_session_token(
    assume: GetCredentials, create_session: Callable[..., Any]
) -> None:
    """
    GetSessionToken is for users: temporary credentials cannot be extended with it.
    """
    error = error_of(create_session("sts", assume()).get_session_token)
    assert error == (
        "AccessDenied",
        "Cannot call GetSessionToken with session credentials",
    )


def test_credentials_can_expire_by_the_emulated_clock(
    assume: GetCredentials, create_session: Callable[..., Any], server: EmulatorServer
) -> None:
    """
    With this setting, the Expiration is set and enforced in emulated time; by default
    that time has no effect.
    """
    clock = server.clock
    assert isinstance(clock, VirtualClock)
    before = create_session("sagemaker", assume())
    server.control.set_sign_in(sts={"clock": "emulated"})
    response = assume()
    expected = datetime.fromtimestamp(int(clock.now() + 3600), UTC)
    assert response["Credentials"]["Expiration"] == expected
    sagemaker = create_session("sagemaker", response)
    clock.advance(3599)
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    clock.advance(1)
    assert error_of(sagemaker.list_pipelines)[0] == "ExpiredTokenException"
    assert before.list_pipelines()["PipelineSummaries"] == []


def test_reset_removes_sessions_and_issuer_keys(
    credential_sources: dict[str, GetCredentials],
    client_of: ClientOf,
    create_session: Callable[..., Any],
    server: EmulatorServer,
    issuer: Issuer,
) -> None:
    """
    After a reset, the key of a session is an unknown key, and the keys of an issuer are
    requested again.
    """
    sts = create_session("sts", credential_sources["federated"]())
    credential_sources["federated"]()
    assert sts.get_caller_identity()["Arn"] == SESSION
    assert len(issuer.requests) == 2
    server.control.reset()
    assert sts.get_caller_identity()["Arn"] == CALLER
    create_federated_role(client_of("iam"), issuer)
    credential_sources["federated"]()
    assert len(issuer.requests) == 4


def test_reset_restores_the_settings(server: EmulatorServer) -> None:
    """A reset restores the initial sign-in settings."""
    first = server.control.sign_in()
    assert first == {
        "enforce_iam": False,
        "sts": {"lifetime": None, "clock": "real"},
        "issuers": [],
    }
    server.control.set_sign_in(
        enforce_iam=True, sts={"lifetime": 3, "clock": "emulated"}
    )
    assert server.control.sign_in() == {
        **first,
        "enforce_iam": True,
        "sts": {"lifetime": 3, "clock": "emulated"},
    }
    server.control.reset()
    assert server.control.sign_in() == first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"enforce": True}, "the document has unknown members"),
        ({"enforce_iam": "yes"}, "enforce_iam is 'yes'"),
        (
            {"sts": {"lifetime": 0}},
            "sts.lifetime is 0; it must be a number of seconds greater than 0",
        ),
        ({"sts": {"lifetime": True}}, "sts.lifetime is True"),
        ({"sts": {"life": 3}}, "sts has unknown members"),
        ({"sts": 3}, "sts is not a JSON object"),
        ({"sts": {"clock": "virtual"}}, "sts.clock is 'virtual'"),
        ({"issuers": {"https://x": 1}}, "is not a JSON object"),
    ],
)
def test_invalid_settings_are_rejected(
    server: EmulatorServer, settings: dict[str, Any], message: str
) -> None:
    """Invalid settings change nothing, and the error names the member."""
    with pytest.raises(ControlRefused, match=message):
        server.control.set_sign_in(**{"sts": {"lifetime": 3}, **settings})
    assert server.control.sign_in()["sts"]["lifetime"] is None
