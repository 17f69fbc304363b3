"""Adds up what a poller, or the reader of a queue, does, to report it from time to time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from threading import Lock
from typing import NamedTuple

from polysync_airflow.metrics.catalogue import Metric
from polysync_airflow.metrics.sending import Sample, is_on, send


class Key(NamedTuple):
    """What is counted: a counter, and the values of the tags that are not those of the whole tally."""

    metric: Metric
    tags: tuple[tuple[str, str], ...] = ()


class Tally:
    """
    What one poller has done since it began. Thread-safe.

    :param tags: of all its samples.
    """

    def __init__(self, **tags: str | None) -> None:
        self._tags = {name: value or "unknown" for name, value in tags.items()}
        self._lock = Lock()
        self._totals: Counter[Key] = Counter()
        # What each reader of the totals has seen.
        self._seen: dict[str, Counter[Key]] = {}
        self._sending: Future[None] | None = None

    def add(self, metric: Metric, number: int = 1, **tags: str) -> None:
        """Let a counter grow, by 0 to let its series begin."""
        key = Key(metric, tuple(tags.items()))
        with self._lock:
            self._totals[key] += number

    def news(self, reader: str, *, from_zero: bool = False) -> dict[Key, int]:
        """
        Return by how much the counters have grown since this reader has last asked.

        :param from_zero: a counter that is new is 0 now, and what it has counted comes the next time.
        """
        with self._lock:
            seen, totals = self._seen.get(reader, Counter()), self._totals.copy()
            if from_zero:
                totals = Counter({key: total if key in seen else 0 for key, total in totals.items()})
            self._seen[reader] = totals
        return {
            key: total - seen[key] for key, total in totals.items() if key not in seen or total > seen[key]
        }

    def report(
        self, gauges: Mapping[Metric, float] | None = None, *, host: str = "", is_last: bool = False
    ) -> bool:
        """
        Send what is new, and the values of gauges. Does not block, and raises no errors.

        :param is_last: no other report follows, so this one must not be left out.
        :return: whether it was sent. If not, the next report has it: what sends is still busy, or metrics are
            off.
        """
        if not is_on():
            return False
        if self._sending and not self._sending.done():
            if is_last:
                self._sending.add_done_callback(lambda _: self._send(gauges, host))
            return False
        self._send(gauges, host, is_last=is_last)
        return True

    def _send(self, gauges: Mapping[Metric, float] | None, host: str, *, is_last: bool = True) -> None:
        # Prometheus does not count the first value of a series.
        news = self.news("metrics", from_zero=not is_last)
        samples = [
            Sample(key.metric, number, {**self._tags, **dict(key.tags)}) for key, number in news.items()
        ]
        samples += [
            Sample(metric, value, {**self._tags, "host": host}) for metric, value in (gauges or {}).items()
        ]
        self._sending = send(samples, later=True) if samples else None
