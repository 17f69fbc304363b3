"""Botocore's debug log does not show the secrets of sign-in requests and responses, and their values are real."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserFactory
from botocore.session import Session

from polysync_airflow.aws.log_redaction import RedactedBytes, RedactedStr, RedactingParserFactory
from polysync_airflow.aws.sessions import client_creator
from polysync_airflow.hooks import PolysyncSageMakerHook

TOKEN = "eyJhbGciOiJSUzI1NiJ9.the-web-identity-token.signature"
ACCESS_KEY, SECRET_KEY, SESSION_TOKEN = "ASIAIOSFODNN7EXAMPLE", "the-secret+access/key", "the-session/token=="
SECRETS = (TOKEN, SECRET_KEY, SESSION_TOKEN)
ROLE = "arn:aws:iam::123456789012:role/polysync"
RESPONSE = """\
<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <{operation}Result>
    <Credentials>
      <AccessKeyId>{access_key}</AccessKeyId>
      <SecretAccessKey>{secret_key}</SecretAccessKey>
      <SessionToken>{session_token}</SessionToken>
      <Expiration>2026-01-01T12:00:00Z</Expiration>
    </Credentials>
  </{operation}Result>
  <ResponseMetadata><RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId></ResponseMetadata>
</{operation}Response>
"""
DENIED = """\
<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized</Message></Error>
  <RequestId>c6104cbe-af31-11e0-8154-cbc7ccf896c7</RequestId>
</ErrorResponse>
"""


@dataclass
class FakeSts:
    """
    An STS endpoint with a fixed response.

    :param url: the endpoint.
    :param denies: whether it refuses all requests.
    :param requests: the parameters of the requests that it received.
    :param tokens: the session tokens of these requests.
    """

    url: str
    denies: bool = False
    requests: list[dict[str, str]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)

    def respond(self, body: str) -> tuple[int, str]:
        """Return the status and the body of the response to a request."""
        parameters = {name: value for name, (value,) in parse_qs(body).items()}
        self.requests.append(parameters)
        if self.denies:
            return 403, DENIED
        response = RESPONSE.format(
            operation=parameters["Action"],
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            session_token=SESSION_TOKEN,
        )
        return 200, response


@pytest.fixture
def sts() -> Iterator[FakeSts]:
    """A fake STS on the loopback interface."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            fake.tokens.append(self.headers["X-Amz-Security-Token"])
            status, text = fake.respond(self.rfile.read(int(self.headers["Content-Length"])).decode())
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    fake = FakeSts(f"http://127.0.0.1:{server.server_address[1]}")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def debug_log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """Set the level DEBUG for all loggers, botocore's included; return a function that returns the log."""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "botocore")

    def read() -> str:
        assert "botocore.endpoint" in caplog.text, "botocore must have logged at the level DEBUG"
        assert "botocore.parsers" in caplog.text
        return caplog.text

    return read


def create_client(sts: FakeSts) -> Any:
    """Return the STS client that botocore's credential fetchers use, for requests without a signature."""
    create = client_creator(Config(signature_version=UNSIGNED), region_name="us-east-1", endpoint_url=sts.url)
    return create("sts")


def test_sign_in_with_a_web_identity_leaves_no_secret_in_the_log(
    sts: FakeSts, debug_log: Callable[[], str]
) -> None:
    """AssumeRoleWithWebIdentity sends the real token, returns the real credentials, and logs neither."""
    response = create_client(sts).assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="airflow", WebIdentityToken=RedactedStr(TOKEN)
    )

    credentials = response["Credentials"]
    (request,) = sts.requests
    assert (credentials["AccessKeyId"], credentials["SecretAccessKey"]) == (ACCESS_KEY, SECRET_KEY)
    assert credentials["SessionToken"] == SESSION_TOKEN
    assert credentials["Expiration"].isoformat() == "2026-01-01T12:00:00+00:00"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (request["Action"], request["WebIdentityToken"]) == ("AssumeRoleWithWebIdentity", TOKEN)
    log = debug_log()
    assert [secret for secret in SECRETS if secret in log] == []
    assert "'WebIdentityToken': '***'" in log
    assert "Response body:\nb'***'" in log


def test_assume_role_leaves_no_secret_in_the_log(sts: FakeSts, debug_log: Callable[[], str]) -> None:
    """AssumeRole returns the real credentials, and logs neither these nor the key that signs the request."""
    create = client_creator(Config(), region_name="us-east-1", endpoint_url=sts.url)
    client = create(
        "sts",
        aws_access_key_id="AKIAIOSFODNN7EXAMPLE",
        aws_secret_access_key="the-callers-secret",
    )

    credentials = client.assume_role(RoleArn=ROLE, RoleSessionName="airflow")["Credentials"]

    assert (credentials["SecretAccessKey"], credentials["SessionToken"]) == (SECRET_KEY, SESSION_TOKEN)
    log = debug_log()
    assert [secret for secret in (SECRET_KEY, SESSION_TOKEN, "the-callers-secret") if secret in log] == []


def test_refused_sign_in_leaves_no_token_in_the_log(sts: FakeSts, debug_log: Callable[[], str]) -> None:
    """The error of a refused request has AWS's code and message, and the log does not show the token."""
    sts.denies = True

    with pytest.raises(ClientError) as caught:
        create_client(sts).assume_role_with_web_identity(
            RoleArn=ROLE, RoleSessionName="airflow", WebIdentityToken=RedactedStr(TOKEN)
        )

    error = caught.value.response["Error"]
    assert (error["Code"], error["Message"]) == ("AccessDenied", "Not authorized")
    assert sts.requests[0]["WebIdentityToken"] == TOKEN
    assert TOKEN not in debug_log() + repr(caught.value)


@pytest.mark.parametrize("conn_type", ["polysync_sagemaker", "aws"])
def test_signed_requests_in_the_log_have_no_session_token(
    conn_type: str, sts: FakeSts, debug_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow 2 masks secrets in texts, and botocore logs the request as an object with its headers."""
    extra = {"region_name": "us-east-1", ("aws_" * (conn_type == "aws")) + "session_token": SESSION_TOKEN}
    if conn_type == "polysync_sagemaker":
        extra["auth_method"] = "access_key"
    account = {"conn_type": conn_type, "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", json.dumps(account))
    session = PolysyncSageMakerHook().get_session()
    client: Any = session.client("sts", endpoint_url=sts.url)

    client.assume_role(RoleArn=ROLE, RoleSessionName="airflow")

    assert sts.tokens == [SESSION_TOKEN]
    (line,) = [each for each in debug_log().splitlines() if "Sending http request" in each]
    assert "'X-Amz-Security-Token': b'***'" in line
    assert SESSION_TOKEN not in line


def test_tokens_of_hosts_are_not_in_the_log_of_their_sts_requests(
    sts: FakeSts, debug_log: Callable[[], str]
) -> None:
    """A host that assumes a role signs the request with its own session token."""
    host = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": "x", "aws_session_token": "host-token"}
    create = client_creator(Config(), region_name="us-east-1", endpoint_url=sts.url)

    create("sts", **host).assume_role(RoleArn=ROLE, RoleSessionName="airflow")

    assert sts.tokens == ["host-token"]
    (line,) = [each for each in debug_log().splitlines() if "Sending http request" in each]
    assert "host-token" not in line


def test_other_sessions_log_as_before(sts: FakeSts, debug_log: Callable[[], str]) -> None:
    """A session of another user of botocore is not changed: its debug log has requests and responses."""
    create_client(sts)
    other: Any = Session().create_client(
        "sts", "us-east-1", endpoint_url=sts.url, config=Config(signature_version=UNSIGNED)
    )

    other.assume_role_with_web_identity(RoleArn=ROLE, RoleSessionName="airflow", WebIdentityToken=TOKEN)

    log = debug_log()
    assert [secret for secret in SECRETS if secret in log] == list(SECRETS)


def test_redacted_values_are_shown_only_by_repr() -> None:
    """Redacted values behave like the plain ones, except that their ``repr`` does not show them."""
    text, data = RedactedStr("secret"), RedactedBytes(b"secret")

    assert (text, str(text), f"{text}", text.encode()) == ("secret", "secret", "secret", b"secret")
    assert (data, data.decode()) == (b"secret", "secret")
    assert (hash(text), hash(data)) == (hash("secret"), hash(b"secret"))
    assert f"{text!r} {data!r} {[text]} { ({'a': data}) }" == "'***' b'***' ['***'] {'a': b'***'}"


@pytest.mark.parametrize("protocol", ["query", "json", "rest-json", "rest-xml", "ec2"])
def test_parsers_are_those_of_botocore(protocol: str) -> None:
    """The factory makes botocore's parsers with botocore's defaults, and leaves the parser class as it is."""
    factory = RedactingParserFactory()
    factory.set_parser_defaults(timestamp_parser=len)
    plain = ResponseParserFactory().create_parser(protocol)

    parser = factory.create_parser(protocol)

    assert type(parser) is type(plain)
    assert "parse" not in vars(plain)
    assert vars(parser)["_timestamp_parser"] is len
