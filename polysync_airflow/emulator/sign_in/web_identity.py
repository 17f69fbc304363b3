"""A web identity token: who it says its bearer is, and whether that may be believed.

Reference: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html. AWS does
not say in which order it checks. Here the claims come first, so that only tokens of an issuer that IAM knows,
for an audience that IAM lists, make the emulator ask that issuer for its keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from polysync_airflow.emulator.errors import ApiError
from polysync_airflow.emulator.sign_in import iam
from polysync_airflow.emulator.sign_in.issuers import not_valid

_HTTPS = "https://"
_REQUIRED = ("exp", "iss", "aud", "sub")
# How far an issuer's clock may be ahead. AWS does not say; this is what it grants a request's own signature.
_LEEWAY = 300.0


@dataclass(frozen=True)
class WebIdentity:
    """A token whose claims are in order; only `Issuers.verify` tells whether they are true.

    :param audience: what AWS takes for the audience: ``azp`` if the token has one, else ``aud``.
    :param provider: the ARN of the issuer's provider in IAM.
    """

    header: dict[str, Any]
    issuer: str
    subject: str
    audience: list[str]
    audience_claim: list[str]
    provider: str

    def context(self) -> dict[str, list[str]]:
        """Return the condition keys that a trust policy may ask for.

        The issuer is written as in the provider's ARN: without ``https://``, but with a trailing slash if it
        has one, as Microsoft Entra's v1 issuer does: ``sts.windows.net/<tenant>/:sub``. Reference:
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
        """
        name = self.issuer.removeprefix(_HTTPS)
        return {
            f"{name}:aud": self.audience,
            f"{name}:oaud": self.audience_claim,
            f"{name}:sub": [self.subject],
        }


def read(token: str, role_arn: str, now: float) -> WebIdentity:
    """Read a token and check its claims against IAM's provider.

    :param role_arn: the role that is to be assumed; the provider must be in its account.
    :param now: in seconds since the epoch, real time: the issuer lives outside the emulator.
    :raises ApiError: InvalidIdentityToken or ExpiredTokenException.
    """
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except PyJWTError as error:
        text = (
            "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
        )
        raise ApiError("InvalidIdentityToken", text) from error
    claims = decoded["payload"]
    _check_times(claims, now)
    for name in _REQUIRED:
        if not claims.get(name):
            raise ApiError("InvalidIdentityToken", f"Missing a required claim: {name}")
    issuer = str(claims["iss"])
    account, place = iam.account_and_partition(role_arn)
    provider = f"arn:{place}:iam::{account}:oidc-provider/{issuer.removeprefix(_HTTPS)}"
    known = iam.oidc_audiences(provider) if issuer.startswith(_HTTPS) else None
    if known is None:
        text = f"No OpenIDConnect provider found in your account for {issuer}"
        raise ApiError("InvalidIdentityToken", text)
    audience_claim = list(map(str, claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]))
    audience = [str(claims["azp"])] if claims.get("azp") else audience_claim
    if not set(known) & set(audience):
        which = "azp" if claims.get("azp") else "aud"
        detail = f"the token's {which} is {audience}; the provider's client ids are {known}"
        raise ApiError("InvalidIdentityToken", "Incorrect token audience", detail=detail)
    return WebIdentity(decoded["header"], issuer, str(claims["sub"]), audience, audience_claim, provider)


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires = _time(claims, "exp")
    if expires is None:
        raise ApiError("InvalidIdentityToken", "Missing a required claim: exp")
    if expires <= now:
        when, end = (datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for t in (now, expires))
        text = f"Token expired: current date/time {when} must be before the expiration date/time {end}"
        raise ApiError("ExpiredTokenException", text)
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins > now + _LEEWAY:
            raise not_valid(f"the token's {name} is {begins - now:.0f} s in the future")


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
