"""Owns what can be known of a web identity token without trusting it, and tokens that lie in files."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from polysync_airflow.auth.allowed_files import allowed_path
from polysync_airflow.exceptions import CredentialsError


@dataclass(frozen=True, slots=True)
class Claims:
    """
    What a token says of itself. For messages only: its signature is for AWS to check.

    :param issuer: ``iss``.
    :param audience: ``aud``.
    :param authorized_party: ``azp``; AWS looks at it instead of ``aud`` where a token has it, as tokens of
        Entra's version 2 do
        (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_iam-condition-keys.html).
    :param subject: ``sub``; for an Entra service principal the same as its object id.
    :param expires_at: ``exp``.
    """

    issuer: str | None
    audience: str | None
    authorized_party: str | None
    subject: str | None
    expires_at: datetime | None

    @property
    def audience_for_aws(self) -> str | None:
        """What AWS compares with the OIDC provider's audiences and the trust policy's ``aud``."""
        return self.authorized_party or self.audience

    def __str__(self) -> str:
        expiry = f"{self.expires_at:%Y-%m-%dT%H:%M:%SZ}" if self.expires_at else "never told"
        party = f", authorized party {self.authorized_party}" if self.authorized_party else ""
        return (
            f"issuer {self.issuer or 'none'}, audience {self.audience or 'none'}{party}, "
            f"subject {self.subject or 'none'}, expires {expiry}"
        )


def decode_claims(token: str) -> Claims | None:
    """
    Decode a token's claims.

    :param token: a JWT.
    :return: None if it is none.
    """
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    except (IndexError, ValueError):
        return None
    if not isinstance(claims, dict):
        return None
    return Claims(
        issuer=_text(claims.get("iss")),
        audience=_text(claims.get("aud")),
        authorized_party=_text(claims.get("azp")),
        subject=_text(claims.get("sub")),
        expires_at=_moment(claims.get("exp")),
    )


def read_token_file(path: str, allowed: Sequence[Path]) -> str:
    """
    Read a projected token, afresh at each call since the platform replaces it.

    Who may edit connections must not be able to make a worker send any file to AWS: the path must lie under
    a folder that the deployment allows, with symbolic links and ``..`` resolved.

    :param path: the file.
    :param allowed: the folders that the deployment allows.
    :raises CredentialsError: if it is elsewhere, cannot be read, or holds no JWT. Lasting only if it is
        elsewhere: a file may still be projected.
    """
    resolved = allowed_path(path, allowed, field="identity_file")
    try:
        token = resolved.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CredentialsError(
            f"identity_file = {path!r} cannot be read: {type(error).__name__}. Is the token projected into "
            "worker and triggerer alike?",
            permanent=False,
        ) from None
    if decode_claims(token) is None:
        raise CredentialsError(f"identity_file = {path!r} holds no JSON web token.", permanent=False)
    return token


def _text(value: Any) -> str | None:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return None if value is None else str(value)


def _moment(value: Any) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None
