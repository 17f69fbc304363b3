"""An issuer of web identity tokens: the keys it publishes, and which of them signed a token.

The keys are found by OpenID Connect discovery (https://openid.net/specs/openid-connect-discovery-1_0.html):
``<issuer>/.well-known/openid-configuration`` names the ``jwks_uri``. They are kept for five minutes, and
fetched anew at once when a token names a key that is not among them. Proxies are those of the environment.

This is the only traffic the emulator ever sends, and it goes only to issuers that IAM has a provider for.
Without a network, tokens of issuers that cannot be reached are refused as AWS refuses them (the call log's
``detail`` says why), and nothing else is affected; `sign_in` can be given an issuer's keys instead.
"""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.request import HTTPSHandler, build_opener

from jwt import PyJWK, PyJWKClient, PyJWKSet
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from polysync_airflow.emulator.errors import ApiError

#: What https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html lets an issuer
#: sign with, and the type of key each of them needs.
ALGORITHMS = {"RS256": "RSA", "RS384": "RSA", "RS512": "RSA", "ES256": "EC", "ES384": "EC", "ES512": "EC"}
_TIMEOUT = 5.0


class Issuers:
    """The issuers met so far.

    :param ca: a PEM file with certificate authorities to trust besides the host's.
    :raises OSError: naming the file, if it cannot be read or holds no certificate.
    """

    def __init__(self, ca: Path | None = None) -> None:
        self._context = ssl.create_default_context()
        if ca is not None:
            try:
                self._context.load_verify_locations(cafile=ca)
            except OSError as error:
                raise OSError(f"{ca}: not a PEM file of certificates: {error}") from error
        self._lock = Lock()
        self._clients: dict[str, PyJWKClient] = {}

    def reset(self) -> None:
        """Forget all keys."""
        with self._lock:
            self._clients.clear()

    def verify(self, token: str, header: dict[str, Any], issuer: str, given: PyJWKSet | None) -> None:
        """Check a token's signature.

        :param header: the token's own.
        :param given: the issuer's keys, if they are not to be fetched.
        :raises ApiError: InvalidIdentityToken.
        """
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise not_valid(f"the token's alg is {algorithm!r}, not one of {', '.join(ALGORITHMS)}")
        if not isinstance(kid, str):
            raise _no_key(f"the token's header names no key (kid) of {issuer}")
        key = self._key(issuer, kid, given)
        if key.key_type != ALGORITHMS[algorithm]:
            raise not_valid(f"the token's alg is {algorithm}, but key {kid!r} of {issuer} is {key.key_type}")
        try:
            PyJWS().decode(token, key.key, algorithms=[algorithm])
        except PyJWTError as error:
            raise not_valid(f"the signature is not by key {kid!r} of {issuer}: {error}") from error

    def _key(self, issuer: str, kid: str, given: PyJWKSet | None) -> PyJWK:
        try:
            if given is not None:
                key = PyJWKClient.match_kid(given.keys, kid)
            else:
                client = self._client(issuer)
                key = PyJWKClient.match_kid(client.get_signing_keys(), kid)
                # Not get_signing_key(): it waits a while before it looks for a new key.
                key = key or PyJWKClient.match_kid(client.get_signing_keys(refresh=True), kid)
        except (PyJWTError, OSError, ValueError) as error:
            raise _no_key(f"the keys of {issuer} could not be fetched: {error}") from error
        if key is None:
            raise _no_key(f"{issuer} publishes no key {kid!r}")
        return key

    def _client(self, issuer: str) -> PyJWKClient:
        with self._lock:
            client = self._clients.get(issuer)
        if client is None:
            uri = self._jwks_uri(issuer)
            client = PyJWKClient(uri, timeout=_TIMEOUT, ssl_context=self._context)
            with self._lock:
                client = self._clients.setdefault(issuer, client)
        return client

    def _jwks_uri(self, issuer: str) -> str:
        url = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        with build_opener(HTTPSHandler(context=self._context)).open(url, timeout=_TIMEOUT) as response:
            document = json.load(response)
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise ValueError(f"{url} does not describe this issuer")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str) or not uri.startswith("https://"):
            raise ValueError(f"{url} has no https jwks_uri")
        return uri


def not_valid(detail: str) -> ApiError:
    """Return the error for a token that is not what it says.

    The text is that of https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
    """
    text = (
        "The web identity token that was passed could not be validated by AWS. Get a new identity token from "
        "the identity provider and then retry the request."
    )
    return ApiError("InvalidIdentityToken", text, detail=detail)


def _no_key(detail: str) -> ApiError:
    # The two spaces are AWS's.
    text = (
        "Couldn't retrieve verification key from your identity provider,  please reference "
        "AssumeRoleWithWebIdentity documentation for requirements"
    )
    return ApiError("InvalidIdentityToken", text, detail=detail)
