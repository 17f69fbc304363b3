"""
What a poller does, for the metrics and the log of its process: calls, errors, polls
that fail.
"""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Final

from polysync_airflow import metrics
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock
from polysync_airflow.execution.texts import format_seconds
from polysync_airflow.execution.waiter import Failures

log = logging.getLogger(__name__)

# How many waits a line of the log names.
MAX_NAMED_WAITS: Final = 3
# When the log says that polls fail. Most waits have polled by then, and throttled polls
# have been repeated.
SETTLE_SECONDS: Final = 30.0


class Activity:
    """
    What one poller does. Thread-safe.

    :param poller: what it polls: the metrics' tag ``poller``.
    """

    def __init__(
        self, poller: str, connection_id: str, region_name: str | None
    ) -> None:
        region = region_name or "default"
        self._name = (
            f"Poller of {poller.replace('_', ' ')}, connection {connection_id!r},"
            f" region {region}"
        )
        self._tally = metrics.Tally(
            poller=poller, connection=connection_id, region=region
        )
        # For how many tasks it polls now.
        self.waits: Callable[[], int] = int
        self._last_success = clock.monotonic()
        self._reporting = Lock()
        self._longest_delay = 0.0
        # The waits whose last poll has failed, with their names; and what the log says
        # of them.
        self._failing: dict[Hashable, tuple[str, Failures]] = {}
        self._logged: _Logged | None = None

    def succeeded(self, operation: str) -> None:
        """Count a call of AWS that was successful."""
        self._count(operation)
        self._last_success = clock.monotonic()

    def failed(self, operation: str, error: PolysyncError) -> None:
        """Count a call of AWS that has failed."""
        self._count(operation)
        self._tally.add(metrics.CALLS_FAILED, operation=operation)
        self._tally.add(
            metrics.CALLS_THROTTLED, int(is_throttling(error)), operation=operation
        )

    def _count(self, operation: str) -> None:
        self._tally.add(metrics.CALLS, operation=operation)
        # Let the series of what goes wrong begin before it does.
        self._tally.add(metrics.CALLS_FAILED, 0, operation=operation)
        self._tally.add(metrics.CALLS_THROTTLED, 0, operation=operation)

    def detected(self, seconds: float) -> None:
        """
        Note how long after its end, in seconds, an execution was found to have ended.
        """
        # The clocks of AWS and of this host may differ.
        self._longest_delay = max(self._longest_delay, seconds)

    def polled(self, wait: Hashable, name: str, failures: Failures) -> None:
        """
        Note whether the polls of a wait fail.

        :param name: what it waits for.
        :param failures: those since its last successful poll; none if it has ended.
        """
        if failures.count:
            self._failing[wait] = (name, failures)
        else:
            self._failing.pop(wait, None)

    def report(self, rate: float, *, is_last: bool = False) -> None:
        """
        Send the metrics, and log polls that fail. Does not block, and raises no errors.

        :param rate: the calls per second to which the poller limits itself.
        :param is_last: no other report follows.
        """
        # The last report must not come before one of another thread, which has counted
        # the waits already.
        with self._reporting:
            waits = self.waits()
            age = 0.0
            if waits:
                age = clock.monotonic() - self._last_success
            gauges = {
                metrics.WAITS: waits,
                metrics.CALL_RATE: round(rate, 1),
                metrics.LAST_CALL_AGE: round(age, 1),
                metrics.DETECTION_DELAY: round(self._longest_delay, 1),
            }
            if self._tally.report(gauges, host=platform.node(), is_last=is_last):
                self._longest_delay = 0.0
            self._log_failures(waits)

    def _log_failures(self, waits: int) -> None:
        """
        Write one line for an error of any number of waits, and one when no poll fails
        any more.
        """
        # A copy, which is made at once: the event loop may change the original
        # meanwhile.
        failing = list(self._failing.values())
        logged = self._logged
        now = clock.time()
        if not failing:
            self._logged = None
            if logged:
                text = (
                    f"up to {logged.waits:,} waits have failed, for"
                    f" {format_seconds(now - logged.since)}"
                )
                log.info("%s: no polls fail any more. Those of %s.", self._name, text)
            return

        count = len(failing)
        since = min(failures.since for _, failures in failing)
        if logged:
            logged.waits = max(logged.waits, count)
            count = logged.waits
            since = logged.since
        errors = Counter(failures.last for _, failures in failing)
        if now - since < SETTLE_SECONDS or (logged and logged.error in errors):
            return
        ((error, _),) = errors.most_common(1)
        self._logged = _Logged(error, since, count)
        names = [name for name, failures in failing if failures.last == error]
        log.warning(
            "%s: polls of %s of %s waits fail, and are repeated, for example of %s."
            " The most frequent error: %s",
            self._name,
            f"{len(failing):,}",
            f"{waits:,}",
            ", ".join(names[:MAX_NAMED_WAITS]),
            error,
        )


@dataclass
class _Logged:
    """
    What the log says of polls that fail.

    :param since: when the first of them failed, as Unix time.
    :param waits: of how many waits, at most.
    """

    error: str
    since: float
    waits: int
