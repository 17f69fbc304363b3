"""
The outcomes of the sensor: each test case runs in all modes, with the same result,
XComs and errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException

from polysync_airflow import exceptions
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, Run
from tests.unit.sensors.sessions import (
    HOUR,
    MODES,
    airflow_time,  # noqa: F401 # fixture
    at,
    calls_that_change,
    make_sensor,
    run_sensor,
    start_execution,
    stop_execution,
)

FAILED_STEP = {
    "steps": {"Shard3": {"fail": {"reason": "AlgorithmError: no data in shard 3"}}}
}
ENDLESS = {"steps": {"Merge": {"duration": None}}}
# For what is decided without the mode.
ONE_MODE = ("deferrable",)


@dataclass
class Case:
    """
    One test case.

    :param state: the XCom ``state`` at the end; None if no execution is found.
    :param scenario: of the execution.
    :param arguments: of the sensor.
    :param after: seconds after which the execution is started; 0 for before the sensor;
        None for never.
    :param stop_after: seconds after which somebody stops it.
    :param fault: a fault of AWS: the kind, the operation and its members.
    :param texts: texts that the error contains.
    :param modes: in which it is run.
    """

    name: str
    state: str | None
    scenario: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    after: float | None = 600.0
    stop_after: float | None = None
    fault: tuple[str, str, dict[str, Any]] | None = None
    error: type[BaseException] | None = None
    texts: tuple[str, ...] = ()
    modes: tuple[str, ...] = tuple(MODES)


DENIED = {"code": "AccessDeniedException", "message": "not you"}
DESCRIBE = "DescribePipelineExecution"
CASES = [
    Case("Succeeded", "Success"),
    Case("Succeeded before", "Success", after=0, modes=ONE_MODE),
    Case(
        "Failed",
        "Failed",
        FAILED_STEP,
        error=exceptions.PipelineExecutionFailedError,
        texts=(
            "One or multiple steps failed",
            "Step Shard3 failed: AlgorithmError: no data in shard 3",
        ),
    ),
    Case(
        "CompletedWithFailures, succeed",
        "Failed",
        {"end_as": "CompletedWithFailures", **FAILED_STEP},
        {"on_completed_with_failures": "succeed"},
        modes=ONE_MODE,
    ),
    Case(
        "Stopped",
        "Cancelled",
        stop_after=900,
        error=exceptions.PipelineExecutionCancelledFailError,
        texts=("was stopped",),
    ),
    Case(
        "Stopped, skip",
        "Cancelled",
        stop_after=900,
        arguments={"on_cancelled": "skip"},
        error=AirflowSkipException,
        modes=ONE_MODE,
    ),
    Case(
        "timeout of the execution",
        "Running",
        ENDLESS,
        {"timeout": HOUR},
        error=exceptions.PipelineExecutionTimeoutError,
        texts=(
            "did not end before the timeout",
            "the limit of 1 h",
            "has not stopped it",
        ),
    ),
    Case(
        "timeout of the search",
        None,
        arguments={"timeout": timedelta(hours=1)},
        after=None,
        error=exceptions.PipelineExecutionTimeoutError,
        texts=(
            "No execution was found within 1 h",
            "the first execution of pipeline fanout",
        ),
    ),
    Case(
        "execution deleted",
        "Running",
        fault=(
            "error",
            DESCRIBE,
            {"code": "ResourceNotFound", "message": "no such execution", "skip": 2},
        ),
        error=exceptions.SageMakerApiError,
        texts=("no such execution", "has not stopped it"),
        # The last poke of a rescheduled sensor does not know the status that the ones
        # before have seen.
        modes=("poke", "deferrable"),
    ),
    Case(
        "parameters cannot be read",
        "Success",
        fault=("error", "ListPipelineParametersForExecution", DENIED),
        modes=ONE_MODE,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outcome_is_the_same_in_all_modes(
    case: Case,
    emulator: EmulatorServer,
    airflow_time: EmulatedTime,  # noqa: F811
) -> None:
    """
    Result, XComs and error are those of the table, and the sensor changes nothing in
    AWS.
    """
    runs = {mode: run_case(case, mode, emulator, airflow_time) for mode in case.modes}

    for mode, run in runs.items():
        assert type(run.error) is (case.error or type(None)), (mode, run.error)
        for text in case.texts:
            assert text in str(run.error), mode
        assert run.xcoms.get("state") == case.state, mode
        if case.error is None:
            assert (
                run.result
                == run.xcoms["execution_arn"]
                == run.xcoms["run"]["execution_arn"]
            )
            assert run.xcoms["run"]["pipeline_name"] == "fanout"
            assert {row["state"] for row in run.xcoms["steps"]} <= {
                "Success",
                "Failed",
                "NotStarted",
            }
        if case.state:
            assert "console.aws.amazon.com" in run.xcoms["console_url"]
    assert len({comparable(run) for run in runs.values()}) == 1, {
        m: comparable(r) for m, r in runs.items()
    }


def run_case(
    case: Case, mode: str, emulator: EmulatorServer, clock: EmulatedTime
) -> Run:
    """Run a case in one mode."""
    emulator.control.reset()
    clock.at.clear()
    emulator.control.put_scenario(case.scenario)
    begin, started = clock.time(), list[str]()
    if case.after == 0:
        started.append(start_execution())
    elif case.after is not None:
        clock.after(case.after, lambda: started.append(start_execution()))
    if case.stop_after:
        clock.after(case.stop_after, lambda: stop_execution(started[0]))
    if case.fault:
        kind, operation, members = case.fault
        emulator.control.add_fault(kind, operation, **members)
    arguments = {"poke_interval": 300, **case.arguments}
    sensor = make_sensor(
        mode, pipeline_name="fanout", created_after=at(begin - 1), **arguments
    )

    run = run_sensor(sensor)

    expected = ["StartPipelineExecution"] * len(started) + [
        "StopPipelineExecution"
    ] * bool(case.stop_after)
    assert calls_that_change(emulator) == expected
    if mode == "deferrable" and case.after and not case.fault:
        assert run.trigger is not None
    return run


def comparable(run: Run) -> str:
    """Return what must be the same in all modes."""
    keys = ("state", "run", "outputs", "console_url", "execution_arn")
    text = repr(
        (
            type(run.error),
            str(run.error),
            run.result,
            {key: run.xcoms.get(key) for key in keys},
        )
    )
    text = re.sub(r"execution/[a-z0-9]{12}", "execution/ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\dT[^', ]*", "TIME", text)
    # The modes begin their polls at other moments.
    return re.sub(r"'parameters': {[^}]*}", "PARAMETERS", text)


@pytest.mark.parametrize("mode", MODES)
def test_xcoms_are_there_while_the_execution_runs(
    mode: str,
    emulator: EmulatorServer,
    airflow_time: EmulatedTime,  # noqa: F811
) -> None:
    """
    Links, state, steps and, except in reschedule mode, parameters can be seen before
    the execution has ended.
    """
    from tests.tasks import TaskInstance

    ti, seen = TaskInstance("wait"), list[dict[str, Any]]()
    arn = start_execution(Shards="4")
    airflow_time.after(500, lambda: seen.append(dict(ti.xcoms)))

    run = run_sensor(make_sensor(mode, execution_arn=arn), ti)

    assert run.error is None
    (xcoms,) = seen
    assert xcoms["execution_arn"] == arn
    assert arn.rsplit("/", 1)[-1] in xcoms["console_url"]
    assert xcoms["state"] == xcoms["run"]["state"] == "Running"
    assert {row["name"] for row in xcoms["steps"]} >= {"Shard0", "Shard3"}
    if mode != "reschedule":
        assert xcoms["run"]["parameters"] == {"Shards": "4"}
    assert run.xcoms["run"]["parameters"] == {"Shards": "4"}
