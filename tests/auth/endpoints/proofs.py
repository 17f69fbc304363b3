"""Owns how an application proves to Entra that it is itself: by secret, certificate or federated assertion."""

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

from tests.auth.endpoints.aadsts import Refusal
from tests.auth.endpoints.cluster import ENTRA_AUDIENCE
from tests.auth.endpoints.issuing import Principal
from tests.auth.endpoints.keyring import Keyring

#: Seconds that Entra forgives.
LEEWAY = 300
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

Proof = Literal["client_secret", "certificate", "federated"]


@dataclass(frozen=True)
class Federation:
    """Whose assertions an application trusts: one federated identity credential."""

    issuer: str
    subject: str
    keyring: Keyring = field(repr=False)
    audience: str = ENTRA_AUDIENCE


@dataclass(frozen=True)
class Application:
    """An app registration that signs in."""

    principal: Principal
    secret: str | None = field(default=None, repr=False)
    expired_secret: str | None = field(default=None, repr=False)
    certificate: x509.Certificate | None = None
    federation: Federation | None = None


def prove(application: Application, form: Mapping[str, str], token_endpoint: str) -> Proof:
    """Return how the request's form proves that it comes from the application.

    :raises Refusal: if it does not.
    """
    if "client_secret" in form:
        return _by_secret(application, form["client_secret"])
    if form.get("client_assertion_type") != JWT_BEARER or "client_assertion" not in form:
        raise Refusal(7000216)
    assertion = form["client_assertion"]
    try:
        header = jwt.get_unverified_header(assertion)
        claims = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise Refusal(50027) from None
    # An application signs for itself; any other issuer is a federation.
    if claims.get("iss") == application.principal.client_id:
        return _by_certificate(application, assertion, header, token_endpoint)
    return _by_federation(application, assertion, claims)


def _by_secret(application: Application, secret: str) -> Proof:
    if application.expired_secret and hmac.compare_digest(secret, application.expired_secret):
        raise Refusal(7000222, client_id=application.principal.client_id)
    if not application.secret or not hmac.compare_digest(secret, application.secret):
        raise Refusal(7000215, client_id=application.principal.client_id)
    return "client_secret"


def thumbprint(certificate: x509.Certificate, algorithm: hashes.HashAlgorithm) -> str:
    """Return a certificate's ``x5t`` (SHA-1) or ``x5t#S256``, without padding."""
    return base64.urlsafe_b64encode(certificate.fingerprint(algorithm)).decode().rstrip("=")


def _by_certificate(
    application: Application, assertion: str, header: Mapping[str, Any], token_endpoint: str
) -> Proof:
    certificate = application.certificate
    kinds = {"x5t": hashes.SHA1(), "x5t#S256": hashes.SHA256()}
    named = {kind: str(header[kind]).rstrip("=") for kind in kinds if kind in header}
    if certificate is None or not named:
        raise Refusal(700027, reason="The key was not found.")
    if any(thumb != thumbprint(certificate, kinds[kind]) for kind, thumb in named.items()):
        raise Refusal(700027, reason="The key was not found.")
    key = certificate.public_key()
    assert isinstance(key, RSAPublicKey)
    algorithms = ["RS256", "PS256"]
    _checked(lambda: jwt.decode(assertion, key, algorithms, audience=token_endpoint, leeway=LEEWAY), {})
    return "certificate"


def _by_federation(application: Application, assertion: str, claims: Mapping[str, Any]) -> Proof:
    trusted = application.federation
    if trusted is None or claims.get("iss") != trusted.issuer:
        raise Refusal(700211, issuer=str(claims.get("iss")))
    if claims.get("sub") != trusted.subject:
        raise Refusal(700213, subject=str(claims.get("sub")))
    _checked(
        lambda: trusted.keyring.verify(assertion, audience=trusted.audience, leeway=LEEWAY),
        claims,
    )
    return "federated"


def _checked(verify: Callable[[], object], federated: Mapping[str, Any]) -> None:
    try:
        verify()
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
        raise Refusal(700024) from None
    except jwt.InvalidAudienceError:
        if federated:
            raise Refusal(700212, audience=str(federated.get("aud"))) from None
        raise Refusal(700023) from None
    except jwt.InvalidTokenError:
        if federated:
            raise Refusal(50013) from None
        raise Refusal(700027, reason="The key used is expired or the signature is invalid.") from None
