"""
A copy of the database, with an address of its own: whatever happens there to a task, the
execution of the original goes on, and the original still stops it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution.lifecycle.ending import OF_OTHER_DEPLOYMENT
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.watch.callback import stop_if_left
from tests.fakes import simulated_airflow
from tests.fakes.simulated_airflow import AIRFLOW
from tests.unit.operators.recovery.harness import Task, run_failure_callbacks
from tests.unit.operators.recovery.test_max_cost import PRICES_OPTION, prices_of
from tests.world import CHANGES, DESCRIBE, NEVER_ENDS, START, STOP, World

PROD = "https://prod.example.com"
# What the database has, and its copy.
IDENTITY = f"abc 1 {PROD}"
SECTION = "API" if CAPABILITIES.task_sdk else "WEBSERVER"
BASE_URL = f"AIRFLOW__{SECTION}__BASE_URL"
FERNET_KEY = "AIRFLOW__CORE__FERNET_KEY"
OTHER_KEY = "ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg4ODg="

Begin = Callable[[str], None]
Happen = Callable[[Task, Any], None]


@pytest.fixture
def begin(world: World) -> Begin:
    """Let the processes of one deployment run from now on: ``prod``, or a copy of it."""
    world.control.put_scenario(NEVER_ENDS)
    world.patch.setenv(PRICES_OPTION, prices_of(2))

    def begin_in(deployment: str) -> None:
        is_prod = deployment == "prod"
        url = PROD if is_prod else "https://staging.example.com"
        world.patch.setenv(BASE_URL, url)
        # Another key, by which the Variables were encrypted again, or without that.
        if not is_prod and deployment != "same key":
            world.patch.setenv(FERNET_KEY, OTHER_KEY)
        elif is_prod:
            world.patch.setenv(FERNET_KEY, OTHER_KEY.replace("O", "P"))
        identity = None if deployment == "no Variables" else IDENTITY
        world.patch.setattr(simulated_airflow, "DEPLOYMENT", identity)

    begin_in("prod")
    return begin_in


def copy_of(task: Task, deployment: str) -> Task:
    """Return the task as a copy of its database has it."""
    identity, store = task.deployment, deepcopy(task.store)
    if deployment == "no Variables":
        identity = None
        store.values.pop(RECORD_KEY, None)
    copied = replace(task, store=store, deployment=identity)
    copied.max_tries = task.max_tries
    copied.ti = replace(
        task.ti,
        xcoms=deepcopy(task.ti.xcoms),
        store=store,
        latest=lambda: copied.ti,
        state=lambda: copied.state,
        deployment=identity,
    )
    return copied


def on_kill(task: Task, deferral: TaskDeferred) -> None:
    """Let Airflow end the trigger of a task."""
    trigger: Any = deferral.trigger
    trigger = type(trigger)(**trigger.serialize()[1])
    trigger.task_instance = task.ti
    asyncio.run(trigger.on_kill())


# ---- what happens in the copy


def marked(task: Task, deferral: TaskDeferred) -> None:
    """A user marks the task."""
    task.state = "failed"
    on_kill(task, deferral)


def cleared(task: Task, deferral: TaskDeferred) -> None:
    """A user clears the task."""
    task.clear()
    on_kill(task, deferral)


def deleted(task: Task, deferral: TaskDeferred) -> None:
    """A user deletes the DAG run."""
    task.delete()
    on_kill(task, deferral)


def wait_ends(task: Task, deferral: TaskDeferred) -> None:
    """The wait comes to its deadline, or to ``max_cost``. An error says what is so."""
    event = task.fire(deferral)
    assert "stop" not in event
    error = str(task.resume(deferral, event).error)
    assert OF_OTHER_DEPLOYMENT in error


def process_dies(task: Task, deferral: TaskDeferred) -> None:
    """The DAG processor looks at the task after its last try."""
    task.state = "failed"
    operator = task.prepare_try()
    run_failure_callbacks(operator, task.ti)


def looked_after(task: Task, deferral: TaskDeferred) -> None:
    """The watch is told that the task was marked."""
    task.state = "failed"
    assert asyncio.run(stop_if_left(**asdict(task.key))) == "keep"


COPIES = ["same key", "other key", "no Variables"]
# The rows of the documentation that these tests prove.
ENDS = "It is deferred, and the execution ends"
MARKED = "It is deferred, and is marked, cleared or deleted"
UP = "It is deferred, and reaches timeout or max_cost"
LOST = "It ran on a worker, which the copy does not have"
ROWS = (ENDS, MARKED, UP, LOST)
MAX_COST = {"max_cost": 30, "progress_interval": 10, "poll_interval": 10}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize(
    ("arguments", "happen"),
    [
        ({}, marked),
        ({}, cleared),
        ({}, deleted),
        ({}, looked_after),
        ({"timeout": 600}, wait_ends),
        (MAX_COST, wait_ends),
        ({}, process_dies),
    ],
    ids=[*4 * [MARKED], UP, UP, LOST],
)
def test_deferred_task_of_a_copy_stops_nothing(
    arguments: dict[str, Any], happen: Happen, copy: str, begin: Begin, world: World
) -> None:
    """The original stops its execution when its own task is marked."""
    prod = Task(True, arguments, retries=0, deployment=IDENTITY)
    deferral = prod.defer()
    copied = copy_of(prod, copy)
    begin(copy)

    happen(copied, deferral)

    assert world.calls(*CHANGES) == [START]
    assert world.log.statuses == ["Executing"]
    begin("prod")
    AIRFLOW.instances.append(prod.ti)
    marked(prod, deferral)
    assert world.calls(*CHANGES) == [START, STOP]


@pytest.mark.parametrize("copy", COPIES)
def test_copy_that_cannot_read_the_name_of_an_execution_stops_nothing(
    copy: str, begin: Begin, world: World
) -> None:
    """AWS refuses to describe it. The record says whose it is, proven or not."""
    prod = Task(True, deployment=IDENTITY)
    deferral = prod.defer()
    begin(copy)
    refused = {"code": "AccessDeniedException", "message": "not authorized"}
    world.control.add_fault("error", DESCRIBE, **refused)

    marked(copy_of(prod, copy), deferral)

    assert world.calls(*CHANGES) == [START]


@pytest.mark.parametrize("copy", COPIES)
def test_deferred_task_of_a_copy_takes_the_result(
    copy: str, begin: Begin, world: World
) -> None:
    """The row ``ENDS``: nothing is resumed, started or stopped."""
    world.control.put_scenario({})
    prod = Task(True, {"retry_mode": "resume"}, deployment=IDENTITY)
    deferral = prod.defer()
    copied = copy_of(prod, copy)
    begin(copy)

    run = copied.resume(deferral, copied.fire(deferral))

    assert run.error is None
    assert world.calls(*CHANGES) == [START]
    assert prod.record is not None
