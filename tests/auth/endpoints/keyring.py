"""Owns the signing keys of one token issuer: RS256 signatures and the JWKS document that proves them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import jwt
from jwt.algorithms import RSAAlgorithm

from tests.auth.endpoints.certificates import new_key


class Keyring:
    """The newest key signs, all published keys verify."""

    def __init__(self) -> None:
        self._keys = {self._new_id(): new_key()}
        self._foreign = new_key()

    @staticmethod
    def _new_id() -> str:
        return uuid4().hex

    def rotate(self, *, retire: bool = False) -> None:
        """Sign with a new key from now on; with ``retire`` the older ones are published no longer."""
        older = {} if retire else self._keys
        self._keys = {**older, self._new_id(): new_key()}

    def sign(self, claims: Mapping[str, Any], *, forged: bool = False) -> str:
        """Return a JWT; a forged one names a published key but is signed with another."""
        kid, key = list(self._keys.items())[-1]
        headers = {"kid": kid, "x5t": kid}
        return jwt.encode(dict(claims), self._foreign if forged else key, "RS256", headers)

    def verify(self, token: str, *, audience: str, leeway: float = 0.0) -> dict[str, Any]:
        """Return the claims of a token of this issuer, as whoever reads the JWKS would."""
        key = self._keys.get(jwt.get_unverified_header(token).get("kid", ""))
        if key is None:
            raise jwt.InvalidSignatureError("no such key")
        claims: dict[str, Any] = jwt.decode(
            token, key.public_key(), ["RS256"], audience=audience, leeway=leeway
        )
        return claims

    def jwks(self) -> dict[str, Any]:
        """Return the document that an issuer publishes at its ``jwks_uri``."""
        keys = []
        for kid, key in self._keys.items():
            public = json.loads(RSAAlgorithm.to_jwk(key.public_key()))
            public.pop("key_ops", None)
            keys.append({**public, "use": "sig", "alg": "RS256", "kid": kid, "x5t": kid})
        return {"keys": keys}
