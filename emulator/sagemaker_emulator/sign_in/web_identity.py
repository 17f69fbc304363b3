"""
Parses web identity tokens and validates their claims.

Reference:
https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html.
AWS does not document the order of its checks. The emulator validates the claims before
`issuers` verifies the signature. So it requests keys only from an issuer that has a
provider in IAM, and only for a token whose audience the provider lists.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import jwt
from jwt.exceptions import PyJWTError

from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sign_in import iam
from sagemaker_emulator.sign_in.issuers import invalid_token_error

_HTTPS = "https://"
_REQUIRED = ("exp", "iss", "aud", "sub")
# The claims that are condition keys as they are, if a token has them. AWS offers no key
# for any other claim.
_OPTIONAL_KEYS = ("amr", "email")
# The allowed difference between the clock of an issuer and that of AWS, in seconds. AWS
# does not document it; five minutes is what AWS allows for request signatures.
_LEEWAY = 300.0


@dataclass(frozen=True)
class WebIdentity:
    """
    A token with valid claims. `Issuers.verify` must verify its signature.

    :param header: the decoded header of the token.
    :param issuer: the URL of the issuer.
    :param subject: the claim ``sub``.
    :param audience: the audience that AWS uses: ``azp`` if the token has this claim,
        else ``aud``.
    :param audience_claim: the claim ``aud``.
    :param optional: the claims ``amr`` and ``email``, if the token has them.
    :param provider: the ARN of the issuer's provider in IAM.
    """

    header: dict[str, Any]
    issuer: str
    subject: str
    audience: list[str]
    audience_claim: list[str]
    optional: dict[str, list[str]]
    provider: str

    def context(self) -> dict[str, list[str]]:
        """
        Return the condition keys that a trust policy can use.

        The keys begin with the issuer as it is in the ARN of the provider: without
        ``https://``, but with a trailing slash if it has one. The v1 issuer of
        Microsoft Entra has one: ``sts.windows.net/<tenant>/:sub``. Reference:
        https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html#condition-keys-wif
        """
        name = self.issuer.removeprefix(_HTTPS)
        return {
            f"{name}:aud": self.audience,
            f"{name}:oaud": self.audience_claim,
            f"{name}:sub": [self.subject],
            **{f"{name}:{claim}": values for claim, values in self.optional.items()},
        }


def parse_token(token: str, role_arn: str, now: float) -> WebIdentity:
    """
    Parse a token and validate its claims against its provider in IAM.

    :param token: the token.
    :param role_arn: the role to assume. The provider must be in the account of the
        role.
    :param now: the current real time, as Unix time. The issuer does not
        use the emulated time.
    :raises ApiError: InvalidIdentityToken or ExpiredTokenException.
    """
    try:
        decoded = jwt.decode_complete(token, options={"verify_signature": False})
    except PyJWTError as error:
        text = (
            "The ID Token provided is not a valid JWT. (You may see this error if you"
            " sent an Access Token)"
        )
        raise ApiError("InvalidIdentityToken", text) from error
    claims = decoded["payload"]
    _check_times(claims, now)
    for name in _REQUIRED:
        if not claims.get(name):
            raise ApiError("InvalidIdentityToken", f"Missing a required claim: {name}")
    issuer = str(claims["iss"])
    account, aws_partition = iam.account_and_partition(role_arn)
    host = issuer.removeprefix(_HTTPS)
    provider = f"arn:{aws_partition}:iam::{account}:oidc-provider/{host}"
    client_ids = None
    if issuer.startswith(_HTTPS):
        client_ids = iam.oidc_audiences(provider)
    if client_ids is None:
        text = f"No OpenIDConnect provider found in your account for {issuer}"
        raise ApiError("InvalidIdentityToken", text)

    audience_claim = _texts(claims["aud"])
    if claims.get("azp"):
        name = "azp"
        audience = [str(claims["azp"])]
    else:
        name = "aud"
        audience = audience_claim
    if set(client_ids).isdisjoint(audience):
        detail = (
            f"the token's {name} is {audience}; the provider's client ids are"
            f" {client_ids}"
        )
        raise ApiError(
            "InvalidIdentityToken", "Incorrect token audience", detail=detail
        )
    return WebIdentity(
        header=decoded["header"],
        issuer=issuer,
        subject=str(claims["sub"]),
        audience=audience,
        audience_claim=audience_claim,
        optional={
            name: _texts(claims[name]) for name in _OPTIONAL_KEYS if claims.get(name)
        },
        provider=provider,
    )


def _texts(claim: Any) -> list[str]:
    if isinstance(claim, list):
        return [str(value) for value in claim]
    return [str(claim)]


def _check_times(claims: Mapping[str, Any], now: float) -> None:
    expires = _time(claims, "exp")
    if expires is None:
        raise ApiError("InvalidIdentityToken", "Missing a required claim: exp")
    if expires <= now:
        text = (
            f"Token expired: current date/time {_date_time(now)} must be before the"
            f" expiration date/time {_date_time(expires)}"
        )
        raise ApiError("ExpiredTokenException", text)
    for name in ("nbf", "iat"):
        valid_from = _time(claims, name)
        if valid_from is not None and valid_from > now + _LEEWAY:
            raise invalid_token_error(
                f"the token's {name} is {valid_from - now:.0f} s in the future"
            )


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value


def _date_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
