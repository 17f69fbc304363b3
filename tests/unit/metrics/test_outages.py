"""
An outage of AWS in the logs: one line of the triggerer for all waits, and one of a task
if it lasts.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable
from typing import Any

import pytest

from polysync_airflow.triggers import PolysyncModelApprovalTrigger
from tests.fakes.log_capture import capture_logs
from tests.unit.sensors import test_approval_trigger as approvals
from tests.unit.triggers.test_poller import all_events, make_trigger, start_executions
from tests.unit.triggers.test_search import make_search_trigger
from tests.world import World

TRIGGERER = "polysync_airflow.triggers.activity"

Run = Callable[[list[Any]], tuple[list[str], list[str]]]


@pytest.fixture
def run(world: World, gate: threading.Event, caplog: pytest.LogCaptureFixture) -> Run:
    """
    Return a function that runs triggers, and returns the lines about polls: the
    triggerer's, the tasks'.
    """

    def run_all(triggers: list[Any]) -> tuple[list[str], list[str]]:
        caplog.set_level(logging.INFO, TRIGGERER)
        with capture_logs() as logs:
            all_events(triggers, gate)
        triggerer = [
            each.getMessage() for each in caplog.records if each.name == TRIGGERER
        ]
        lines = [line["event"] for line in logs if line["event"] not in triggerer]
        return triggerer, [
            line for line in lines if "retrying" in line or "again" in line
        ]

    return run_all


def test_short_outage_is_one_line(run: Run, world: World) -> None:
    """
    It says how many waits are affected, and names some; the tasks' logs do not have a
    line each.
    """
    arns = start_executions(world.emulator, 60) + start_executions(
        world.emulator, 60, "churn-tuning"
    )
    world.control.add_fault("throttle", service="sagemaker", seconds=150)

    failing, again, *others = run(
        [make_trigger(arn, world.time.time()) for arn in arns]
    )[0]

    start = "Poller of executions, connection 'polysync_default', region default: "
    assert failing.startswith(start)
    assert (
        " of 120 waits fail, and are repeated, for example of arn:aws:sagemaker:"
        in failing
    )
    assert failing.count("arn:") == 3
    assert "Rate exceeded" in failing
    assert again.startswith(
        f"{start}no polls fail any more. Those of up to 120 waits have failed, for "
    )
    assert others == []


def test_short_outage_is_not_in_the_logs_of_tasks(run: Run, world: World) -> None:
    """Each of these has its own log, and a change of error concerns all of them."""
    arns = start_executions(world.emulator, 60)
    world.control.add_fault(
        "error", service="sagemaker", code="InternalFailure", message="A", count=1
    )
    world.control.add_fault("dropped", service="sagemaker", seconds=100)

    triggerer, tasks = run([make_trigger(arn, world.time.time()) for arn in arns])

    assert tasks == []
    assert [line for line in triggerer if "ConnectionClosedError" in line]


def test_long_outage_is_in_the_log_of_each_task(run: Run, world: World) -> None:
    """
    After five minutes each says how long nothing is known, and later that polls succeed
    again.
    """
    arns = start_executions(world.emulator, 20)
    world.control.add_fault("dropped", service="sagemaker", seconds=1200)

    triggerer, tasks = run([make_trigger(arn, world.time.time()) for arn in arns])

    assert len(triggerer) == 2
    succeed = "Polls succeed again: Execution arn:"
    assert len([line for line in tasks if line.startswith(succeed)]) == 20
    failed = [line for line in tasks if line.startswith("Poll failed, retrying for ")]
    assert len(failed) == 20
    assert all(" min: " in line and "ConnectionClosedError" in line for line in failed)


def test_one_wait_that_fails_is_named(run: Run, world: World) -> None:
    """An error that concerns one pipeline only does not look as if it concerned all."""
    arns = start_executions(world.emulator, 5)
    (failing,) = start_executions(world.emulator, 1, "churn-tuning")
    world.control.add_fault(
        "error",
        code="InternalFailure",
        message="broken",
        pipeline="churn-tuning",
        seconds=100,
    )

    triggerer, _ = run(
        [make_trigger(arn, world.time.time()) for arn in [*arns, failing]]
    )

    assert triggerer[0].endswith(
        f": polls of 1 of 6 waits fail, and are repeated, for example of {failing}. The most frequent error: "
        "DescribePipelineExecution failed: InternalFailure: broken"
    )


@pytest.mark.parametrize("kind", ["searches", "model packages"])
def test_outage_of_searches_and_approvals_is_one_line(
    kind: str, run: Run, world: World
) -> None:
    """Their outages are one line, too."""
    until = world.time.time() + 900
    world.control.add_fault("dropped", service="sagemaker", seconds=200)
    stored = approvals.arguments(world.time, deadline=until)
    trigger: Callable[[], Any] = {
        "searches": lambda: make_search_trigger(world.time.time(), deadline=until),
        "model packages": lambda: PolysyncModelApprovalTrigger(**stored),
    }[kind]

    triggerer, _ = run([trigger() for _ in range(20)])

    name = {
        "searches": "the search in pipeline fanout",
        "model packages": approvals.ARN,
    }[kind]
    fail, end = triggerer
    assert fail.startswith(f"Poller of {kind}, connection 'polysync_default'")
    # One or more of them, depending on how many have polled by then.
    assert re.search(
        f" of 20 waits fail, and are repeated, for example of {re.escape(name)}[,.] ",
        fail,
    )
    assert "no polls fail any more. Those of up to " in end
