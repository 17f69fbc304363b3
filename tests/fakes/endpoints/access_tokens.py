"""
Access tokens of a fake Entra tenant: claims in versions 1 and 2, and settings that make
them invalid.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from uuid import uuid4

from tests.fakes.endpoints.keyring import Keyring

# Entra ID sets ``iat`` and ``nbf`` this many seconds before the current time, for
# clients with slow clocks.
BACKDATE_SECONDS = 300


@dataclass(frozen=True)
class Principal:
    """
    A service principal: of an app registration, or a managed identity.

    :param client_id: ``appid`` (version 1) or ``azp`` (version 2) of its tokens.
    :param object_id: ``sub`` and ``oid`` of its tokens.
    """

    client_id: str
    object_id: str


@dataclass(frozen=True)
class Api:
    """
    An app registration that tokens can be requested for, with the scope
    ``<identifier_uri>/.default``.
    """

    identifier_uri: str
    client_id: str


@dataclass(frozen=True)
class TokenSettings:
    """
    Settings of the tokens that a tenant issues.

    :param version: 1 or 2, the "requested access token version" of the app
        registration.
    :param lifetime: seconds.
    :param audience: ``aud``; None for the identifier URI (version 1) or the client id
        (version 2) of the API.
    :param issuer: ``iss``; None for the issuer of the tenant.
    :param skew: seconds to add to ``iat``, ``nbf`` and ``exp``. With -7200 a token has
        expired long ago, with 3600 it is not valid yet. The token response does not
        show it, as if the tenant's clock were wrong.
    :param forged: sign with a key that is not published.
    :param claims: claims to add or replace.
    """

    version: Literal[1, 2] = 1
    lifetime: int = 3600
    audience: str | None = None
    issuer: str | None = None
    skew: int = 0
    forged: bool = False
    claims: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class TokenIssuer:
    """
    Issues the tokens of one tenant.

    :param tenant: id of the tenant.
    :param base_url: URL at the start of ``iss``.
    :param keyring: the signing keys of the tenant.
    :param token_settings: settings of the tokens.
    """

    tenant: str
    base_url: str
    keyring: Keyring
    token_settings: TokenSettings

    def issuer(self, version: int) -> str:
        """
        Return ``iss``. The real one begins with ``https://sts.windows.net`` or the
        login host's URL.
        """
        return f"{self.base_url}/{self.tenant}/" + ("v2.0" if version == 2 else "")

    def token(
        self, principal: Principal, api: Api, appidacr: Literal["1", "2"] = "1"
    ) -> str:
        """
        Return an app-only access token.

        :param principal: the service principal that requests the token.
        :param api: the application that the token is for.
        :param appidacr: how the client authenticated: 1 with a secret, 2 with a
            certificate or an assertion.
        """
        settings = self.token_settings
        issued_at = int(time.time()) + settings.skew
        common = {
            "aud": settings.audience
            or (api.client_id if settings.version == 2 else api.identifier_uri),
            "iss": settings.issuer or self.issuer(settings.version),
            "iat": issued_at - BACKDATE_SECONDS,
            "nbf": issued_at - BACKDATE_SECONDS,
            "exp": issued_at + settings.lifetime,
            "idtyp": "app",
            "oid": principal.object_id,
            "sub": principal.object_id,
            "tid": self.tenant,
            "uti": uuid4().hex[:22],
            "ver": f"{settings.version}.0",
        }
        by_version = (
            {"azp": principal.client_id, "azpacr": appidacr}
            if settings.version == 2
            else {
                "appid": principal.client_id,
                "appidacr": appidacr,
                "idp": self.issuer(1),
            }
        )
        return self.keyring.sign(
            {**common, **by_version, **settings.claims}, forged=settings.forged
        )
