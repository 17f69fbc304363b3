"""
Where the fake EC2 and ECS metadata servers get AWS credentials from, and when they
fetch new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, TypedDict
from uuid import uuid4


class Credentials(TypedDict):
    """Credentials as a metadata service returns them."""

    AccessKeyId: str
    SecretAccessKey: str
    Token: str
    Expiration: datetime


CredentialsSource = Callable[[], Credentials]


def random_credentials(lifetime: float = 6 * 3600) -> CredentialsSource:
    """Return a source of random credentials, which no STS has issued."""

    def source() -> Credentials:
        unique = uuid4().hex
        return {
            "AccessKeyId": f"ASIA{unique[:16].upper()}",
            "SecretAccessKey": f"random-secret-{unique}",
            "Token": f"random-token-{unique}",
            "Expiration": datetime.now(UTC) + timedelta(seconds=lifetime),
        }

    return source


def issued_by(
    call: Callable[[], Mapping[str, Any]], *, lifetime: float | None = None
) -> CredentialsSource:
    """
    Return a source of credentials that STS issues.

    :param call: calls STS, such as AssumeRole of a boto3 client; the response contains
        ``Credentials``.
    :param lifetime: seconds until the expiry time to report; None for the real expiry
        time.
    """

    def source() -> Credentials:
        issued = call()["Credentials"]
        reported = (
            None
            if lifetime is None
            else datetime.now(UTC) + timedelta(seconds=lifetime)
        )
        return {
            "AccessKeyId": issued["AccessKeyId"],
            "SecretAccessKey": issued["SecretAccessKey"],
            "Token": issued["SessionToken"],
            "Expiration": reported or issued["Expiration"],
        }

    return source


class CachedCredentials:
    """
    Keeps credentials until ``refresh_before`` seconds before their expiry, as the
    metadata services of AWS do.

    Credentials with a shorter lifetime are therefore fetched again for each request.

    :param source: fetches credentials.
    :param refresh_before: seconds.
    """

    def __init__(self, source: CredentialsSource, refresh_before: float = 300) -> None:
        self._source, self._refresh_before = source, timedelta(seconds=refresh_before)
        self._lock = Lock()
        self._cached: Credentials | None = None
        # How many times the source was called.
        self.fetch_count = 0

    def current(self) -> dict[str, str]:
        """
        Return the current credentials in the JSON format of the metadata services.
        """
        with self._lock:
            credentials = self._cached
            if (
                credentials is None
                or credentials["Expiration"] - datetime.now(UTC) <= self._refresh_before
            ):
                credentials = self._cached = self._source()
                self.fetch_count += 1
        expiration = credentials["Expiration"].astimezone(UTC)
        return {
            "AccessKeyId": credentials["AccessKeyId"],
            "SecretAccessKey": credentials["SecretAccessKey"],
            "Token": credentials["Token"],
            "Expiration": f"{expiration:%Y-%m-%dT%H:%M:%SZ}",
        }
