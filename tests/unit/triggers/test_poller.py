"""
The poller with the emulator: how many calls many waits take, how errors of a call, loop
or thread end, and when steps are listed.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

import pytest

from polysync_airflow.execution.models import StartRequest
from polysync_airflow.execution.waiter import ExecutionWaiter
from polysync_airflow.hooks import PolysyncSageMakerHook, executions
from polysync_airflow.triggers import (
    PolysyncPipelineExecutionTrigger,
    poller,
    step_lists,
)
from polysync_airflow.triggers.shared_client import WORKERS, SharedClient
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs, texts_of
from tests.managed_pipelines import MANAGED, NEEDS_ROLE, START_MANAGED
from tests.unit.hooks.test_spending import LIMIT
from tests.world import DESCRIBE, LIST, LIST_STEPS, STOP, World


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


def accept_short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test that runs in real time be short."""
    monkeypatch.setattr(
        PolysyncPipelineExecutionTrigger, "checked", lambda trigger: trigger
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


def poll(arns: list[str], world: World, gate: threading.Event) -> list[Any]:
    """Wait for executions with a trigger each, and return the events of each."""
    return all_events([make_trigger(arn, world.time.time()) for arn in arns], gate)


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

    events = poll(arns, world, gate)

    assert [event[0]["status"] for event in events] == 40 * ["Succeeded"]
    assert [event[0]["execution_arn"] for event in events] == arns
    assert all(event[0]["ended_at"] and event[0]["started_at"] for event in events)
    assert count_calls(world.emulator)[DESCRIBE] == 40
    assert count_calls(world.emulator)[LIST] < 20


@pytest.mark.parametrize(("page_size", "pages", "found"), [(1, 2, 1), (5, 1, 2)])
def test_listing_takes_no_more_pages_than_it_needs_or_there_are_waits(
    page_size: int,
    pages: int,
    found: int,
    emulator: EmulatorServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Behind many executions of others, descriptions of two take fewer calls."""
    monkeypatch.setattr(executions, "PAGE_SIZE", page_size)
    start_executions(emulator, 1)
    emulator.control.advance(60)
    (older,) = start_executions(emulator, 1)
    emulator.control.advance(60)
    start_executions(emulator, 3)
    emulator.control.advance(60)
    (newest,) = start_executions(emulator, 1)

    listing = SharedClient("polysync_default", None).list_executions(
        "fanout",
        datetime.fromtimestamp(0, UTC),
        {older, newest},
        is_wanted=lambda: True,
    )

    assert list(listing.executions) == [newest, older][:found]
    assert listing.pages == len(emulator.control.calls(LIST)) == pages


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

    texts = texts_of(logs)
    named = [[arn for arn in arns if arn in text] for text in texts]
    assert sorted(filter(None, named)) == sorted([arn] for arn in arns)
    assert texts.count("Executing -> Succeeded") == 3


def test_wait_without_a_task_instance_asks_airflow_for_nothing(
    world: World, gate: threading.Event, caplog: pytest.LogCaptureFixture
) -> None:
    """As in ``dag.test()``: it pushes nothing, and stops nothing."""
    world.control.put_scenario({"statuses": [{"status": "Stopping", "after": 60}]})
    (arn,) = start_executions(world.emulator, 1)
    times = {"deadline": world.time.time() + 120, "progress_interval": 60.0}
    limit = LIMIT.model_dump_json()
    stops = {"stop_at": ("timed_out",), "stop_on_kill": True}
    trigger = make_trigger(arn, world.time.time(), cost_limit=limit, **times, **stops)

    with capture_logs() as logs:
        ((event,),) = all_events([trigger], gate)
        asyncio.run(trigger.on_kill())

    assert (event["outcome"], event["status"]) == ("timed_out", "Stopping")
    assert world.calls(STOP) == []
    # Airflow 2 logs with the standard library, and logs of its own.
    own = [each for each in caplog.records if each.name.startswith("polysync_airflow")]
    warnings = [each.message for each in own if each.levelname == "WARNING"]
    (warning,) = {*texts_of(logs, "warning"), *warnings}
    assert warning.startswith("max_cost does not count ml.m5.large")


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

    events = poll(arns, world, gate)

    assert [type(event) for event in events[:3]] == 3 * [ZeroDivisionError]
    assert events[3][0]["status"] == "Succeeded"


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


def test_error_of_the_schedule_backs_off_and_fails_no_wait(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """
    If the host starts no thread for a while, the polls go on afterwards, with all of
    their threads.
    """
    arns = start_executions(world.emulator, 2) + start_executions(
        world.emulator, 1, "churn-tuning"
    )
    submit = ThreadPoolExecutor.submit
    failures = WORKERS + 2
    failed_at: list[float] = []

    def fail_at_first(self: Any, *arguments: Any) -> Future[Any]:
        if len(failed_at) < failures:
            failed_at.append(world.time.time())
            raise RuntimeError("can't start new thread")
        return submit(self, *arguments)

    monkeypatch.setattr(ThreadPoolExecutor, "submit", fail_at_first)

    events = poll(arns, world, gate)

    assert [event[0]["status"] for event in events] == 3 * ["Succeeded"]
    pauses = [round(later - before) for before, later in itertools.pairwise(failed_at)]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    lines = [
        record
        for record in caplog.records
        if "The schedule of the calls failed" in record.getMessage()
    ]
    assert len(lines) == failures
    assert all(record.exc_info for record in lines)


def test_lines_of_the_poller_are_not_those_of_its_first_task(
    world: World, gate: threading.Event
) -> None:
    """
    Airflow finds the log of a task by the context, which an asyncio task inherits from
    the one that makes it.
    """
    world.deny(LIST)
    arns = start_executions(world.emulator, 2)
    task: ContextVar[str | None] = ContextVar("task", default=None)
    tasks_of_lines: list[str | None] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tasks_of_lines.append(task.get())

    async def run(number: int) -> Any:
        task.set(f"task {number}")
        return await events_of(make_trigger(arns[number], world.time.time()))

    async def run_both() -> None:
        waits = [asyncio.create_task(run(number)) for number in range(2)]
        await asyncio.sleep(0.05)
        gate.set()
        await asyncio.gather(*waits)

    handler = Handler()
    poller.log.addHandler(handler)
    try:
        asyncio.run(run_both())
    finally:
        poller.log.removeHandler(handler)

    assert tasks_of_lines == [None]


def test_event_loops_of_a_process_have_their_own_pollers(
    world: World, gate: threading.Event
) -> None:
    """Two loops in two threads wait with the same connection at the same time."""
    first, second = start_executions(world.emulator, 2)
    events: list[Any] = []

    def other_loop() -> None:
        events.extend(asyncio.run(events_of(make_trigger(first, world.time.time()))))

    thread = threading.Thread(target=other_loop)
    thread.start()
    while not poller._POLLERS:
        time.sleep(0.01)

    async def run() -> list[Any]:
        wait = asyncio.create_task(events_of(make_trigger(second, world.time.time())))
        await asyncio.sleep(0.05)
        assert len({id(each) for each in poller._POLLERS.values()}) == 2
        gate.set()
        return await wait

    events += asyncio.run(run())
    thread.join(30)

    assert [event["status"] for event in events] == 2 * ["Succeeded"]
    assert poller._POLLERS == {}


def test_process_ends_while_a_wait_goes_on(world: World, caplog: Any) -> None:
    """
    The event loop is left in the middle of a call: its threads end, and nothing is
    reported.
    """
    # What event loops of other tests have left reports itself when it is deleted.
    gc.collect()
    caplog.clear()
    (arn,) = start_executions(world.emulator, 1)
    world.control.add_fault("latency", delay=0.3)

    async def run_for_a_moment() -> None:
        wait = asyncio.create_task(events_of(make_trigger(arn, world.time.time())))
        while not threads_named("polysync-poll"):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.05)
        assert not wait.done()

    asyncio.run(run_for_a_moment())

    wait_until_no_thread_is_left()
    assert poller._POLLERS == {}
    errors = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert errors == []


def test_closed_event_loop_does_not_affect_other_loops(
    world: World, gate: threading.Event
) -> None:
    """
    A subscription whose event loop was closed is dropped; the waits of other loops go
    on.
    """
    abandoned, awaited = start_executions(world.emulator, 2)
    subscribed = threading.Event()

    def other_loop() -> None:
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            events = make_trigger(abandoned, world.time.time()).run()
            references.append(events)
            asyncio.ensure_future(anext(events))  # noqa: RUF006 # never awaited, as the loop is closed
            await asyncio.sleep(0.05)

        loop.run_until_complete(begin())
        loop.close()
        subscribed.set()

    # Without a reference, the generator would end its subscription.
    references: list[Any] = []
    thread = threading.Thread(target=other_loop)
    thread.start()
    assert subscribed.wait(10)
    thread.join()

    (event,) = poll([awaited], world, gate)

    assert event[0]["status"] == "Succeeded"
    # The abandoned subscription does not keep the poller.
    assert poller._POLLERS == {}


def test_unexpected_error_of_a_list_repeats_no_line(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The log says what happened, and has each line about a step once; the wait goes on
    without lists.
    """
    (arn,) = start_executions(world.emulator, 1, "churn-tuning")
    call = PolysyncSageMakerHook.call
    calls = []

    def fail_once(self: PolysyncSageMakerHook, operation: str, **request: Any) -> Any:
        calls.append(operation)
        if operation == LIST_STEPS and calls.count(LIST_STEPS) == 2:
            raise ZeroDivisionError("a bug")
        return call(self, operation, **request)

    monkeypatch.setattr(PolysyncSageMakerHook, "call", fail_once)
    trigger = make_trigger(
        arn, world.time.time(), poll_interval=10.0, progress_interval=30.0
    )

    with capture_logs() as logs:
        ((event,),) = all_events([trigger], gate)

    lines = [entry["event"] for entry in logs if "tep" in entry["event"]]
    assert event["status"] == "Succeeded"
    assert calls.count(LIST_STEPS) == 2
    assert lines[-1] == "The log has no lines about steps: ZeroDivisionError('a bug')"
    assert len(lines) > 1
    assert len(set(lines)) == len(lines)


@pytest.mark.parametrize(
    ("option", "triggerers"), [("", 1), ("4", 4), ("none", 1), ("0", 1)]
)
def test_triggerers_share_what_all_may_do(
    option: str, triggerers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists of steps that are shown, and calls of GetLogEvents, by their number."""
    monkeypatch.setenv("AIRFLOW__POLYSYNC_SAGEMAKER__TRIGGERERS", option)

    async def paces() -> tuple[float, float]:
        made = poller.ExecutionPoller("polysync_default", "us-east-1")
        made._end_if_unused()
        return made._shown_steps.per_second, made._log_limiter.rate

    assert asyncio.run(paces()) == (
        poller.SHOWN_LISTS_PER_SECOND / triggerers,
        poller.LOG_CALLS_PER_SECOND / triggerers,
    )


def test_few_lists_run_at_the_same_time(
    emulator: EmulatorServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    There is a pause between two of them, and half of the calls are left to the polls.
    """
    at_once = poller.MAX_CALLS_WITH_STEP_LIST
    monkeypatch.setattr(PolysyncPipelineExecutionTrigger, "awaits_step", True)
    monkeypatch.setattr(
        "polysync_airflow.execution.waiter.FIRST_POLL_DELAY_SECONDS", 0.0
    )
    accept_short_intervals(monkeypatch)
    arns = start_executions(emulator, 3 * at_once, "churn-tuning")
    call = PolysyncSageMakerHook.call
    lock = threading.Lock()
    begun: list[float] = []
    running: list[int] = [0]

    def slow_list(self: PolysyncSageMakerHook, operation: str, **request: Any) -> Any:
        if operation != LIST_STEPS:
            return call(self, operation, **request)
        with lock:
            begun.append(time.monotonic())
            running.append(running[-1] + 1)
        time.sleep(0.1)
        result = call(self, operation, **request)
        with lock:
            running.append(running[-1] - 1)
        return result

    monkeypatch.setattr(PolysyncSageMakerHook, "call", slow_list)

    async def run() -> None:
        triggers = [
            make_trigger(arn, time.time(), poll_interval=1.0, progress_interval=0.1)
            for arn in arns
        ]
        waits = [asyncio.create_task(events_of(trigger)) for trigger in triggers]
        async with asyncio.timeout(20):
            while len(begun) < 3 * at_once:
                await asyncio.sleep(0.05)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(run())

    assert max(running) == at_once
    pauses = [later - before for before, later in itertools.pairwise(begun)]
    assert sorted(pauses)[1] > step_lists.PAUSE_SECONDS / 2


@pytest.mark.parametrize("throttled", [DESCRIBE, LIST_STEPS])
def test_no_wait_lists_steps_in_the_minute_after_a_throttled_call(
    throttled: str, world: World, gate: threading.Event
) -> None:
    """Polls come first."""
    fanout = start_executions(world.emulator, 1)
    tuning = start_executions(world.emulator, 1, "churn-tuning")
    world.control.add_fault("throttle", throttled, skip=8, count=1)
    times = {"poll_interval": 20.0, "progress_interval": 20.0}
    triggers = [
        make_trigger(arn, world.time.time(), **times) for arn in (*fanout, *tuning)
    ]

    all_events(triggers, gate)

    (at,) = [call["time"] for call in world.control.calls(throttled) if call["fault"]]
    lists = [call["time"] for call in world.control.calls(LIST_STEPS)]
    assert len([each for each in lists if each <= at]) > 4
    assert min(each for each in lists if each > at) >= at + 60
