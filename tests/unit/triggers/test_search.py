"""
The search trigger: what Airflow stores of it, and how few calls many searches take.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.search import make_search
from polysync_airflow.triggers import (
    PolysyncPipelineSearchTrigger,
    PolysyncPipelineStepTrigger,
    poller,
)
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.sensors.sessions import HOUR, at, start_execution
from tests.unit.triggers.test_poller import all_events, gate, make_trigger  # noqa: F401 # fixture

LIST = "ListPipelineExecutions"
SEARCH = {
    "pipeline_name": "fanout",
    "created_after": "2026-01-01T00:00:00Z",
    "created_before": None,
    "which": "first",
    "display_name_pattern": None,
    "parameters": None,
    "began_at": "2026-01-02T00:00:00Z",
}
KWARGS: dict[str, Any] = {
    "search": SEARCH,
    "polysync_conn_id": "polysync_default",
    "region_name": "us-east-1",
    "poll_interval": 30.0,
    "listed_until": 1_767_312_000.0,
    "deadline": 1_767_400_000.0,
}


def make_search_trigger(
    now: float, pipeline: str = "fanout", **arguments: Any
) -> PolysyncPipelineSearchTrigger:
    """Return the trigger of a search that begins now."""
    deadline = arguments.pop("deadline", now + 24 * HOUR)
    interval = arguments.pop("poll_interval", 60.0)
    search = make_search(
        {"pipeline_name": pipeline, **arguments}, (at(now), None), at(now)
    )
    return PolysyncPipelineSearchTrigger(
        search=search.model_dump(mode="json"),
        polysync_conn_id="polysync_default",
        region_name=None,
        poll_interval=interval,
        listed_until=None,
        deadline=deadline,
    )


def test_stored_triggers_are_stable_and_have_no_credentials() -> None:
    """
    Class paths and names of arguments are fixed, so that later versions can resume the
    tasks.
    """
    path, kwargs = PolysyncPipelineSearchTrigger(**KWARGS).serialize()
    waiting = make_trigger("x", 0.0).serialize()[1]
    step = PolysyncPipelineStepTrigger(step_name="Train", **waiting)

    assert path == "polysync_airflow.triggers.PolysyncPipelineSearchTrigger"
    assert kwargs == KWARGS
    assert step.serialize() == (
        "polysync_airflow.triggers.PolysyncPipelineStepTrigger",
        {**waiting, "step_name": "Train"},
    )


@pytest.mark.parametrize(
    "changed",
    [
        {"search": None},
        {"search": {**SEARCH, "pipeline_name": "{{ conn.x }}"}},
        {"search": {**SEARCH, "created_after": "soon"}},
        {"search": {**SEARCH, "extra": 1}},
        {"search": {**SEARCH, "parameters": {"A": "x" * 2000}}},
        {"poll_interval": "30"},
        {"deadline": None},
        {"listed_until": "now"},
        {"region_name": "us east"},
        {"polysync_conn_id": ""},
    ],
)
def test_invalid_arguments_fail_their_own_search_only(changed: dict[str, Any]) -> None:
    """Others can edit what Airflow's database holds."""

    with pytest.raises(ParametersError, match=next(iter(changed))):
        asyncio.run(first_event(PolysyncPipelineSearchTrigger(**{**KWARGS, **changed})))
    assert poller._POLLERS == {}


async def first_event(trigger: PolysyncPipelineSearchTrigger) -> Any:
    """Run a trigger until its event."""
    async for event in trigger.run():
        return event.payload
    raise AssertionError("the trigger has fired no event")


def events_of(triggers: Sequence[Any], gate: threading.Event) -> list[Any]:  # noqa: F811
    """Run triggers in one event loop; return the payload of each."""
    return [events[0] for events in all_events(triggers, gate)]


def test_searches_in_a_pipeline_share_its_lists(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
) -> None:
    """
    Each search finds its own execution; the number of lists is that of one search.
    """
    now = emulated_time.time()
    arns = dict[str, str]()

    def start(name: str) -> None:
        arns[name] = start_execution(name=name)

    for number in range(40):
        name = f"n{number}"
        emulated_time.after(300 + 10 * number, partial(start, name))
    triggers = [
        make_search_trigger(
            now, display_name_pattern=f"n{number}", poll_interval=30.0 + number % 2
        )
        for number in range(40)
    ]

    events = events_of(triggers, gate)

    assert [event["execution_arn"] for event in events] == [
        arns[f"n{number}"] for number in range(40)
    ]
    assert 20 < len(emulator.control.calls(LIST)) < 35
    assert poller._POLLERS == {}


@pytest.mark.nightly
def test_200_searches_in_20_pipelines_cost_no_more_than_200_waits(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
) -> None:
    """
    In the same time, with the same interval: calls of the searches, and of the waits of
    Start.
    """
    client: Any = start_client()
    definition = client.describe_pipeline(PipelineName="fanout")["PipelineDefinition"]
    names = [f"pipeline-{number}" for number in range(20)]
    for name in names:
        client.create_pipeline(
            PipelineName=name,
            PipelineDefinition=definition,
            ClientRequestToken=f"{name}-{'x' * 32}",
            RoleArn="arn:aws:iam::123456789012:role/SageMakerRole",
        )
    emulator.control.put_scenario({"steps": {"Merge": {"duration": None}}})
    counts = dict[str, Counter[str]]()

    for kind in ("searches", "waits"):
        gate.clear()
        arns = (
            [start_with(client, name) for name in names for _ in range(10)]
            if kind == "waits"
            else []
        )
        emulator.control.clear_calls()
        now = emulated_time.time()
        limits = {"deadline": now + 600, "poll_interval": 30.0}
        if kind == "searches":
            triggers: list[Any] = [
                make_search_trigger(now, name, **limits)
                for name in names
                for _ in range(10)
            ]
        else:
            triggers = [make_trigger(arn, now, **limits) for arn in arns]
        events = events_of(triggers, gate)
        assert {event["outcome"] for event in events} == {"timed_out"}
        counts[kind] = Counter(call["operation"] for call in emulator.control.calls())

    print(
        f"calls in ten minutes: 200 searches {dict(counts['searches'])}, 200 waits {dict(counts['waits'])}"
    )
    assert counts["searches"].keys() == {LIST}
    assert counts["searches"].total() <= counts["waits"].total()
    # One list of each pipeline in 30 seconds.
    assert counts["searches"][LIST] <= 20 * (20 + 2)


def start_with(client: Any, pipeline: str) -> str:
    """Start an execution with a client; return its ARN."""
    return str(
        client.start_pipeline_execution(PipelineName=pipeline)["PipelineExecutionArn"]
    )


def start_client() -> Any:
    """Return a client of the emulator."""
    from polysync_airflow.hooks import PolysyncSageMakerHook

    return PolysyncSageMakerHook().conn


def test_newcomers_join_the_looks_that_are_planned(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
) -> None:
    """A search that begins later adds no lists of its own."""
    now = emulated_time.time()

    async def run() -> None:
        tasks: list[asyncio.Task[Any]] = []
        for number in range(10):
            trigger = make_search_trigger(now, deadline=now + HOUR, poll_interval=600.0)
            tasks.append(asyncio.create_task(first_event(trigger)))
            while emulated_time.time() < now + 100 * (number + 1):
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    asyncio.run(run())

    assert len(emulator.control.calls(LIST)) <= 9


def test_deleted_connection_ends_a_search(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The event names the connection; nothing waits until its timeout."""
    now = emulated_time.time()
    emulated_time.after(
        100, lambda: monkeypatch.delenv("AIRFLOW_CONN_POLYSYNC_DEFAULT")
    )

    (event,) = events_of([make_search_trigger(now)], gate)

    assert event["outcome"] == "refused"
    assert "the connection was deleted or renamed" in event["message"]
    assert emulated_time.time() < now + 400


def test_cancelled_search_leaves_the_others(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
) -> None:
    """
    If a trigger moves to another triggerer, or its task is killed, the searches beside
    it go on.
    """
    now = emulated_time.time()
    emulated_time.after(200, start_execution)

    async def run() -> Any:
        tasks = [
            asyncio.create_task(first_event(make_search_trigger(now))) for _ in range(2)
        ]
        await asyncio.sleep(0.05)
        tasks[0].cancel()
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, second = asyncio.run(run())

    assert isinstance(first, asyncio.CancelledError)
    assert second["outcome"] == "found"
