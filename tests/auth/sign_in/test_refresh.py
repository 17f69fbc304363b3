"""Renewal: early enough, once for all who use the credentials, and patient when nobody answers."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from polysync_airflow.auth import refresh
from polysync_airflow.auth.refresh import RefreshingCredentials, SharedCredentials
from polysync_airflow.exceptions import CredentialsError


class Issuer:
    """Hands out numbered credentials of a given life, on a clock that tests move."""

    def __init__(self, lifetime: float) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.lifetime = lifetime
        self.issued = 0
        self.refusal: CredentialsError | None = None
        self.attempts = 0

    def exchange(self) -> Mapping[str, Any]:
        """Issue the next credentials, or refuse."""
        self.attempts += 1
        if self.refusal:
            raise self.refusal
        self.issued += 1
        return {
            "access_key": f"KEY{self.issued}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": (self.now + timedelta(seconds=self.lifetime)).isoformat(),
        }

    def credentials(self) -> RefreshingCredentials:
        """Return credentials that renew here."""
        return RefreshingCredentials(self.exchange, "test", now=lambda: self.now)

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self.now += timedelta(seconds=seconds)


def key(credentials: RefreshingCredentials) -> str:
    """Use the credentials once."""
    return str(credentials.get_frozen_credentials().access_key)


@pytest.mark.parametrize("lifetime", [900, 3600, 43200, 8])
def test_eight_hours_of_use_renew_once_per_life(lifetime: float) -> None:
    """Looks every 30 s for eight hours take one exchange per three quarters of a life, and none expires."""
    issuer = Issuer(lifetime)
    credentials = issuer.credentials()
    step = min(30.0, lifetime / 20)
    looks = int(8 * 3600 / step) if lifetime > 60 else 2000

    for _ in range(looks):
        key(credentials)
        issuer.pass_time(step)

    used = lifetime - min(refresh.ADVISORY_REFRESH_SECONDS, lifetime / 4)
    assert issuer.issued == pytest.approx(looks * step / used, abs=max(2, looks * step / used * 0.1))


def test_200_threads_at_once_make_one_exchange() -> None:
    """Whoever comes first asks, all others get the same credentials: at the beginning and at each expiry."""
    issuer = Issuer(3600)
    gate = threading.Barrier(200)
    credentials = issuer.credentials()

    def use(_: int) -> str:
        gate.wait()
        return key(credentials)

    with ThreadPoolExecutor(200) as pool:
        for life in (1, 2, 3):
            assert set(pool.map(use, range(200))) == {f"KEY{life}"}
            issuer.pass_time(3600)

    assert issuer.issued == 3


def test_old_credentials_serve_on_while_nobody_answers() -> None:
    """An outage in the renewal's window is not noticed until the last minute of the old credentials."""
    issuer = Issuer(3600)
    credentials = issuer.credentials()
    key(credentials)
    issuer.refusal = CredentialsError("STS did not answer", permanent=False)

    issuer.pass_time(3600 - 500)
    assert key(credentials) == "KEY1"

    issuer.pass_time(480)
    with pytest.raises(CredentialsError, match="did not answer"):
        key(credentials)


def test_an_outage_is_asked_about_once_by_all_and_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failure everybody gets its error until the pause is over; pauses double, and a success ends them."""
    clock = [0.0]
    monkeypatch.setattr("polysync_airflow.auth.refresh.time.monotonic", lambda: clock[0])
    issuer = Issuer(3600)
    credentials = issuer.credentials()
    issuer.refusal = CredentialsError("no", permanent=False)

    attempts = []
    for second in range(20):
        clock[0] = second + 0.5
        for _ in range(50):
            with pytest.raises(CredentialsError):
                key(credentials)
        attempts.append(issuer.attempts)
    issuer.refusal = None
    clock[0] = 100.0

    assert attempts[-1] == 5, "after 0, 1, 3, 7 and 15 seconds"
    assert key(credentials) == "KEY1"


def test_one_way_to_sign_in_shares_its_credentials_and_another_does_not() -> None:
    """A trigger per task is no exchange per task; an edited connection is a new way."""
    shared = SharedCredentials()
    issuer = Issuer(3600)

    first = shared.get(("a", 1), issuer.credentials)
    again = shared.get(("a", 1), issuer.credentials)
    other = shared.get(("a", 2), issuer.credentials)

    assert first is again
    assert other is not first
