"""What a poller does, for the metrics and for the log of the triggerer."""

from __future__ import annotations

import logging
import platform
from collections import Counter
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from heapq import nlargest
from typing import Final

from polysync_airflow.exceptions import PolysyncError, is_throttling
from polysync_airflow.execution import clock
from polysync_airflow.execution.durations import format_seconds
from polysync_airflow.execution.waiter import Failures
from polysync_airflow.metrics.catalogue import (
    CALL_RATE,
    CALLS,
    CALLS_FAILED,
    CALLS_THROTTLED,
    DETECTION_DELAY,
    LAST_CALL_AGE,
    WAITS,
)
from polysync_airflow.metrics.tally import Tally

log = logging.getLogger(__name__)

LOG_SECONDS: Final = 60.0
# How many pipelines, and how many waits, a line of the log names.
MAX_NAMED: Final = 5
MAX_NAMED_WAITS: Final = 3
# When the log says that polls fail. Most waits have polled by then, and throttled polls have been repeated.
SETTLE_SECONDS: Final = 30.0


class Activity:
    """
    What one poller does. Thread-safe.

    :param poller: what it polls: the metrics' tag ``poller``.
    """

    def __init__(self, poller: str, connection_id: str, region_name: str | None) -> None:
        region = region_name or "default"
        self._name = f"Poller of {poller.replace('_', ' ')}, connection {connection_id!r}, region {region}"
        self._tally = Tally(poller=poller, connection=connection_id, region=region)
        # Returns for how many tasks it polls now, by what they wait for. It is called in a thread.
        self.waits: Callable[[], Mapping[str, int]] = dict
        self._last_success = self._logged_at = clock.monotonic()
        self._operations: set[str] = set()
        self._last_error: tuple[str, float] | None = None
        self._longest_delay = 0.0
        # The waits whose last poll has failed, with their names; and what the log says of them.
        self._failing: dict[Hashable, tuple[str, Failures]] = {}
        self._logged: _Logged | None = None

    def succeeded(self, operation: str) -> None:
        """Count a call of AWS that was successful."""
        self._count(operation)
        self._last_success = clock.monotonic()

    def failed(self, operation: str, error: PolysyncError) -> None:
        """Count a call of AWS that has failed."""
        self._count(operation)
        self._tally.add(CALLS_FAILED, operation=operation)
        self._tally.add(CALLS_THROTTLED, int(is_throttling(error)), operation=operation)
        self._last_error = str(error), clock.monotonic()

    def _count(self, operation: str) -> None:
        self._tally.add(CALLS, operation=operation)
        if operation not in self._operations:
            # Let the series of what goes wrong begin before it does.
            self._operations.add(operation)
            self._tally.add(CALLS_FAILED, 0, operation=operation)
            self._tally.add(CALLS_THROTTLED, 0, operation=operation)

    def detected(self, seconds: float) -> None:
        """Note how long after its end, in seconds, an execution was found to have ended."""
        # The clocks of AWS and of this host may differ.
        self._longest_delay = max(self._longest_delay, seconds)

    def polled(self, wait: Hashable, name: str, failures: Failures) -> None:
        """
        Note whether the polls of a wait fail.

        :param name: what it waits for.
        :param failures: those since its last successful poll; none if it has ended.
        """
        if failures.count:
            self._failing[wait] = name, failures
        else:
            self._failing.pop(wait, None)

    def report(self, rate: float, *, is_last: bool = False) -> None:
        """
        Send the metrics, and write the lines of the log that are due. Does not block, and raises no errors.

        :param rate: the calls per second to which the poller limits itself.
        :param is_last: no other report follows.
        """
        waits, now = self.waits(), clock.monotonic()
        count = sum(waits.values())
        gauges = {
            WAITS: count,
            CALL_RATE: round(rate, 1),
            LAST_CALL_AGE: round(now - self._last_success, 1) if count else 0,
            DETECTION_DELAY: round(self._longest_delay, 1),
        }
        if self._tally.report(gauges, host=platform.node(), is_last=is_last):
            self._longest_delay = 0.0
        self._log_failures(count)
        if log.isEnabledFor(logging.DEBUG) and now - self._logged_at >= LOG_SECONDS:
            log.debug("%s", self._line(waits, rate, now))
            self._logged_at = now

    def _log_failures(self, waits: int) -> None:
        """Write one line for an error of any number of waits, and one when no poll fails any more."""
        # A copy, which is made at once: the event loop may change the original meanwhile.
        failing, logged, now = list(self._failing.values()), self._logged, clock.time()
        errors = Counter(failures.last for _, failures in failing)
        if logged:
            logged.waits = max(logged.waits, len(failing))
        if not errors:
            if logged:
                log.info("%s: no polls fail any more. %s", self._name, logged.text(now))
            self._logged = None
            return
        since = logged.since if logged else min(failures.since for _, failures in failing)
        if now - since < SETTLE_SECONDS or (logged and logged.error in errors):
            return
        ((error, _),) = errors.most_common(1)
        self._logged = _Logged(error, since, max(len(failing), logged.waits if logged else 0))
        names = [name for name, failures in failing if failures.last == error][:MAX_NAMED_WAITS]
        numbers = f"polls of {len(failing):,} of {waits:,} waits fail, and are repeated"
        examples = f"for example of {', '.join(names)}"
        log.warning("%s: %s, %s. The most frequent error: %s", self._name, numbers, examples, error)

    def _line(self, waits: Mapping[str, int], rate: float, now: float) -> str:
        numbers: dict[str, int] = {}
        for key, number in self._tally.news("log").items():
            numbers[key.metric.name] = numbers.get(key.metric.name, 0) + number
        calls, failed, throttled = (
            numbers.get(metric.name, 0) for metric in (CALLS, CALLS_FAILED, CALLS_THROTTLED)
        )
        named = nlargest(MAX_NAMED, waits.items(), key=lambda entry: entry[1])
        names = [f"{name.rpartition('/')[2]}: {number}" for name, number in named]
        if len(waits) > len(named):
            names.append(f"and {len(waits) - len(named)} more")
        text, at = self._last_error or ("none", now)
        return (
            f"{self._name}: {sum(waits.values())} waits ({', '.join(names) or 'none'}); "
            f"{calls} calls in {now - self._logged_at:.0f} s, {failed} failed, {throttled} throttled; "
            f"at most {rate:.1f} calls per second; last success {now - self._last_success:.0f} s ago; "
            f"last error: {text}" + (f" ({now - at:.0f} s ago)" if self._last_error else "")
        )


@dataclass
class _Logged:
    """
    What the log says of polls that fail.

    :param since: when the first of them failed, in seconds since the epoch.
    :param waits: of how many waits, at most.
    """

    error: str
    since: float
    waits: int

    def text(self, now: float) -> str:
        """Return what the log says in the end."""
        return f"Those of up to {self.waits:,} waits have failed, for {format_seconds(now - self.since)}."
