"""The poller, at the wire: many waits, few calls, and what it must survive."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from polysync_airflow.emulator import EmulatorServer
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.triggers import PolysyncPipelineExecutionTrigger, poller, schedule
from polysync_airflow.triggers.message_queue import MessageQueue
from polysync_airflow.triggers.shared_client import SharedClient
from tests.conftest import connection
from tests.tasks import RECEIVE, EmulatedTime

LOOK, LISTING = "DescribePipelineExecution", "ListPipelineExecutions"


def started(emulator: EmulatorServer, count: int, pipeline: str = "fanout") -> list[str]:
    """Start executions by other hands; leave no trace in the call log."""
    client: Any = PolysyncSageMakerHook().conn
    arns = [
        client.start_pipeline_execution(PipelineName=pipeline)["PipelineExecutionArn"] for _ in range(count)
    ]
    emulator.control.clear_calls()
    return arns


def trigger(arn: str, now: float, **arguments: Any) -> PolysyncPipelineExecutionTrigger:
    """Make the trigger of a wait that begins now."""
    kwargs = {"pipeline_name": None, "polysync_conn_id": "polysync_default", "region_name": None}
    times = {"poll_interval": 60.0, "since": now, "deadline": now + 7 * 3600}
    return PolysyncPipelineExecutionTrigger(execution_arn=arn, **{**kwargs, **times, **arguments})


@pytest.fixture
def gate(emulated_time: EmulatedTime, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Time stands still until this is set, so that all waits have begun."""
    opened = threading.Event()
    plain = emulated_time.receive

    def receive(inbox: MessageQueue[Any], seconds: float | None, *, idle: bool) -> Any:
        if opened.is_set():
            return plain(inbox, seconds, idle=idle)
        return RECEIVE(inbox, 0.01, idle=idle)

    monkeypatch.setattr(poller, "receive", receive)
    return opened


def all_events(triggers: Sequence[Any], gate: threading.Event) -> list[Any]:
    """Run triggers in one event loop, as a triggerer does, until each has fired."""

    async def one(each: Any) -> Any:
        return [event.payload async for event in each.run()]

    async def together() -> list[Any]:
        tasks = [asyncio.create_task(one(each)) for each in triggers]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(together())


def calls(emulator: EmulatorServer) -> Counter[str]:
    """Count the calls by operation."""
    return Counter(call["operation"] for call in emulator.control.calls())


def test_executions_of_one_pipeline_are_listed_together(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """Forty waits for one pipeline take one listing each round, and one look each at their end."""
    arns = started(emulator, 40)

    events = all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 40 * ["Succeeded"]
    assert [event[0]["execution_arn"] for event in events] == arns
    assert all(event[0]["ended_at"] and event[0]["started_at"] for event in events)
    assert calls(emulator)[LOOK] == 40
    assert calls(emulator)[LISTING] < 20


def test_one_execution_alone_is_looked_at(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """A listing would not take fewer calls, and tells less."""
    (arn,) = started(emulator, 1)

    all_events([trigger(arn, emulated_time.time())], gate)

    assert calls(emulator).keys() == {LOOK}


def test_a_listing_goes_no_further_back_than_the_oldest_that_waits(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """What ended before does not have to be read through: AWS is told from when on to list."""
    started(emulator, 5)
    emulated_time.sleep(7200)
    arns = started(emulator, 3)
    now = emulated_time.time()

    all_events([trigger(arn, now) for arn in arns], gate)

    asked = [c["request"] for c in emulator.control.calls(LISTING)]
    assert {request["SortOrder"] for request in asked} == {"Descending"}
    assert asked[0]["CreatedAfter"] == pytest.approx(now - schedule.SKEW_SECONDS - 1, abs=2)
    assert asked[-1]["CreatedAfter"] == pytest.approx(now - 1, abs=2)


def test_what_a_listing_lacks_is_looked_at_and_never_assumed(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """A host whose clock is an hour ahead asks for too little; every execution is still found."""
    arns = started(emulator, 4)
    ahead = emulated_time.time() + 3600

    events = all_events([trigger(arn, ahead) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 4 * ["Succeeded"]


def test_without_the_permission_to_list_each_is_looked_at_and_it_is_said_once(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event, caplog: Any
) -> None:
    """One refused listing, one warning with the permission's name, then looks; nobody's wait ends."""
    emulator.control.add_fault("error", LISTING, code="AccessDeniedException", message="not you")
    arns = started(emulator, 6) + started(emulator, 6, "churn-tuning")

    events = all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 12 * ["Succeeded"]
    assert calls(emulator)[LISTING] == 1
    told = [
        record.getMessage()
        for record in caplog.records
        if "sagemaker:ListPipelineExecutions" in record.getMessage()
    ]
    assert len(told) == 1


def test_a_task_is_told_of_its_own_execution_only(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """Changes of status are logged by the trigger that they concern, which Airflow routes to its task's log."""
    arns = started(emulator, 3)
    waits = [trigger(arn, emulated_time.time()) for arn in arns]

    with capture_logs() as logs:
        all_events(waits, gate)

    about = [[arn for arn in arns if arn in entry["event"]] for entry in logs]
    assert all(len(each) <= 1 for each in about)
    assert Counter(each[0] for each in about if each) == dict.fromkeys(arns, 2)


def test_two_who_wait_for_one_execution_are_both_told(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """A Start and a Stop may wait for the same."""
    (arn,) = started(emulator, 1)

    events = all_events([trigger(arn, emulated_time.time()) for _ in range(2)], gate)

    assert [event[0]["status"] for event in events] == ["Succeeded", "Succeeded"]


def test_throttling_slows_all_down_and_fails_nobody(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """A hundred throttled calls halve the pace of the whole process; every wait ends well."""
    arns = started(emulator, 10) + started(emulator, 1, "churn-tuning")
    emulator.control.add_fault("throttle", count=100)

    events = all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 11 * ["Succeeded"]


@pytest.mark.parametrize("broken", [LOOK, LISTING])
def test_an_error_of_one_call_is_not_the_end_of_others(
    broken: str,
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A mistake of ours in one answer fails those whom it concerns, and the poller goes on."""
    arns = started(emulator, 3) + started(emulator, 1, "churn-tuning")
    plain = PolysyncSageMakerHook.call

    def call(self: PolysyncSageMakerHook, operation: str, **request: Any) -> Any:
        if operation == broken and "fanout" in str(request):
            raise ZeroDivisionError("a mistake")
        return plain(self, operation, **request)

    monkeypatch.setattr(PolysyncSageMakerHook, "call", call)

    events = all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert [type(event) for event in events[:3]] == 3 * [ZeroDivisionError]
    assert events[3][0]["status"] == "Succeeded"


def test_an_error_of_the_schedule_fails_who_waits_and_not_who_comes_next(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever goes wrong in the poller itself, nobody waits for one that no longer looks."""
    first, second, late = started(emulator, 3)
    plain, mistakes = schedule.first_poll, iter([ZeroDivisionError("a mistake")])

    def first_poll(*arguments: Any) -> float:
        for mistake in mistakes:
            raise mistake
        return plain(*arguments)

    async def one(arn: str) -> Any:
        return [event.payload async for event in trigger(arn, emulated_time.time()).run()]

    async def story() -> list[Any]:
        holder = asyncio.create_task(one(first))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(poller, "first_poll", first_poll)
        with poller.subscribe("polysync_default", None, trigger(second, 0)._watch()) as culprit:
            await asyncio.wait([holder], timeout=10)
            # While this one has not left yet, the poller is the one that has made the mistake.
            newcomer = asyncio.create_task(one(late))
            await asyncio.sleep(0.05)
            gate.set()
            async with asyncio.timeout(30):
                waits = (holder, culprit.next_step(), newcomer)
                return [*await asyncio.gather(*waits, return_exceptions=True)]

    *failed, (event,) = asyncio.run(story())

    assert [type(each) for each in failed] == 2 * [ZeroDivisionError]
    assert event["status"] == "Succeeded"


def test_first_answers_count_as_old_with_their_waits_and_go_with_them(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a wait comes to hold is spared as well, once; nothing of it is left when all have ended."""
    found: list[int] = []
    monkeypatch.setattr(poller, "TENURED_TOGETHER", 10)
    monkeypatch.setattr(poller, "tenure", lambda: found.append(1))
    arns = started(emulator, 40)
    pollers: list[poller.Poller] = []
    emulated_time.after(100, lambda: pollers.extend(poller._POLLERS.values()))

    all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert len(found) == 8
    assert [poller._seen for poller in pollers] == [0]


def test_a_rotated_key_is_picked_up_while_waiting(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever deactivates a key after changing the connection ends no wait: looks go on with the new one."""
    arns = started(emulator, 3)

    def rotate() -> None:
        emulator.control.add_fault(
            "error", code="UnrecognizedClientException", message="The security token is invalid.", count=2
        )
        anew = connection(login="AKIAROTATEDEXAMPLE00", endpoint_url=emulator.endpoint_url)
        monkeypatch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", anew)

    emulated_time.after(100, rotate)

    events = all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert [event[0]["status"] for event in events] == 3 * ["Succeeded"]
    keys = [call["access_key_id"] for call in emulator.control.calls()]
    assert keys[-1] == "AKIAROTATEDEXAMPLE00"


def test_a_refusal_that_no_change_of_the_connection_cures_ends_the_waits(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """The connection is read again once, is the same, and each task is told."""
    arns = started(emulator, 2)
    emulator.control.add_fault("error", code="UnrecognizedClientException", message="invalid")

    events = all_events([trigger(arn, emulated_time.time()) for arn in arns], gate)

    assert [event[0]["outcome"] for event in events] == ["refused", "refused"]


def test_a_poller_ends_with_its_last_wait_and_the_next_begins_in_another_loop(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """``dag.test()`` makes an event loop for each run; no thread and no client outlives the waits."""
    for _ in range(2):
        (arn,) = started(emulator, 1)
        (event,) = all_events([trigger(arn, emulated_time.time())], gate)
        assert event[0]["status"] == "Succeeded"

        assert poller._POLLERS == {}
        deadline = time.monotonic() + 10
        while any(re.match("polysync-(poller|look)", each.name) for each in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_a_wait_that_is_cancelled_leaves_the_others(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """A trigger that moves to another triggerer, or whose task is killed, takes nobody with it."""
    arns = started(emulator, 3)
    waits = [trigger(arn, emulated_time.time()) for arn in arns]

    async def one(each: Any) -> Any:
        return [event.payload async for event in each.run()]

    async def together() -> list[Any]:
        tasks = [asyncio.create_task(one(each)) for each in waits]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(together())

    assert isinstance(first, asyncio.CancelledError)
    assert [event[0]["status"] for event in others] == ["Succeeded", "Succeeded"]
    assert arns[0] not in {c["request"].get("PipelineExecutionArn") for c in emulator.control.calls(LOOK)}


def test_a_loop_that_was_closed_without_a_word_hinders_nobody(
    emulator: EmulatorServer, emulated_time: EmulatedTime, gate: threading.Event
) -> None:
    """What is told to a dead loop is dropped; the waits of other loops go on."""
    dead, alive = started(emulator, 2)
    subscribed = threading.Event()

    def other_loop() -> None:
        loop = asyncio.new_event_loop()

        async def begin() -> None:
            steps = trigger(dead, emulated_time.time()).run()
            leak.append(steps)
            asyncio.ensure_future(anext(steps))  # noqa: RUF006 # it is to be abandoned
            await asyncio.sleep(0.05)

        loop.run_until_complete(begin())
        loop.close()
        subscribed.set()

    leak: list[Any] = []
    thread = threading.Thread(target=other_loop)
    thread.start()
    assert subscribed.wait(10)
    thread.join()

    (event,) = all_events([trigger(alive, emulated_time.time())], gate)

    assert event[0]["status"] == "Succeeded"
    # The dead one does not keep the poller.
    assert poller._POLLERS == {}


def test_the_shared_client_asks_no_more_at_once_than_it_has_connections(emulator: EmulatorServer) -> None:
    """Repeats are left to the schedule, which hears of each throttling; the pool is as large as the threads."""
    client: Any = SharedClient("polysync_default", None).hook.conn
    config = client.meta.config

    assert config.max_pool_connections == 8
    assert config.retries["total_max_attempts"] == 1
