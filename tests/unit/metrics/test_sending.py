"""
What a deployment has must not harm a wait: metrics that are off, refused, slow, or not
valid.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest

from polysync_airflow import metrics as sending
from polysync_airflow.metrics import (
    CALLS,
    MAX_CHARACTERS,
    WAITS,
    Sample,
    Tally,
    count,
    metrics_sender,
    send,
)
from tests.fakes.metrics import HOST, METRICS, StatsdServer, metrics_to
from tests.tasks import fire
from tests.unit.operators.recovery.harness import Task
from tests.unit.triggers.test_poller import make_trigger, start_executions
from tests.world import World

DEFERRED = pytest.mark.parametrize(
    "deferrable", [False, True], ids=["sync", "deferred"]
)


class Sender:
    """A sender of metrics, with what it was asked to send."""

    def __init__(
        self, error: Exception | None = None, until: threading.Event | None = None
    ) -> None:
        self.error = error
        self.until = until
        self.sent: list[str] = []

    def incr(self, name: str, *_: Any, **__: Any) -> None:
        """Send, fail, or hang."""
        self.sent.append(name)
        if self.until:
            self.until.wait(30)
        if self.error:
            raise self.error

    gauge = incr


def use(monkeypatch: pytest.MonkeyPatch, sender: Sender, *, on: bool = True) -> None:
    """Let the deployment have this sender."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", str(on))
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_INFLUXDB_ENABLED", "True")
    monkeypatch.setattr(sending, "metrics_sender", lambda: sender)


@DEFERRED
def test_nothing_is_sent_while_metrics_are_off(
    deferrable: bool, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No call of Airflow's Stats, and no thread."""
    sender = Sender()
    use(monkeypatch, sender, on=False)
    monkeypatch.setattr(sending, "call_in_daemon_thread", None)

    assert Task(deferrable).next_try().error is None
    assert sender.sent == []


@DEFERRED
@pytest.mark.parametrize(
    "error", [OSError("no route"), ValueError("port 'x'"), ImportError("statsd")]
)
def test_errors_of_the_sender_have_no_effect(
    deferrable: bool,
    error: Exception,
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are logged once, however often something is sent."""
    sender = Sender(error)
    use(monkeypatch, sender)

    run = Task(deferrable).next_try()

    assert (run.error, run.xcoms["state"]) == (None, "Success")
    assert "polysync.executions.started" in sender.sent[0]
    lines = [line for line in caplog.messages if "Metrics cannot" in line]
    assert lines == [
        f"Metrics cannot be sent, which has no other effect: {type(error).__name__}: {error}"
    ]


def test_slow_senders_delay_no_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    While one report waits, for example for a host name, no other one is begun, and the
    wait goes on.
    """
    opened = threading.Event()
    sender = Sender(until=opened)
    (arn,) = start_executions(world.emulator, 1)
    trigger = make_trigger(arn, world.time.time())
    use(monkeypatch, sender)
    try:
        event = asyncio.run(fire(*trigger.serialize()))
        assert event["status"] == "Succeeded"
        assert len(sender.sent) == 1
    finally:
        opened.set()
    # The last report is not lost.
    end = time.monotonic() + 30
    while sender.sent.count(WAITS.name) < 2:
        assert time.monotonic() < end, sender.sent
        time.sleep(0.005)


def test_later_reports_have_what_a_busy_sender_left_out(
    monkeypatch: pytest.MonkeyPatch, statsd: StatsdServer
) -> None:
    """Also the last one, after which nothing comes."""
    opened = threading.Event()
    real = metrics_sender
    monkeypatch.setattr(sending, "metrics_sender", lambda: opened.wait(30) and real())
    tally = Tally(poller="executions", connection="c", region="r")
    tally.add(CALLS, 2, operation="x")
    assert tally.report({WAITS: 3}, host="h")
    tally.add(CALLS, 5, operation="x")
    assert not tally.report({WAITS: 2}, host="h")
    tally.add(CALLS, 7, operation="x")
    assert not tally.report({WAITS: 0}, host="h", is_last=True)
    opened.set()

    # The series begins with 0, since Prometheus does not count its first value.
    statsd.wait_for(lambda: statsd.packets >= 4)
    assert statsd.total("polysync.calls") == 14
    assert statsd.values == [
        "polysync.calls 0",
        "polysync.waits 3",
        "polysync.calls 14",
        "polysync.waits 0",
    ]


def test_invalid_options_of_the_deployment_have_no_effect(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Airflow says the same of other options of that kind."""
    monkeypatch.setenv("AIRFLOW__METRICS__STATSD_ON", "perhaps")

    count(CALLS, operation="x", poller="executions", connection="c", region="r")

    assert "statsd_on" in caplog.text.lower()


@pytest.mark.parametrize("has_tags", [True, False], ids=["tags", "plain"])
def test_every_metric_has_a_name_that_airflow_accepts(
    has_tags: bool,
    server: StatsdServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Also with values of tags that are long and have characters of StatsD's own format.
    """
    value = "ü|:#@,= /\n" + "x" * 300
    options = {"statsd_on": True, "statsd_host": HOST, "statsd_port": server.port}
    with metrics_to(monkeypatch, **options, statsd_influxdb_enabled=has_tags):
        send(
            [
                Sample(metric, 1.0, dict.fromkeys(metric.tags, value))
                for metric in METRICS
            ]
        )
        cleaned = ("_" * 10 + "x" * 300)[:MAX_CHARACTERS]

        def names() -> set[str]:
            return {*server.counters, *server.gauges}

        expected = {
            metric.name
            if has_tags
            else ".".join((metric.name, *[cleaned] * len(metric.tags)))
            for metric in METRICS
        }
        server.wait_for(lambda: names() == expected)
    assert not server.unreadable
    assert "nvalid" not in caplog.text
