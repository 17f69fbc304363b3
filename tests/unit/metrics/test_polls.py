"""
The metrics of a triggerer: what its pollers do, added up, and the line of its log.
"""

from __future__ import annotations

import threading
import time

import pytest

from polysync_airflow.triggers import PolysyncModelApprovalTrigger
from polysync_airflow.triggers.activity import Activity
from sagemaker_emulator import EmulatorServer
from tests.fakes.metrics import HOST, OtlpReceiver, Received, StatsdServer, metrics_to
from tests.unit.sensors import test_model_approval as approvals
from tests.unit.sensors.conftest import registry
from tests.unit.sensors.registry import Registry
from tests.unit.triggers.test_poller import (
    all_events,
    count_calls,
    make_trigger,
    start_executions,
)
from tests.unit.triggers.test_search import make_search_trigger
from tests.world import DESCRIBE, LIST, World

__all__ = ["registry"]  # a fixture

EXECUTIONS = {
    "poller": "executions",
    "connection": "polysync_default",
    "region": "default",
}


def values(received: Received, name: str) -> list[float]:
    """
    Return all values of a gauge that has one series, with the tags of this poller.
    """
    (series,) = received.gauges[name].items()
    tags = dict(series[0])
    assert tags.pop("host")
    assert tags == EXECUTIONS
    return series[1]


def check_poller(received: Received, emulator: EmulatorServer, waits: int) -> None:
    """
    Check that the metrics say what the emulator has seen, and that nothing waits at the
    end.
    """
    names = ("waits", "call_rate", "last_call_age", "detection_delay")
    # Of the last report, everything.
    received.wait_for(
        lambda: (
            values(received, "polysync.waits")[-1] == 0
            and len({len(values(received, f"polysync.{name}")) for name in names}) == 1
        )
    )
    calls = {
        dict(tags)["operation"]: number
        for tags, number in received.counters["polysync.calls"].items()
    }
    assert calls == dict(count_calls(emulator))
    assert max(values(received, "polysync.waits")) == waits
    assert values(received, "polysync.last_call_age")[-1] == 0
    assert max(values(received, "polysync.last_call_age")) <= 60
    assert 0 < max(values(received, "polysync.detection_delay")) <= 61
    assert max(values(received, "polysync.airflow_response_time")) <= 60


def test_statsd_gets_what_a_poller_has_done(
    world: World, gate: threading.Event, statsd: StatsdServer
) -> None:
    """Counters agree with the calls; nothing is sent for each wait and each poll."""
    arns = start_executions(world.emulator, 40)

    all_events([make_trigger(arn, world.time.time()) for arn in arns], gate)

    check_poller(statsd, world.emulator, 40)
    assert set(values(statsd, "polysync.call_rate")) == {800.0}
    # Reports come with the reads of the connection, each with a few values.
    reports = len(values(statsd, "polysync.waits"))
    assert statsd.packets <= 7 * reports
    assert not statsd.unreadable


def test_opentelemetry_gets_the_same(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow's own dependencies send it by OTLP."""
    arns = start_executions(world.emulator, 3)
    with OtlpReceiver() as receiver:
        options = {
            "otel_on": True,
            "otel_host": HOST,
            "otel_port": receiver.port,
            "otel_interval_milliseconds": 50,
        }
        with metrics_to(monkeypatch, **options):
            all_events([make_trigger(arn, world.time.time()) for arn in arns], gate)
            receiver.wait_for(
                lambda: (
                    receiver.total("polysync.calls")
                    == sum(count_calls(world.emulator).values())
                )
            )
            receiver.wait_for(lambda: values(receiver, "polysync.waits")[-1] == 0)


def test_throttled_and_failed_calls_are_counted(
    world: World, gate: threading.Event, statsd: StatsdServer
) -> None:
    """The rate follows, and the counters say which calls have failed."""
    (arn,) = start_executions(world.emulator, 1)
    world.control.add_fault("throttle", DESCRIBE, count=2)
    world.control.add_fault("http", DESCRIBE, count=1)

    all_events([make_trigger(arn, world.time.time())], gate)

    describe = {"operation": DESCRIBE, **EXECUTIONS}
    statsd.wait_for(lambda: statsd.total("polysync.calls.failed", **describe) == 3)
    statsd.wait_for(lambda: statsd.total("polysync.calls.throttled", **describe) == 2)
    statsd.wait_for(lambda: min(values(statsd, "polysync.call_rate")) < 800)


def test_searches_and_approvals_have_pollers_of_their_own(
    world: World, registry: Registry, gate: threading.Event, statsd: StatsdServer
) -> None:
    """Each says how many tasks it has, and 0 when the last one has ended."""
    registry.register()
    world.control.clear_calls()
    until = world.time.time() + 600
    searches = [
        make_search_trigger(world.time.time(), deadline=until) for _ in range(3)
    ]

    # One after the other: each would let the time of the other pass.
    all_events(searches, gate)
    stored = approvals.arguments(world.time, deadline=world.time.time() + 600)
    all_events([PolysyncModelApprovalTrigger(**stored) for _ in range(2)], gate)

    def waits() -> dict[str, list[float]]:
        series = list(statsd.gauges["polysync.waits"].items())
        return {dict(tags)["poller"]: list(numbers) for tags, numbers in series}

    statsd.wait_for(
        lambda: (
            {name: numbers[-1] for name, numbers in waits().items()}
            == {"searches": 0, "model_packages": 0}
        )
    )
    assert {name: max(numbers) for name, numbers in waits().items()} == {
        "searches": 3,
        "model_packages": 2,
    }
    assert (
        statsd.total("polysync.calls", poller="searches")
        == count_calls(world.emulator)[LIST]
    )
    assert (
        statsd.total("polysync.calls", operation="DescribeModelPackage")
        == count_calls(world.emulator)["DescribeModelPackage"]
    )


def test_the_last_report_comes_last(statsd: StatsdServer) -> None:
    """Another thread has counted the waits already when the poller ends."""
    activity = Activity("executions", "polysync_default", None)
    is_counting = threading.Event()

    def count_slowly() -> int:
        is_counting.set()
        time.sleep(0.2)
        return 3

    activity.waits = count_slowly
    regular = threading.Thread(target=activity.report, args=(10,))
    regular.start()
    assert is_counting.wait(5)
    activity.waits = int
    activity.report(10, is_last=True)
    regular.join()

    statsd.wait_for(lambda: list(statsd.gauges["polysync.waits"].values()) == [[3, 0]])


def test_longest_delay_since_the_last_report_is_reported(statsd: StatsdServer) -> None:
    """A short one does not hide it. Without a wait, no call is missed."""
    activity = Activity("executions", "polysync_default", None)
    activity._last_success -= 60
    for delays in ([7.0, 2.0], [1.0]):
        for seconds in delays:
            activity.detected(seconds)
        activity.report(10, is_last=True)

    gauges = ("polysync.detection_delay", "polysync.last_call_age")
    statsd.wait_for(
        lambda: (
            [[*statsd.gauges[each].values()] for each in gauges] == [[[7, 1]], [[0, 0]]]
        )
    )
