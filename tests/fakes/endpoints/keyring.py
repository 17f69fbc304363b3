"""
The signing keys of one token issuer: RS256 signatures, and the JWKS document to verify
them with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import jwt
from jwt.algorithms import RSAAlgorithm

from tests.fakes.endpoints.certificates import new_key


class Keyring:
    """
    Signing keys: tokens are signed with the newest key, and verified with any published
    key.
    """

    def __init__(self) -> None:
        self._keys = {self._new_id(): new_key()}
        self._unpublished = new_key()

    @staticmethod
    def _new_id() -> str:
        return uuid4().hex

    def sign(self, claims: Mapping[str, Any], *, forged: bool = False) -> str:
        """
        Return a JWT. A forged JWT names a published key, but is signed with an
        unpublished key.
        """
        kid, key = list(self._keys.items())[-1]
        headers = {"kid": kid, "x5t": kid}
        return jwt.encode(
            dict(claims), self._unpublished if forged else key, "RS256", headers
        )

    def verify(
        self, token: str, *, audience: str, leeway: float = 0.0
    ) -> dict[str, Any]:
        """
        Verify a token of this issuer, as a client with the JWKS document does, and
        return its claims.
        """
        key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise jwt.InvalidSignatureError("no such key")
        claims: dict[str, Any] = jwt.decode(
            token, key.public_key(), ["RS256"], audience=audience, leeway=leeway
        )
        return claims

    def jwks(self) -> dict[str, Any]:
        """Return the JWKS document that the issuer publishes at its ``jwks_uri``."""
        keys = []
        for kid, key in self._keys.items():
            public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
            public.pop("key_ops", None)
            keys.append(
                {**public, "use": "sig", "alg": "RS256", "kid": kid, "x5t": kid}
            )
        return {"keys": keys}
