"""
Botocore's debug log does not show the secrets of sign-in requests and responses, and
their values are real.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote

import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.session import Session

from polysync_airflow.airflow_compat.supervisor import redact
from polysync_airflow.aws.sessions import RedactedStr, client_creator
from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers.shared_client import SharedClient
from tests.conftest import ARN, use_connection
from tests.fakes.fake_sagemaker import Handler, serving

TOKEN = "eyJhbGciOiJSUzI1NiJ9.the-web-identity-token.signature"
ACCESS_KEY = "ASIAIOSFODNN7EXAMPLE"
SECRET_KEY = "the-secret+access/key"
SESSION_TOKEN = "the-session/token=="
SECRETS = (TOKEN, SECRET_KEY, SESSION_TOKEN)
OWN_KEY = "own-secret+access/key"
OWN_TOKEN = "own-session/token=="
ALL_SECRETS = (*SECRETS, OWN_KEY, OWN_TOKEN)
ROLE = "arn:aws:iam::123456789012:role/polysync"
RESPONSE = """\
<{operation}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <{operation}Result>
    <Credentials>
      <AccessKeyId>{access_key}</AccessKeyId>
      <SecretAccessKey>{secret_key}</SecretAccessKey>
      <SessionToken>{session_token}</SessionToken>
      <Expiration>{expires_at}</Expiration>
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
    :param refusal: the body of its refusals.
    :param expires_at: when its credentials expire.
    :param requests: the parameters of the requests that it received.
    :param tokens: the session tokens of these requests.
    :param signed: their headers and bodies.
    """

    url: str
    denies: bool = False
    refusal: str = DENIED
    expires_at: str = "2126-01-01T12:00:00Z"
    requests: list[dict[str, str]] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)
    signed: list[tuple[Message, bytes]] = field(default_factory=list)

    def respond(self, body: str) -> tuple[int, str]:
        """Return the status and the body of the response to a request."""
        parameters = {name: value for name, (value,) in parse_qs(body).items()}
        self.requests.append(parameters)
        if self.denies:
            return 403, self.refusal
        response = RESPONSE.format(
            operation=parameters["Action"],
            access_key=ACCESS_KEY,
            secret_key=SECRET_KEY,
            session_token=SESSION_TOKEN,
            expires_at=self.expires_at,
        )
        return 200, response


@pytest.fixture
def sts() -> Iterator[FakeSts]:
    """A fake STS on the loopback interface."""

    class StsHandler(Handler):
        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            fake.tokens.append(self.headers["X-Amz-Security-Token"])
            fake.signed.append((self.headers, sent))
            status, text = fake.respond(sent.decode())
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    fake = FakeSts("")
    with serving(StsHandler) as fake.url:
        yield fake


@pytest.fixture
def debug_log(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    """
    Set the level DEBUG for all loggers, botocore's included; return a function that
    returns the log.
    """
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "botocore")

    def read() -> str:
        assert "botocore.endpoint" in caplog.text, (
            "botocore must have logged at the level DEBUG"
        )
        assert "botocore.parsers" in caplog.text
        return caplog.text

    return read


def create_client(sts: FakeSts) -> Any:
    """
    Return the STS client that botocore's credential fetchers use, for requests without
    a signature.
    """
    create = client_creator(
        Config(signature_version=UNSIGNED),
        region_name="us-east-1",
        endpoint_url=sts.url,
    )
    return create("sts")


def test_sign_in_with_a_web_identity_leaves_no_secret_in_the_log(
    sts: FakeSts, debug_log: Callable[[], str]
) -> None:
    """
    AssumeRoleWithWebIdentity sends the real token, returns the real credentials, and
    logs neither.
    """
    response = create_client(sts).assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="airflow", WebIdentityToken=RedactedStr(TOKEN)
    )

    credentials = response["Credentials"]
    (request,) = sts.requests
    assert credentials["AccessKeyId"] == ACCESS_KEY
    assert credentials["SecretAccessKey"] == SECRET_KEY
    assert credentials["SessionToken"] == SESSION_TOKEN
    assert credentials["Expiration"].isoformat() == "2126-01-01T12:00:00+00:00"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert request["Action"] == "AssumeRoleWithWebIdentity"
    assert request["WebIdentityToken"] == TOKEN
    log = debug_log()
    assert leaked(log, SECRETS) == []
    assert "'WebIdentityToken': '***'" in log
    assert "Response body:\nb'***'" in log


def leaked(log: str, secrets: Sequence[str] = ALL_SECRETS) -> list[str]:
    """Return the secrets that a log has."""
    return [secret for secret in secrets if secret in log]


def make_hook(
    monkeypatch: pytest.MonkeyPatch, conn_type: str, **extra: Any
) -> PolysyncSageMakerHook:
    """Return a hook with a connection that has a session token."""
    extra[("aws_" * (conn_type == "aws")) + "session_token"] = OWN_TOKEN
    use_connection(monkeypatch, conn_type=conn_type, password=OWN_KEY, **extra)
    return PolysyncSageMakerHook()


def sts_client(monkeypatch: pytest.MonkeyPatch, conn_type: str, sts: FakeSts) -> Any:
    """Return a client of the session of such a hook."""
    session = make_hook(monkeypatch, conn_type).get_session()
    return session.client("sts", endpoint_url=sts.url)


@pytest.mark.parametrize("conn_type", ["polysync_sagemaker", "aws"])
def test_signed_links_in_the_log_have_no_session_token(
    conn_type: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A link that is signed has the token in its query, which botocore logs, and the link
    itself has it.
    """
    caplog.set_level(logging.DEBUG, "botocore")
    session = make_hook(monkeypatch, conn_type).get_session()
    report = {"Bucket": "reports", "Key": "report.json"}
    links = []
    for version in ("s3v4", "s3"):
        client = session.client("s3", config=Config(signature_version=version))
        links.append(client.generate_presigned_url("get_object", Params=report))

    assert [OWN_TOKEN in unquote(link) for link in links] == [True, True]
    assert "X-Amz-Security-Token=***&" in caplog.text
    assert "\nx-amz-security-token:***\n" in caplog.text
    assert leaked(unquote(caplog.text), (OWN_KEY, OWN_TOKEN)) == []


@pytest.mark.parametrize("conn_type", ["polysync_sagemaker", "aws"])
def test_signatures_are_those_of_botocore(
    conn_type: str,
    sts: FakeSts,
    debug_log: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """
    What is signed is the real text, with the token, and the log shows none. Airflow 2
    masks secrets in texts, and botocore logs the request as an object.
    """
    client = sts_client(monkeypatch, conn_type, sts)

    for _ in range(2):
        client.assume_role(RoleArn=ROLE, RoleSessionName="airflow")

    assert sts.tokens == 2 * [OWN_TOKEN]
    log = debug_log()
    assert "'X-Amz-Security-Token': b'***'" in log
    assert "\nx-amz-security-token:***\n" in log
    assert leaked(log) == []
    assert len(sts.signed) == 2
    for headers, body in sts.signed:
        request = AWSRequest("POST", f"{sts.url}/", {}, body)
        for name in (
            headers["Authorization"].split("SignedHeaders=")[1].split(",")[0].split(";")
        ):
            request.headers[name] = headers[name]
        request.context["timestamp"] = headers["X-Amz-Date"]
        signer = SigV4Auth(
            Credentials("AKIAIOSFODNN7EXAMPLE", OWN_KEY, OWN_TOKEN), "sts", "us-east-1"
        )
        signature = signer.signature(
            signer.string_to_sign(request, signer.canonical_request(request)), request
        )
        assert headers["Authorization"].endswith(f"Signature={signature}")


@pytest.mark.parametrize("method", ["assume_role", "assume_role_with_web_identity"])
def test_roles_of_aws_connections_leave_no_secret_in_the_log(
    method: str,
    sts: FakeSts,
    debug_log: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    The amazon provider's own requests for the credentials of a role, and their
    responses, show none.
    """
    token_file = tmp_path / "token"
    token_file.write_text(TOKEN)
    monkeypatch.setenv(
        "AIRFLOW__POLYSYNC_SAGEMAKER__ALLOWED_IDENTITY_FOLDERS", str(tmp_path)
    )
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
    hook = make_hook(
        monkeypatch,
        "aws",
        role_arn=ROLE,
        assume_role_method=method,
        assume_role_with_web_identity_federation="file",
        assume_role_with_web_identity_token_file=str(token_file),
    )

    session: Any = hook.get_session()
    credentials = session.get_credentials().get_frozen_credentials()

    assert (credentials.secret_key, credentials.token) == (SECRET_KEY, SESSION_TOKEN)
    (request,) = sts.requests
    assert request.get("WebIdentityToken", TOKEN) == TOKEN
    assert leaked(debug_log()) == []


def test_saml_assertions_are_not_in_the_log(
    sts: FakeSts, debug_log: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    AssumeRoleWithSAML sends the real assertion, returns the real credentials, and logs
    neither.
    """
    client = sts_client(monkeypatch, "aws", sts)

    response = client.assume_role_with_saml(
        RoleArn=ROLE, PrincipalArn=f"{ROLE}s", SAMLAssertion=TOKEN
    )

    assert response["Credentials"]["SessionToken"] == SESSION_TOKEN
    assert sts.requests[0]["SAMLAssertion"] == TOKEN
    assert leaked(debug_log()) == []


EXTERNAL_ID = "b7b0c3a2:an/external=id"
QUOTED = (
    f"{EXTERNAL_ID} ({quote(EXTERNAL_ID, safe='')}) is not that of the trust policy"
)
AS_REFUSAL = DENIED.replace("Not authorized", QUOTED)


@pytest.fixture
def with_external_id(
    sts: FakeSts, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., None]:
    """Returns a function that sets a connection of a type, whose role has one."""

    def connect(conn_type: str, external_id: str = EXTERNAL_ID) -> None:
        extra: dict[str, Any] = {"role_arn": ROLE}
        if conn_type == "aws":
            # Not every version of the amazon provider has a setting for this request.
            monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
            extra["assume_role_kwargs"] = {"ExternalId": external_id}
        else:
            own = {"auth_method": "assume_role", "sts_endpoint_url": sts.url}
            extra |= {**own, "external_id": external_id}
        use_connection(monkeypatch, conn_type=conn_type, password=OWN_KEY, **extra)

    return connect


def describe_on_worker() -> PolysyncError:
    """Return the error with which a worker's call fails."""
    with pytest.raises(PolysyncError) as caught:
        PolysyncSageMakerHook().describe_pipeline_execution(ARN)
    return caught.value


def describe_in_triggerer() -> PolysyncError:
    """Return the error that a triggerer's call gets."""
    error = SharedClient("polysync_default", None).describe(ARN)
    assert isinstance(error, PolysyncError)
    return error


@pytest.mark.parametrize("refusal", [AS_REFUSAL, f"no XML: {QUOTED}"])
@pytest.mark.parametrize("describe", [describe_on_worker, describe_in_triggerer])
@pytest.mark.parametrize("conn_type", ["polysync_sagemaker", "aws"])
def test_external_id_is_in_no_error_and_no_log(
    conn_type: str,
    describe: Callable[[], PolysyncError],
    refusal: str,
    sts: FakeSts,
    with_external_id: Callable[..., None],
    debug_log: Callable[[], str],
) -> None:
    """It is sent, and neither a refusal that quotes it nor botocore's log shows it."""
    with_external_id(conn_type)
    sts.denies = True
    sts.refusal = refusal

    error = describe()

    assert isinstance(error, CredentialsError)
    assert sts.requests[0]["ExternalId"] == EXTERNAL_ID
    texts = f"{error!r} {''.join(traceback.format_exception(error))} {debug_log()}"
    assert "'ExternalId': '***'" in texts
    assert EXTERNAL_ID not in unquote(texts)
    if refusal is AS_REFUSAL:
        assert "AccessDenied" in str(error)
        assert "*** (***) is not that of the trust policy" in str(error)


def test_external_id_is_not_in_the_traceback_of_a_refresh(
    sts: FakeSts,
    with_external_id: Callable[..., None],
    debug_log: Callable[[], str],
) -> None:
    """botocore logs a refresh that fails as a warning, with the error of STS."""
    with_external_id("aws")
    sts.expires_at = "2020-01-01T12:00:00Z"
    session: Any = PolysyncSageMakerHook().get_session()
    sts.denies = True
    sts.refusal = AS_REFUSAL

    with pytest.raises(ClientError, match="is not that of the trust policy"):
        session.get_credentials().get_frozen_credentials()

    log = debug_log()
    assert "Refreshing temporary credentials failed" in log
    assert "Traceback" in log
    assert EXTERNAL_ID not in unquote(log)


@pytest.mark.parametrize("conn_type", ["polysync_sagemaker", "aws"])
def test_only_external_ids_that_are_no_words_are_masked_everywhere(
    conn_type: str, with_external_id: Callable[..., None]
) -> None:
    """An account id, or a word, is in names and ARNs, which a log must show."""
    secret = f"{conn_type}-its-external-id"
    for external_id in ("123456789012", "acme-corp", secret):
        with_external_id(conn_type, external_id)
        _ = PolysyncSageMakerHook().conn_config

    assert redact(f"123456789012 acme-corp {secret}.") == "123456789012 acme-corp ***."


def test_other_sessions_log_as_before(
    sts: FakeSts, debug_log: Callable[[], str]
) -> None:
    """
    A session of another user of botocore is not changed: its debug log has requests and
    responses.
    """
    create_client(sts)
    other: Any = Session().create_client(
        "sts",
        "us-east-1",
        endpoint_url=sts.url,
        config=Config(signature_version=UNSIGNED),
    )

    other.assume_role_with_web_identity(
        RoleArn=ROLE, RoleSessionName="airflow", WebIdentityToken=TOKEN
    )

    assert leaked(debug_log(), SECRETS) == list(SECRETS)
