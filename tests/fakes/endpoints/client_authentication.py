"""
Client authentication at a fake Entra tenant: with a secret, a certificate, or a
federated assertion.
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.fakes.endpoints.access_tokens import Principal
from tests.fakes.endpoints.cluster import ENTRA_AUDIENCE
from tests.fakes.endpoints.entra_errors import EntraError
from tests.fakes.endpoints.keyring import Keyring

# Clock skew that Entra ID tolerates, in seconds.
LEEWAY_SECONDS = 300
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

ClientAuthMethod = Literal["client_secret", "certificate", "federated"]


@dataclass(frozen=True)
class FederatedCredential:
    """
    A federated identity credential: the issuer and subject whose assertions an
    application trusts.
    """

    issuer: str
    subject: str
    keyring: Keyring = field(repr=False)
    audience: str = ENTRA_AUDIENCE


@dataclass(frozen=True)
class Application:
    """An app registration with its client credentials."""

    principal: Principal
    secret: str | None = field(default=None, repr=False)
    certificate: x509.Certificate | None = None
    federated_credential: FederatedCredential | None = None


def authenticate(
    application: Application, form: Mapping[str, str], token_endpoint: str
) -> ClientAuthMethod:
    """
    Authenticate the client of a token request.

    :param application: the application that the request names.
    :param form: the form of the request.
    :param token_endpoint: URL of the token endpoint; the audience of a certificate
        assertion.
    :return: how the client authenticated.
    :raises EntraError: if the credentials in the form are not those of the application.
    """
    if "client_secret" in form:
        return _by_secret(application, form["client_secret"])
    if (
        form.get("client_assertion_type") != JWT_BEARER
        or "client_assertion" not in form
    ):
        raise EntraError(7000216)
    assertion = form["client_assertion"]
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise EntraError(50027) from None
    # The issuer of a certificate assertion is the application itself. Any other issuer
    # is a federated one.
    if claims.get("iss") == application.principal.client_id:
        return _by_certificate(application, assertion, header, token_endpoint)
    return _by_federation(application, assertion, claims)


def _by_secret(application: Application, secret: str) -> ClientAuthMethod:
    if not application.secret or not hmac.compare_digest(secret, application.secret):
        raise EntraError(7000215, client_id=application.principal.client_id)
    return "client_secret"


def thumbprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    """Return the ``x5t`` (SHA-1) or ``x5t#S256`` of a certificate, without padding."""
    return (
        base64.urlsafe_b64encode(certificate.fingerprint(algorithm))
        .decode()
        .rstrip("=")
    )


def _by_certificate(
    application: Application,
    assertion: str,
    header: Mapping[str, Any],
    token_endpoint: str,
) -> ClientAuthMethod:
    certificate = application.certificate
    algorithms = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}
    thumbprints = {
        name: str(header[name]).rstrip("=") for name in algorithms if name in header
    }
    if certificate is None or not thumbprints:
        raise EntraError(700027, reason="The key was not found.")
    if any(
        value != thumbprint(certificate, algorithms[name])
        for name, value in thumbprints.items()
    ):
        raise EntraError(700027, reason="The key was not found.")
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    _verify(
        lambda: jwt.decode(
            assertion,
            key,
            ["RS256", "PS256"],
            audience=token_endpoint,
            leeway=LEEWAY_SECONDS,
        ),
        {},
    )
    return "certificate"


def _by_federation(
    application: Application, assertion: str, claims: Mapping[str, Any]
) -> ClientAuthMethod:
    trusted = application.federated_credential
    if trusted is None or claims.get("iss") != trusted.issuer:
        raise EntraError(700211, issuer=str(claims.get("iss")))
    if claims.get("sub") != trusted.subject:
        raise EntraError(700213, subject=str(claims.get("sub")))
    _verify(
        lambda: trusted.keyring.verify(
            assertion, audience=trusted.audience, leeway=LEEWAY_SECONDS
        ),
        claims,
    )
    return "federated"


def _verify(verify: Callable[[], object], federated_claims: Mapping[str, Any]) -> None:
    """
    Call ``verify``, and map its errors. ``federated_claims`` is empty for a certificate
    assertion.
    """
    try:
        verify()
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        raise EntraError(700024) from None
    except jwt.InvalidAudienceError:
        if federated_claims:
            raise EntraError(
                700212, audience=str(federated_claims.get("aud"))
            ) from None
        raise EntraError(700023) from None
    except jwt.InvalidTokenError:
        if federated_claims:
            raise EntraError(50013) from None
        raise EntraError(
            700027, reason="The key used is expired or the signature is invalid."
        ) from None
