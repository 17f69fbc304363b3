"""
Gets access tokens from Microsoft Entra ID through azure-identity, and maps its errors to
``CredentialsError``.

This module knows nothing about AWS. ``sts`` exchanges the tokens for AWS credentials.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import SecretStr

from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.texts import clean_text

CredentialType = Literal["managed_identity", "workload_identity", "client_secret", "client_certificate"]

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_CURES: Final[dict[str, str]] = {
    "AADSTS7000215": "The client secret is wrong: use its value from the app registration, not its id.",
    "AADSTS7000222": "The client secret has expired: create a new one in the app registration.",
    "AADSTS700016": "The tenant has no application with this client_id: check client_id and tenant_id.",
    "AADSTS90002": "The tenant does not exist: check tenant_id.",
    "AADSTS500011": "The tenant has no application with this application_id_uri: check its spelling, and "
    "that the application has a service principal in the tenant.",
    "AADSTS700027": "The certificate is not registered in the app registration: upload it there.",
    "AADSTS70021": "The app registration has no federated credential for this token's issuer and subject.",
    "AADSTS700213": "The app registration has no federated credential for this token's subject.",
    "AADSTS700211": "The app registration has no federated credential for this token's issuer.",
}
# Timeouts in seconds. Other threads may wait for the same token, and the callers retry with backoff in any
# case. With azure-identity's defaults, 300 seconds and several retries, one slow request would block all of
# them.
_CLIENT_OPTIONS: Final[dict[str, Any]] = {"connection_timeout": 10, "read_timeout": 10, "retry_total": 1}
_ERROR_CODE: Final = re.compile(r"AADSTS\d+")
# Errors of Entra ID itself. They have an AADSTS code, but they are not permanent.
_TRANSIENT_ERROR_CODES: Final = ("AADSTS90033", "AADSTS50196", "AADSTS90055")
_UNAVAILABLE_CURE: Final = (
    "This host has no such identity, or the endpoint for it does not respond: assign the managed identity to "
    "the host (and set client_id if it is user-assigned), or choose another entra_credential."
)


@dataclass(frozen=True, slots=True)
class EntraIdentity:
    """
    The identity that requests a token from Entra ID, and the application that the token is for.

    :param credential_type: how the identity authenticates.
    :param application_id_uri: the application that the token is for, such as ``api://polysync``.
    :param tenant_id: id of the tenant; None if the host provides it.
    :param client_id: client id of the identity; None for the system-assigned or only identity of the host.
    :param client_secret: for ``client_secret``.
    :param read_certificate: reads a PEM or PKCS12 file with the private key, for ``client_certificate``.
    :param read_assertion: reads a projected token, for ``workload_identity``; None for the file that the host
        names.
    """

    credential_type: CredentialType
    application_id_uri: str
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    read_certificate: Callable[[], bytes] | None = None
    read_assertion: Callable[[], str] | None = None

    @property
    def scope(self) -> str:
        """The scope of a token request for the application."""
        uri = self.application_id_uri
        return uri if uri.endswith("/.default") else f"{uri}/.default"


def entra_token_loader(identity: EntraIdentity) -> Callable[[], str]:
    """
    Return a function that requests a new token for an identity.

    :return: the function; it raises ``CredentialsError`` if Entra ID issues no token.
    :raises CredentialsError: if azure-identity is not installed.
    """
    try:
        from azure.core.exceptions import AzureError
    except ImportError:
        raise CredentialsError(
            "identity_source = 'entra' needs azure-identity: pip install 'polysync-airflow[entra]' on "
            "workers and triggerers."
        ) from None

    def load_token() -> str:
        try:
            # A new credential object for each token, about one per hour: azure-identity's objects cache
            # failures for one minute, and the content of a projected token file for ten minutes.
            with _azure_credential(identity) as credential:
                return str(credential.get_token(identity.scope).token)
        except AzureError as error:
            raise _map_error(error, identity) from error
        except (ValueError, OSError) as error:
            # ValueError: a malformed id, or a file that is not a certificate. Not permanent: a file that does
            # not exist yet, or a response that is not JSON.
            temporary = isinstance(error, (OSError, json.JSONDecodeError))
            raise CredentialsError(
                f"entra_credential = {identity.credential_type!r} cannot be used: {clean_text(str(error))}",
                permanent=not temporary,
            ) from error

    return load_token


def _azure_credential(identity: EntraIdentity) -> Any:
    from azure.identity import (
        CertificateCredential,
        ClientAssertionCredential,
        ClientSecretCredential,
        ManagedIdentityCredential,
        WorkloadIdentityCredential,
    )

    if identity.credential_type == "managed_identity":
        return ManagedIdentityCredential(client_id=identity.client_id, **_CLIENT_OPTIONS)
    if identity.credential_type == "workload_identity":
        if identity.read_assertion is None:
            return WorkloadIdentityCredential(
                tenant_id=identity.tenant_id, client_id=identity.client_id, **_CLIENT_OPTIONS
            )
        # What WorkloadIdentityCredential is made of, but with a reader that checks the file at each use.
        return ClientAssertionCredential(
            identity.tenant_id or os.environ.get("AZURE_TENANT_ID", ""),
            identity.client_id or os.environ.get("AZURE_CLIENT_ID", ""),
            identity.read_assertion,
            **_CLIENT_OPTIONS,
        )
    arguments: dict[str, Any] = {
        "tenant_id": str(identity.tenant_id),
        "client_id": str(identity.client_id),
        # With instance discovery, MSAL asks the public cloud whether the authority exists, and the public
        # cloud does not know a private authority. Only the deployment can set one; a connection cannot.
        "disable_instance_discovery": bool(os.environ.get("AZURE_AUTHORITY_HOST")),
        **_CLIENT_OPTIONS,
    }
    if identity.credential_type == "client_secret":
        secret = identity.client_secret.get_secret_value() if identity.client_secret else ""
        return ClientSecretCredential(**arguments, client_secret=secret)
    certificate = identity.read_certificate() if identity.read_certificate else b""
    return CertificateCredential(**arguments, certificate_data=certificate)


def _map_error(error: Exception, identity: EntraIdentity) -> CredentialsError:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import CredentialUnavailableError

    message = clean_text(str(error).split("\n")[0])
    # For an unknown tenant, only the cause of MSAL's error contains the error code.
    all_messages = " ".join(str(each) for each in _with_causes(error))
    error_code = next(iter(_ERROR_CODE.findall(all_messages)), None)
    cure = _CURES.get(error_code or "", "")
    if isinstance(error, CredentialUnavailableError):
        cure = cure or _UNAVAILABLE_CURE
    elif error_code and error_code not in message:
        message = f"{error_code}: {message}"
    # azure-identity raises ClientAuthenticationError for an HTTP 503 too. Only an error with an AADSTS code
    # is a decision of Entra ID.
    permanent = (
        isinstance(error, ClientAuthenticationError)
        and error_code is not None
        and error_code not in _TRANSIENT_ERROR_CODES
    )
    tenant, client = identity.tenant_id or "of the host", identity.client_id or "of the host"
    return CredentialsError(
        f"Microsoft Entra ID issued no token ({identity.credential_type}, tenant {tenant}, client {client}, "
        f"scope {identity.scope}): {message}" + (f" -- What to do: {cure}" if cure else ""),
        permanent=permanent,
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
