"""Owns the ways to sign in, each set up for real on loopback: the account's side, the host's, the connection."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.auth.endpoints.certificates import Pki
from tests.auth.endpoints.cluster import Cluster
from tests.auth.endpoints.ecs import ContainerCredentials
from tests.auth.endpoints.entra import Entra
from tests.auth.endpoints.imds import InstanceMetadata
from tests.auth.endpoints.managed_identity import ManagedIdentity
from tests.auth.endpoints.proofs import Application, Federation
from tests.auth.endpoints.supply import issued_by
from tests.auth.sign_in.conftest import FOLDERS, ROLE, Account, use_connection

SECRET = "entra-client-secret-of-the-tests"
EXTERNAL_ID = "external-7"
SUBJECT = "system:serviceaccount:airflow:worker"


@dataclass
class Stage:
    """Everything that a way may need to be set up."""

    account: Account
    entra: Entra
    cluster: Cluster
    pki: Pki
    environ: Any
    folder: Path
    monkeypatch: pytest.MonkeyPatch
    open: ExitStack

    def connect(self, **fields: Any) -> None:
        """Make the connection."""
        self.monkeypatch.setenv(FOLDERS, str(self.folder))
        use_connection(self.monkeypatch, self.account.endpoint_url, **fields)

    def connect_entra(self, application: Application, credential: str, **fields: Any) -> None:
        """Make a connection by Entra ID, for a role that lets the application in."""
        self.environ(self.entra.environment)
        self.account.role_for_token(self.entra.issuer, self.entra.audience, application.principal.object_id)
        self.connect(
            auth_method="web_identity",
            role_arn=ROLE,
            identity_source="entra",
            entra_credential=credential,
            application_id_uri=self.entra.api.identifier_uri,
            **fields,
        )


def access_key(stage: Stage) -> None:
    """Use a user's own key."""
    login, password = stage.account.user()
    stage.connect(auth_method="access_key", login=login, password=password)


def assume_role(stage: Stage) -> None:
    """Let a bootstrap user assume a role that asks for an external id."""
    login, password = stage.account.user()
    stage.account.role_for_caller(EXTERNAL_ID)
    stage.connect(
        auth_method="assume_role", login=login, password=password, role_arn=ROLE, external_id=EXTERNAL_ID
    )


def _host_session(stage: Stage) -> Callable[[], Any]:
    host = stage.account.role(
        {
            "Version": "2012-10-17",
            "Statement": [
                {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"},
            ],
        },
        "host",
    )
    return lambda: stage.account.sts.assume_role(RoleArn=host, RoleSessionName="host")


def ec2(stage: Stage) -> None:
    """Run on an EC2 instance with a profile."""
    imds = stage.open.enter_context(InstanceMetadata(issued_by(_host_session(stage))))
    stage.environ(imds.environment)
    stage.connect(auth_method="instance_profile")


def ecs(stage: Stage) -> None:
    """Run in a container with a task role."""
    container = stage.open.enter_context(ContainerCredentials(issued_by(_host_session(stage))))
    stage.environ(container.environment)
    stage.connect(auth_method="instance_profile")


def role_from_ec2(stage: Stage) -> None:
    """Assume a role from an EC2 instance's profile."""
    imds = stage.open.enter_context(InstanceMetadata(issued_by(_host_session(stage))))
    stage.environ(imds.environment)
    stage.account.role_for_caller()
    stage.connect(auth_method="instance_profile", role_arn=ROLE)


def identity_file(stage: Stage) -> None:
    """Exchange a service account's projected token, straight at STS."""
    path = stage.folder / "token"
    stage.cluster.project(path, stage.cluster.token(SUBJECT, audience="sts.amazonaws.com"))
    stage.account.role_for_token(stage.cluster.url, "sts.amazonaws.com", SUBJECT)
    stage.connect(auth_method="web_identity", role_arn=ROLE, identity_source="file", identity_file=str(path))


def client_secret(stage: Stage) -> None:
    """Let an Entra application sign in by its secret."""
    application = stage.entra.register(secret=SECRET)
    stage.connect_entra(
        application,
        "client_secret",
        tenant_id=stage.entra.tenant,
        client_id=application.principal.client_id,
        client_secret=SECRET,
    )


def client_certificate(stage: Stage) -> None:
    """Let an Entra application sign in by its certificate."""
    certificate = stage.pki.client_certificate("signin")
    path = stage.folder / "certificate.pem"
    path.write_bytes(certificate.path.read_bytes())
    application = stage.entra.register(certificate=certificate.certificate)
    stage.connect_entra(
        application,
        "client_certificate",
        tenant_id=stage.entra.tenant,
        client_id=application.principal.client_id,
        client_certificate=str(path),
    )


def workload_identity(stage: Stage) -> None:
    """Let a federated service account sign in as an Entra application."""
    application = stage.entra.register(
        federation=Federation(stage.cluster.url, SUBJECT, stage.cluster.keyring)
    )
    path = stage.folder / "azure-identity-token"
    stage.cluster.project(path, stage.cluster.token(SUBJECT))
    stage.connect_entra(
        application,
        "workload_identity",
        tenant_id=stage.entra.tenant,
        client_id=application.principal.client_id,
        federated_identity_file=str(path),
    )


def managed_identity(stage: Stage) -> None:
    """Let an Azure host's system-assigned identity sign in."""
    host = stage.open.enter_context(ManagedIdentity(stage.entra))
    stage.environ(host.imds_environment)
    assert host.system
    stage.connect_entra(Application(host.system), "managed_identity")


WAYS = (
    access_key,
    assume_role,
    ec2,
    ecs,
    role_from_ec2,
    identity_file,
    client_secret,
    client_certificate,
    workload_identity,
    managed_identity,
)


@contextmanager
def opened() -> Iterator[ExitStack]:
    """Keep a way's endpoints open for the length of a test."""
    with ExitStack() as stack:
        yield stack
