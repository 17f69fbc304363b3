"""
What fails a sensor, and what ``soft_fail`` skips: each row of the page's table, for all
sensors and modes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
    BaseSensorOperator,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.sdk import RetryAction
from polysync_airflow.retrying import PolysyncRetryPolicy
from polysync_airflow.sensors import PolysyncModelApprovalSensor, PolysyncPipelineSensor
from sagemaker_emulator import EmulatorServer
from tests.conftest import ARN
from tests.fakes.json_store import JsonStore
from tests.pages import page
from tests.tasks import EmulatedTime, Run, TaskInstance
from tests.unit.sensors.registry import GROUP, Registry, version
from tests.unit.sensors.sessions import (
    HOUR,
    MODES,
    at,
    run_sensor,
    start_execution,
    stop_execution,
)

TABLE = page("reference/sensors.md").rows("What fails, and what soft_fail skips")
MODES_OF_CELLS = ("poke", "reschedule", "deferrable")
MINUTE = 60.0
SLOW = {"steps": {"Merge": {"duration": 25 * MINUTE}}}
FAILED_STEP = {"steps": {"Shard3": {"fail": {"reason": "no data"}}}}
# Each operation is affected: some calls are made in several ways.
DENIED: Any = ("error", "*", {"code": "AccessDeniedException", "message": "not you"})
THROTTLED: Any = ("throttle", "*", {})
EXPIRED: Any = ("error", "*", {"code": "ExpiredTokenException", "message": "expired"})
STEPS = "ListPipelineExecutionSteps"


@dataclass
class World:
    """
    What a sensor waits for, and what happens meanwhile.

    :param arguments: of the sensor.
    :param mode: in which the sensor waits.
    """

    emulator: EmulatorServer
    time: EmulatedTime
    registry: Registry
    monkeypatch: pytest.MonkeyPatch
    arguments: dict[str, Any] = field(default_factory=dict)
    mode: str = "poke"

    def after(self, minutes: float, action: Callable[..., Any], *args: Any) -> None:
        """Let something happen while the sensor waits."""
        self.time.after(minutes * MINUTE, partial(action, *args))

    def fault(
        self, minutes: float, kind: str, operation: str, members: dict[str, Any]
    ) -> None:
        """Add a fault to the emulator while the sensor waits."""
        self.after(
            minutes,
            partial(self.emulator.control.add_fault, kind, operation, **members),
        )


@pytest.fixture
def world(
    emulator: EmulatorServer,
    airflow_time: EmulatedTime,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
) -> World:
    """Return the world of a sensor that waits in the mode ``poke``."""
    return World(emulator, airflow_time, registry, monkeypatch)


def execution(world: World, scenario: dict[str, Any] | None = None) -> str:
    """Let the sensor wait for an execution, which ends after about half an hour."""
    world.emulator.control.put_scenario(scenario or SLOW)
    world.arguments["execution_arn"] = arn = start_execution()
    return arn


def search(world: World) -> None:
    """Let the sensor look for an execution, which is started after 25 minutes."""
    world.arguments |= {
        "pipeline_name": "fanout",
        "created_after": at(world.time.time() - 1),
    }
    world.after(25, start_execution)


def approval(world: World) -> None:
    """Let the sensor wait for a version, which is approved after 25 minutes."""
    world.arguments["model_package_arn"] = world.registry.register()
    world.after(25, world.registry.set, version(1), "Approved")


def argument(**arguments: Any) -> Callable[[World], None]:
    """Return a stage that gives arguments to the sensor."""
    return lambda world: world.arguments.update(arguments)


def deletion(world: World) -> None:
    """Delete the connection."""
    world.after(7, world.monkeypatch.delenv, "AIRFLOW_CONN_POLYSYNC_DEFAULT")


def outage(world: World) -> None:
    """Let AWS refuse calls for ten minutes."""
    world.fault(7, *THROTTLED)
    world.after(17, world.emulator.control.remove_faults)


def timer(world: World) -> None:
    """Let Airflow interrupt a process that has run for 20 minutes."""

    def interrupt() -> None:
        raise AirflowTaskTimeout("Timeout")

    world.arguments["execution_timeout"] = timedelta(minutes=20)
    if world.mode == "poke":
        world.after(20, interrupt)


def window(world: World) -> None:
    """Let the window be one that has closed."""
    end = world.time.time() - HOUR
    world.arguments |= {
        "pipeline_name": "fanout",
        "created_after": at(end - HOUR),
        "created_before": at(end),
    }


def failed_step(world: World) -> None:
    """Let the sensor wait for a step that fails."""
    execution(world, FAILED_STEP)
    world.arguments["step_name"] = "Shard3"


def stopped(world: World) -> None:
    """Let somebody stop the execution."""
    world.after(15, stop_execution, execution(world))


def rejected(world: World) -> None:
    """Let somebody reject the model."""
    world.arguments["model_package_arn"] = world.registry.register()
    world.after(15, world.registry.set, version(1), "Rejected")


def broken(world: World) -> None:
    """Let AWS fail to create the model package."""
    world.arguments["model_package_arn"] = world.registry.register()
    world.after(15, world.registry.set_package_status, version(1), "Failed")


TARGETS = (execution, search, approval)
# What makes each row of the table, for each sensor to which it applies.
ROWS: dict[str, tuple[tuple[Callable[[World], Any], ...], ...]] = {
    "an argument is not valid": (
        (execution, argument(region_name="eu-west-1")),
        (search, argument(created_after="soon")),
        (approval, argument(region_name="eu-west-1")),
    ),
    "the connection does not exist": tuple(
        (each, argument(polysync_conn_id="x")) for each in TARGETS
    ),
    "the connection is deleted during the wait": tuple(
        (each, deletion) for each in TARGETS
    ),
    "AWS denies a call, for example because a role was revoked": (
        *((each, lambda world: world.fault(7, *DENIED)) for each in TARGETS),
        (
            execution,
            argument(step_name="Merge"),
            lambda world: world.fault(7, "error", STEPS, DENIED[2]),
        ),
    ),
    "the pipeline, execution or model package does not exist": (
        (argument(execution_arn=ARN),),
        (argument(pipeline_name="nowhere"),),
        (argument(model_package_arn=version(9)),),
    ),
    "throttling, HTTP 5xx, no response, or expired credentials": tuple(
        (each, outage) for each in TARGETS
    ),
    "the same, until the time is over": (
        *(
            (
                each,
                argument(timeout=20 * MINUTE),
                lambda world: world.fault(7, *EXPIRED),
            )
            for each in TARGETS
        ),
        (
            argument(model_package_group=GROUP),
            timer,
            lambda world: world.emulator.control.add_fault("throttle"),
        ),
    ),
    "timeout has passed": tuple(
        (each, argument(timeout=20 * MINUTE)) for each in TARGETS
    ),
    "execution_timeout has passed, and is shorter": tuple(
        (each, timer) for each in TARGETS
    ),
    "no execution was created in the window": ((window,),),
    "the execution has failed": ((partial(execution, scenario=FAILED_STEP),),),
    "the awaited step has failed": ((failed_step,),),
    'the execution was stopped (on_cancelled="fail")': ((stopped,),),
    'the model was rejected (on_rejected="fail")': ((rejected,),),
    "the model package cannot be used": ((broken,),),
    "the model package group has no version": ((argument(model_package_group=GROUP),),),
}


def run_world(world: World, **ti: Any) -> Run:
    """
    Run the sensor to its end.

    :param ti: of its task instance.
    """
    is_approval = any(name.startswith("model_package") for name in world.arguments)
    sensor: Any = partial(PolysyncPipelineSensor, progress_interval=None)
    if is_approval:
        sensor = PolysyncModelApprovalSensor
    arguments = {
        "task_id": "wait",
        "poke_interval": 10 * MINUTE,
        "timeout": 3 * HOUR,
        **MODES[world.mode],
    }
    return run_sensor(
        sensor(**arguments | world.arguments),
        TaskInstance("wait", task_state_store=JsonStore(), **ti),
    )


def outcome_of(run: Run) -> str:
    """Return what has become of a task, in the words of the table."""
    error = run.error
    if error is None:
        return "goes on"
    if isinstance(error, AirflowSkipException):
        return "skipped"
    is_final = isinstance(error, (AirflowFailException, AirflowSensorTimeout))
    forbidden = PolysyncRetryPolicy().evaluate(error, 1, 3).action is RetryAction.FAIL
    return "fails" if is_final or forbidden else "fails, retries"


def test_table_has_all_rows() -> None:
    """Each row of the page is tested here, and no other one."""
    assert TABLE.keys() - {"What happens"} == ROWS.keys()


def cells(row: str) -> list[str]:
    """
    Return what the table says of ``poke``, ``reschedule`` and ``deferrable``, and of
    ``soft_fail``.
    """
    outcome, with_soft_fail = (
        cell.strip() for cell in TABLE[row].strip("| ").split("|")
    )
    usual, _, exception = outcome.partition("; with `mode=")
    mode, _, other = exception.partition("`: ")
    return [
        *(other if f'"{name}"' == mode else usual for name in MODES_OF_CELLS),
        with_soft_fail,
    ]


def other_modes(number: int, row: str) -> list[tuple[str, bool]]:
    """
    Return the modes beside ``deferrable`` in which a row is tried: both if they differ,
    otherwise one in turn.
    """
    both = [("poke", False), ("reschedule", False)]
    return both if len({*cells(row)[:3]}) > 1 else [both[number % 2]]


# What a trigger ends by itself is an event, or an error, like others: each kind of end
# once.
IN_TRIGGERER = (
    "an argument is not valid",
    "the connection is deleted during the wait",
    "AWS denies a call, for example because a role was revoked",
    "timeout has passed",
    "the execution has failed",
    'the model was rejected (on_rejected="fail")',
)
# Each row is tried with soft_fail, and in the modes that differ; for all that a sensor
# can wait for, in one mode.
CASES = [
    ("deferrable", False, row, stages) for row, each in ROWS.items() for stages in each
] + [
    (mode, soft_fail, row, each[number % len(each)])
    for number, (row, each) in enumerate(ROWS.items())
    for mode, soft_fail in (*other_modes(number, row), ("deferrable", True))
]
if "triggerer" in MODES:
    CASES += [
        ("triggerer", number % 2 == 0, row, each[number % len(each)])
        for number, (row, each) in enumerate(ROWS.items())
        if row in IN_TRIGGERER
    ]


@pytest.mark.parametrize(
    ("mode", "soft_fail", "row", "stages"),
    [pytest.param(*case, id=f"{case[2]}: {case[0]}") for case in CASES],
)
def test_outcome_is_that_of_the_table(
    row: str,
    stages: tuple[Callable[[World], Any], ...],
    mode: str,
    soft_fail: bool,
    world: World,
) -> None:
    """Both sensors, whatever they wait for, end as the page says for the mode."""
    world.mode = mode
    world.arguments["soft_fail"] = soft_fail
    for stage in stages:
        stage(world)

    run = run_world(world)

    *modes, with_soft_fail = cells(row)
    columns = dict(zip(MODES_OF_CELLS, modes, strict=True))
    expected = columns["deferrable" if mode == "triggerer" else mode]
    if soft_fail and with_soft_fail == "skipped" and expected.startswith("fails"):
        expected = "skipped"
    assert outcome_of(run) == expected, repr(run.error)


@pytest.mark.parametrize(
    ("target", "mode"),
    [*zip(TARGETS, ("poke", "reschedule", "deferrable"), strict=True)],
)
def test_never_fail_skips_after_every_error(
    target: Callable[[World], Any], mode: str, world: World
) -> None:
    """That is what it is for."""
    world.mode = mode
    world.arguments["never_fail"] = True
    target(world)
    world.fault(7, *DENIED)

    assert isinstance(run_world(world).error, AirflowSkipException)


@pytest.mark.parametrize(
    "make",
    [
        partial(PolysyncPipelineSensor, execution_arn=ARN),
        partial(PolysyncModelApprovalSensor, model_package_arn=version(1)),
    ],
)
def test_trigger_that_has_failed_is_not_skipped(make: Callable[..., Any]) -> None:
    """
    Airflow's own sensors skip after a deferral, whatever the error; a bug is no answer
    of AWS's.
    """
    sensor = make(task_id="wait", deferrable=True, soft_fail=True)
    context = TaskInstance("wait").context(sensor)

    with pytest.raises(Exception, match="Trigger failure") as caught:
        sensor.resume_execution("__fail__", {"error": "Trigger failure"}, context)

    assert type(caught.value).__name__ == "TaskDeferralError"


@pytest.mark.parametrize("target", [execution, approval])
def test_time_of_airflow_may_end_first(
    target: Callable[[World], Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Airflow's loop has a clock of its own. The task waits for its deadline, and ends
    with its XComs.
    """
    world.arguments["timeout"] = 20 * MINUTE + 0.5
    target(world)
    module: Any = import_module(BaseSensorOperator.__module__)
    monkeypatch.setattr(module.time, "monotonic", lambda: 1.001 * world.time.time())

    run = run_world(world)

    assert outcome_of(run) == "fails"
    assert "the limit of 20 min" in str(run.error)
    assert (
        run.xcoms.get("approval_status", "PendingManualApproval")
        == "PendingManualApproval"
    )
    assert run.xcoms.keys() & {"run", "approval_status"}


@pytest.mark.skipif(
    not CAPABILITIES.task_sdk, reason="Airflow 2 tells a task of no reschedules"
)
@pytest.mark.parametrize("mode", ["poke", "deferrable"])
@pytest.mark.parametrize("target", [execution, approval])
def test_time_goes_on_in_a_rescheduled_try(
    target: Callable[[World], Any], mode: str, world: World
) -> None:
    """A retry policy has rescheduled it fifty minutes ago: that was no new try."""
    world.arguments["timeout"] = HOUR
    target(world)
    world.mode = mode
    began = world.time.time()

    run = run_world(world, first_session=at(began - 50 * MINUTE), reschedules=1)

    assert outcome_of(run) == "fails"
    assert world.time.time() - began < 11 * MINUTE


def test_search_takes_time_from_the_wait(world: World) -> None:
    """An execution that is found after 25 minutes has one minute left."""
    world.arguments["timeout"] = 26 * MINUTE
    world.mode = "deferrable"
    began = world.time.time()
    search(world)

    run = run_world(world)

    assert (outcome_of(run), run.xcoms["state"]) == ("fails", "Running")
    assert world.time.time() - began < 27 * MINUTE
