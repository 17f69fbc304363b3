"""A session: credentials that STS issued, whose they are and when they end."""

from __future__ import annotations

import math
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

from polysync_airflow.emulator.engine.clock import Clock
from polysync_airflow.emulator.sign_in import iam
from polysync_airflow.emulator.sign_in.iam import Caller
from polysync_airflow.emulator.sign_in.settings import SignIn


@dataclass(frozen=True)
class Session:
    """One session.

    :param expires_at: in seconds since the epoch, by ``clock``: ``real`` or ``emulated``.
    """

    caller: Caller
    access_key_id: str
    secret_access_key: str = field(repr=False)
    token: str = field(repr=False)
    expires_at: float
    clock: str

    def credentials(self) -> dict[str, str]:
        """Return what STS answers with."""
        expiration = datetime.fromtimestamp(self.expires_at, UTC)
        precision = "milliseconds" if expiration.microsecond else "seconds"
        return {
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret_access_key,
            "SessionToken": self.token,
            "Expiration": expiration.isoformat(timespec=precision).replace("+00:00", "Z"),
        }


class Sessions:
    """All sessions since the last reset.

    :param clock: the emulator's.
    """

    def __init__(self, clock: Clock, settings: SignIn) -> None:
        self._clock = clock
        self._settings = settings
        self._lock = Lock()
        self._sessions: dict[str, Session] = {}

    def reset(self) -> None:
        """Forget all sessions."""
        with self._lock:
            self._sessions.clear()

    def issue(self, caller: Caller, duration: float) -> Session:
        """Make new credentials.

        :param duration: in seconds, unless the settings say otherwise.
        """
        values = self._settings.values
        now = self._now(values.clock)
        # AWS shows whole seconds; a lifetime of a few seconds has to be exact.
        expires_at = math.floor(now + duration) if values.lifetime is None else now + values.lifetime
        key = iam.temporary_key(caller.account, caller.place)
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
        """Return the session with this access key, whether it has ended or not."""
        with self._lock:
            return self._sessions.get(access_key_id)

    def ended(self, session: Session) -> bool:
        """Return whether a session has expired."""
        return self._now(session.clock) >= session.expires_at

    def _now(self, clock: str) -> float:
        return self._clock.now() if clock == "emulated" else time.time()
