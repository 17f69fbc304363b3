"""
Setup functions of all authentication methods, with the emulator and the fake servers.

Each function sets up the AWS account and the host, and sets the connection
``polysync_default``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.fakes.endpoints.client_authentication import Application, FederatedCredential
from tests.fakes.endpoints.credential_sources import issued_by
from tests.fakes.endpoints.metadata.ecs import ContainerCredentials
from tests.fakes.endpoints.metadata.imds import InstanceMetadata
from tests.fakes.endpoints.metadata.managed_identity import ManagedIdentity
from tests.unit.auth.sign_in.conftest import ROLE, SignInContext

SECRET = "entra-client-secret-of-the-tests"
EXTERNAL_ID = "external-7"
SUBJECT = "system:serviceaccount:airflow:worker"


def access_key(context: SignInContext) -> None:
    """Use the access key of a user."""
    login, password = context.account.user()
    context.connect(auth_method="access_key", login=login, password=password)


def assume_role(context: SignInContext) -> None:
    """Use a bootstrap user that assumes a role with an external id."""
    login, password = context.account.user()
    context.account.role_for_caller(EXTERNAL_ID)
    context.connect(
        auth_method="assume_role",
        login=login,
        password=password,
        role_arn=ROLE,
        external_id=EXTERNAL_ID,
    )


def _host_role_session(context: SignInContext) -> Callable[[], Any]:
    """Create a role for a host, and return a function that assumes it."""
    trust_policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:AssumeRole"}
        ],
    }
    role_arn = context.account.role(trust_policy, "host")
    return lambda: context.account.sts.assume_role(
        RoleArn=role_arn, RoleSessionName="host"
    )


def ec2(context: SignInContext) -> None:
    """Run on an EC2 instance with an instance profile."""
    imds = context.stack.enter_context(
        InstanceMetadata(issued_by(_host_role_session(context)))
    )
    context.environ(imds.environment)
    context.connect(auth_method="instance_profile")


def ecs(context: SignInContext) -> None:
    """Run in a container with a task role."""
    container = context.stack.enter_context(
        ContainerCredentials(issued_by(_host_role_session(context)))
    )
    context.environ(container.environment)
    context.connect(auth_method="instance_profile")


def role_from_ec2(context: SignInContext) -> None:
    """Assume a role with the credentials of an EC2 instance profile."""
    imds = context.stack.enter_context(
        InstanceMetadata(issued_by(_host_role_session(context)))
    )
    context.environ(imds.environment)
    context.account.role_for_caller()
    context.connect(auth_method="instance_profile", role_arn=ROLE)


def identity_file(context: SignInContext) -> None:
    """Exchange the projected token of a Kubernetes service account at STS."""
    path = context.folder / "token"
    context.cluster.project(
        path, context.cluster.token(SUBJECT, audience="sts.amazonaws.com")
    )
    context.account.role_for_token(context.cluster.url, "sts.amazonaws.com", SUBJECT)
    context.connect_file(path)


def client_secret(context: SignInContext) -> None:
    """Use an Entra application with a client secret."""
    application = context.entra.register(secret=SECRET)
    context.connect_entra(
        application,
        "client_secret",
        tenant_id=context.entra.tenant,
        client_id=application.principal.client_id,
        client_secret=SECRET,
    )


def client_certificate(context: SignInContext) -> None:
    """Use an Entra application with a client certificate."""
    certificate = context.pki.client_certificate("signin")
    path = context.folder / "certificate.pem"
    path.write_bytes(certificate.path.read_bytes())
    application = context.entra.register(certificate=certificate.certificate)
    context.connect_entra(
        application,
        "client_certificate",
        tenant_id=context.entra.tenant,
        client_id=application.principal.client_id,
        client_certificate=str(path),
    )


def workload_identity(context: SignInContext) -> None:
    """
    Use an Entra application with the federated credential of a Kubernetes service
    account.
    """
    application = context.entra.register(
        federated_credential=FederatedCredential(
            context.cluster.url, SUBJECT, context.cluster.keyring
        )
    )
    path = context.folder / "azure-identity-token"
    context.cluster.project(path, context.cluster.token(SUBJECT))
    context.connect_entra(
        application,
        "workload_identity",
        tenant_id=context.entra.tenant,
        client_id=application.principal.client_id,
        federated_identity_file=str(path),
    )


def managed_identity(context: SignInContext) -> None:
    """Use the system-assigned managed identity of an Azure host."""
    host = context.stack.enter_context(ManagedIdentity(context.entra))
    context.environ(host.imds_environment)
    assert host.system
    context.connect_entra(Application(host.system), "managed_identity")


AUTH_METHODS = (
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
