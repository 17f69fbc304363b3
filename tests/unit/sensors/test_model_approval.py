"""The sensor for the approval of models, in all modes, and its trigger."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import (
    ModelApprovalError,
    ModelRejectedError,
    ParametersError,
)
from polysync_airflow.sensors import PolysyncModelApprovalSensor
from polysync_airflow.sensors.approval_run import VERSION_KEY
from polysync_airflow.triggers import PolysyncModelApprovalTrigger, poller
from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import CALLER
from tests.fakes.json_store import JsonStore
from tests.tasks import EmulatedTime, TaskInstance, run_task
from tests.unit.sensors.registry import GROUP, PREFIX, Registry, version
from tests.unit.sensors.sessions import MODES, run_sensor
from tests.unit.triggers.test_poller import all_events
from tests.world import World

POLL = 60
FIRST = {"model_package_arn": version(1)}
NO_ARN: Any = {"model_package_arn": None}
Stage = Callable[[Registry, EmulatedTime], None]


def registered(*statuses: str) -> Stage:
    """Register versions with these approval statuses."""

    def stage(registry: Registry, _: EmulatedTime) -> None:
        for status in statuses:
            registry.register(status)

    return stage


def later(seconds: float, change: Callable[[Registry], Any]) -> Stage:
    """Let a change happen while the sensor waits."""
    return lambda registry, time: time.after(seconds, lambda: change(registry))


@dataclass
class Case:
    """
    One test case.

    :param name: the test id.
    :param stages: what happens in the registry.
    :param arguments: arguments of the sensor; by default the first version.
    :param result: the returned ARN; None if the task does not succeed.
    :param error: the type of the error that ends the task.
    :param texts: texts that the error contains.
    :param xcoms: XComs of the task.
    :param polls: the least and the most number of DescribeModelPackage calls.
    :param modes: in which it is run.
    """

    name: str
    stages: tuple[Stage, ...]
    arguments: dict[str, Any] = field(default_factory=lambda: FIRST)
    result: str | None = None
    error: type[BaseException] | None = None
    texts: tuple[str, ...] = ()
    xcoms: dict[str, Any] = field(default_factory=dict)
    polls: tuple[int, int] = (1, 100)
    modes: tuple[str, ...] = tuple(MODES)


# For what the first look decides.
ONE_MODE = ("poke",)
PENDING = registered("PendingManualApproval")
BY_GROUP = {"model_package_group": GROUP}
SET = partial(Registry.set, arn=version(1))
APPROVED = partial(SET, status="Approved", description="Checked by Ada")
REJECTED = partial(SET, status="Rejected", description="Bias in group B")
CASES = (
    Case(
        "approved before",
        (registered("Approved"),),
        result=version(1),
        xcoms={**FIRST, "approval_status": "Approved", "last_modified_by": None},
        polls=(1, 1),
    ),
    Case(
        "approved while it waits",
        (PENDING, later(3 * POLL + 1, APPROVED)),
        result=version(1),
        xcoms={
            "approval_status": "Approved",
            "approval_description": "Checked by Ada",
            "last_modified_by": CALLER,
        },
        polls=(4, 6),
    ),
    Case(
        "rejected",
        (PENDING, later(POLL + 1, REJECTED)),
        error=ModelRejectedError,
        texts=(f"Model package {version(1)} is rejected", "Bias in group B"),
        xcoms={
            "approval_status": "Rejected",
            "approval_description": "Bias in group B",
        },
    ),
    Case(
        "rejected, skip",
        (registered("Rejected"),),
        {**FIRST, "on_rejected": "skip"},
        error=AirflowSkipException,
        texts=("is rejected",),
        xcoms={**FIRST, "approval_status": "Rejected"},
        modes=ONE_MODE,
    ),
    Case(
        "newest of a group",
        (
            registered("Approved", "PendingManualApproval"),
            later(POLL + 1, lambda registry: registry.register("Rejected")),
            later(2 * POLL + 1, lambda registry: registry.set(version(2), "Approved")),
        ),
        BY_GROUP,
        result=version(2),
        xcoms={"model_package_arn": version(2)},
    ),
)


def make(mode: str, **arguments: Any) -> PolysyncModelApprovalSensor:
    """Return a sensor in one of ``MODES``."""
    return PolysyncModelApprovalSensor(
        **{"task_id": "wait", "poke_interval": POLL, **MODES[mode], **arguments}
    )


def task_instance() -> TaskInstance:
    """
    Return a task instance of Airflow 3.3, which keeps a state between the sessions of a
    task.
    """
    return TaskInstance("wait", task_state_store=JsonStore())


@pytest.mark.parametrize(
    ("case", "mode"),
    [
        pytest.param(case, mode, id=f"{case.name}, {mode}")
        for case in CASES
        for mode in case.modes
    ],
)
def test_outcome_is_the_same_in_each_mode(
    case: Case,
    mode: str,
    registry: Registry,
    emulator: EmulatorServer,
    airflow_time: EmulatedTime,
) -> None:
    """Each case ends in the same way on a worker, rescheduled, and deferred."""
    for stage in case.stages:
        stage(registry, airflow_time)
    emulator.control.clear_calls()

    run = run_sensor(make(mode, **case.arguments), task_instance())

    assert type(run.error) is (case.error or type(None)), run.error
    assert run.result == case.result
    assert [text for text in case.texts if text not in str(run.error)] == []
    assert {key: run.xcoms[key] for key in case.xcoms} == case.xcoms
    calls = emulator.control.calls("DescribeModelPackage")
    polls = sum(not call["fault"] for call in calls)
    assert case.polls[0] <= polls <= case.polls[1]


def test_rejection_uses_no_retries() -> None:
    """
    A rejection uses no retries whatever the retry policy says; a group without a
    version may get one.
    """
    assert issubclass(ModelRejectedError, AirflowFailException)
    rejected = ModelRejectedError("x", model_package_arn=version(1))
    assert rejected.permanent
    assert not ModelApprovalError("x", **NO_ARN, permanent=False).permanent


BAD: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "model_package_arn and model_package_group: neither is given. Give one of"),
    (
        {**FIRST, **BY_GROUP},
        "model_package_arn and model_package_group: both is given. Give one of them",
    ),
    (
        {"model_package_arn": "churn"},
        "model_package_arn = 'churn' is not the ARN of a version of a model package "
        "group, and nothing else has an approval status: give arn:aws:sagemaker:",
    ),
    (
        {"model_package_group": "a b", **NO_ARN},
        "model_package_group = 'a b' is not a model package group: give its name",
    ),
    (
        {**FIRST, "region_name": "eu-west-1"},
        "region_name = 'eu-west-1' is not the region of the model package, us-east-1: "
        "correct region_name, or leave it out.",
    ),
    (
        {**FIRST, "on_rejected": "retry"},
        "on_rejected = 'retry' is not valid: give one of fail, skip.",
    ),
    ({**FIRST, "poke_interval": 0}, "poke_interval = 0.0 is not valid: give a number"),
)


@pytest.mark.parametrize(("arguments", "text"), BAD, ids=[text for _, text in BAD])
def test_arguments_that_are_not_valid_are_refused_before_a_call(
    arguments: dict[str, Any], text: str, emulator: EmulatorServer
) -> None:
    """
    They are refused before AWS is called, and the error names the argument, its value
    and the cure.
    """
    emulator.control.clear_calls()
    try:
        error = run_task(make("poke", **arguments), task_instance()).error
    except ParametersError as refused:  # some are refused when the sensor is made
        error = refused

    assert isinstance(error, ParametersError)
    assert text in str(error)
    assert emulator.control.calls() == []


@pytest.mark.skipif(
    not CAPABILITIES.task_sdk, reason="Airflow 2 asks its database before the sensor"
)
def test_rescheduled_sensor_needs_a_place_for_the_newest_version(
    registry: Registry, emulator: EmulatorServer
) -> None:
    """
    Before Airflow 3.3, the newest version could be another one at each look, so a group
    is refused.
    """
    registry.register()
    emulator.control.clear_calls()

    run = run_task(make("reschedule", **BY_GROUP), TaskInstance("wait"))

    assert isinstance(run.error, ParametersError)
    assert "deferrable=True, or give model_package_arn" in str(run.error)
    assert emulator.control.calls() == []


@pytest.mark.parametrize(
    "kept",
    [
        {"model_package_arn": version(1), "try_number": 1},
        {"model_package_arn": f"{PREFIX}/another/1", "try_number": 2},
        {"model_package_arn": "{{ 7 }}", "try_number": 2},
        [version(1)],
    ],
    ids=["of an earlier try", "of another group", "no ARN", "a list"],
)
def test_edited_state_is_not_believed(
    kept: Any, registry: Registry, airflow_time: EmulatedTime
) -> None:
    """
    What a rescheduled sensor finds in the task state store counts only for its own try
    and group.
    """
    registry.register("Approved")
    newest = registry.register("Approved")
    ti = TaskInstance("wait", try_number=2, task_state_store=JsonStore())
    assert ti.task_state_store
    ti.task_state_store.set(VERSION_KEY, kept)

    run = run_sensor(make("reschedule", **BY_GROUP), ti)

    assert (run.result, run.error) == (newest, None)


@pytest.mark.parametrize("mode", ["poke", "deferrable"])
def test_region_is_that_of_the_version(mode: str, emulator: EmulatorServer) -> None:
    """Not that of the connection."""
    arn = version(1).replace("us-east-1", "eu-west-1")

    run_sensor(make(mode, model_package_arn=arn), task_instance())

    calls = emulator.control.calls("DescribeModelPackage")
    assert {call["region"] for call in calls} == {"eu-west-1"}


ARN = "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1"


def arguments(time: EmulatedTime, **changes: Any) -> dict[str, Any]:
    """Return the arguments of a stored trigger."""
    return {
        "model_package_arn": ARN,
        "polysync_conn_id": "polysync_default",
        "region_name": "us-east-1",
        "poll_interval": 60.0,
        "since": time.time(),
        "deadline": time.time() + 3600,
        **changes,
    }


def test_triggers_share_calls_and_leave_nothing(
    world: World, registry: Registry, gate: threading.Event
) -> None:
    """
    Any number of waits with a connection and region has one poller, and those for the
    same version one call.
    """
    arns = 2 * [registry.register("Rejected") for _ in range(10)]
    stored = [arguments(world.time, model_package_arn=arn) for arn in arns]

    events = all_events([PolysyncModelApprovalTrigger(**each) for each in stored], gate)

    assert {(event["outcome"], event["model_package_arn"]) for (event,) in events} == {
        ("rejected", arn) for arn in arns
    }
    assert len(world.control.calls("DescribeModelPackage")) == 10
    assert poller._POLLERS == {}
