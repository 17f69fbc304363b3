"""
The outcomes of the Start operator: each test case runs in both modes against the
emulator.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
)

from polysync_airflow import exceptions
from polysync_airflow.operators import PolysyncStartPipelineOperator
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


def stop_by_user(emulator: EmulatorServer, clock: EmulatedTime) -> None:
    """Stop the running execution after a minute, as a user does."""

    def stop() -> None:
        from polysync_airflow.hooks import PolysyncSageMakerHook

        started = [
            c
            for c in emulator.control.calls("StartPipelineExecution")
            if c["status"] == 200
        ]
        assert started
        hook = PolysyncSageMakerHook()
        client: Any = hook.conn
        page = client.list_pipeline_executions(PipelineName="fanout")
        hook.stop_pipeline_execution(
            page["PipelineExecutionSummaries"][0]["PipelineExecutionArn"]
        )

    clock.after(60, stop)


CASES = [
    Case("Succeeded", "Success"),
    Case(
        "Failed",
        "Failed",
        (scenario(**FAILED_STEP),),
        error=exceptions.PipelineExecutionFailedError,
        texts=(
            "One or multiple steps failed",
            "Step Shard3 failed: AlgorithmError: no data in shard 3",
        ),
    ),
    Case(
        "Failed, steps cannot be listed",
        "Failed",
        (
            scenario(**FAILED_STEP),
            fault(
                "error",
                "ListPipelineExecutionSteps",
                code="AccessDeniedException",
                message="not you",
            ),
        ),
        error=exceptions.PipelineExecutionFailedError,
        texts=(
            "One or multiple steps failed",
            "could not be listed",
            "sagemaker:ListPipelineExecutionSteps",
        ),
    ),
    Case(
        "Stopped",
        "Cancelled",
        (stop_by_user,),
        error=exceptions.PipelineExecutionCancelledFailError,
        texts=("was stopped",),
        stops=1,
    ),
    Case(
        "Stopped, skip",
        "Cancelled",
        (stop_by_user,),
        {"on_cancelled": "skip"},
        AirflowSkipException,
        stops=1,
    ),
    Case(
        "timeout",
        "Running",
        (scenario(steps={"Merge": {"duration": None}}),),
        {"timeout": 60 * MINUTES},
        exceptions.PipelineExecutionTimeoutError,
        ("Executing", "the limit of 1 h", "asked to stop"),
        stops=1,
    ),
    Case(
        "timeout, stop_on_kill=False",
        "Running",
        (scenario(steps={"Merge": {"duration": None}}),),
        {"timeout": 60 * MINUTES, "stop_on_kill": False},
        exceptions.PipelineExecutionTimeoutError,
        ("keeps running",),
    ),
    Case(
        "execution_timeout before timeout",
        "Running",
        (scenario(steps={"Merge": {"duration": None}}),),
        {"timeout": 8 * 60 * MINUTES, "execution_timeout": timedelta(minutes=20)},
        exceptions.PipelineExecutionTimeoutError,
        ("the limit of 20 min", "asked to stop"),
        stops=1,
    ),
    Case(
        "timeout, but the execution had ended",
        "Success",
        (fault("throttle", seconds=30 * MINUTES + 0.5),),
        {"timeout": 30 * MINUTES},
        exceptions.PipelineExecutionTimeoutError,
        ("has ended or is stopping", "Succeeded"),
        stops=2,
    ),
    Case("throttled for some time", "Success", (fault("throttle", count=5),)),
    Case(
        "poll refused permanently",
        "Running",
        (fault("error", code="AccessDeniedException", message="not you"),),
        error=exceptions.SageMakerApiError,
        texts=("sagemaker:DescribePipelineExecution", "asked to stop"),
        stops=1,
    ),
]
# What a worker decides in both modes, after the wait.
IN_ONE_MODE = (
    "Failed, steps cannot be listed",
    "Stopped, skip",
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outcome_of_start(
    case: Case, emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    Result, XComs, error, log and calls are as expected and the same in both modes,
    except for the polls.
    """

    def run(deferrable: bool) -> tuple[Run, Any]:
        emulator.control.reset()
        emulated_time.at.clear()
        for stage in case.stages:
            stage(emulator, emulated_time)
        operator = PolysyncStartPipelineOperator(
            task_id="train",
            pipeline_name="fanout",
            deferrable=deferrable,
            poll_interval=120,
            # The modes list the steps at other times than each other;
            # outcome/test_steps.py tests that.
            progress_interval=None,
            **case.arguments,
        )
        with capture_logs() as logs:
            outcome = run_task(operator)
        return outcome, (_calls_without_polls(emulator), comparable_log(logs))

    outcome = run(True)[0] if case.name in IN_ONE_MODE else run_in_both_modes(run)

    assert type(outcome.error) is (case.error or type(None)), outcome.error
    for text in case.texts:
        assert text in str(outcome.error)
    assert outcome.xcoms["state"] == outcome.xcoms["run"]["state"] == case.state
    if case.error is None:
        assert outcome.result == outcome.xcoms["execution_arn"]
    stops = emulator.control.calls("StopPipelineExecution")
    assert len(stops) == case.stops


def _calls_without_polls(emulator: EmulatorServer) -> list[str]:
    polls = ("DescribePipelineExecution", "ListPipelineExecutions")
    return [
        call["operation"]
        for call in emulator.control.calls()
        if call["operation"] not in polls
    ]


def test_execution_stopped_by_a_user_does_not_use_retries() -> None:
    """
    The error of ``on_cancelled="fail"`` is an AirflowFailException and a
    PipelineExecutionCancelledError.
    """
    assert issubclass(
        exceptions.PipelineExecutionCancelledFailError, AirflowFailException
    )
    assert not issubclass(
        exceptions.PipelineExecutionCancelledError, AirflowFailException
    )


def test_changes_of_the_status_are_logged_once(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """
    A wait of many polls logs one line per change, with the status before the pipeline
    and the ARN.
    """
    emulator.control.put_scenario(
        {"statuses": [{"status": "Pausing", "after": 100, "until": 400}]}
    )
    operator = PolysyncStartPipelineOperator(
        task_id="train", pipeline_name="fanout", poll_interval=30
    )

    with capture_logs() as logs:
        arn = run_task(operator).result

    lines = [
        line.replace(arn, "ARN")
        for line in (f"{e['log_level']}: {e['event']}" for e in logs)
    ]
    label = "Pipeline fanout, execution ARN"
    assert [line for line in lines if label in line][:5] == [
        f"info: Executing: {label}",
        f"info: Executing -> Pausing: {label}",
        "warning: Status 'Pausing' is unknown to this version; the wait goes on, until the timeout at the "
        f"latest: {label}",
        f"info: Pausing -> Executing: {label}",
        f"info: Executing -> Succeeded: {label}",
    ]
    assert len(emulator.control.calls("DescribePipelineExecution")) > 10


def test_refused_poll_is_followed_by_no_list(
    emulator: EmulatorServer, emulated_time: EmulatedTime
) -> None:
    """AWS would refuse the calls for the steps as well."""
    fault("error", code="AccessDeniedException", message="not you")(
        emulator, emulated_time
    )
    operator = PolysyncStartPipelineOperator(
        task_id="train",
        pipeline_name="fanout",
        poll_interval=120,
        progress_interval=None,
    )

    run = run_task(operator)

    assert isinstance(run.error, exceptions.SageMakerApiError)
    assert emulator.control.calls("ListPipelineExecutionSteps") == []
