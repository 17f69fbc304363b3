"""
The outcomes of the Stop operator, in both modes; and Start and Stop without a wait.
"""

from __future__ import annotations

from typing import Any

import pytest

from polysync_airflow import exceptions
from polysync_airflow.operators import (
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from sagemaker_emulator import EmulatorServer
from tests.fakes.log_capture import capture_logs
from tests.tasks import EmulatedTime, Run, run_task
from tests.unit.operators.outcome_cases import (
    FAILED_STEP,
    MINUTES,
    Case,
    comparable_log,
    fault,
    run_in_both_modes,
    scenario,
)

CASES = [
    Case("Stopped", "Cancelled", stops=1),
    Case("already Succeeded", "Success", arguments={"after": 40 * MINUTES}),
    Case(
        "already Succeeded, fail_if_not_running",
        "",
        arguments={"after": 40 * MINUTES, "fail_if_not_running": True},
        error=exceptions.PipelineExecutionError,
        texts=("had already ended", "Succeeded"),
    ),
    Case("Failed", "Failed", (scenario(**FAILED_STEP),), {"after": 40 * MINUTES}),
    Case(
        "delayed by a callback step",
        "",
        arguments={
            "pipeline": "callback-lambda",
            "timeout": 30 * MINUTES,
            "after": 2 * MINUTES,
        },
        error=exceptions.PipelineExecutionTimeoutError,
        texts=("may still be running", "Stopping"),
        stops=1,
    ),
    Case(
        "poll refused permanently",
        "",
        (fault("error", code="AccessDeniedException", message="not you", skip=1),),
        error=exceptions.SageMakerApiError,
        texts=("sagemaker:DescribePipelineExecution", "may still be running"),
        stops=1,
    ),
    Case(
        "stop refused permanently",
        "",
        (
            fault(
                "error",
                "StopPipelineExecution",
                code="AccessDeniedException",
                message="not you",
            ),
        ),
        error=exceptions.SageMakerApiError,
        texts=("sagemaker:StopPipelineExecution",),
        stops=1,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outcome_of_stop(
    case: Case, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """Result, error and log are as expected and the same in both modes."""
    arguments = dict(case.arguments)
    after, pipeline = (
        arguments.pop("after", 5 * MINUTES),
        arguments.pop("pipeline", "fanout"),
    )

    def run(deferrable: bool) -> tuple[Run, Any]:
        emulator.control.reset()
        for stage in case.stages:
            stage(emulator, emulated_time)
        parameters = {"Approver": "me"} if pipeline == "callback-lambda" else {}
        started = run_task(
            PolysyncStartPipelineOperator(
                task_id="start",
                pipeline_name=pipeline,
                pipeline_parameters=parameters,
                wait_for_completion=False,
            )
        )
        emulated_time.sleep(after)
        operator = PolysyncStopPipelineOperator(
            task_id="stop",
            execution_arn=started.result,
            deferrable=deferrable,
            poll_interval=60,
            **arguments,
        )
        with capture_logs() as logs:
            outcome = run_task(operator)
        return outcome, comparable_log(logs)

    if (
        case.arguments.get("after")
        and case.error is not exceptions.PipelineExecutionTimeoutError
    ):
        outcome, _ = run(deferrable=True)
        assert outcome.trigger is None, (
            "the task must not wait for an execution that has ended"
        )
    elif "stop refused" in case.name:
        outcome, _ = run(deferrable=True)
    else:
        outcome = run_in_both_modes(run)

    assert type(outcome.error) is (case.error or type(None)), outcome.error
    for text in case.texts:
        assert text in str(outcome.error)
    assert outcome.result == (case.state or None)
    assert len(emulator.control.calls("StopPipelineExecution")) == case.stops


def test_task_without_wait_returns_at_once(
    deferrable: bool, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    With ``wait_for_completion=False`` there is no trigger and no sleep, in either mode.
    """
    arguments: dict[str, Any] = {"deferrable": deferrable, "wait_for_completion": False}

    start = run_task(
        PolysyncStartPipelineOperator(
            task_id="start", pipeline_name="fanout", **arguments
        )
    )
    stop = run_task(
        PolysyncStopPipelineOperator(
            task_id="stop", execution_arn=start.result, **arguments
        )
    )

    assert start.result.startswith(
        "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/"
    )
    assert stop.result == "Running"
    assert (start.trigger, stop.trigger, emulated_time.slept) == (None, None, [])
