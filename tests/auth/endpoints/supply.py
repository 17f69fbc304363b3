"""Owns where the AWS metadata stand-ins get credentials from, and when they fetch fresh ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, TypedDict
from uuid import uuid4


class Credentials(TypedDict):
    """What a metadata service hands out."""

    AccessKeyId: str
    SecretAccessKey: str
    Token: str
    Expiration: datetime


Source = Callable[[], Credentials]


def made_up(lifetime: float = 6 * 3600) -> Source:
    """Return a source of credentials that nobody issued."""

    def source() -> Credentials:
        marks = uuid4().hex
        return {
            "AccessKeyId": f"ASIA{marks[:16].upper()}",
            "SecretAccessKey": f"made-up-secret-{marks}",
            "Token": f"made-up-token-{marks}",
            "Expiration": datetime.now(UTC) + timedelta(seconds=lifetime),
        }

    return source


def issued_by(call: Callable[[], Mapping[str, Any]], *, lifetime: float | None = None) -> Source:
    """Return a source of credentials that STS issued.

    :param call: any AssumeRole of a boto3 client; its answer holds ``Credentials``.
    :param lifetime: what to say about how long they last, in seconds, in place of the truth.
    """

    def source() -> Credentials:
        issued = call()["Credentials"]
        said = None if lifetime is None else datetime.now(UTC) + timedelta(seconds=lifetime)
        return {
            "AccessKeyId": issued["AccessKeyId"],
            "SecretAccessKey": issued["SecretAccessKey"],
            "Token": issued["SessionToken"],
            "Expiration": said or issued["Expiration"],
        }

    return source


class Supply:
    """Holds credentials until ``renew_before`` seconds are left to them, as the services of AWS do.

    Hence credentials that live shorter are fetched afresh for each request.
    """

    def __init__(self, source: Source, renew_before: float = 300) -> None:
        self._source, self._margin, self._lock = source, timedelta(seconds=renew_before), Lock()
        self._held: Credentials | None = None
        #: How many times the source was asked.
        self.issued = 0

    def current(self) -> dict[str, str]:
        """Return credentials as the services write them."""
        with self._lock:
            held = self._held
            if held is None or held["Expiration"] - datetime.now(UTC) <= self._margin:
                held = self._held = self._source()
                self.issued += 1
        expiration = held["Expiration"].astimezone(UTC)
        return {
            "AccessKeyId": held["AccessKeyId"],
            "SecretAccessKey": held["SecretAccessKey"],
            "Token": held["Token"],
            "Expiration": f"{expiration:%Y-%m-%dT%H:%M:%SZ}",
        }
