"""
The connection of a process that runs for months: when it is read, and what happens to
calls meanwhile.
"""

from __future__ import annotations

import pytest

from polysync_airflow.auth.base_hook import (
    MIN_READ_SECONDS,
    READ_RETRY_SECONDS,
    READ_SECONDS,
    LiveConnection,
)
from polysync_airflow.exceptions import CredentialsError, PolysyncError
from polysync_airflow.hooks import PolysyncSageMakerHook
from tests.conftest import connection
from tests.fakes.stopped_clock import StoppedClock

VARIABLE = "AIRFLOW_CONN_TEAM"


class Reads:
    """Makes the hooks of a connection, and counts them: each read makes one."""

    def __init__(self) -> None:
        self.count = 0
        self.live = LiveConnection("team", self.make_hook)

    def make_hook(self) -> PolysyncSageMakerHook:
        """Return a hook that has not read the connection yet."""
        self.count += 1
        return PolysyncSageMakerHook("team")


def test_read_that_failed_is_shared_and_repeated_soon(
    stopped_clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A thousand waits do not read a thousand times, and none waits longer than it must
    for what is repaired.
    """
    reads = Reads()
    for _ in range(3):
        with pytest.raises(CredentialsError, match="there is no such connection"):
            _ = reads.live.hook
    assert reads.count == 1
    assert reads.live.seconds_until_read == READ_RETRY_SECONDS < READ_SECONDS

    monkeypatch.setenv(VARIABLE, connection())
    stopped_clock.seconds += MIN_READ_SECONDS + 0.1

    assert reads.live.hook is reads.live.hook
    assert reads.count == 2
    assert reads.live.seconds_until_read == READ_SECONDS


def test_call_is_repeated_with_a_connection_that_has_changed(
    stopped_clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A person who rotates a key expects that running waits use it. The same connection is
    not tried again.
    """
    monkeypatch.setenv(VARIABLE, connection(login="AKIAOLD"))
    reads = Reads()
    calls = list[str]()

    def call(hook: PolysyncSageMakerHook) -> str:
        login = str(hook._connection.login)
        calls.append(login)
        if login == "AKIAOLD":
            raise CredentialsError("the key is no longer valid")
        return login

    stopped_clock.seconds += MIN_READ_SECONDS + 0.1
    for _ in range(2):
        with pytest.raises(CredentialsError, match="no longer valid"):
            reads.live.call(call)
    # However many calls fail, the connection is not read for each of them.
    assert reads.count == 1
    monkeypatch.setenv(VARIABLE, connection(login="AKIANEW"))
    stopped_clock.seconds += MIN_READ_SECONDS + 0.1

    assert reads.live.call(call) == "AKIANEW"
    assert calls == ["AKIAOLD", "AKIAOLD", "AKIAOLD", "AKIANEW"]


def test_transient_error_reads_nothing(
    stopped_clock: StoppedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """During an outage of AWS, Airflow's API server is left alone."""
    monkeypatch.setenv(VARIABLE, connection())
    reads = Reads()
    _ = reads.live.hook
    stopped_clock.seconds += 2 * MIN_READ_SECONDS

    def fail(_: PolysyncSageMakerHook) -> None:
        raise PolysyncError("AWS does not respond", permanent=False, transient=True)

    with pytest.raises(PolysyncError, match="does not respond"):
        reads.live.call(fail)

    assert reads.count == 1
