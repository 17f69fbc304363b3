"""
What Airflow stores of the triggers; and those that somebody has edited: each fails on
its own, and never the waits of others.
"""

from __future__ import annotations

import inspect
import math
import threading
from pkgutil import resolve_name
from typing import Any

import pytest
from airflow.serialization.serialized_objects import BaseSerialization
from airflow.triggers.base import BaseTrigger

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.start_in_triggerer import PolysyncStepTaskEndTrigger
from polysync_airflow.triggers import (
    PolysyncCallbackStepTrigger,
    PolysyncModelApprovalTrigger,
    PolysyncPipelineExecutionTrigger,
    PolysyncPipelineSearchTrigger,
    PolysyncPipelineStepTrigger,
    PolysyncStepTaskTrigger,
    poller,
    schedule,
)
from tests.fakes.evil_json import nested_value
from tests.tasks import TaskInstance
from tests.unit.triggers.test_poller import all_events, make_trigger, start_executions
from tests.world import World

ACCOUNT = "arn:aws:sagemaker:us-east-1:123456789012"
ARN = f"{ACCOUNT}:pipeline/fanout/execution/abcdefghijkl"
CONNECTION = {"polysync_conn_id": "polysync_default", "region_name": "us-east-1"}
TIMES = {"poll_interval": 30.0, "since": 1.7e9, "deadline": 1.8e9}
SEARCH = {
    "pipeline_name": "fanout",
    "created_after": "2026-01-01T00:00:00Z",
    "created_before": None,
    "which": "first",
    "display_name_pattern": None,
    "parameters": None,
    "began_at": "2026-01-02T00:00:00Z",
}
STEP_TASK = {
    **CONNECTION,
    "execution_task_id": "execution",
    "step_name": "Train",
    "poll_interval": 60.0,
}


def edits(argument: str, *values: Any) -> list[dict[str, Any]]:
    """Return what somebody has made of an argument."""
    return [{argument: value} for value in values]


def edited_search(argument: str, value: Any) -> dict[str, Any]:
    """Return a search of which somebody has edited one argument."""
    return {"search": {**SEARCH, argument: value}}


# What all triggers check of their connection and of their interval.
SHARED: list[dict[str, Any]] = [
    {"polysync_conn_id": ""},
    *edits("region_name", "us east", "us-east-1.evil.example/"),
    *edits("poll_interval", "30", 0, math.inf, math.nan),
]
TEMPLATE = f"{ACCOUNT}:pipeline/x/execution/{{{{ conn.x.password }}}}"
WAIT = {**CONNECTION, **TIMES}
OF_EXECUTION = {**WAIT, "execution_arn": ARN, "pipeline_name": None}
OF_SEARCH = {**WAIT, "search": SEARCH, "listed_until": 1.7e9}
del OF_SEARCH["since"]
# By the trigger: its arguments, and what somebody has made of one of them.
EDITED: dict[Any, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    PolysyncPipelineExecutionTrigger: (
        {
            **OF_EXECUTION,
            "attempt": 1,
            "stop_on_kill": True,
            "stop_at": ["timed_out"],
            "progress_interval": 60.0,
        },
        [
            *edits("execution_arn", "foo", None, TEMPLATE, nested_value()),
            *edits("poll_interval", 0.1, 1e300),
            *edits("progress_interval", 9, 1e300),
            {"since": math.nan},
            *edits("deadline", math.inf, 1e300, None, 10**400),
            {"attempt": -1},
            {"stop_on_kill": "yes"},
            {"pipeline_name": ["x"]},
            {"declared_steps": nested_value()},
            {"step_task_ids": nested_value()},
            *edits("cost_limit", "50", '{"max_cost": -1}', "[" * 5000),
        ],
    ),
    PolysyncPipelineSearchTrigger: (
        OF_SEARCH,
        [
            {"search": None},
            edited_search("pipeline_name", "{{ conn.x }}"),
            edited_search("created_after", "soon"),
            edited_search("extra", 1),
            edited_search("parameters", {"A": "x" * 2000}),
            {"deadline": None},
            {"listed_until": "now"},
        ],
    ),
    PolysyncModelApprovalTrigger: (
        {**WAIT, "model_package_arn": f"{ACCOUNT}:model-package/churn/1"},
        [{"model_package_arn": "arn:aws:iam::1:role/x"}, {"deadline": "soon"}],
    ),
    PolysyncStepTaskTrigger: (
        STEP_TASK,
        [
            *edits("execution_task_id", "", None),
            *edits("step_name", "", "a\nb"),
            *edits("retries", -1, "2"),
        ],
    ),
    PolysyncStepTaskEndTrigger: (STEP_TASK, edits("property_files", "all", [1])),
    PolysyncCallbackStepTrigger: (
        {**OF_EXECUTION, "step_name": "Ask"},
        [
            *edits("step_name", "", None),
            {"execution_arn": "x"},
            {"deadline": "never"},
        ],
    ),
    PolysyncPipelineStepTrigger: (
        {**OF_EXECUTION, "step_name": "Train"},
        edits("step_name", "", None),
    ),
}
ALL_TRIGGERS = pytest.mark.parametrize(
    "trigger_class", EDITED, ids=lambda each: each.__name__
)
PUBLIC_MODULES = ("polysync_airflow.triggers", "polysync_airflow.start_in_triggerer")


class BareTrigger(BaseTrigger):
    """Has what Airflow's constructor sets."""

    serialize: Any = None
    run: Any = None


@ALL_TRIGGERS
def test_stored_trigger_is_public_and_comes_back_as_it_is(trigger_class: Any) -> None:
    """
    The class path and the names of the arguments are fixed, so that later versions can
    resume the task.
    """
    arguments, _ = EDITED[trigger_class]

    trigger = trigger_class(**arguments)
    path, stored = trigger.serialize()

    assert [*inspect.signature(trigger_class).parameters] == [*stored]
    bare: Any = BareTrigger
    assert vars(bare()).keys() <= vars(trigger).keys()
    assert path.rpartition(".")[0] in PUBLIC_MODULES
    assert resolve_name(path) is trigger_class
    assert arguments.items() <= stored.items()
    encoded = BaseSerialization.serialize(stored)
    assert BaseSerialization.deserialize(encoded) == stored
    assert trigger_class(**stored).serialize() == (path, stored)


@ALL_TRIGGERS
def test_invalid_arguments_fail_their_own_waits_only(
    trigger_class: Any, world: World, gate: threading.Event
) -> None:
    """The error names the argument; a wait beside them ends as it should."""
    arguments, edits = EDITED[trigger_class]
    (arn,) = start_executions(world.emulator, 1)
    triggers = [trigger_class(**{**arguments, **edit}) for edit in (*edits, *SHARED)]
    for trigger in triggers:
        trigger.task_instance = TaskInstance("edited")

    *errors, events = all_events(
        [*triggers, make_trigger(arn, world.time.time())], gate
    )

    for edit, error in zip((*edits, *SHARED), errors, strict=True):
        assert isinstance(error, ParametersError), edit
        assert next(iter(edit)) in str(error)
    assert [event["outcome"] for event in events] == ["ended"]
    assert poller._POLLERS == {}


def test_error_in_the_schedule_of_one_wait_fails_this_wait_only(
    world: World, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even an unforeseen error is that of its own subscription."""
    first, second = start_executions(world.emulator, 2)
    now = world.time.time()
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
