"""
The door to Airflow's ``Stats``, which has what the deployment has: StatsD, Datadog or OpenTelemetry.

Metrics never fail or delay a task or a wait: errors of what sends them are logged once, and a triggerer sends
in a thread of its own, because the first use may look up a host name. Nothing is sent while metrics are off.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Final

from polysync_airflow.airflow_compat.sdk import metrics_are_on, metrics_have_tags, metrics_sender
from polysync_airflow.airflow_compat.supervisor import call_in_daemon_thread, in_triggerer
from polysync_airflow.metrics.catalogue import Metric

log = logging.getLogger(__name__)

# Of a tag's value. Airflow refuses longer names than 250 characters; four values are in a name.
MAX_CHARACTERS: Final = 40
_NOT_ALLOWED: Final = re.compile(r"[^A-Za-z0-9_-]")
# The types of the errors that were logged.
_logged: set[str] = set()


@dataclass(frozen=True)
class Sample:
    """
    What is sent: by how much a counter has grown, or the value of a gauge.

    :param tags: the values of all tags of the metric.
    """

    metric: Metric
    value: float
    tags: Mapping[str, str]


def is_on() -> bool:
    """Return whether the deployment sends metrics. Raises no errors."""
    try:
        return metrics_are_on()
    except Exception as error:
        # For example, an option of the deployment is not valid.
        _warn(error)
        return False


def count(metric: Metric, number: int = 1, *, later: bool = False, **tags: str | None) -> None:
    """
    Let a counter grow. Raises no errors.

    :param later: send in a thread of its own, because what follows must not wait.
    :param tags: the values of the tags of the metric.
    """
    if is_on():
        given = {name: value or "unknown" for name, value in tags.items()}
        send([Sample(metric, number, given)], later=later)


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
        stats, have_tags = metrics_sender(), metrics_have_tags()
        for sample in samples:
            metric = sample.metric
            tags = {name: _clean(sample.tags[name]) for name in metric.tags}
            name = metric.name if have_tags else ".".join((metric.name, *tags.values()))
            if metric.kind == "counter":
                stats.incr(name, int(sample.value), tags=tags)
            else:
                stats.gauge(name, sample.value, tags=tags)
    except Exception as error:
        # Whatever the deployment has there: a task must not fail because of its metrics.
        _warn(error)


def _warn(error: Exception) -> None:
    name = type(error).__name__
    if name not in _logged:
        _logged.add(name)
        log.warning("Metrics cannot be sent, which has no other effect: %s: %s", name, error)


def _clean(value: str) -> str:
    # A dot would be a level of StatsD's names.
    return _NOT_ALLOWED.sub("_", value)[:MAX_CHARACTERS] or "unknown"
