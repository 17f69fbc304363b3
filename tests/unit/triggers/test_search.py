"""
The search trigger: how few calls many searches take.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from polysync_airflow.execution.search import make_search
from polysync_airflow.triggers import PolysyncPipelineSearchTrigger, poller, searches
from tests.unit.sensors.sessions import HOUR, at, start_execution
from tests.unit.triggers.test_poller import all_events
from tests.world import LIST, World


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


def test_searches_in_a_pipeline_share_its_lists(
    world: World, gate: threading.Event
) -> None:
    """
    Each search finds its own execution; the number of lists is that of one search.
    """
    now = world.time.time()
    arns = dict[str, str]()

    def start(name: str) -> None:
        arns[name] = start_execution(name=name)

    for number in range(40):
        name = f"n{number}"
        world.time.after(300 + 10 * number, partial(start, name))
    triggers = [
        make_search_trigger(
            now, display_name_pattern=f"n{number}", poll_interval=30.0 + number % 2
        )
        for number in range(40)
    ]

    events = all_events(triggers, gate)

    assert [event["execution_arn"] for (event,) in events] == [
        arns[f"n{number}"] for number in range(40)
    ]
    assert 20 < len(world.control.calls(LIST)) < 35
    assert poller._POLLERS == {}


def test_search_finds_what_is_older_than_the_searches_of_others(
    world: World, gate: threading.Event
) -> None:
    """They share a list of what is new for the one that has listed least."""
    arn = start_execution(name="old")
    world.time.sleep(600)
    now = world.time.time()
    older = make_search_trigger(
        now, created_after=at(now - HOUR), display_name_pattern="old"
    )
    other = make_search_trigger(now, display_name_pattern="none", deadline=now + HOUR)

    (found,), _ = all_events([other, older], gate)[::-1]

    assert found["execution_arn"] == arn


def test_parameters_of_few_executions_are_kept(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A triggerer may run for months."""
    monkeypatch.setattr(searches, "MAX_EXECUTIONS", 2)
    kept: list[int] = []

    def count() -> None:
        (running,) = poller._POLLERS.values()
        assert isinstance(running, searches.SearchPoller)
        kept.append(len(running._parameters))

    for number in range(4):
        world.time.after(300 + number, start_execution)
    world.time.after(900, count)
    now = world.time.time()

    all_events(
        [make_search_trigger(now, parameters={"Shards": "9"}, deadline=now + HOUR)],
        gate,
    )

    assert kept == [2]
