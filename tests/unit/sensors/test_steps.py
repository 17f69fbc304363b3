"""
A sensor that waits for one step, in all modes: it ends with the step, not with the
execution.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow import exceptions
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime
from tests.unit.sensors.sessions import (
    HOUR,
    MODES,
    airflow_time,  # noqa: F401 # fixture
    calls_that_change,
    make_sensor,
    run_sensor,
    start_execution,
    stop_execution,
)

ENDLESS = {"Merge": {"duration": None}}
FAILING = {"Shard3": {"fail": {"reason": "AlgorithmError: no data in shard 3"}}}
CASES: dict[
    str,
    tuple[dict[str, Any], dict[str, Any], type[BaseException] | None, tuple[str, ...]],
] = {
    "succeeds": ({"steps": ENDLESS}, {"step_name": "Shard0"}, None, ()),
    "fails": (
        {"steps": {**ENDLESS, **FAILING}},
        {"step_name": "Shard3"},
        exceptions.PipelineExecutionFailedError,
        (
            "Step Shard3 of pipeline fanout failed",
            "AlgorithmError: no data in shard 3",
            "Console: https://",
        ),
    ),
    "succeeds in an execution that fails": (
        {"steps": FAILING},
        {"step_name": "Shard0"},
        None,
        (),
    ),
    "is not run": (
        {"steps": FAILING},
        {"step_name": "Merge"},
        exceptions.PipelineExecutionFailedError,
        (
            "Pipeline fanout failed",
            "Step Shard3 failed",
            "Step Merge, for which this task waits, has not ended",
        ),
    ),
    "does not exist": (
        {},
        {"step_name": "shard0"},
        exceptions.ParametersError,
        ("step_name = 'shard0' is not a step of the pipeline: do you mean 'Shard0'?",),
    ),
    "takes too long": (
        {"steps": ENDLESS},
        {"step_name": "Merge", "timeout": HOUR},
        exceptions.PipelineExecutionTimeoutError,
        (
            "did not end before the timeout",
            "Step Merge, for which this task waits, has not ended",
        ),
    ),
    "is stopped": (
        {"steps": ENDLESS},
        {"step_name": "Merge"},
        exceptions.PipelineExecutionCancelledFailError,
        ("Step Merge of pipeline fanout was stopped",),
    ),
}
# What is decided without the mode, from the same rows of steps as the other cases.
IN_ONE_MODE = (
    "succeeds in an execution that fails",
    "is not run",
    "does not exist",
    "takes too long",
    "is stopped",
)
ONE_MODE = ("deferrable",)


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (name, mode)
        for name in CASES
        for mode in (ONE_MODE if name in IN_ONE_MODE else MODES)
    ],
)
def test_outcome_is_that_of_the_step(
    name: str,
    mode: str,
    emulator: EmulatorServer,
    airflow_time: EmulatedTime,  # noqa: F811
) -> None:
    """The execution goes on, and what the step has made is in the XComs."""
    scenario, arguments, error, texts = CASES[name]
    emulator.control.put_scenario(scenario)
    arn = start_execution()
    is_stopped = error is exceptions.PipelineExecutionCancelledFailError
    if is_stopped:
        airflow_time.after(HOUR, lambda: stop_execution(arn))
    begin = airflow_time.time()

    run = run_sensor(
        make_sensor(mode, execution_arn=arn, poke_interval=300, **arguments)
    )

    assert type(run.error) is (error or type(None)), run.error
    for text in texts:
        assert text in str(run.error)
    if error is None:
        assert run.result == run.xcoms["execution_arn"] == arn
        states = {row["name"]: row["state"] for row in run.xcoms["steps"]}
        assert states["Shard0"] == "Success"
        # All shards end at the same time, and with one of them the execution.
        assert run.xcoms["state"] == (
            "Running" if "Merge" in scenario["steps"] else "Failed"
        )
        assert "Shard0" in run.xcoms["outputs"]
        # Merge comes last, and begins about forty minutes after the start.
        assert airflow_time.time() - begin < HOUR
    changes = [
        "StartPipelineExecution",
        *(["StopPipelineExecution"] if is_stopped else []),
    ]
    assert calls_that_change(emulator) == changes


def test_deferred_step_has_a_trigger_of_its_own(
    emulator: EmulatorServer,
    airflow_time: EmulatedTime,  # noqa: F811
) -> None:
    """The stored trigger names the step, and stops nothing."""
    run = run_sensor(
        make_sensor("deferrable", execution_arn=start_execution(), step_name="Merge")
    )

    assert run.error is None
    assert run.trigger is not None
    path, arguments = run.trigger
    assert path == "polysync_airflow.triggers.PolysyncPipelineStepTrigger"
    assert arguments["step_name"] == "Merge"
    assert arguments["stop_on_kill"] is False
    assert arguments["progress_interval"] == 60
    assert run.event["outcome"] in ("step_ended", "ended")
