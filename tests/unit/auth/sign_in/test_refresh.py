"""
The refresh of credentials: in time, once for all threads, and with backoff after an
error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from polysync_airflow.auth import sts as refresh
from polysync_airflow.auth.allow_list import AllowList
from polysync_airflow.auth.connection import parse_credentials
from polysync_airflow.auth.sts import RefreshingCredentials
from polysync_airflow.exceptions import CredentialsError
from polysync_airflow.execution import clock
from tests.fakes.stopped_clock import StoppedClock

pytestmark = pytest.mark.usefixtures("stopped_clock")


class Issuer:
    """Issues numbered credentials with a given lifetime."""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.issued = 0
        self.error: CredentialsError | None = None
        self.attempts = 0

    def fetch(self) -> Mapping[str, Any]:
        """Return the next credentials, or raise the error that is set."""
        self.attempts += 1
        if self.error:
            raise self.error
        self.issued += 1
        return {
            "access_key": f"KEY{self.issued}",
            "secret_key": "s",
            "token": "t",
            "expiry_time": (clock.now() + timedelta(seconds=self.lifetime)).isoformat(),
        }

    def credentials(self) -> RefreshingCredentials:
        """Return credentials that are refreshed with ``fetch``."""
        return RefreshingCredentials(self.fetch, "test")


def use(credentials: RefreshingCredentials) -> str:
    """Use the credentials once, and return their access key."""
    return str(credentials.get_frozen_credentials().access_key)


def test_credentials_that_have_expired_already_are_an_error_of_ours() -> None:
    """
    The clock of the machine is ahead: the error names both times, and waits go on.
    """
    issuer = Issuer(lifetime=-30)
    credentials = issuer.credentials()

    with pytest.raises(
        CredentialsError,
        match=r"expired at 2025-12-31T23:59:30.*shows 2026-01-01T00:00:00",
    ) as caught:
        use(credentials)

    assert not caught.value.permanent


@pytest.mark.parametrize(
    ("lifetime", "uses"), [(900, 960), (3600, 960), (43200, 960), (8, 2000)]
)
def test_credentials_are_refreshed_once_per_lifetime(
    lifetime: float, uses: int, stopped_clock: StoppedClock
) -> None:
    """
    Eight hours of use every 30 seconds cause one refresh per lifetime, and no
    credentials expire.
    """
    issuer = Issuer(lifetime)
    credentials = issuer.credentials()
    step = min(30.0, lifetime / 20)

    for _ in range(uses):
        use(credentials)
        stopped_clock.seconds += step

    refresh_period = lifetime - min(refresh.ADVISORY_REFRESH_SECONDS, lifetime / 4)
    expected = uses * step / refresh_period
    assert issuer.issued == pytest.approx(expected, abs=max(2, expected * 0.1))


def test_200_threads_cause_one_refresh(stopped_clock: StoppedClock) -> None:
    """
    200 threads get the same credentials from one request: at the first use and after
    each expiry.
    """
    issuer = Issuer(3600)
    barrier = threading.Barrier(200)
    credentials = issuer.credentials()

    def use_together(_: int) -> str:
        barrier.wait()
        return use(credentials)

    with ThreadPoolExecutor(200) as pool:
        for number in (1, 2, 3):
            assert set(pool.map(use_together, range(200))) == {f"KEY{number}"}
            stopped_clock.seconds += 3600

    assert issuer.issued == 3


def test_old_credentials_are_used_while_the_refresh_fails(
    stopped_clock: StoppedClock,
) -> None:
    """
    A failed refresh is not an error before the last minute of the old credentials.
    """
    issuer = Issuer(3600)
    credentials = issuer.credentials()
    use(credentials)
    issuer.error = CredentialsError("STS did not respond", permanent=False)

    stopped_clock.seconds += 3600 - 500
    assert use(credentials) == "KEY1"

    stopped_clock.seconds += 480
    with pytest.raises(CredentialsError, match="did not respond"):
        use(credentials)


def test_failed_refresh_is_retried_with_backoff(stopped_clock: StoppedClock) -> None:
    """
    After a failed refresh all uses get its error until the backoff ends; the backoff
    doubles each time.
    """
    start = stopped_clock.seconds
    issuer = Issuer(3600)
    credentials = issuer.credentials()
    issuer.error = CredentialsError("no", permanent=False)

    attempts = []
    for second in range(20):
        stopped_clock.seconds = start + second + 0.5
        for _ in range(50):
            with pytest.raises(CredentialsError):
                use(credentials)
        attempts.append(issuer.attempts)
    issuer.error = None
    stopped_clock.seconds += 100

    assert attempts[-1] == 5, "after 0, 1, 3, 7 and 15 seconds"
    assert use(credentials) == "KEY1"


def connection_with(secret: str) -> Any:
    """Return the parsed connection of a role, with the secret of its bootstrap user."""
    fields = {
        "auth_method": "assume_role",
        "region_name": "us-east-1",
        "access_key_id": "AKIAIOSFODNN7EXAMPLE",
    }
    role = "arn:aws:iam::123456789012:role/polysync"
    return parse_credentials(
        {**fields, "secret_access_key": secret, "role_arn": role}, connection_id="c"
    )


def credentials_of(secret: str) -> Any:
    """
    Return the credentials object that a hook gets for a connection with this secret.
    """
    return connection_with(secret).session(AllowList()).get_credentials()


def test_credentials_of_old_rotations_are_forgotten() -> None:
    """Of 70 rotations of a connection's secret, a process remembers the last 64."""
    found = [credentials_of(f"rotation-{number}") for number in range(70)]

    assert credentials_of("rotation-6") is found[6]
    assert credentials_of("rotation-69") is found[69]
    assert credentials_of("rotation-5") is not found[5]


def test_threads_share_one_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Threads that come at the same time get the same credentials object, so there is one
    sign-in.
    """
    connections = [connection_with("of-all-threads") for _ in range(8)]
    barrier = threading.Barrier(len(connections))
    make_credentials = type(connections[0])._aws_credentials

    def make_slowly(*arguments: Any) -> Any:
        time.sleep(0.1)  # The other threads come meanwhile.
        return make_credentials(*arguments)

    def get(connection: Any) -> Any:
        barrier.wait()
        return connection.session(AllowList()).get_credentials()

    monkeypatch.setattr(type(connections[0]), "_aws_credentials", make_slowly)
    with ThreadPoolExecutor(len(connections)) as pool:
        found = list(pool.map(get, connections))

    assert all(each is found[0] for each in found)
