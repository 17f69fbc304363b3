"""Owns a Microsoft Entra ID token: which identity asks for it, and what a refusal means. Knows no AWS."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import SecretStr

from polysync_airflow.exceptions import CredentialsError

Kind = Literal["managed_identity", "workload_identity", "client_secret", "client_certificate"]

# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
_CURES: Final[dict[str, str]] = {
    "AADSTS7000215": "The client secret is wrong: take its value, not its id, from the app registration.",
    "AADSTS7000222": "The client secret has expired: make a new one in the app registration.",
    "AADSTS700016": "The tenant has no application with this client_id: check client_id and tenant_id.",
    "AADSTS90002": "There is no such tenant: check tenant_id.",
    "AADSTS500011": "The tenant has no application with this application_id_uri: check its spelling, and "
    "that the application has a service principal in the tenant.",
    "AADSTS700027": "The certificate is not the one that the app registration has: upload it there.",
    "AADSTS70021": "The app registration has no federated credential for this token's issuer and subject.",
    "AADSTS700213": "The app registration has no federated credential for this token's subject.",
    "AADSTS700211": "The app registration has no federated credential for this token's issuer.",
}
# Seconds. Others may be waiting for the token, and who waits longest tries again anyhow: azure-identity's own
# 300 seconds and several retries would hold them all up.
_PATIENCE: Final[dict[str, Any]] = {"connection_timeout": 10, "read_timeout": 10, "retry_total": 1}
_CODE: Final = re.compile(r"AADSTS\d+")
# Entra's own trouble, told with a code all the same.
_PASSING: Final = ("AADSTS90033", "AADSTS50196", "AADSTS90055")
_UNAVAILABLE: Final = (
    "This host has no such identity, or its endpoint does not answer: assign the managed identity to the "
    "host (and name its client_id if it is user-assigned), or choose another entra_credential."
)


@dataclass(frozen=True, slots=True)
class EntraIdentity:
    """
    Who asks Entra ID for a token, and for which audience.

    :param kind: how the identity proves itself.
    :param application_id_uri: the application that the token is for, such as ``api://polysync``.
    :param tenant_id: the tenant; None where the host knows it.
    :param client_id: the identity's client id; None for the host's system-assigned or only identity.
    :param client_secret: with ``client_secret``.
    :param certificate: PEM or PKCS12 file with its private key, with ``client_certificate``.
    :param token_file: projected token, with ``workload_identity``; None for the one that the host names.
    """

    kind: Kind
    application_id_uri: str
    tenant_id: str | None = None
    client_id: str | None = None
    client_secret: SecretStr | None = None
    certificate: Path | None = None
    token_file: Path | None = None

    @property
    def scope(self) -> str:
        """The scope that yields a token for the application."""
        uri = self.application_id_uri
        return uri if uri.endswith("/.default") else f"{uri}/.default"


def token_source(identity: EntraIdentity) -> Callable[[], str]:
    """
    Make a function that returns a fresh token of an identity.

    :param identity: who asks.
    :return: raises `CredentialsError` if Entra ID gives no token.
    :raises CredentialsError: if azure-identity is not installed.
    """
    try:
        from azure.core.exceptions import AzureError
    except ImportError:
        raise CredentialsError(
            "identity_source = 'entra' needs azure-identity: pip install 'polysync-airflow[entra]' on "
            "workers and triggerers."
        ) from None

    def token() -> str:
        try:
            # A new credential for each token, one an hour: azure-identity's objects remember failures for a
            # minute and a projected token file for ten.
            with _credential(identity) as credential:
                return str(credential.get_token(identity.scope).token)
        except AzureError as error:
            raise _refusal(error, identity) from error
        except (ValueError, OSError) as error:
            # A malformed id, a file that is no certificate or not there yet, an endpoint that speaks no JSON.
            passing = isinstance(error, (OSError, json.JSONDecodeError))
            raise CredentialsError(
                f"entra_credential = {identity.kind!r} cannot be used: {error}", permanent=not passing
            ) from error

    return token


def _credential(identity: EntraIdentity) -> Any:
    from azure.identity import (
        CertificateCredential,
        ClientSecretCredential,
        ManagedIdentityCredential,
        WorkloadIdentityCredential,
    )

    if identity.kind == "managed_identity":
        return ManagedIdentityCredential(client_id=identity.client_id, **_PATIENCE)
    if identity.kind == "workload_identity":
        return WorkloadIdentityCredential(
            tenant_id=identity.tenant_id,
            client_id=identity.client_id,
            token_file_path=str(identity.token_file) if identity.token_file else None,
            **_PATIENCE,
        )
    who: dict[str, Any] = {
        "tenant_id": str(identity.tenant_id),
        "client_id": str(identity.client_id),
        # Whether an authority is genuine is asked of the public cloud, which knows no private one. One
        # is named by the deployment, not by a connection.
        "disable_instance_discovery": bool(os.environ.get("AZURE_AUTHORITY_HOST")),
        **_PATIENCE,
    }
    if identity.kind == "client_secret":
        secret = identity.client_secret.get_secret_value() if identity.client_secret else ""
        return ClientSecretCredential(**who, client_secret=secret)
    return CertificateCredential(**who, certificate_path=str(identity.certificate))


def _refusal(error: Exception, identity: EntraIdentity) -> CredentialsError:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import CredentialUnavailableError

    said = str(error).splitlines()[0]
    # MSAL keeps the code of an unknown tenant to the error behind the error.
    code = next(iter(_CODE.findall(" ".join(str(link) for link in _chain(error)))), None)
    cure = _CURES.get(code or "", "")
    if isinstance(error, CredentialUnavailableError):
        cure = cure or _UNAVAILABLE
    elif code and code not in said:
        said = f"{code}: {said}"
    # azure-identity calls a 503 a ClientAuthenticationError too: only what Entra gave a code is an answer.
    permanent = isinstance(error, ClientAuthenticationError) and code is not None and code not in _PASSING
    told = f"tenant {identity.tenant_id or 'of the host'}, client {identity.client_id or 'of the host'}"
    return CredentialsError(
        f"Microsoft Entra ID gave no token ({identity.kind}, {told}, scope {identity.scope}): {said}"
        + (f" -- What to do: {cure}" if cure else ""),
        permanent=permanent,
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__
