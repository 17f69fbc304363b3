"""
The sign-in methods: the connection fields that each method needs, and how it gets AWS
credentials.

Each method is a pydantic model, into which the fields of a ``polysync_sagemaker``
connection are parsed. The validation errors are worded for the user who edits the
connection. Nothing here needs Airflow.
"""

from __future__ import annotations

import os
import re
import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import Annotated, Any, Final, Literal

import boto3
import pydantic
from botocore.credentials import Credentials as AwsCredentials
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
)

from polysync_airflow.auth import sts
from polysync_airflow.auth.allow_list import AllowList, endpoint_host, is_loopback
from polysync_airflow.aws.sessions import create_session
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution import console, texts
from polysync_airflow.execution.models import REGION_PATTERN, RoleArn, StudioDomainId

# Timeouts in seconds. Other threads may wait for the same token, and the callers retry
# with backoff in any case. With azure-identity's defaults, 300 seconds and several
# retries, one slow request would block all of them.
_CLIENT_OPTIONS: Final[dict[str, Any]] = {
    "connection_timeout": 10,
    "read_timeout": 10,
    "retry_total": 1,
}


_MAX_REGION_LENGTH: Final = 64


def _check_url(url: str) -> str:
    endpoint_host(url)
    return url


def _check_secret(secret: SecretStr) -> SecretStr:
    # A line break, often pasted by mistake, would put the secret into the log: the
    # masker and the HTTP library do not see the same text.
    text = secret.get_secret_value()
    if not (text.isascii() and text.isprintable()) or " " in text:
        raise ValueError(
            "has a space, a line break or another character that is not printable ASCII"
        )
    return secret


def _check_region(region: Any) -> Any:
    # It becomes a part of the host to which requests are sent.
    is_short_text = isinstance(region, str) and len(region) <= _MAX_REGION_LENGTH
    if not is_short_text or not re.fullmatch(REGION_PATTERN, region):
        # Not the value: somebody may have pasted a secret into the wrong field.
        raise ValueError("not the name of an AWS region, such as eu-central-1")
    return region


Text = Annotated[
    str,
    StringConstraints(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f]*$"),
]
Url = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_check_url)]
UnifiedStudioUrl = Annotated[
    str, StringConstraints(pattern=f"^{console.UNIFIED_STUDIO_URL}$")
]
Region = Annotated[str, BeforeValidator(_check_region)]
AccessKeyId = Annotated[
    str, StringConstraints(min_length=16, max_length=128, pattern=r"^[A-Za-z0-9_]+$")
]
Secret = Annotated[
    SecretStr, Field(min_length=1, max_length=65536), AfterValidator(_check_secret)
]
# https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html
SessionName = Annotated[
    str,
    StringConstraints(min_length=2, max_length=64, pattern=r"^[A-Za-z0-9_+=,.@-]*$"),
]
ExternalId = Annotated[
    Annotated[
        str,
        StringConstraints(
            min_length=2, max_length=1224, pattern=r"^[A-Za-z0-9_+=,.@:\/-]*$"
        ),
    ]
    | None,
    Field(repr=False),
]
# Airflow's masker replaces what it knows in every log line. A shorter id may be a word
# or an account id, and the names and ARNs with it would not be readable any more.
MIN_MASKED_EXTERNAL_ID: Final = 16
Duration = Annotated[int, Field(ge=900, le=43200)]


def _parse_verify(value: Any) -> Any:
    # The connection form and URIs contain strings only.
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


class BaseCredentials(BaseModel):
    """
    The fields that all sign-in methods have.

    :param region_name: AWS region, such as ``eu-central-1``.
    :param execution_role_arn: role for executions of pipelines that AWS manages, whose
        start names no role.
    :param studio_domain_id: domain of SageMaker Studio in which users look at
        executions.
    :param unified_studio_url: URL of the domain of SageMaker Unified Studio, or of a
        project in it.
    :param endpoint_url: URL of the SageMaker endpoint; only for your own VPC endpoints
        or an emulator.
    :param sts_endpoint_url: URL of the STS endpoint; as ``endpoint_url``.
    :param verify: whether to verify TLS certificates, or the path of a CA bundle to
        verify them with.
    """

    # Users who edit connections are trusted less than DAG authors: fields that are not
    # defined here are errors.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    region_name: Region
    execution_role_arn: RoleArn | None = None
    studio_domain_id: StudioDomainId | None = None
    unified_studio_url: UnifiedStudioUrl | None = None
    endpoint_url: Url | None = None
    sts_endpoint_url: Url | None = None
    verify: Annotated[bool | str, BeforeValidator(_parse_verify)] = True

    @property
    def auth_description(self) -> str:
        """
        The sign-in method in the values of the connection, such as ``web_identity /
        file``.
        """
        choices = (getattr(self, name, None) for name in DISCRIMINATORS)
        return " / ".join(choice for choice in choices if choice)

    @property
    def other_endpoint_url(self) -> str | None:
        """
        URL of the endpoint of CloudWatch Logs, S3, SQS and IAM; None for those of AWS.
        """
        if self.endpoint_url and is_loopback(endpoint_host(self.endpoint_url)):
            # On this machine, one server stands for all services.
            return self.endpoint_url
        # An endpoint of a VPC serves one service.
        return None

    @property
    def secrets(self) -> list[str]:
        """The values that Airflow must mask in every log line."""
        values = (getattr(self, name) for name in type(self).model_fields)
        secrets = [
            value.get_secret_value() for value in values if isinstance(value, SecretStr)
        ]
        return [*secrets, *masked_external_ids(getattr(self, "external_id", None))]

    def session(self, allowed: AllowList) -> boto3.session.Session:
        """
        Create a boto3 session that uses these credentials and no others.

        :raises CredentialsError: if the connection names a file, host or application
            that is not allowed.
        """
        checks = {
            "verify": allowed.check_file,
            "identity_file": allowed.check_file,
            "client_certificate": allowed.check_file,
            "federated_identity_file": allowed.check_file,
            "endpoint_url": allowed.check_endpoint,
            "sts_endpoint_url": allowed.check_endpoint,
            "application_id_uri": allowed.check_application,
        }
        for field, check in checks.items():
            value = getattr(self, field, None)
            if isinstance(value, str):
                check(value, field=field)
        with _SHARED_CREDENTIALS_LOCK:
            credentials = _shared_credentials(self, allowed)
        return create_session(credentials, self.region_name)

    @abstractmethod
    def _aws_credentials(self, allowed: AllowList) -> AwsCredentials:
        """Create the credentials object, without network calls."""

    @property
    def _sts_settings(self) -> dict[str, Any]:
        return {
            "region_name": self.region_name,
            "endpoint_url": self.sts_endpoint_url,
            "verify": self.verify,
        }


def masked_external_ids(external_id: object) -> list[str]:
    """Return an external id that Airflow must mask; none if it is too short for it."""
    if isinstance(external_id, str) and len(external_id) >= MIN_MASKED_EXTERNAL_ID:
        return [external_id]
    return []


class RoleSession(BaseModel):
    """
    The name and the duration of the session of an assumed role.

    :param session_name: 2 to 64 characters; CloudTrail shows it.
    :param duration_seconds: 900 to 43,200, and at most the maximum session duration of
        the role. The default is that of AWS, one hour.
    """

    session_name: SessionName = "polysync-airflow"
    duration_seconds: Duration | None = None

    def request_parameters(self, **parameters: Any) -> dict[str, Any]:
        """
        Return the parameters of the STS request, without those that are None.

        :param parameters: parameters that only some sign-in methods have.
        """
        parameters = {
            "RoleSessionName": self.session_name,
            "DurationSeconds": self.duration_seconds,
            **parameters,
        }
        return {name: value for name, value in parameters.items() if value is not None}


class AccessKeyCredentials(BaseCredentials):
    """
    Sign in with an access key of an IAM user, or with temporary credentials and their
    session token.

    :param access_key_id: the login of the connection.
    :param secret_access_key: the password of the connection.
    :param session_token: for temporary credentials only.
    """

    auth_method: Literal["access_key"]
    access_key_id: AccessKeyId
    secret_access_key: Secret
    session_token: Secret | None = None

    def _aws_credentials(self, allowed: AllowList) -> AwsCredentials:
        token = None
        if self.session_token:
            token = self.session_token.get_secret_value()
        return AwsCredentials(
            self.access_key_id,
            self.secret_access_key.get_secret_value(),
            token,
            "access-key",
        )


class AssumeRoleCredentials(BaseCredentials, RoleSession):
    """
    Sign in with the access key of a bootstrap user, whose only permission is to assume
    a role.

    :param access_key_id: access key id of the bootstrap user; the login of the
        connection.
    :param secret_access_key: secret access key of the bootstrap user; the password of
        the connection.
    :param external_id: external id, if the trust policy of the role requires one.
    """

    auth_method: Literal["assume_role"]
    access_key_id: AccessKeyId
    secret_access_key: Secret
    role_arn: RoleArn
    external_id: ExternalId = None

    def _aws_credentials(self, allowed: AllowList) -> AwsCredentials:
        bootstrap = AwsCredentials(
            self.access_key_id, self.secret_access_key.get_secret_value()
        )
        parameters = self.request_parameters(ExternalId=self.external_id)
        return sts.assume_role(
            bootstrap, self.role_arn, self._sts_settings, **parameters
        )


class InstanceProfileCredentials(BaseCredentials, RoleSession):
    """
    Sign in as the host: with its EC2 instance profile (IMDSv2), ECS task role, or EKS
    pod identity.

    :param role_arn: ARN of a role to assume with the credentials of the host; None to
        use them directly.
    :param external_id: external id, if the trust policy of that role requires one.
    """

    auth_method: Literal["instance_profile"]
    role_arn: RoleArn | None = None
    external_id: ExternalId = None

    def _aws_credentials(self, allowed: AllowList) -> AwsCredentials:
        host = sts.host_role()
        if self.role_arn is None:
            return host
        parameters = self.request_parameters(ExternalId=self.external_id)
        return sts.assume_role(host, self.role_arn, self._sts_settings, **parameters)


class WebIdentityCredentials(BaseCredentials, RoleSession):
    """Sign in with a token of an OIDC provider, without any long-lived AWS secret."""

    auth_method: Literal["web_identity"]
    role_arn: RoleArn

    @abstractmethod
    def token_loader(self, allowed: AllowList) -> Callable[[], str]:
        """Return a function that returns a valid token."""

    def _aws_credentials(self, allowed: AllowList) -> AwsCredentials:
        return sts.assume_role_with_web_identity(
            self.token_loader(allowed),
            self.role_arn,
            self._sts_settings,
            **self.request_parameters(),
        )


# Only secret fields may have "token" or "secret" in their names: Airflow masks the
# values of such fields everywhere, in the form and in our error messages.
class FileCredentials(WebIdentityCredentials):
    """
    Sign in with a token that the platform projects into a file. Each request reads the
    file again.

    :param identity_file: path of the file, in a folder that the deployment allows.
    """

    identity_source: Literal["file"]
    identity_file: Text

    def token_loader(self, allowed: AllowList) -> Callable[[], str]:
        """Return a function that reads the file."""
        return lambda: sts.read_token_file(self.identity_file, allowed)


class EntraCredentials(WebIdentityCredentials):
    """
    Sign in with a token of Microsoft Entra ID.

    :param application_id_uri: the application that the token is for, or its scope.
    """

    identity_source: Literal["entra"]
    application_id_uri: Text

    def token_loader(self, allowed: AllowList) -> Callable[[], str]:
        """Return a function that requests a token from Entra ID."""
        names = ("entra_credential", "tenant_id", "client_id")
        identity: dict[str, Any] = {name: getattr(self, name, None) for name in names}
        make_credential = partial(self._azure_credential, allowed=allowed)
        return sts.entra_token_loader(
            make_credential, self.application_id_uri, **identity
        )

    @abstractmethod
    def _azure_credential(self, identity: Any, allowed: AllowList) -> Any:
        """
        Return the object that requests the token.

        :param identity: the package azure.identity.
        """


class ManagedIdentity(EntraCredentials):
    """
    Use a managed identity of the host.

    :param client_id: client id of a user-assigned identity; None for the
        system-assigned identity.
    """

    entra_credential: Literal["managed_identity"]
    client_id: Text | None = None

    def _azure_credential(self, identity: Any, allowed: AllowList) -> Any:
        return identity.ManagedIdentityCredential(
            client_id=self.client_id, **_CLIENT_OPTIONS
        )


class WorkloadIdentity(EntraCredentials):
    """
    Use a Kubernetes service account that is federated with an app registration.

    :param tenant_id: id of the tenant; None for the tenant that AKS sets in the
        environment.
    :param client_id: client id of the app registration; None for the one that AKS sets
        in the environment.
    :param federated_identity_file: path of the token of the service account; None for
        the file that AKS projects.
    """

    entra_credential: Literal["workload_identity"]
    tenant_id: Text | None = None
    client_id: Text | None = None
    federated_identity_file: Text | None = None

    def _azure_credential(self, identity: Any, allowed: AllowList) -> Any:
        path = self.federated_identity_file
        if path is None:
            return identity.WorkloadIdentityCredential(
                tenant_id=self.tenant_id, client_id=self.client_id, **_CLIENT_OPTIONS
            )
        # What WorkloadIdentityCredential is made of, but with a reader that checks the
        # file at each use.
        return identity.ClientAssertionCredential(
            self.tenant_id or os.environ.get("AZURE_TENANT_ID", ""),
            self.client_id or os.environ.get("AZURE_CLIENT_ID", ""),
            partial(
                sts.read_token_file, path, allowed, field="federated_identity_file"
            ),
            **_CLIENT_OPTIONS,
        )


def _app_registration_options() -> dict[str, Any]:
    # With instance discovery, MSAL asks the public cloud whether the authority exists,
    # and the public cloud does not know a private authority. Only the deployment can
    # set one; a connection cannot.
    return {
        **_CLIENT_OPTIONS,
        "disable_instance_discovery": bool(os.environ.get("AZURE_AUTHORITY_HOST")),
    }


class ClientSecret(EntraCredentials):
    """
    Use an app registration with a client secret.

    :param client_secret: value of one of its client secrets.
    """

    entra_credential: Literal["client_secret"]
    tenant_id: Text
    client_id: Text
    client_secret: Secret

    def _azure_credential(self, identity: Any, allowed: AllowList) -> Any:
        return identity.ClientSecretCredential(
            self.tenant_id,
            self.client_id,
            self.client_secret.get_secret_value(),
            **_app_registration_options(),
        )


class ClientCertificate(EntraCredentials):
    """
    Use an app registration with a certificate.

    :param client_certificate: path of a PEM or PKCS12 file with the certificate and its
        private key, in a folder that the deployment allows.
    """

    entra_credential: Literal["client_certificate"]
    tenant_id: Text
    client_id: Text
    client_certificate: Text

    def _azure_credential(self, identity: Any, allowed: AllowList) -> Any:
        certificate = allowed.read_file(
            self.client_certificate, field="client_certificate"
        )
        return identity.CertificateCredential(
            self.tenant_id,
            self.client_id,
            certificate_data=certificate,
            **_app_registration_options(),
        )


Entra = Annotated[
    ManagedIdentity | WorkloadIdentity | ClientSecret | ClientCertificate,
    Field(discriminator="entra_credential"),
]
WebIdentity = Annotated[Entra | FileCredentials, Field(discriminator="identity_source")]
Credentials = (
    AccessKeyCredentials
    | AssumeRoleCredentials
    | InstanceProfileCredentials
    | WebIdentity
)
CREDENTIALS_ADAPTER: pydantic.TypeAdapter[BaseCredentials] = pydantic.TypeAdapter(
    Annotated[Credentials, Field(discriminator="auth_method")]
)
# The fields whose values select the sign-in method. pydantic calls such a field a
# discriminator.
DISCRIMINATORS: Final = ("auth_method", "identity_source", "entra_credential")
# ``lru_cache`` lets threads that come at the same time call the function each.
_SHARED_CREDENTIALS_LOCK: Final = threading.Lock()


# Each rotation of a connection's secret is a new one.
@lru_cache(64)
def _shared_credentials(
    connection: BaseCredentials, allowed: AllowList
) -> AwsCredentials:
    """
    Return the credentials that all hooks with the same fields of a connection share.

    An edited connection, whose fields are others, gets new ones.
    """
    return connection._aws_credentials(allowed)


# Fields that have another name in the connection form.
_FORM_LABELS: Final = {
    "access_key_id": "access_key_id (login)",
    "secret_access_key": "secret_access_key (password)",
}


def parse_credentials(
    fields: Mapping[str, Any], *, connection_id: str
) -> BaseCredentials:
    """
    Check and parse the fields of a connection.

    :param fields: the fields of the connection by name. None and empty strings count as
        missing, because the connection form sends empty strings for empty fields.
    :raises CredentialsError: if a field is missing, unknown or malformed. The message
        names every such field and never contains a secret.
    """
    values = {name: value for name, value in fields.items() if value not in (None, "")}
    try:
        return CREDENTIALS_ADAPTER.validate_python(values)
    except pydantic.ValidationError as error:
        problems = list(_problems(error))
        raise not_usable(connection_id, "polysync_sagemaker", problems) from None


def check_aws_region(region: object, *, field: str, connection_id: str) -> None:
    """
    Check a region of an ``aws`` connection, as that of ours is checked.

    :param field: the field that has it.
    :raises CredentialsError: it is not the name of a region.
    """
    try:
        _check_region(region)
    except ValueError as error:
        problem = f"{field}: {error}; correct it."
        raise not_usable(connection_id, "aws", [problem]) from None


def not_usable(
    connection_id: str, connection_type: str, problems: list[str]
) -> CredentialsError:
    """Return the error for a connection whose fields have problems."""
    lines = "\n".join(f"- {problem}" for problem in texts.first_problems(problems))
    return CredentialsError(
        f"The connection {connection_id!r} (type {connection_type}) is not"
        f" usable:\n{lines}"
    )


def _problems(error: pydantic.ValidationError) -> Iterable[str]:
    problems = error.errors(include_url=False, include_input=False)
    for number, problem in enumerate(problems):
        error_type = problem["type"]
        if error_type in ("union_tag_invalid", "union_tag_not_found"):
            name = str(problem["ctx"]["discriminator"]).strip("'")
            choices = choices_of(name)
            # Not the value: somebody may have pasted a secret into the wrong field.
            meant = texts.did_you_mean(str(problem["ctx"].get("tag", "")), choices)
            yield f"{name}: give one of {', '.join(choices)}.{meant}"
            continue
        # Whoever edits the connection chooses the names of unknown fields.
        name = texts.clean_line(str(problem["loc"][-1]), 64)
        label = _FORM_LABELS.get(name, name)
        if error_type == "missing":
            yield f"{label}: Field required; fill it in."
        elif error_type == "extra_forbidden":
            meant = ""
            if number < texts.MAX_PROBLEMS:
                meant = texts.did_you_mean(name, _all_fields())
            yield (
                f"{label}: this sign-in method has no such field; remove it, or"
                f" correct it.{meant}"
            )
        else:
            text = problem["msg"].removeprefix("Value error, ")
            yield f"{label}: {text}; correct it."


def _all_fields() -> set[str]:
    return {name for model in credentials_classes() for name in model.model_fields}


def choices_of(discriminator: str) -> list[str]:
    """
    Return the allowed values of a discriminator field.

    :param discriminator: ``auth_method``, ``identity_source`` or ``entra_credential``.
    """
    fields = (model.model_fields.get(discriminator) for model in credentials_classes())
    choices = [field.annotation.__args__[0] for field in fields if field]
    return list(dict.fromkeys(choices))


def credentials_classes(base: Any = BaseCredentials) -> list[Any]:
    """
    Return the credentials classes of all sign-in methods, in the order of their
    definition.

    :param base: the class whose leaf subclasses are returned.
    """
    subclasses = base.__subclasses__()
    if not subclasses:
        return [base]
    return [leaf for subclass in subclasses for leaf in credentials_classes(subclass)]
