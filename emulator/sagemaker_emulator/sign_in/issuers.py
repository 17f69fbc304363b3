"""
Verifies the signatures of web identity tokens with the keys that their issuers publish.

The emulator gets the keys by OpenID Connect discovery
(https://openid.net/specs/openid-connect-discovery-1_0.html):
``<issuer>/.well-known/openid-configuration`` contains the ``jwks_uri``. It caches the
keys for five minutes, and requests them again at once if a token names a key that is
not in the cache. It uses the proxies of the environment.

These requests are the only network traffic of the emulator, and they go only to issuers
that have a provider in IAM. If an issuer cannot be reached, the emulator rejects its
tokens with the error that AWS uses; ``detail`` in the call log contains the reason.
Everything else works without a network. Alternatively, `settings` can contain the keys
of an issuer.
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

from sagemaker_emulator.errors import ApiError

#: The signature algorithms that
#: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_providers_create_oidc.html
#: allows, with the key type of each.
ALGORITHMS = {
    "RS256": "RSA",
    "RS384": "RSA",
    "RS512": "RSA",
    "ES256": "EC",
    "ES384": "EC",
    "ES512": "EC",
}
_TIMEOUT = 5.0


class Issuers:
    """
    The issuers of web identity tokens, with a cache of their keys.

    :param ca: a PEM file with CA certificates to trust in addition to those of the
        host.
    :raises OSError: if the file cannot be read or contains no certificate; the message
        names the file.
    """

    def __init__(self, ca: Path | None = None) -> None:
        self._context = ssl.create_default_context()
        if ca is not None:
            try:
                self._context.load_verify_locations(cafile=ca)
            except OSError as error:
                raise OSError(
                    f"{ca}: not a PEM file of certificates: {error}"
                ) from error
        self._lock = Lock()
        self._clients: dict[str, PyJWKClient] = {}

    def reset(self) -> None:
        """Remove all cached keys."""
        with self._lock:
            self._clients.clear()

    def verify(
        self,
        token: str,
        header: dict[str, Any],
        issuer: str,
        configured_keys: PyJWKSet | None,
    ) -> None:
        """
        Verify the signature of a token.

        :param token: the token.
        :param header: the decoded header of the token.
        :param issuer: the URL of the issuer.
        :param configured_keys: the keys of the issuer if the settings contain them;
            None to request them from the issuer.
        :raises ApiError: InvalidIdentityToken.
        """
        algorithm = header.get("alg")
        kid = header.get("kid")
        if algorithm not in ALGORITHMS:
            raise invalid_token_error(
                f"the token's alg is {algorithm!r}, not one of {', '.join(ALGORITHMS)}"
            )
        if not isinstance(kid, str):
            raise _no_key_error(
                f"the token's header has no kid (the id of a key of {issuer})"
            )
        key = self._key(issuer, kid, configured_keys)
        if key.key_type != ALGORITHMS[algorithm]:
            raise invalid_token_error(
                f"the token's alg is {algorithm}, but key {kid!r} of {issuer} is"
                f" {key.key_type}"
            )
        try:
            PyJWS().decode(token, key.key, algorithms=[algorithm])
        except PyJWTError as error:
            raise invalid_token_error(
                f"the signature does not match key {kid!r} of {issuer}: {error}"
            ) from error

    def _key(self, issuer: str, kid: str, configured_keys: PyJWKSet | None) -> PyJWK:
        try:
            if configured_keys is not None:
                key = PyJWKClient.match_kid(configured_keys.keys, kid)
            else:
                client = self._client(issuer)
                key = PyJWKClient.match_kid(client.get_signing_keys(), kid)
                if key is None:
                    # Not get_signing_key(): it does not request the keys again until
                    # some time has passed.
                    keys = client.get_signing_keys(refresh=True)
                    key = PyJWKClient.match_kid(keys, kid)
        except (PyJWTError, OSError, ValueError) as error:
            raise _no_key_error(
                f"the keys of {issuer} could not be retrieved: {error}"
            ) from error
        if key is None:
            raise _no_key_error(f"{issuer} does not publish a key {kid!r}")
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
        with build_opener(HTTPSHandler(context=self._context)).open(
            url, timeout=_TIMEOUT
        ) as response:
            document = json.load(response)
        if not isinstance(document, dict) or document.get("issuer") != issuer:
            raise ValueError(f"{url} does not describe this issuer")
        uri = document.get("jwks_uri")
        if not isinstance(uri, str) or not uri.startswith("https://"):
            raise ValueError(f"{url} has no https jwks_uri")
        return uri


def invalid_token_error(detail: str) -> ApiError:
    """
    Return the error for a token that is not valid.

    The message is that of
    https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html

    :param detail: the reason, for the call log.
    """
    text = (
        "The web identity token that was passed could not be validated by AWS. Get a"
        " new identity token from the identity provider and then retry the request."
    )
    return ApiError("InvalidIdentityToken", text, detail=detail)


def _no_key_error(detail: str) -> ApiError:
    # AWS's message contains the two spaces, too.
    text = (
        "Couldn't retrieve verification key from your identity provider,  please"
        " reference AssumeRoleWithWebIdentity documentation for requirements"
    )
    return ApiError("InvalidIdentityToken", text, detail=detail)
