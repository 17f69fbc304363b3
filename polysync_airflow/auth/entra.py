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
from typing import Any, Final

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
# Timeouts in seconds. Other threads may wait for the same token, and the callers retry with backoff in any
# case. With azure-identity's defaults, 300 seconds and several retries, one slow request would block all of
# them.
CLIENT_OPTIONS: Final[dict[str, Any]] = {"connection_timeout": 10, "read_timeout": 10, "retry_total": 1}
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


def app_registration_options() -> dict[str, Any]:
    """Return the options of a credential of an app registration."""
    # With instance discovery, MSAL asks the public cloud whether the authority exists, and the public cloud
    # does not know a private authority. Only the deployment can set one; a connection cannot.
    return {**CLIENT_OPTIONS, "disable_instance_discovery": bool(os.environ.get("AZURE_AUTHORITY_HOST"))}


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
