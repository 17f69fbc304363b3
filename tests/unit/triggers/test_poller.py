"""
The poller with the emulator: how many calls many waits take, and how errors of a call,
loop or thread end.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.waiter import ExecutionWaiter, TriggerArguments
from polysync_airflow.hooks import PolysyncSageMakerHook, executions
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, poller
from polysync_airflow.triggers.poller import SharedClient
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.managed_pipelines import MANAGED, NEEDS_ROLE, START_MANAGED
from tests.tasks import fire
from tests.world import DESCRIBE, LIST, LIST_STEPS, World


def start_executions(
    emulator: EmulatorServer, count: int, pipeline: str = "fanout"
) -> list[str]:
    """
    Start executions and return their ARNs; afterwards the emulator's call log is empty.
    """
    client: Any = PolysyncSageMakerHook().conn
    arns = [
        client.start_pipeline_execution(PipelineName=pipeline)["PipelineExecutionArn"]
        for _ in range(count)
    ]
    emulator.control.clear_calls()
    return arns


def make_trigger(
    arn: str, now: float, **arguments: Any
) -> PolysyncPipelineExecutionTrigger:
    """Return the trigger of a wait that begins now."""
    kwargs = {
        "pipeline_name": None,
        "polysync_conn_id": "polysync_default",
        "region_name": None,
    }
    times = {"poll_interval": 60.0, "since": now, "deadline": now + 7 * 3600}
    return PolysyncPipelineExecutionTrigger(
        execution_arn=arn, **{**kwargs, **times, **arguments}
    )


class AnyIntervals(TriggerArguments):
    """Arguments with intervals that are too short for a deployment."""

    poll_interval: float
    progress_interval: float | None


def accept_short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test that runs in real time be short."""
    monkeypatch.setattr(
        PolysyncPipelineExecutionTrigger, "arguments_model", AnyIntervals
    )


async def events_of(trigger: PolysyncPipelineExecutionTrigger) -> list[Any]:
    """Run a trigger and return its events."""
    return [event.payload async for event in trigger.run()]


def all_events(triggers: Sequence[Any], gate: threading.Event) -> list[Any]:
    """
    Run triggers in one event loop, as a triggerer does; return the events, or the
    error, of each.
    """

    async def run_all() -> list[Any]:
        tasks = [asyncio.create_task(events_of(trigger)) for trigger in triggers]
        await asyncio.sleep(0.05)
        gate.set()
        return [*await asyncio.gather(*tasks, return_exceptions=True)]

    return asyncio.run(run_all())


def count_calls(emulator: EmulatorServer) -> Counter[str]:
    """Return the number of calls by operation."""
    return Counter(call["operation"] for call in emulator.control.calls())


def threads_named(prefix: str) -> list[threading.Thread]:
    """Return the threads that are alive and whose names begin so."""
    return [each for each in threading.enumerate() if each.name.startswith(prefix)]


def wait_until_no_thread_is_left(prefix: str = "polysync-poll") -> None:
    """Wait until the threads of all pollers, or others, have ended."""
    deadline = time.monotonic() + 20
    while threads_named(prefix):
        assert time.monotonic() < deadline, threads_named(prefix)
        time.sleep(0.01)


def test_executions_of_one_pipeline_are_listed_together(
    world: World, gate: threading.Event
) -> None:
    """
    40 waits for one pipeline take one listing per poll interval, and one description
    each at their end.
    """
    arns = start_executions(world.emulator, 40)

    events = all_events([make_trigger(arn, world.time.time()) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 40 * ["Succeeded"]
    assert [event[0]["execution_arn"] for event in events] == arns
    assert all(event[0]["ended_at"] and event[0]["started_at"] for event in events)
    assert count_calls(world.emulator)[DESCRIBE] == 40
    assert count_calls(world.emulator)[LIST] < 20


def test_listing_takes_no_more_pages_than_there_are_waits(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind many executions of others, descriptions of two take fewer calls."""
    monkeypatch.setattr(executions, "PAGE_SIZE", 1)
    (oldest,) = start_executions(emulator, 1)
    emulator.control.advance(60)
    start_executions(emulator, 3)
    emulator.control.advance(60)
    (newest,) = start_executions(emulator, 1)

    listing = SharedClient("polysync_default", None).list_executions(
        "fanout",
        datetime.fromtimestamp(0, UTC),
        {oldest, newest},
        is_wanted=lambda: True,
    )

    assert listing.executions.keys() == {newest}
    assert listing.pages == len(emulator.control.calls(LIST)) == 2


@NEEDS_ROLE
def test_executions_of_a_managed_pipeline_are_listed_by_its_arn(
    world: World, gate: threading.Event
) -> None:
    """Their ARNs have the account, in which there is no such pipeline."""
    client: Any = PolysyncSageMakerHook().conn
    request = StartRequest(
        **START_MANAGED, execution_display_name="a", client_request_token="t" * 32
    ).to_aws()
    arns = []
    for number in range(3):
        request["ClientRequestToken"] = f"{number:0>32}"
        arns.append(client.start_pipeline_execution(**request)["PipelineExecutionArn"])
    world.control.clear_calls()

    triggers = [
        make_trigger(arn, world.time.time(), pipeline_name=MANAGED) for arn in arns
    ]
    events = all_events(triggers, gate)

    assert [event[0]["status"] for event in events] == 3 * ["Succeeded"]
    assert {call["request"]["PipelineName"] for call in world.control.calls(LIST)} == {
        MANAGED
    }
    assert count_calls(world.emulator)[DESCRIBE] == 3


def test_status_changes_are_logged_by_their_own_trigger(
    world: World, gate: threading.Event
) -> None:
    """
    Each trigger logs the status changes of its own execution, so that they are in the
    log of its task.
    """
    arns = start_executions(world.emulator, 3)
    triggers = [make_trigger(arn, world.time.time()) for arn in arns]

    with capture_logs() as logs:
        all_events(triggers, gate)

    arns_in_lines = [[arn for arn in arns if arn in entry["event"]] for entry in logs]
    assert all(len(in_line) <= 1 for in_line in arns_in_lines)
    assert Counter(in_line[0] for in_line in arns_in_lines if in_line) == dict.fromkeys(
        arns, 2
    )


@pytest.mark.parametrize("broken", [DESCRIBE, LIST])
def test_unexpected_error_of_a_call_fails_only_its_waits(
    broken: str, world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A bug in the handling of one call fails the waits that it polls for, and the poller
    goes on.
    """
    arns = start_executions(world.emulator, 3) + start_executions(
        world.emulator, 1, "churn-tuning"
    )
    original_call = PolysyncSageMakerHook.call

    def call(self: PolysyncSageMakerHook, operation: str, **request: Any) -> Any:
        if operation == broken and "fanout" in str(request):
            raise ZeroDivisionError("a bug")
        return original_call(self, operation, **request)

    monkeypatch.setattr(PolysyncSageMakerHook, "call", call)

    events = all_events([make_trigger(arn, world.time.time()) for arn in arns], gate)

    assert [type(event) for event in events[:3]] == 3 * [ZeroDivisionError]
    assert events[3][0]["status"] == "Succeeded"


def test_poller_ends_with_its_last_wait(world: World, gate: threading.Event) -> None:
    """
    No thread is left after the last wait; the next wait, in another event loop, begins
    a new poller.
    """
    for _ in range(2):
        (arn,) = start_executions(world.emulator, 1)
        (event,) = all_events([make_trigger(arn, world.time.time())], gate)
        assert event[0]["status"] == "Succeeded"

        assert poller._POLLERS == {}
        wait_until_no_thread_is_left()


def test_cancelled_wait_does_not_affect_the_others(
    world: World, gate: threading.Event
) -> None:
    """
    If a trigger moves to another triggerer, or its task is killed, only its own
    execution is no longer polled.
    """
    arns = start_executions(world.emulator, 3)
    triggers = [make_trigger(arn, world.time.time()) for arn in arns]

    async def run_all() -> list[Any]:
        tasks = [asyncio.create_task(events_of(trigger)) for trigger in triggers]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        await asyncio.sleep(0.05)
        gate.set()
        return [*await asyncio.gather(*tasks, return_exceptions=True)]

    first, *others = asyncio.run(run_all())

    assert isinstance(first, asyncio.CancelledError)
    assert [event[0]["status"] for event in others] == ["Succeeded", "Succeeded"]
    described = {
        call["request"]["PipelineExecutionArn"]
        for call in world.control.calls(DESCRIBE)
    }
    assert arns[0] not in described


def test_two_triggerers_get_the_same_event_and_only_poll(world: World) -> None:
    """
    During a failover a trigger runs twice: both fire the same event, and make no calls
    that change something.
    """
    (arn,) = start_executions(world.emulator, 1)
    now = world.time.time()
    path, stored = make_trigger(arn, now, progress_interval=60.0).serialize()

    async def run_both() -> list[object]:
        return list(await asyncio.gather(fire(path, stored), fire(path, stored)))

    first, second = asyncio.run(run_both())

    assert first == second
    assert count_calls(world.emulator).keys() == {DESCRIBE, LIST_STEPS}


def test_shared_client_has_a_connection_for_each_thread(
    emulator: EmulatorServer,
) -> None:
    """
    The connection pool is as large as the thread pool, and botocore retries nothing:
    the poller does.
    """
    client: Any = SharedClient("polysync_default", None).hook.conn
    config = client.meta.config

    assert config.max_pool_connections == 8
    assert config.retries["total_max_attempts"] == 1


def test_results_reach_the_trigger_in_their_order() -> None:
    """
    Whether it waits for one already or not. What nobody waits for any more goes to
    whoever waits next.
    """

    async def receive() -> None:
        arn = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/a/execution/b"
        waiter = ExecutionWaiter(
            execution_arn=arn, cost_limit=None, poll_interval=30, since=0, deadline=60
        )
        subscription = poller.Subscription(waiter)
        steps = [subscription.waiter.time_out(f"{number}") for number in range(4)]
        waiting = subscription.next_result()
        subscription.send(steps[0])
        subscription.send(steps[1])
        subscription.send(steps[2])
        received: list[object] = [await waiting, await subscription.next_result()]
        received.append(await subscription.next_result())
        cancelled = subscription.next_result()
        cancelled.cancel()
        subscription.send(steps[3])
        received.append(await subscription.next_result())
        failing = subscription.next_result()
        subscription.send(ZeroDivisionError("a bug"))
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await failing
        assert received == steps

    asyncio.run(receive())
