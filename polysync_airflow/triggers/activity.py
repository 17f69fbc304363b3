"""What a poller does, for the metrics: calls, errors, waits, delays."""

from __future__ import annotations

import platform
from collections.abc import Callable
from threading import Lock

from polysync_airflow import metrics
from polysync_airflow.airflow_compat.response_times import RESPONSE_TIMES
from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock


class Activity:
    """
    What one poller does. Thread-safe.

    :param poller: what it polls: the metrics' tag ``poller``.
    """

    def __init__(
        self, poller: str, connection_id: str, region_name: str | None
    ) -> None:
        region = region_name or "default"
        self._tally = metrics.Tally(
            poller=poller, connection=connection_id, region=region
        )
        # Returns for how many tasks the poller polls now.
        self.waits: Callable[[], int] = int
        self._last_success = clock.monotonic()
        self._reporting = Lock()
        self._longest_delay = 0.0

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

    def report(self, rate: float, *, is_last: bool = False) -> None:
        """
        Send the metrics. Does not block, and raises no errors.

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
                metrics.AIRFLOW_RESPONSE_TIME: round(RESPONSE_TIMES.longest(), 1),
            }
            if self._tally.report(gauges, host=platform.node(), is_last=is_last):
                self._longest_delay = 0.0
