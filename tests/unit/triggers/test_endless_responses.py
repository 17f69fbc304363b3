"""
A server that responds slowly, without end, or with too much: waits end in time, and
others go on.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from botocore.config import Config

from polysync_airflow.execution import clock
from polysync_airflow.triggers import shared_client
from tests.fakes.fake_sagemaker import Body, Respond, answering, connected
from tests.tasks import EmulatedTime
from tests.unit.triggers.test_poller import (
    accept_short_intervals,
    events_of,
    make_trigger,
    wait_until_no_thread_is_left,
)
from tests.world import LIST, LIST_STEPS

Serve = Callable[[Respond], list[str]]


def arn_of(number: int, pipeline: str = "slow") -> str:
    """Return the ARN of an execution."""
    return f"arn:aws:sagemaker:us-east-1:123456789012:pipeline/{pipeline}/execution/{number:012}"


def body(**members: Any) -> Body:
    """Return a response with these members."""
    return Body(json.dumps(members).encode())


def execution(arn: str, status: str, **members: Any) -> dict[str, Any]:
    """Return the description of an execution."""
    return {"PipelineExecutionArn": arn, "PipelineExecutionStatus": status, **members}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """
    Run a server for the connection. Its polls begin at once, and a poll takes a second
    at most.
    """
    monkeypatch.setattr(
        "polysync_airflow.execution.waiter.FIRST_POLL_DELAY_SECONDS", 0.0
    )
    accept_short_intervals(monkeypatch)
    monkeypatch.setattr("polysync_airflow.triggers.schedule.LAST_POLL_SECONDS", 0.25)
    config = shared_client._CONFIG.merge(Config(read_timeout=1))
    monkeypatch.setattr(shared_client, "_CONFIG", config)
    with ExitStack() as stack:
        yield lambda respond: stack.enter_context(connected(answering(respond)))


def wait_for(*arns: str, timeout: float, **arguments: Any) -> list[Any]:
    """
    Run a trigger for each execution in one event loop; return their events, or errors.
    """

    async def run() -> list[Any]:
        now = clock.time()
        more = {"poll_interval": 0.2, "deadline": now + timeout, **arguments}
        triggers = [make_trigger(arn, now, **more) for arn in arns]
        results = await asyncio.gather(
            *map(events_of, triggers), return_exceptions=True
        )
        return [result[0] if isinstance(result, list) else result for result in results]

    return asyncio.run(run())


def test_deadline_ends_waits_whose_polls_do_not_end(serve: Serve) -> None:
    """
    Twelve waits share eight calls, all of which are slow; the wait for another
    execution goes on.
    """

    def respond(operation: str, request: Any) -> Body:
        arn = request.get("PipelineExecutionArn", "")
        if "/slow/" in arn or operation == LIST:
            return Body(
                json.dumps(execution(arn_of(0), "Executing")).encode(), seconds=0.5
            )
        return body(**execution(arn, "Succeeded"))

    serve(respond)
    begin = time.monotonic()

    *slow, quick = wait_for(*map(arn_of, range(12)), arn_of(0, "quick"), timeout=0.5)

    assert time.monotonic() - begin < 4
    assert {event["outcome"] for event in slow} == {"timed_out"}
    assert all("the last poll has not ended" in event["message"] for event in slow)
    assert quick["outcome"] in ("ended", "timed_out")
    wait_until_no_thread_is_left()
    assert time.monotonic() - begin < 6


@pytest.mark.usefixtures("gate")
def test_list_of_steps_ends_with_its_wait(
    serve: Serve, emulated_time: EmulatedTime
) -> None:
    """
    A list without end, and its thread, end with the wait. Only its pages let the time
    pass.
    """
    tokens = itertools.count()

    def respond(operation: str, request: Any) -> Body:
        if operation == LIST_STEPS:
            emulated_time.sleep(10)
            return body(PipelineExecutionSteps=[], NextToken=str(next(tokens)))
        return body(**execution(request["PipelineExecutionArn"], "Executing"))

    operations = serve(respond)

    (event,) = wait_for(arn_of(0), timeout=60, progress_interval=10.0)
    wait_until_no_thread_is_left()

    assert event["outcome"] == "timed_out"
    # A list that does not end with its wait has 1,000 pages. How many fit in before its
    # thread sees the end depends on the host.
    assert 1 < Counter(operations)[LIST_STEPS] < 500
