"""
The metrics of the provider, which go where the deployment's own metrics go.

The documentation, the dashboard and the alert rules are compared with the table of
metrics. What happens often is added up, so that nothing is sent for each poll and each
wait.

Airflow puts its prefix before the names, by default ``airflow.``. A tag has few values:
those of AWS and of this provider, the connections and regions that are used, and the
hosts of triggerers. Names of pipelines, DAGs and tasks are not among them, since there
may be any number of these.

Metrics never fail or delay a task or a wait: errors of what sends them are logged once,
and a triggerer sends in a thread of its own, because the first use may look up a host
name. Nothing is sent while metrics are off.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Lock
from typing import Any, Final, Literal, NamedTuple

from airflow.providers.common.compat.sdk import conf

from polysync_airflow.airflow_compat.supervisor import (
    call_in_daemon_thread,
    in_triggerer,
)

# The tags of the metrics: of tasks, and of the pollers of a triggerer.
_PLACE: Final = ("connection", "region")
_END: Final = ("state", *_PLACE)
_CALLS: Final = ("operation", "poller", *_PLACE)
_POLLER_ON_HOST: Final = ("poller", *_PLACE, "host")


class Metric(NamedTuple):
    """
    A metric. docs/reference/metrics.md says what each of them counts or measures.

    :param name: its name, without Airflow's prefix.
    :param kind: a counter only grows; a gauge has the value of now.
    :param tags: the names of its tags, in the order in which plain StatsD, which has no
        tags, gets their values: at the end of the name.
    """

    name: str
    kind: Literal["counter", "gauge"]
    tags: tuple[str, ...]


EXECUTIONS_STARTED: Final = Metric("polysync.executions.started", "counter", _PLACE)
EXECUTIONS_RESUMED: Final = Metric("polysync.executions.resumed", "counter", _PLACE)
EXECUTIONS_STOPPED: Final = Metric("polysync.executions.stopped", "counter", _PLACE)
EXECUTIONS_ENDED: Final = Metric("polysync.executions.ended", "counter", _END)
WAITS: Final = Metric("polysync.waits", "gauge", _POLLER_ON_HOST)
WAITS_WITHOUT_TRIGGER: Final = Metric(
    "polysync.waits.without_trigger", "counter", _PLACE
)
CALLS: Final = Metric("polysync.calls", "counter", _CALLS)
CALLS_FAILED: Final = Metric("polysync.calls.failed", "counter", _CALLS)
CALLS_THROTTLED: Final = Metric("polysync.calls.throttled", "counter", _CALLS)
CALL_RATE: Final = Metric("polysync.call_rate", "gauge", _POLLER_ON_HOST)
LAST_CALL_AGE: Final = Metric("polysync.last_call_age", "gauge", _POLLER_ON_HOST)
DETECTION_DELAY: Final = Metric("polysync.detection_delay", "gauge", _POLLER_ON_HOST)
AIRFLOW_RESPONSE_TIME: Final = Metric(
    "polysync.airflow_response_time", "gauge", _POLLER_ON_HOST
)
CREDENTIALS_REFRESHED: Final = Metric(
    "polysync.credentials.refreshed", "counter", ("method",)
)
CREDENTIALS_FAILED: Final = Metric(
    "polysync.credentials.failed", "counter", ("method",)
)
EVENTS_RECEIVED: Final = Metric("polysync.events.received", "counter", _PLACE)
EVENTS_UNREADABLE: Final = Metric("polysync.events.unreadable", "counter", _PLACE)


log = logging.getLogger(__name__)

# The characters of a tag's value. Airflow refuses names of more than 250 characters,
# and a name has up to four values.
MAX_CHARACTERS: Final = 40
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_-]")
# The types of the errors that were logged.
_logged: set[str] = set()


class Sample(NamedTuple):
    """
    What is sent: by how much a counter has grown, or the value of a gauge.

    :param tags: the values of all tags of the metric.
    """

    metric: Metric
    value: float
    tags: Mapping[str, str]


def is_on() -> bool:
    """
    Return whether the deployment sends metrics: to StatsD, Datadog or OpenTelemetry.
    Raises no errors.
    """
    try:
        return any(
            _option(name) for name in ("statsd_datadog_enabled", "statsd_on", "otel_on")
        )
    except Exception as error:
        # For example, an option of the deployment is not valid.
        _warn(error)
        return False


def _option(name: str, *, default: bool = False) -> bool:
    return bool(conf.getboolean("metrics", name, fallback=default))


def _have_tags() -> bool:
    # Plain StatsD has none. If several are on, Airflow takes the first one, in this
    # order.
    if _option("statsd_datadog_enabled"):
        return _option("statsd_datadog_metrics_tags", default=True)
    return not _option("statsd_on") or _option("statsd_influxdb_enabled")


def metrics_sender() -> Any:
    """
    Return what sends metrics: Airflow's ``Stats``, with ``incr`` and ``gauge``.

    https://airflow.apache.org/docs/apache-airflow/stable/administration-and-deployment/logging-monitoring/metrics.html
    """
    # Airflow initialises ``Stats`` as a task's process begins, and in a triggerer as it
    # reads the arguments of the first trigger, since its serializers send metrics, too.
    from airflow.providers.common.compat.sdk import Stats

    return Stats


def count(metric: Metric, *, later: bool = False, **tags: str | None) -> None:
    """
    Let a counter grow. Raises no errors.

    :param later: send in a thread of its own, because what follows must not wait.
    :param tags: the values of the tags of the metric.
    """
    if is_on():
        tag_values = {name: value or "unknown" for name, value in tags.items()}
        send([Sample(metric, 1, tag_values)], later=later)


def send(samples: Sequence[Sample], *, later: bool = False) -> Future[None] | None:
    """
    Send samples. Raises no errors.

    :return: a future of the end, if they are sent in another thread.
    """
    if not later and not in_triggerer():
        _send(samples)
        return None
    try:
        return call_in_daemon_thread(partial(_send, samples))
    except RuntimeError as error:
        # The process ends, or has too many threads.
        _warn(error)
        return None


def _send(samples: Sequence[Sample]) -> None:
    try:
        stats = metrics_sender()
        have_tags = _have_tags()
        for sample in samples:
            metric = sample.metric
            name = metric.name
            tags = {tag: _clean(sample.tags[tag]) for tag in metric.tags}
            if not have_tags:
                name = ".".join((name, *tags.values()))
            if metric.kind == "counter":
                stats.incr(name, int(sample.value), tags=tags)
            else:
                stats.gauge(name, sample.value, tags=tags)
    except Exception as error:
        # Whatever the deployment has there: a task must not fail because of its
        # metrics.
        _warn(error)


def _warn(error: Exception) -> None:
    name = type(error).__name__
    if name not in _logged:
        _logged.add(name)
        log.warning(
            "Metrics cannot be sent, which has no other effect: %s: %s", name, error
        )


def _clean(value: str) -> str:
    # A dot would be a level of StatsD's names.
    return _NOT_ALLOWED.sub("_", value)[:MAX_CHARACTERS] or "unknown"


# What is counted: a counter, and the values of the tags that are not those of the whole
# tally.
Key = tuple[Metric, tuple[tuple[str, str], ...]]


class Tally:
    """
    What one poller has done since it began. Thread-safe.

    :param tags: of all its samples.
    """

    def __init__(self, **tags: str | None) -> None:
        self._tags = {name: value or "unknown" for name, value in tags.items()}
        self._lock = Lock()
        self._totals: Counter[Key] = Counter()
        # How much of them was sent.
        self._sent: Counter[Key] = Counter()
        self._sending: Future[None] | None = None

    def add(self, metric: Metric, number: int = 1, **tags: str) -> None:
        """Let a counter grow, by 0 to let its series begin."""
        with self._lock:
            self._totals[metric, tuple(tags.items())] += number

    def news(self, *, from_zero: bool = False) -> dict[Key, int]:
        """
        Return by how much the counters have grown since the last call.

        :param from_zero: a counter that is new is 0 now, and what it has counted comes
            the next time.
        """
        news = {}
        with self._lock:
            for key, total in self._totals.items():
                is_new = key not in self._sent
                if is_new and from_zero:
                    news[key] = 0
                    self._sent[key] = 0
                elif is_new or total > self._sent[key]:
                    news[key] = total - self._sent[key]
                    self._sent[key] = total
        return news

    def report(
        self,
        gauges: Mapping[Metric, float] | None = None,
        *,
        host: str = "",
        is_last: bool = False,
    ) -> bool:
        """
        Send what is new, and the values of gauges. Does not block, and raises no
        errors.

        :param is_last: no other report follows, so this one must not be left out.
        :return: whether it was sent. If not, the next report has it: what sends is
            still busy, or metrics are off.
        """
        if not is_on():
            return False
        if self._sending and not self._sending.done():
            if is_last:
                self._sending.add_done_callback(lambda _: self._send(gauges, host))
            return False
        self._send(gauges, host, is_last=is_last)
        return True

    def _send(
        self, gauges: Mapping[Metric, float] | None, host: str, *, is_last: bool = True
    ) -> None:
        # Prometheus does not count the first value of a series.
        news = self.news(from_zero=not is_last)
        samples = [
            Sample(metric, number, {**self._tags, **dict(tags)})
            for (metric, tags), number in news.items()
        ]
        samples += [
            Sample(metric, value, {**self._tags, "host": host})
            for metric, value in (gauges or {}).items()
        ]
        self._sending = None
        if samples:
            self._sending = send(samples, later=True)
