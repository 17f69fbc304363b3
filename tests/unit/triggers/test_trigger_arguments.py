"""
Stored triggers that somebody has edited: each fails on its own, and never the waits of
others.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.triggers import poller, schedule
from sagemaker_emulator import EmulatorServer
from tests.fakes.evil_json import nested_value
from tests.tasks import EmulatedTime
from tests.unit.triggers.test_poller import (  # noqa: F401 # fixture
    all_events,
    gate,
    make_trigger,
    start_executions,
)

INVALID: list[dict[str, Any]] = [
    {"execution_arn": "foo"},
    {"execution_arn": None},
    {
        "execution_arn": "arn:aws:sagemaker:us-east-1:123456789012:pipeline/x/execution/{{ conn.x.password }}"
    },
    {"poll_interval": "30"},
    {"poll_interval": 0},
    {"poll_interval": 0.1},
    {"poll_interval": 1e300},
    {"poll_interval": math.inf},
    {"progress_interval": 9},
    {"progress_interval": 1e300},
    {"since": math.nan},
    {"deadline": math.inf},
    {"deadline": 1e300},
    {"deadline": None},
    {"attempt": -1},
    {"stop_on_kill": "yes"},
    {"region_name": "us east"},
    {"pipeline_name": ["x"]},
    {"polysync_conn_id": ""},
    {"execution_arn": nested_value()},
    {"declared_steps": nested_value()},
    {"step_task_ids": nested_value()},
    {"deadline": 10**400},
]


def test_invalid_arguments_fail_their_own_waits_only(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
) -> None:
    """
    A trigger with an invalid argument raises ParametersError; a wait beside them ends
    as it should.
    """
    (arn,) = start_executions(emulator, 1)
    now = emulated_time.time()
    triggers = [
        make_trigger(**{"arn": arn, "now": now, **_renamed(arguments)})
        for arguments in INVALID
    ]

    *errors, events = all_events([*triggers, make_trigger(arn, now)], gate)

    for arguments, error in zip(INVALID, errors, strict=True):
        assert isinstance(error, ParametersError), arguments
        assert next(iter(arguments)) in str(error)
    assert [event["outcome"] for event in events] == ["ended"]
    assert poller._POLLERS == {}


def _renamed(arguments: dict[str, Any]) -> dict[str, Any]:
    return {
        "arn" if name == "execution_arn" else name: value
        for name, value in arguments.items()
    }


def test_error_in_the_schedule_of_one_wait_fails_this_wait_only(
    emulator: EmulatorServer,
    emulated_time: EmulatedTime,
    gate: threading.Event,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Even an unforeseen error is that of its own subscription."""
    first, second = start_executions(emulator, 2)
    now = emulated_time.time()

    first_poll = schedule.first_poll

    def fail_for_first(waiter: Any, *arguments: Any) -> float:
        if waiter.execution_arn == first:
            raise ZeroDivisionError
        return first_poll(waiter, *arguments)

    monkeypatch.setattr(schedule, "first_poll", fail_for_first)

    error, events = all_events(
        [make_trigger(first, now), make_trigger(second, now)], gate
    )

    assert isinstance(error, ZeroDivisionError)
    assert [event["outcome"] for event in events] == ["ended"]
    assert poller._POLLERS == {}
