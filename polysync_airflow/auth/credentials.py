"""Owns the four ways to sign in: what each needs, and how it comes to AWS credentials. Knows no Airflow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import boto3
from botocore.credentials import Credentials as AwsCredentials
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
)

from polysync_airflow.auth.allowed_files import allowed_path
from polysync_airflow.auth.entra import EntraIdentity, token_source
from polysync_airflow.auth.refresh import (
    SharedCredentials,
    assume_role,
    assume_role_with_web_identity,
    host_role,
)
from polysync_airflow.auth.web_identity_token import read_token_file
from polysync_airflow.aws.sessions import create_session
from polysync_airflow.execution.models import RoleArn

Text = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,}(-[a-z]+)+-\d+$")]
AccessKeyId = Annotated[str, StringConstraints(min_length=16, max_length=128, pattern=r"^\w+$")]
Secret = Annotated[SecretStr, Field(min_length=1)]
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
SessionName = Annotated[str, StringConstraints(min_length=2, max_length=64, pattern=r"^[\w+=,.@-]*$")]
ExternalId = Annotated[str, StringConstraints(min_length=2, max_length=1224, pattern=r"^[\w+=,.@:\/-]*$")]
Duration = Annotated[int, Field(ge=900, le=43200)]


def _verify(value: Any) -> Any:
    # The form and URIs give text.
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


class BaseCredentials(BaseModel):
    """
    What all ways to sign in have in common.

    :param region_name: AWS region, such as ``eu-central-1``.
    :param execution_role_arn: role for executions whose start names none.
    :param endpoint_url: SageMaker's address; only for VPC endpoints of one's own or an emulator.
    :param sts_endpoint_url: the same for STS.
    :param verify: whether TLS certificates are checked, or a file of authorities to check them with.
    """

    # Connection editors are trusted less than DAG authors: what is not named here is refused.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    region_name: Region
    execution_role_arn: RoleArn | None = None
    endpoint_url: Url | None = None
    sts_endpoint_url: Url | None = None
    verify: Annotated[bool | str, BeforeValidator(_verify)] = True

    @property
    def way(self) -> str:
        """How it signs in, in the connection's words."""
        tags = (getattr(self, name, None) for name in DISCRIMINATORS)
        return " / ".join(tag for tag in tags if tag)

    @property
    def secrets(self) -> list[str]:
        """What must not appear in any log."""
        values = (getattr(self, name) for name in type(self).model_fields)
        return [value.get_secret_value() for value in values if isinstance(value, SecretStr)]

    def session(self, allowed: Sequence[Path] = ()) -> boto3.session.Session:
        """
        Make a boto3 session that uses these credentials and no others.

        :param allowed: folders under which the connection may name files.
        :raises CredentialsError: if it names one elsewhere.
        """
        self.check_files(allowed)
        shared = _SHARED.get((self, tuple(allowed)), lambda: self._aws_credentials(allowed))
        return create_session(shared, self.region_name)

    def check_files(self, allowed: Sequence[Path]) -> None:
        """
        Make sure that the deployment allows every file that the connection names.

        :param allowed: folders under which the connection may name files.
        :raises CredentialsError: if it names one elsewhere.
        """
        for name in ("verify", "identity_file", "client_certificate", "federated_identity_file"):
            path = getattr(self, name, None)
            if isinstance(path, str):
                allowed_path(path, allowed, field=name)

    @abstractmethod
    def _aws_credentials(self, allowed: Sequence[Path]) -> AwsCredentials:
        """Make the credentials, without asking the network."""

    @property
    def _sts(self) -> dict[str, Any]:
        return {
            "region_name": self.region_name,
            "endpoint_url": self.sts_endpoint_url,
            "verify": self.verify,
        }


class RoleSession(BaseModel):
    """
    How a role's session is called and how long it lasts.

    :param session_name: appears in CloudTrail; 2 to 64 characters.
    :param duration_seconds: 900 to 43,200; the role's own maximum counts as well. Default: AWS's, one hour.
    """

    session_name: SessionName = "polysync-airflow"
    duration_seconds: Duration | None = None

    def request(self, **more: Any) -> dict[str, Any]:
        """Return the members of an STS request that are given."""
        members = {"RoleSessionName": self.session_name, "DurationSeconds": self.duration_seconds, **more}
        return {name: value for name, value in members.items() if value is not None}


class AccessKeyCredentials(BaseCredentials):
    """
    Sign in with an access key of an IAM user, or with temporary keys and their session token.

    :param access_key_id: the connection's login.
    :param secret_access_key: the connection's password.
    :param session_token: only with temporary keys.
    """

    auth_method: Literal["access_key"]
    access_key_id: AccessKeyId
    secret_access_key: Secret
    session_token: SecretStr | None = None

    def _aws_credentials(self, allowed: Sequence[Path]) -> AwsCredentials:
        token = self.session_token.get_secret_value() if self.session_token else None
        return AwsCredentials(
            self.access_key_id, self.secret_access_key.get_secret_value(), token, "access-key"
        )


class AssumeRoleCredentials(BaseCredentials, RoleSession):
    """
    Sign in with a bootstrap access key that may do nothing but assume a role.

    :param access_key_id: the bootstrap user's, the connection's login.
    :param secret_access_key: the bootstrap user's, the connection's password.
    :param role_arn: the role.
    :param external_id: what the role's trust policy asks for, if anything.
    """

    auth_method: Literal["assume_role"]
    access_key_id: AccessKeyId
    secret_access_key: Secret
    role_arn: RoleArn
    external_id: ExternalId | None = None

    def _aws_credentials(self, allowed: Sequence[Path]) -> AwsCredentials:
        bootstrap = AwsCredentials(self.access_key_id, self.secret_access_key.get_secret_value())
        request = self.request(ExternalId=self.external_id)
        return assume_role(bootstrap, self.role_arn, **self._sts, **request)


class InstanceProfileCredentials(BaseCredentials, RoleSession):
    """
    Sign in as the host: its EC2 instance profile (IMDSv2), ECS task role, or EKS pod identity.

    :param role_arn: a role to assume from there, if any.
    :param external_id: what that role's trust policy asks for, if anything.
    """

    auth_method: Literal["instance_profile"]
    role_arn: RoleArn | None = None
    external_id: ExternalId | None = None

    def _aws_credentials(self, allowed: Sequence[Path]) -> AwsCredentials:
        host = host_role()
        if self.role_arn is None:
            return host
        return assume_role(host, self.role_arn, **self._sts, **self.request(ExternalId=self.external_id))


class WebIdentityCredentials(BaseCredentials, RoleSession):
    """
    Sign in with a token of an OIDC provider; no long-lived secret of AWS anywhere.

    :param role_arn: the role that the token may assume.
    """

    auth_method: Literal["web_identity"]
    role_arn: RoleArn

    @abstractmethod
    def token(self, allowed: Sequence[Path]) -> Callable[[], str]:
        """Return the function that gets a valid token."""

    def _aws_credentials(self, allowed: Sequence[Path]) -> AwsCredentials:
        return assume_role_with_web_identity(
            self.token(allowed), self.role_arn, **self._sts, **self.request()
        )


# No field that is not a secret may have "token" or "secret" in its name: Airflow would mask its value
# everywhere, in the form and in our own errors.
class FileCredentials(WebIdentityCredentials):
    """
    The token is projected into a file by the platform, and read afresh at each exchange.

    :param identity_file: the file, under a folder that the deployment allows.
    """

    identity_source: Literal["file"]
    identity_file: Text

    def token(self, allowed: Sequence[Path]) -> Callable[[], str]:
        """Return the function that reads the file."""
        return lambda: read_token_file(self.identity_file, allowed)


class EntraCredentials(WebIdentityCredentials):
    """
    Microsoft Entra ID issues the token.

    :param application_id_uri: the application that the token is for, or its scope.
    """

    identity_source: Literal["entra"]
    application_id_uri: Text

    def token(self, allowed: Sequence[Path]) -> Callable[[], str]:
        """Return the function that asks Entra ID."""
        return token_source(self._identity())

    @abstractmethod
    def _identity(self) -> EntraIdentity:
        """Return who asks."""


class ManagedIdentity(EntraCredentials):
    """
    The host's managed identity.

    :param client_id: the user-assigned identity; None for the system-assigned one.
    """

    entra_credential: Literal["managed_identity"]
    client_id: Text | None = None

    def _identity(self) -> EntraIdentity:
        return EntraIdentity("managed_identity", self.application_id_uri, client_id=self.client_id)


class WorkloadIdentity(EntraCredentials):
    """
    A Kubernetes service account that is federated with an app registration.

    :param tenant_id: the tenant; None for the one that AKS tells.
    :param client_id: the app registration's; None for the one that AKS tells.
    :param federated_identity_file: the service account's token; None for the one that AKS projects.
    """

    entra_credential: Literal["workload_identity"]
    tenant_id: Text | None = None
    client_id: Text | None = None
    federated_identity_file: Text | None = None

    def _identity(self) -> EntraIdentity:
        return EntraIdentity(
            "workload_identity",
            self.application_id_uri,
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            token_file=Path(self.federated_identity_file) if self.federated_identity_file else None,
        )


class ClientSecret(EntraCredentials):
    """
    An app registration with a secret.

    :param tenant_id: the tenant.
    :param client_id: the app registration's.
    :param client_secret: one of its secrets.
    """

    entra_credential: Literal["client_secret"]
    tenant_id: Text
    client_id: Text
    client_secret: Secret

    def _identity(self) -> EntraIdentity:
        return EntraIdentity(
            "client_secret",
            self.application_id_uri,
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            client_secret=self.client_secret,
        )


class ClientCertificate(EntraCredentials):
    """
    An app registration with a certificate.

    :param tenant_id: the tenant.
    :param client_id: the app registration's.
    :param client_certificate: PEM or PKCS12 file with its private key, under a folder that the deployment
        allows.
    """

    entra_credential: Literal["client_certificate"]
    tenant_id: Text
    client_id: Text
    client_certificate: Text

    def _identity(self) -> EntraIdentity:
        return EntraIdentity(
            "client_certificate",
            self.application_id_uri,
            tenant_id=self.tenant_id,
            client_id=self.client_id,
            certificate=Path(self.client_certificate),
        )


Entra = Annotated[
    ManagedIdentity | WorkloadIdentity | ClientSecret | ClientCertificate,
    Field(discriminator="entra_credential"),
]
WebIdentity = Annotated[Entra | FileCredentials, Field(discriminator="identity_source")]
Credentials = AccessKeyCredentials | AssumeRoleCredentials | InstanceProfileCredentials | WebIdentity
CREDENTIALS: TypeAdapter[Any] = TypeAdapter(Annotated[Credentials, Field(discriminator="auth_method")])
# The fields by whose values pydantic, and a person, tell the ways to sign in apart.
DISCRIMINATORS: Final = ("auth_method", "identity_source", "entra_credential")
_SHARED: Final = SharedCredentials()
