"""Owns the proof that botocore, unmodified, takes the loopback endpoints for EC2's, ECS's and EKS's."""

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

from polysync_airflow.emulator import EmulatorServer
from tests.auth.endpoint_tests.conftest import Environ
from tests.auth.endpoints.ecs import NOT_FOUND, ContainerCredentials
from tests.auth.endpoints.imds import InstanceMetadata
from tests.auth.endpoints.loopback import Endpoint, Fault
from tests.auth.endpoints.supply import issued_by, made_up


@pytest.fixture
def imds(environ: Environ) -> Iterator[InstanceMetadata]:
    """An instance with a role, in the environment."""
    with InstanceMetadata() as imds:
        environ(imds.environment)
        yield imds


@pytest.fixture
def container(environ: Environ) -> Iterator[ContainerCredentials]:
    """A container with a role, in the environment."""
    with ContainerCredentials() as container:
        environ(container.environment)
        yield container


def found() -> Credentials | None:
    """Return what botocore finds by its default chain."""
    return botocore.session.Session().get_credentials()


def hurried() -> RefreshableCredentials:
    """Return what botocore finds in a container, without its pauses between attempts."""
    fetcher = ContainerMetadataFetcher(sleep=lambda _: None)
    provider = ContainerProvider(fetcher=fetcher)  # type: ignore[arg-type]  # the stubs name another class
    loaded = provider.load()
    assert isinstance(loaded, RefreshableCredentials)
    return loaded


def status_of(url: str, method: str = "GET", **headers: str) -> int:
    """Return the HTTP status of a request."""
    request = urllib.request.Request(url, method=method, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_instance(imds: InstanceMetadata) -> None:
    """botocore asks for a session, the role and its credentials, and gets the ones that were issued."""
    credentials = found()
    assert credentials is not None
    assert (credentials.method, imds.supply.issued) == ("iam-role", 1)
    noted = imds.calls.all("credentials")[0].note["access_key"]
    assert credentials.get_frozen_credentials().access_key == noted
    assert [call.route for call in imds.calls.all()] == ["session", "role", "credentials"]


def test_version_1(imds: InstanceMetadata) -> None:
    """Requests without a session, or with an invented one, are refused."""
    url = f"{imds.url}/latest/meta-data/iam/security-credentials/"
    assert status_of(url) == 401
    assert status_of(url, **{"X-aws-ec2-metadata-token": "invented"}) == 401
    assert status_of(f"{imds.url}/latest/api/token", "PUT") == 400


def test_session_ends(imds: InstanceMetadata) -> None:
    """A session is over after the time that was asked for."""
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": "1"}
    request = urllib.request.Request(f"{imds.url}/latest/api/token", method="PUT", headers=ttl)
    with urllib.request.urlopen(request, timeout=5) as answer:
        session = {"X-aws-ec2-metadata-token": answer.read().decode()}
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
        # Without a session botocore tries version 1, which is refused.
        (Fault(delay=30), "session", 1),
    ],
)
def test_instance_in_trouble(imds: InstanceMetadata, fault: Fault, route: str, calls: int) -> None:
    """botocore finds no credentials and raises nothing, whatever is wrong with the service."""
    with imds.faults.during(fault, on=route):
        assert found() is None
    assert imds.calls.count() == calls
    assert imds.supply.issued == 0


def test_instance_without_a_role(environ: Environ) -> None:
    """An instance without a role answers 404, for which botocore has no words either."""
    with InstanceMetadata(role=None) as imds:
        environ(imds.environment)
        assert found() is None
        assert imds.calls.count("role", status=404) == 1


@pytest.mark.parametrize("service", ["imds", "container"])
def test_absent(service: str, request: pytest.FixtureRequest) -> None:
    """A refused connection is "no credentials" on an instance, an error in a container; both recover."""
    endpoint: Endpoint = request.getfixturevalue(service)
    with endpoint.absent():
        if service == "imds":
            assert found() is None
        else:
            with pytest.raises(CredentialRetrievalError, match="Could not connect to the endpoint URL"):
                hurried()
    assert found() is not None


def test_short_lives_on_an_instance(environ: Environ) -> None:
    """botocore takes credentials that end soon for a fault of the service, and goes on with them when over."""
    with InstanceMetadata(made_up(lifetime=1)) as imds:
        environ(imds.environment)
        credentials = found()
        assert isinstance(credentials, RefreshableCredentials)
        first = credentials.get_frozen_credentials()
        time.sleep(1.1)
        assert credentials.get_frozen_credentials() == first
        assert vars(credentials)["_expiry_time"] - datetime.now(UTC) > timedelta(minutes=10)
        # Whoever looks afresh gets fresh ones.
        again = found()
        assert again is not None
        assert again.get_frozen_credentials() != first


def test_short_lives_in_a_container(environ: Environ) -> None:
    """In a container botocore renews credentials that end soon at each use."""
    with ContainerCredentials(made_up(lifetime=60)) as container:
        environ(container.environment)
        credentials = hurried()
        keys = {credentials.get_frozen_credentials().access_key for _ in range(3)}
        assert len(keys) == 3
        assert container.supply.issued == 4


def test_long_lives(container: ContainerCredentials) -> None:
    """Credentials that last are issued once, however often one asks."""
    keys = {hurried().get_frozen_credentials().access_key for _ in range(3)}
    assert (len(keys), container.supply.issued, container.calls.count("credentials")) == (1, 1, 3)


def test_container(container: ContainerCredentials) -> None:
    """botocore finds the container's credentials by its default chain, before an instance's."""
    credentials = found()
    assert credentials is not None
    assert credentials.method == "container-role"
    assert credentials.get_frozen_credentials().access_key == container.calls.all()[0].note["access_key"]


def test_pod(environ: Environ, tmp_path: Path) -> None:
    """The authorization of a pod is read from its file each time, so that it may change."""
    token_file = tmp_path / "eks-pod-identity-token"
    with ContainerCredentials(made_up(lifetime=60)) as container:
        environ(container.pod_environment(token_file))
        credentials = hurried()
        container.rotate(token_file, "another")
        assert credentials.get_frozen_credentials().access_key
        token_file.write_text("stale")
        with pytest.raises(CredentialRetrievalError, match="Received non 200 response 401"):
            hurried()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (NOT_FOUND, "Received non 200 response 404"),
        (Fault(500, "Internal Server Error"), "Received non 200 response 500"),
        (Fault(200, "no JSON"), "Unable to parse JSON"),
        (Fault(drop=True), "Connection was closed|Could not connect|Connection reset"),
        (Fault(delay=30), "Read timeout"),
    ],
)
def test_container_in_trouble(
    container: ContainerCredentials, monkeypatch: pytest.MonkeyPatch, fault: Fault, said: str
) -> None:
    """botocore tries three times and then tells what was wrong."""
    monkeypatch.setattr(ContainerMetadataFetcher, "TIMEOUT_SECONDS", 0.2)
    with container.faults.during(fault), pytest.raises(CredentialRetrievalError, match=said):
        hurried()
    assert container.supply.issued == 0
    if not fault.delay:
        assert container.calls.count() == 3


def test_wrong_authorization(container: ContainerCredentials, environ: Environ) -> None:
    """Without the right authorization there is nothing to get."""
    environ({"AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong"})
    with pytest.raises(CredentialRetrievalError, match="Received non 200 response 401"):
        hurried()
    assert container.calls.count(status=401) == 3


def test_credentials_of_an_sts(emulator: EmulatorServer, environ: Environ) -> None:
    """Credentials that an STS issued are handed out and are accepted by that STS."""
    keys = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "example"}
    where = {"endpoint_url": emulator.endpoint_url, "region_name": "us-east-1"}
    trust = {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
    role = boto3.client("iam", **where, **keys).create_role(  # type: ignore[call-overload]
        RoleName="worker",
        AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]}),
    )["Role"]
    sts = boto3.client("sts", **where, **keys)  # type: ignore[call-overload]
    source = issued_by(lambda: sts.assume_role(RoleArn=role["Arn"], RoleSessionName="airflow"))
    with InstanceMetadata(source) as imds:
        environ(imds.environment)
        caller = boto3.session.Session().client("sts", **where).get_caller_identity()  # type: ignore[call-overload]
    assert caller["Arn"].endswith("assumed-role/worker/airflow")


@pytest.mark.parametrize("service", ["imds", "container"])
def test_nothing_secret_is_kept(service: str, request: pytest.FixtureRequest) -> None:
    """The call log holds access keys and neither secret keys nor tokens."""
    endpoint: Endpoint = request.getfixturevalue(service)
    credentials = found()
    assert credentials is not None
    frozen = credentials.get_frozen_credentials()
    kept = repr(endpoint.calls.all())
    assert str(frozen.access_key) in kept
    assert not [word for word in (frozen.secret_key, frozen.token) if str(word) in kept]
