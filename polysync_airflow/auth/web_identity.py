"""
Web identity tokens: from Microsoft Entra ID through azure-identity, and from files.

This module knows nothing about AWS. ``sts`` exchanges the tokens for AWS credentials.

Claims are decoded without verifying them. They are used in error messages only. AWS verifies the token and
its signature.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from polysync_airflow.auth.allow_list import AllowList
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.texts import clean_line, clean_text

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
_ERROR_CODE: Final = re.compile(r"AADSTS\d+")
# Errors of Entra ID itself. They have an AADSTS code, but they are not permanent.
_TRANSIENT_ERROR_CODES: Final = ("AADSTS90033", "AADSTS50196", "AADSTS90055")
_UNAVAILABLE_CURE: Final = (
    "This host has no such identity, or the endpoint for it does not respond: assign the managed identity to "
    "the host (and set client_id if it is user-assigned), or choose another entra_credential."
)


def entra_token_loader(
    make_credential: Callable[[], Any],
    application_id_uri: str,
    *,
    entra_credential: str,
    tenant_id: str | None,
    client_id: str | None,
) -> Callable[[], str]:
    """
    Return a function that requests a new token.

    :param make_credential: makes a credential object of azure-identity. The other parameters of the identity
        are for error messages.
    :param application_id_uri: the application that the token is for, such as ``api://polysync``.
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
    scope = f"{application_id_uri.removesuffix('/.default')}/.default"
    identity = (
        f"{entra_credential}, tenant {tenant_id or 'of the host'}, client {client_id or 'of the host'}, "
        f"scope {scope}"
    )

    def load_token() -> str:
        try:
            # A new credential object for each token, about one per hour: azure-identity's objects cache
            # failures for one minute, and the content of a projected token file for ten minutes.
            with make_credential() as credential:
                return str(credential.get_token(scope).token)
        except AzureError as error:
            raise _map_error(error, identity) from None
        except (ValueError, OSError) as error:
            # ValueError: a malformed id, or a file that is not a certificate. Not permanent: a file that does
            # not exist yet, or a response that is not JSON.
            temporary = isinstance(error, (OSError, json.JSONDecodeError))
            raise CredentialsError(
                f"entra_credential = {entra_credential!r} cannot be used: {clean_text(str(error))}",
                permanent=not temporary,
            ) from None

    return load_token


def _map_error(error: Exception, identity: str) -> CredentialsError:
    from azure.core.exceptions import ClientAuthenticationError
    from azure.identity import CredentialUnavailableError

    message = clean_line(str(error).split("\n")[0])
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
    return CredentialsError(
        f"Microsoft Entra ID issued no token ({identity}): {message}"
        + (f" -- What to do: {cure}" if cure else ""),
        permanent=permanent,
    )


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


# The characters of a JWT. A token is sent in a request, and other characters could end up in a log.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.=-]+")


@dataclass(frozen=True, slots=True)
class Claims:
    """
    The unverified claims of a token, for error messages.

    :param issuer: ``iss``.
    :param audience: ``aud``.
    :param authorized_party: ``azp``. If a token has it, as tokens of Entra's version 2 do, AWS compares it
        with the allowed audiences instead of ``aud``
        (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html).
    :param subject: ``sub``. For an Entra service principal it is the object id.
    :param expires_at: ``exp``.
    """

    issuer: str | None
    audience: str | None
    authorized_party: str | None
    subject: str | None
    expires_at: datetime | None

    @property
    def audience_for_aws(self) -> str | None:
        """The value that AWS compares with the OIDC provider's audiences and the trust policy's ``aud``."""
        return self.authorized_party or self.audience

    def __str__(self) -> str:
        expiry = f"{self.expires_at:%Y-%m-%dT%H:%M:%SZ}" if self.expires_at else "at an unknown time"
        party = f", authorized party {self.authorized_party}" if self.authorized_party else ""
        return (
            f"issuer {self.issuer or 'none'}, audience {self.audience or 'none'}{party}, "
            f"subject {self.subject or 'none'}, expires {expiry}"
        )


def decode_claims(token: str) -> Claims | None:
    """
    Decode the claims of a token without verifying it.

    :param token: a JSON Web Token (JWT).
    :return: None if ``token`` is not a JWT.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    return Claims(
        issuer=_text(claims.get("iss")),
        audience=_text(claims.get("aud")),
        authorized_party=_text(claims.get("azp")),
        subject=_text(claims.get("sub")),
        expires_at=_datetime(claims.get("exp")),
    )


def read_token_file(path: str, allowed: AllowList, *, field: str = "identity_file") -> str:
    """
    Read a projected token. Every call reads the file again, because the platform replaces the token.

    :param path: path of the file; must be in an allowed folder.
    :raises CredentialsError: if the file is outside the allowed folders (permanent), cannot be read, or does
        not contain a JWT (not permanent: the platform may project the token later).
    """
    try:
        token = allowed.read_file(path, field=field).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(
            f"{field} = {path!r} cannot be read: {type(error).__name__}. Check that the token is "
            "projected into both the workers and the triggerers.",
            permanent=False,
        ) from None
    if decode_claims(token) is None or not _TOKEN.fullmatch(token):
        raise CredentialsError(
            f"{field} = {path!r} does not contain a JSON Web Token (JWT). Check that the path is "
            "that of the projected token.",
            permanent=False,
        )
    return token


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    return None if value is None else clean_line(str(value))


def _datetime(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None
