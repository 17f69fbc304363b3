"""How long credentials live, and what becomes of requests with those that do not hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.config import Config

from polysync_airflow.emulator import ControlRefused, EmulatorServer, VirtualClock
from tests.emulator.conftest import ClientOf
from tests.emulator.sagemaker.test_pipelines import refusal
from tests.emulator.sign_in.issuer import Issuer, token
from tests.emulator.sign_in.test_sts import ACCOUNT, ROLE, policy
from tests.emulator.sign_in.test_web_identity import ACTION

ROOT = f"arn:aws:iam::{ACCOUNT}:root"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/R/me"
EXPIRED = "The security token included in the request is expired"
INVALID = "The security token included in the request is invalid"
Exchange = Callable[..., dict[str, Any]]


@pytest.fixture
def assume(client_of: ClientOf) -> Exchange:
    """Assume the role R, which lets everybody in, for up to two hours."""
    trust = json.dumps(policy("*"))
    client_of("iam").create_role(RoleName="R", AssumeRolePolicyDocument=trust, MaxSessionDuration=7200)

    def make(**more: Any) -> dict[str, Any]:
        answer: dict[str, Any] = client_of("sts").assume_role(RoleArn=ROLE, RoleSessionName="me", **more)
        return answer

    return make


def federation(iam: Any, issuer: Issuer) -> None:
    """Make IAM know the issuer, and a role R that lets in its subject airflow and everybody who signs."""
    provider = iam.create_open_id_connect_provider(Url=issuer.url, ClientIDList=["app"])
    federated = {"Federated": provider["OpenIDConnectProviderArn"]}
    trust = policy(federated, {"StringEquals": {f"{issuer.name}:sub": "airflow"}}, ACTION)
    trust["Statement"] += policy("*")["Statement"]
    iam.create_role(RoleName="R", AssumeRolePolicyDocument=json.dumps(trust))


@pytest.fixture
def exchanges(client_of: ClientOf, user: Callable[..., Any], issuer: Issuer) -> dict[str, Exchange]:
    """The ways to credentials of a session, by name."""
    federation(client_of("iam"), issuer)
    who = {"RoleArn": ROLE, "RoleSessionName": "me"}
    return {
        "assumed": lambda: client_of("sts").assume_role(**who),
        "federated": lambda: client_of("sts").assume_role_with_web_identity(
            WebIdentityToken=token(issuer.url), **who
        ),
        "user's": lambda: user("sts").get_session_token(),
    }


def seconds_left(answer: dict[str, Any], now: float) -> float:
    """Return for how long credentials are good."""
    return float(answer["Credentials"]["Expiration"].timestamp()) - now


@pytest.mark.parametrize(
    ("kind", "caller"),
    [("assumed", SESSION), ("federated", SESSION), ("user's", f"arn:aws:iam::{ACCOUNT}:user/airflow")],
)
def test_expired_credentials_are_refused(
    exchanges: dict[str, Exchange],
    create_session: Callable[..., Any],
    server: EmulatorServer,
    kind: str,
    caller: str,
) -> None:
    """Credentials work for as many real seconds as a test says, and then no more, in the words of each service."""
    server.control.set_sign_in(sts={"lifetime": 1.5})
    answer = exchanges[kind]()
    assert 0 < seconds_left(answer, time.time()) <= 1.5
    sagemaker, sts = create_session("sagemaker", answer), create_session("sts", answer)
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    assert sts.get_caller_identity()["Arn"] == caller
    assert [call["caller"] for call in server.control.calls()[-2:]] == [caller, caller]
    time.sleep(max(0.0, seconds_left(answer, time.time())) + 0.05)
    assert refusal(sagemaker.list_pipelines) == ("ExpiredTokenException", EXPIRED)
    assert refusal(sts.get_caller_identity) == ("ExpiredToken", EXPIRED)
    assert refusal(sts.assume_role, RoleArn=ROLE, RoleSessionName="me") == ("ExpiredToken", EXPIRED)
    assert {call["caller"] for call in server.control.calls()[-3:]} == {caller}
    # Others live as long as they were issued for.
    server.control.set_sign_in(sts={"lifetime": None})
    assert create_session("sagemaker", exchanges[kind]()).list_pipelines()["PipelineSummaries"] == []


@pytest.mark.parametrize("given", [None, "another"])
def test_a_session_token_belongs_to_its_key(assume: Exchange, client_of: ClientOf, given: str | None) -> None:
    """A session's key without its own session token is worth nothing."""
    keys = assume()["Credentials"]
    other = assume()["Credentials"]["SessionToken"] if given else None
    more = {"aws_session_token": other} if other else {}
    pair = {
        "aws_access_key_id": keys["AccessKeyId"],
        "aws_secret_access_key": keys["SecretAccessKey"],
        **more,
    }
    assert refusal(client_of("sagemaker", **pair).list_pipelines) == (
        "UnrecognizedClientException",
        f"{INVALID}.",
    )
    assert refusal(client_of("sts", **pair).get_caller_identity) == ("InvalidClientTokenId", INVALID)


def test_a_temporary_key_of_another_origin_needs_a_session_token(client_of: ClientOf) -> None:
    """Temporary keys that were made up elsewhere count as the account's root, but not without a token."""
    pair = {"aws_access_key_id": "ASIAELSEWHERE0000000", "aws_secret_access_key": "secret"}
    assert refusal(client_of("sts", **pair).get_caller_identity)[0] == "InvalidClientTokenId"
    whole = client_of("sts", aws_session_token="token", **pair)
    assert whole.get_caller_identity()["Arn"] == ROOT


def test_a_users_key_has_no_session_token(
    user: Callable[..., Any], client_of: ClientOf, server: EmulatorServer
) -> None:
    """A user's key is good as it is, as long as it is active."""
    sts = user("sts")
    me = sts.get_caller_identity()
    assert (me["Arn"], me["Account"]) == (f"arn:aws:iam::{ACCOUNT}:user/airflow", ACCOUNT)
    key = client_of("iam").list_access_keys(UserName="airflow")["AccessKeyMetadata"][0]["AccessKeyId"]
    pair = {"aws_access_key_id": key, "aws_secret_access_key": "secret", "aws_session_token": "token"}
    assert refusal(client_of("sts", **pair).get_caller_identity)[0] == "InvalidClientTokenId"
    client_of("iam").update_access_key(UserName="airflow", AccessKeyId=key, Status="Inactive")
    assert refusal(sts.get_caller_identity)[0] == "InvalidClientTokenId"
    assert refusal(user("sagemaker").list_pipelines)[0] == "UnrecognizedClientException"
    assert server.control.calls()[-1]["detail"] == "the access key is inactive"


def test_made_up_keys_are_the_root(client_of: ClientOf, server: EmulatorServer) -> None:
    """Without any user in IAM the emulator works with whatever keys one has."""
    me = client_of("sts").get_caller_identity()
    assert (me["Arn"], me["UserId"], me["Account"]) == (ROOT, ACCOUNT, ACCOUNT)
    assert server.control.calls()[-1]["caller"] == ROOT


def test_a_duration_is_granted(assume: Exchange) -> None:
    """Credentials live for an hour, or as long as was asked for, by the clock that AWS clients look at."""
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
def test_a_wrong_request_is_refused(
    assume: Exchange, client_of: ClientOf, request_members: dict[str, Any], message: str
) -> None:
    """STS checks the duration and the session's name as AWS does."""
    assume()
    request = {"RoleArn": ROLE, "RoleSessionName": "me", **request_members}
    assert refusal(client_of("sts").assume_role, **request) == ("ValidationError", message)


def test_a_duration_is_a_quarter_of_an_hour_at_least(assume: Exchange, server: EmulatorServer) -> None:
    """Less than AWS's minimum is refused by STS as well, where a client does not do so itself."""
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
    found = refusal(sts.assume_role, RoleArn=ROLE, RoleSessionName="me", DurationSeconds=899)
    assert found == (
        "ValidationError",
        "1 validation error detected: Value '899' at 'durationSeconds' failed to satisfy constraint: "
        "Member must have value greater than or equal to 900",
    )
    assert refusal(sts.assume_role, RoleArn=ROLE) == (
        "ValidationError",
        "1 validation error detected: Value null at 'roleSessionName' failed to satisfy constraint: "
        "Member must not be null",
    )


def test_a_chain_of_roles_is_short(assume: Exchange, create_session: Callable[..., Any]) -> None:
    """A role session may assume another role for an hour at most."""
    sts = create_session("sts", assume())
    request = {"RoleArn": ROLE, "RoleSessionName": "chained"}
    assert sts.assume_role(DurationSeconds=3600, **request)["Credentials"]
    assert refusal(sts.assume_role, DurationSeconds=3601, **request) == (
        "ValidationError",
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining",
    )


def test_a_session_gets_no_session_token(assume: Exchange, create_session: Callable[..., Any]) -> None:
    """GetSessionToken is for users: temporary credentials cannot be prolonged by it."""
    found = refusal(create_session("sts", assume()).get_session_token)
    assert found == ("AccessDenied", "Cannot call GetSessionToken with session credentials")


def test_credentials_may_live_by_the_emulated_clock(
    assume: Exchange, create_session: Callable[..., Any], server: EmulatorServer
) -> None:
    """On request an Expiration is shown and enforced in emulated time; by default that clock means nothing."""
    clock = server.clock
    assert isinstance(clock, VirtualClock)
    before = create_session("sagemaker", assume())
    server.control.set_sign_in(sts={"clock": "emulated"})
    answer = assume()
    expected = datetime.fromtimestamp(int(clock.now() + 3600), UTC)
    assert answer["Credentials"]["Expiration"] == expected
    sagemaker = create_session("sagemaker", answer)
    clock.advance(3599)
    assert sagemaker.list_pipelines()["PipelineSummaries"] == []
    clock.advance(1)
    assert refusal(sagemaker.list_pipelines)[0] == "ExpiredTokenException"
    assert before.list_pipelines()["PipelineSummaries"] == []


def test_a_reset_forgets_sessions_and_keys(
    exchanges: dict[str, Exchange],
    client_of: ClientOf,
    create_session: Callable[..., Any],
    server: EmulatorServer,
    issuer: Issuer,
) -> None:
    """After a reset a session is no more than a made-up key, and an issuer is asked for its keys again."""
    sts = create_session("sts", exchanges["federated"]())
    exchanges["federated"]()
    assert sts.get_caller_identity()["Arn"] == SESSION
    assert len(issuer.requests) == 2
    server.control.reset()
    assert sts.get_caller_identity()["Arn"] == ROOT
    federation(client_of("iam"), issuer)
    exchanges["federated"]()
    assert len(issuer.requests) == 4


def test_a_reset_forgets_the_settings(server: EmulatorServer) -> None:
    """Settings of one test do not reach the next."""
    first = server.control.sign_in()
    assert first == {"enforce_iam": False, "sts": {"lifetime": None, "clock": "real"}, "issuers": []}
    server.control.set_sign_in(enforce_iam=True, sts={"lifetime": 3, "clock": "emulated"})
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
        ({"sts": {"lifetime": 0}}, "sts.lifetime is 0, not a number of seconds greater than 0"),
        ({"sts": {"lifetime": True}}, "sts.lifetime is True"),
        ({"sts": {"life": 3}}, "sts has unknown members"),
        ({"sts": 3}, "sts is not a JSON object"),
        ({"sts": {"clock": "virtual"}}, "sts.clock is 'virtual'"),
        ({"issuers": {"https://x": 1}}, "is not a JSON object"),
    ],
)
def test_wrong_settings_are_refused(server: EmulatorServer, settings: dict[str, Any], message: str) -> None:
    """Settings that cannot be understood change nothing, and the answer says which member it is."""
    with pytest.raises(ControlRefused, match=message):
        server.control.set_sign_in(**{"sts": {"lifetime": 3}, **settings})
    assert server.control.sign_in()["sts"]["lifetime"] is None
