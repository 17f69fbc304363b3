"""Owns the access tokens of a tenant: their claims in version 1 and 2, and the ways in which they can be wrong."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from tests.auth.endpoints.keyring import Keyring

#: Entra dates its tokens back, for clocks that lag.
BACKDATED = 300


@dataclass(frozen=True)
class Principal:
    """A service principal: of an app registration, or a managed identity.

    ``object_id`` becomes the token's ``sub`` and ``oid``, ``client_id`` its ``appid`` (version 1) or ``azp``.
    """

    client_id: str
    object_id: str


@dataclass(frozen=True)
class Api:
    """An app registration that tokens can be asked for, by the scope ``<identifier_uri>/.default``."""

    identifier_uri: str
    client_id: str


@dataclass(frozen=True)
class Shape:
    """What tokens look like.

    :param version: 1 or 2, the "requested access token version" of the app registration.
    :param lifetime: seconds.
    :param audience: ``aud`` in place of the usual one: the identifier URI (version 1) or client id (2).
    :param issuer: ``iss`` in place of the tenant's.
    :param skew: seconds by which ``iat``, ``nbf`` and ``exp`` are off: -7200 expired long ago, 3600 is not
        valid yet. The answer around the token does not tell, as with a clock that is wrong.
    :param forged: signed with a key that nobody published.
    :param claims: more claims, or others.
    """

    version: Literal[1, 2] = 1
    lifetime: int = 3600
    audience: str | None = None
    issuer: str | None = None
    skew: int = 0
    forged: bool = False
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class Mint:
    """Makes the tokens of one tenant.

    :param tenant: the tenant's id.
    :param base: URL that the issuer's names begin with.
    """

    tenant: str
    base: str
    keyring: Keyring
    shape: Shape

    def issuer(self, version: int) -> str:
        """Return ``iss``. Real ones begin with ``https://sts.windows.net`` or the login host instead."""
        return f"{self.base}/{self.tenant}/" + ("v2.0" if version == 2 else "")

    def token(self, principal: Principal, api: Api, proof: Literal["1", "2"] = "1") -> str:
        """Return an app-only access token; ``proof`` is 1 for a secret and 2 for a certificate or assertion."""
        shape, now = self.shape, int(time.time())
        issued = now + shape.skew
        common = {
            "aud": shape.audience or (api.client_id if shape.version == 2 else api.identifier_uri),
            "iss": shape.issuer or self.issuer(shape.version),
            "iat": issued - BACKDATED,
            "nbf": issued - BACKDATED,
            "exp": issued + shape.lifetime,
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": self.tenant,
            "uti": uuid4().hex[:22],
            "ver": f"{shape.version}.0",
        }
        by_version = (
            {"azp": principal.client_id, "azpacr": proof}
            if shape.version == 2
            else {"appid": principal.client_id, "appidacr": proof, "idp": self.issuer(1)}
        )
        return self.keyring.sign({**common, **by_version, **shape.claims}, forged=shape.forged)
