"""What a test can set up and see, and the time in it."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from polysync_airflow.exceptions import (
    PipelineExecutionFailedError,
    PipelineExecutionTimeoutError,
)
from polysync_airflow.execution import clock
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncRunJobOperator,
    PolysyncStartPipelineOperator,
    PolysyncStopPipelineOperator,
)
from polysync_airflow.testing.emulator import (
    EmulatedTime,
    PassingTime,
    SageMakerEmulator,
    emulator_for_test,
)
from sagemaker_emulator.builders import ROLE, definition, step
from tests.conftest import DEFINITIONS
from tests.tasks import Run, run_task
from tests.world import START, STOP

SECONDS = 20.0


@pytest.fixture
def emulator() -> Iterator[SageMakerEmulator]:
    """Return an emulator with the example pipelines."""
    with emulator_for_test() as running:
        yield running


def start(pipeline: str, **arguments: Any) -> Run:
    """Run a task that starts a pipeline."""
    parameters: dict[str, dict[str, Any]] = {
        "abalone": {"InputDataUrl": "s3://ml-bucket/abalone.csv"},
        "fanout": {"Shards": 5},
        "callback-lambda": {"Approver": "me"},
    }
    return run_task(
        PolysyncStartPipelineOperator(
            task_id="train",
            pipeline_name=pipeline,
            pipeline_parameters=parameters.get(pipeline),
            **arguments,
        )
    )


@pytest.mark.parametrize("deferrable", [True, False])
def test_waits_take_no_time(emulator: SageMakerEmulator, deferrable: bool) -> None:
    """
    An execution of hours ends within seconds, on a worker as well as deferred, and the
    host's time is not needed.
    """
    emulator.control.put_scenario({"steps": {"AbaloneTrain": {"duration": 10 * 3600}}})
    began = time.monotonic()

    run = start("abalone", deferrable=deferrable)

    assert time.monotonic() - began < SECONDS
    assert run.error is None
    assert run.xcoms["run"]["seconds"] > 10 * 3600


@pytest.mark.parametrize("deferrable", [True, False])
def test_timeout_is_reached_in_the_time_of_the_provider(
    emulator: SageMakerEmulator, deferrable: bool
) -> None:
    """
    A step that never ends lets the timeout of an hour end the task, and the stop is
    waited for.
    """
    emulator.keep_step_running("AbaloneTrain")
    began = time.monotonic()

    run = start("abalone", deferrable=deferrable, timeout=3600, poll_interval=300)

    assert time.monotonic() - began < SECONDS
    assert isinstance(run.error, PipelineExecutionTimeoutError)
    assert "the limit of 1 h" in str(run.error)
    assert len(emulator.control.calls(STOP)) == 1


def test_execution_can_be_stopped_while_a_step_keeps_running(
    emulator: SageMakerEmulator,
) -> None:
    """
    Between two tasks the emulated time passes only as fast as the speed, so a stop
    finds the execution running.
    """
    emulator.keep_step_running("Merge", pipeline="fanout")
    arn = start("fanout", wait_for_completion=False).result

    stopped = run_task(PolysyncStopPipelineOperator(task_id="stop", execution_arn=arn))

    assert stopped.result == "Cancelled"


def test_set_ups_add_up(emulator: SageMakerEmulator) -> None:
    """
    A second set-up of the same pipeline keeps the first one, and the default scenario.
    """
    text = (DEFINITIONS / "churn_tuning.json").read_text()
    text = text.replace(
        '"PropertyFiles": [',
        '"PropertyFiles": [{"PropertyFileName": "Other", "OutputName": "evaluation",'
        ' "FilePath": "other.json"},',
    )
    client: Any = PolysyncSageMakerHook().conn
    client.update_pipeline(PipelineName="churn-tuning", PipelineDefinition=text)
    emulator.control.put_scenario({"step_delay": 5})

    emulator.fail_step("ChurnPreprocess", "CapacityError: none", times=2)
    emulator.set_property_file("ChurnEvaluate", "Eval", {"auc": 0.1})
    emulator.set_property_file("ChurnEvaluate", "Other", 7)
    emulator.set_metric("ChurnTune", "validation:auc", 0.8)
    emulator.set_metric("ChurnTune", "validation:logloss", 0.3)

    assert emulator.control.scenarios()["pipelines"] == {
        "churn-tuning": {
            "step_delay": 5,
            "steps": {
                "ChurnPreprocess": {
                    "fail": {"reason": "CapacityError: none", "times": 2}
                },
                "ChurnTune": {
                    "metrics": {"validation:auc": 0.8, "validation:logloss": 0.3}
                },
                "ChurnEvaluate": {"property_files": {"Eval": {"auc": 0.1}, "Other": 7}},
            },
        }
    }


def test_unknown_names_are_errors(emulator: SageMakerEmulator) -> None:
    """
    A misspelt step or pipeline would make a test pass or fail for the wrong reason. A
    task may yet make a pipeline with such a step, until the end of the test.
    """
    with pytest.raises(
        ValueError,
        match="no step 'Merge' in pipeline 'abalone'; the steps are: abalone: ",
    ):
        emulator.keep_step_running("Merge", pipeline="abalone")
    assert emulator.control.scenarios() == {"default": None, "pipelines": {}}
    emulator.fail_step("AbaloneTrian", "No data")
    with pytest.raises(
        ValueError,
        match=r"no step 'AbaloneTrian'; the steps are: abalone: .*AbaloneTrain.*; fanout: ",
    ):
        emulator.check_awaited_steps()
    emulator.set_metric("Merge", "auc", 1)
    with pytest.raises(
        ValueError,
        match="no step 'Merge' of the type Training or Tuning or AutoML; the steps",
    ):
        emulator.check_awaited_steps()


def test_plan_is_for_the_pipeline_that_a_task_makes() -> None:
    """
    Its name is not known before, unless the author gives one. An ended test tells of a
    step that never was.
    """
    config = {
        "AppSpecification": {
            "ImageUri": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/a:1"
        },
        "ProcessingResources": {
            "ClusterConfig": {
                "InstanceCount": 1,
                "InstanceType": "ml.m5.large",
                "VolumeSizeInGB": 1,
            }
        },
        "RoleArn": ROLE,
    }

    def run(name: str | None) -> BaseException | None:
        return run_task(
            PolysyncRunJobOperator(
                task_id="report",
                job_type="Processing",
                config=config,
                pipeline_name=name,
            )
        ).error

    with emulator_for_test() as emulator:
        emulator.fail_step("report", "No data")
        emulator.fail_step("report", "No disk", pipeline="named")
        errors = [str(run(None)), str(run("named"))]

    reasons = [{*re.findall("No data|No disk", error)} for error in errors]
    assert reasons == [{"No data"}, {"No disk"}]
    with (
        pytest.raises(ValueError, match="no step 'report'"),
        emulator_for_test() as emulator,
    ):
        emulator.fail_step("report", "No data")


def test_violations_of_a_check_fail_its_step(emulator: SageMakerEmulator) -> None:
    """They fail the step, and its report is named in the XCom."""
    client: Any = PolysyncSageMakerHook().conn
    text = definition(step("CheckData", "QualityCheck"))
    client.update_pipeline(PipelineName="churn-tuning", PipelineDefinition=text)
    emulator.set_violations(
        "CheckData", [{"feature_name": "age", "description": "Less complete"}]
    )

    run = start("churn-tuning")

    assert (
        "Step CheckData failed: ClientError: Quality check failed. See violation report."
        in str(run.error)
    )
    report = run.xcoms["outputs"]["CheckData"]["violation_report"]
    assert report.endswith("/constraint_violations.json")


def test_starts_are_those_that_had_an_effect(emulator: SageMakerEmulator) -> None:
    """A request that is repeated is one start; a refused or lost one is none."""
    emulator.control.add_fault("lost_response", START, count=1)
    emulator.control.add_fault("dropped", START, count=1)
    emulator.control.add_fault("throttle", START, count=1)
    start("fanout", execution_display_name="first", wait_for_completion=False)
    start("no-such-pipeline", wait_for_completion=False)
    start("abalone", wait_for_completion=False)

    assert [(s.pipeline_name, s.parameters) for s in emulator.starts()] == [
        ("fanout", {"Shards": "5"}),
        ("abalone", {"InputDataUrl": "s3://ml-bucket/abalone.csv"}),
    ]
    assert [s.display_name for s in emulator.starts("fanout")] == ["first"]


def test_environment_and_clock_are_restored_after_an_error() -> None:
    """Also when the body of the test fails."""
    before = (dict(os.environ), clock._clock)

    with pytest.raises(RuntimeError), emulator_for_test(connections=["team_a"]):  # noqa: PT012 # what is left behind
        assert "AIRFLOW_CONN_TEAM_A" in os.environ
        assert isinstance(clock._clock, PassingTime)
        raise RuntimeError

    assert (dict(os.environ), clock._clock) == before


def test_time_passes_while_the_provider_waits_only() -> None:
    """
    A wait for a message passes at once if nothing is running; the emulated time is
    faster by the speed.
    """
    passing = PassingTime()
    emulated = EmulatedTime(passing, 60)
    began = passing.time()
    emulated_began = emulated.now()
    host_began = time.time()

    passing.sleep(100)
    assert passing.timeout(50, idle=True) == 0
    assert passing.timeout(50, idle=False) == 50
    assert passing.timeout(None, idle=True) is None

    assert time.time() - host_began < SECONDS
    assert 150 <= passing.time() - began < 150 + SECONDS
    assert 60 * 150 <= emulated.now() - emulated_began < 60 * (150 + SECONDS)


@pytest.mark.parametrize("deferrable", [True, False])
def test_callback_is_answered_with_success_or_failure(
    emulator: SageMakerEmulator, deferrable: bool
) -> None:
    """
    One line answers a callback step, with success or with a failure; the last line
    counts.
    """
    pipeline = "callback-lambda"
    emulator.answer_callback("WaitForApproval", failure="Not approved")
    rejected = start(pipeline, deferrable=deferrable)
    emulator.answer_callback("WaitForApproval", {"ok": "yes"}, pipeline=pipeline)
    approved = start(pipeline, deferrable=deferrable)

    assert isinstance(rejected.error, PipelineExecutionFailedError)
    assert "Step WaitForApproval failed: Not approved" in str(rejected.error)
    assert approved.error is None
    answer = approved.xcoms["outputs"]["WaitForApproval"]["output_parameters"]
    assert answer == {"ok": "yes"}
