"""botocore, unmodified, works with the fake EC2, ECS and EKS metadata servers as with the real ones."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.credentials import ContainerProvider, Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.utils import ContainerMetadataFetcher

from sagemaker_emulator import EmulatorServer
from tests.auth.endpoint_tests.conftest import Environ
from tests.auth.endpoints.credential_sources import issued_by, random_credentials
from tests.auth.endpoints.fake_server import FakeServer, Fault
from tests.auth.endpoints.metadata.ecs import NOT_FOUND, ContainerCredentials
from tests.auth.endpoints.metadata.imds import InstanceMetadata


@pytest.fixture
def imds(environ: Environ) -> Iterator[InstanceMetadata]:
    """The metadata service of an instance with a role; the environment makes botocore use it."""
    with InstanceMetadata() as imds:
        environ(imds.environment)
        yield imds


@pytest.fixture
def container(environ: Environ) -> Iterator[ContainerCredentials]:
    """The credentials endpoint of a container; the environment makes botocore use it."""
    with ContainerCredentials() as container:
        environ(container.environment)
        yield container


def load_credentials() -> Credentials | None:
    """Return the credentials that botocore's default chain finds."""
    return botocore.session.Session().get_credentials()


def load_container_credentials() -> RefreshableCredentials:
    """Return the credentials that botocore's container provider loads, without pauses between attempts."""
    fetcher = ContainerMetadataFetcher(sleep=lambda _: None)
    provider = ContainerProvider(fetcher=fetcher)  # type: ignore[arg-type]  # wrong in the stubs
    loaded = provider.load()
    assert isinstance(loaded, RefreshableCredentials)
    return loaded


def status_of(url: str, method: str = "GET", **headers: str) -> int:
    """Return the HTTP status of a request."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_instance_credentials(imds: InstanceMetadata) -> None:
    """botocore requests a session token, the role and its credentials, and uses these credentials."""
    credentials = load_credentials()
    assert credentials is not None
    assert (credentials.method, imds.credentials.fetch_count) == ("iam-role", 1)
    access_key = imds.calls.all("credentials")[0].log_fields["access_key"]
    assert credentials.get_frozen_credentials().access_key == access_key
    assert [call.route for call in imds.calls.all()] == ["session", "role", "credentials"]


def test_imds_version_1_is_rejected(imds: InstanceMetadata) -> None:
    """Requests without a session token, or with an unknown one, are rejected."""
    url = f"{imds.url}/latest/meta-data/iam/security-credentials/"
    assert status_of(url) == 401
    assert status_of(url, **{"X-aws-ec2-metadata-token": "unknown"}) == 401
    assert status_of(f"{imds.url}/latest/api/token", "PUT") == 400


def test_session_token_expires(imds: InstanceMetadata) -> None:
    """A session token expires after the requested lifetime."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "1"}
    request = urllib.request.Request(f"{imds.url}/latest/api/token", method="PUT", headers=ttl)
    with urllib.request.urlopen(request, timeout=5) as response:
        session = {"X-aws-ec2-metadata-token": response.read().decode()}
    url = f"{imds.url}/latest/meta-data/placement/region"
    assert status_of(url, **session) == 200
    time.sleep(1.1)
    assert status_of(url, **session) == 401


@pytest.mark.parametrize(
    ("fault", "route", "calls"),
    [
        (Fault(500, "Internal Server Error"), "session", 2),
        (Fault(404, "Not Found"), "role", 2),
        (Fault(500, "Internal Server Error"), "credentials", 3),
        (Fault(drop=True), "credentials", 3),
        # Without a session token botocore tries version 1, which is rejected.
        (Fault(delay=30), "session", 1),
    ],
)
def test_instance_errors(imds: InstanceMetadata, fault: Fault, route: str, calls: int) -> None:
    """botocore finds no credentials, and raises no error, for any failure of the service."""
    with imds.faults.during(fault, on=route):
        assert load_credentials() is None
    assert imds.calls.count() == calls
    assert imds.credentials.fetch_count == 0


def test_instance_without_role(environ: Environ) -> None:
    """For an instance without a role the service returns 404, and botocore raises no error either."""
    with InstanceMetadata(role=None) as imds:
        environ(imds.environment)
        assert load_credentials() is None
        assert imds.calls.count("role", status=404) == 1


@pytest.mark.parametrize("service", ["imds", "container"])
def test_unreachable(service: str, request: pytest.FixtureRequest) -> None:
    """A refused connection means no credentials on an instance, and an error in a container; both recover."""
    server: FakeServer = request.getfixturevalue(service)
    with server.unreachable():
        if service == "imds":
            assert load_credentials() is None
        else:
            with pytest.raises(CredentialRetrievalError, match="Could not connect to the endpoint URL"):
                load_container_credentials()
    assert load_credentials() is not None


def test_short_lived_instance_credentials(environ: Environ) -> None:
    """botocore extends the expiry time of credentials that expire soon, and keeps using them after it."""
    with InstanceMetadata(random_credentials(lifetime=1)) as imds:
        environ(imds.environment)
        credentials = load_credentials()
        assert isinstance(credentials, RefreshableCredentials)
        first = credentials.get_frozen_credentials()
        time.sleep(1.1)
        assert credentials.get_frozen_credentials() == first
        assert vars(credentials)["_expiry_time"] - datetime.now(UTC) > timedelta(minutes=10)
        # A new session loads new credentials.
        reloaded = load_credentials()
        assert reloaded is not None
        assert reloaded.get_frozen_credentials() != first


def test_short_lived_container_credentials(environ: Environ) -> None:
    """In a container, botocore refreshes credentials that expire soon at each use."""
    with ContainerCredentials(random_credentials(lifetime=60)) as container:
        environ(container.environment)
        credentials = load_container_credentials()
        keys = {credentials.get_frozen_credentials().access_key for _ in range(3)}
        assert len(keys) == 3
        assert container.credentials.fetch_count == 4


def test_server_keeps_long_lived_credentials(container: ContainerCredentials) -> None:
    """The server fetches long-lived credentials once and returns them for each request."""
    keys = {load_container_credentials().get_frozen_credentials().access_key for _ in range(3)}
    assert (len(keys), container.credentials.fetch_count, container.calls.count("credentials")) == (1, 1, 3)


def test_container_credentials(container: ContainerCredentials) -> None:
    """botocore's default chain uses the credentials of the container before those of the instance."""
    credentials = load_credentials()
    assert credentials is not None
    assert credentials.method == "container-role"
    assert (
        credentials.get_frozen_credentials().access_key == container.calls.all()[0].log_fields["access_key"]
    )


def test_pod_authorization_file(environ: Environ, tmp_path: Path) -> None:
    """botocore reads the authorization of a pod from its file at each request, so it can be rotated."""
    token_file = tmp_path / "eks-pod-identity-token"
    with ContainerCredentials(random_credentials(lifetime=60)) as container:
        environ(container.pod_environment(token_file))
        credentials = load_container_credentials()
        container.rotate(token_file, "another")
        assert credentials.get_frozen_credentials().access_key
        token_file.write_text("stale")
        with pytest.raises(CredentialRetrievalError, match="Received non 200 response 401"):
            load_container_credentials()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (NOT_FOUND, "Received non 200 response 404"),
        (Fault(500, "Internal Server Error"), "Received non 200 response 500"),
        (Fault(200, "no JSON"), "Unable to parse JSON"),
        (Fault(drop=True), "Connection was closed|Could not connect|Connection reset"),
        (Fault(delay=30), "Read timeout"),
    ],
)
def test_container_errors(
    container: ContainerCredentials, monkeypatch: pytest.MonkeyPatch, fault: Fault, message: str
) -> None:
    """botocore tries three times and then raises an error with the reason."""
    monkeypatch.setattr(ContainerMetadataFetcher, "TIMEOUT_SECONDS", 0.2)
    with container.faults.during(fault), pytest.raises(CredentialRetrievalError, match=message):
        load_container_credentials()
    assert container.credentials.fetch_count == 0
    if not fault.delay:
        assert container.calls.count() == 3


def test_wrong_authorization(container: ContainerCredentials, environ: Environ) -> None:
    """Requests with a wrong authorization are rejected."""
    environ({"AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong"})
    with pytest.raises(CredentialRetrievalError, match="Received non 200 response 401"):
        load_container_credentials()
    assert container.calls.count(status=401) == 3


def test_credentials_issued_by_sts(emulator: EmulatorServer, environ: Environ) -> None:
    """The server returns credentials that STS issued, and STS accepts them."""
    keys = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "example"}
    settings = {"endpoint_url": emulator.endpoint_url, "region_name": "us-east-1"}
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    role = boto3.client("iam", **settings, **keys).create_role(  # type: ignore[call-overload]
        RoleName="worker",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]
    sts = boto3.client("sts", **settings, **keys)  # type: ignore[call-overload]
    source = issued_by(lambda: sts.assume_role(RoleArn=role["Arn"], RoleSessionName="airflow"))
    with InstanceMetadata(source) as imds:
        environ(imds.environment)
        caller = boto3.session.Session().client("sts", **settings).get_caller_identity()  # type: ignore[call-overload]
    assert caller["Arn"].endswith("assumed-role/worker/airflow")


@pytest.mark.parametrize("service", ["imds", "container"])
def test_call_log_has_no_secrets(service: str, request: pytest.FixtureRequest) -> None:
    """The call log contains access keys, but neither secret keys nor tokens."""
    server: FakeServer = request.getfixturevalue(service)
    credentials = load_credentials()
    assert credentials is not None
    frozen = credentials.get_frozen_credentials()
    call_log = repr(server.calls.all())
    assert str(frozen.access_key) in call_log
    assert not [secret for secret in (frozen.secret_key, frozen.token) if str(secret) in call_log]
