"""
The sessions that STS has issued: their credentials, their caller and their expiration.
"""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from sagemaker_emulator.engine.clock import Clock
from sagemaker_emulator.sign_in import iam
from sagemaker_emulator.sign_in.iam import Caller
from sagemaker_emulator.sign_in.settings import SignInSettings


@dataclass(frozen=True)
class Session:
    """
    The credentials that STS has issued to a caller.

    :param expires_at: the expiration, as Unix time.
    :param clock: the clock of ``expires_at``: ``real`` or ``emulated``.
    """

    caller: Caller
    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: float
    clock: str

    def credentials(self) -> dict[str, str]:
        """Return the ``Credentials`` of an STS response."""
        expires_at = datetime.fromtimestamp(self.expires_at, UTC)
        precision = "seconds"
        if expires_at.microsecond:
            precision = "milliseconds"
        expiration = expires_at.isoformat(timespec=precision).replace("+00:00", "Z")
        return {
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret_access_key,
            "SessionToken": self.token,
            "Expiration": expiration,
        }


class Sessions:
    """
    All sessions since the last reset.

    :param clock: the clock of the emulator.
    :param settings: the sign-in settings.
    """

    def __init__(self, clock: Clock, settings: SignInSettings) -> None:
        self._clock = clock
        self._settings = settings
        self._lock = Lock()
        self._sessions: dict[str, Session] = {}

    def reset(self) -> None:
        """Remove all sessions."""
        with self._lock:
            self._sessions.clear()

    def issue(self, caller: Caller, duration: float) -> Session:
        """
        Create a session with new credentials.

        :param caller: the caller identity of the session.
        :param duration: the session duration in seconds, which the settings can
            override.
        """
        values = self._settings.values
        now = self._now(values.clock)
        expires_at: float
        if values.lifetime is None:
            # AWS uses whole seconds.
            expires_at = math.floor(now + duration)
        else:
            # A lifetime of a few seconds, as tests set it, must be exact.
            expires_at = now + values.lifetime
        key = iam.create_temporary_key(caller.account, caller.aws_partition)
        session = Session(
            caller=caller,
            access_key_id=key.access_key_id,
            secret_access_key=key.secret_access_key,
            token=secrets.token_urlsafe(192),
            expires_at=expires_at,
            clock=values.clock,
        )
        with self._lock:
            self._sessions[session.access_key_id] = session
        return session

    def find(self, access_key_id: str) -> Session | None:
        """
        Return the session with this access key, even if it has expired; None if there
        is none.
        """
        with self._lock:
            return self._sessions.get(access_key_id)

    def has_expired(self, session: Session) -> bool:
        """Return whether a session has expired."""
        return self._now(session.clock) >= session.expires_at

    def _now(self, clock: str) -> float:
        if clock == "emulated":
            return self._clock.now()
        return time.time()
