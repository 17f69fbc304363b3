"""
Decodes the claims of web identity tokens, without verifying them, and reads tokens from files.

The claims are used in error messages only. AWS verifies the token and its signature.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from polysync_airflow.auth.allow_list import AllowList
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution.texts import clean_line

# The characters of a JWT. A token is sent in a request, and other characters could end up in a log.
_TOKEN: Final = re.compile(r"[A-Za-z0-9_.=-]+")


@dataclass(frozen=True, slots=True)
class Claims:
    """
    The unverified claims of a token, for error messages.

    :param issuer: ``iss``.
    :param audience: ``aud``.
    :param authorized_party: ``azp``. If a token has it, as tokens of Entra's version 2 do, AWS compares it
        with the allowed audiences instead of ``aud``
        (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html).
    :param subject: ``sub``. For an Entra service principal it is the object id.
    :param expires_at: ``exp``.
    """

    issuer: str | None
    audience: str | None
    authorized_party: str | None
    subject: str | None
    expires_at: datetime | None

    @property
    def audience_for_aws(self) -> str | None:
        """The value that AWS compares with the OIDC provider's audiences and the trust policy's ``aud``."""
        return self.authorized_party or self.audience

    def __str__(self) -> str:
        expiry = f"{self.expires_at:%Y-%m-%dT%H:%M:%SZ}" if self.expires_at else "at an unknown time"
        party = f", authorized party {self.authorized_party}" if self.authorized_party else ""
        return (
            f"issuer {self.issuer or 'none'}, audience {self.audience or 'none'}{party}, "
            f"subject {self.subject or 'none'}, expires {expiry}"
        )


def decode_claims(token: str) -> Claims | None:
    """
    Decode the claims of a token without verifying it.

    :param token: a JSON Web Token (JWT).
    :return: None if ``token`` is not a JWT.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError, RecursionError):
        return None
    if not isinstance(claims, dict):
        return None
    return Claims(
        issuer=_text(claims.get("iss")),
        audience=_text(claims.get("aud")),
        authorized_party=_text(claims.get("azp")),
        subject=_text(claims.get("sub")),
        expires_at=_datetime(claims.get("exp")),
    )


def read_token_file(path: str, allowed: AllowList, *, field: str = "identity_file") -> str:
    """
    Read a projected token. Every call reads the file again, because the platform replaces the token.

    :param path: path of the file; must be in an allowed folder.
    :raises CredentialsError: if the file is outside the allowed folders (permanent), cannot be read, or does
        not contain a JWT (not permanent: the platform may project the token later).
    """
    try:
        token = allowed.read_file(path, field=field).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(
            f"{field} = {path!r} cannot be read: {type(error).__name__}. Check that the token is "
            "projected into both the workers and the triggerers.",
            permanent=False,
        ) from None
    if decode_claims(token) is None or not _TOKEN.fullmatch(token):
        raise CredentialsError(
            f"{field} = {path!r} does not contain a JSON Web Token (JWT). Check that the path is "
            "that of the projected token.",
            permanent=False,
        )
    return token


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        value = ", ".join(str(item) for item in value)
    return None if value is None else clean_line(str(value))


def _datetime(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None
