"""
Pipelines with loops, in both modes: what a ForEach step runs has AWS's names wherever a
task shows or takes one.
"""

from __future__ import annotations

import re
from typing import Any

import moto.sqs.models
import pytest
from botocore.session import Session

from polysync_airflow import exceptions
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import (
    PolysyncCallbackStepOperator,
    PolysyncStartPipelineOperator,
    callback_run,
)
from sagemaker_emulator.builders import definition, step
from tests.conftest import IN_BOTH_MODES
from tests.fakes.log_capture import capture_logs, texts_of
from tests.tasks import EmulatedTime, Run, run_task
from tests.unit.sensors.sessions import (
    airflow_time,  # noqa: F401 # fixture
    start_execution,
)
from tests.world import World

FOLDER = {
    "LocalPath": "/opt/ml/out",
    "S3UploadMode": "EndOfJob",
    "S3Uri": {"Get": "ForEach.CurrentItem"},
}
# An old botocore leaves out of AWS's responses what it does not know.
STEP_SHAPE: Any = (
    Session().get_service_model("sagemaker").shape_for("PipelineExecutionStep")
)
IF_LOOPS_ARE_KNOWN = pytest.mark.skipif(
    "IterationContext" not in STEP_SHAPE.members,
    reason="this botocore has no ForEach steps",
)
OUTPUTS = [{"OutputName": "report", "S3Output": FOLDER}]
SCORE = step(
    "Score",
    Arguments={"ProcessingOutputConfig": {"Outputs": OUTPUTS}},
    PropertyFiles=[
        {"PropertyFileName": "Eval", "OutputName": "report", "FilePath": "eval.json"}
    ],
)
ASK = step(
    "Ask",
    "Callback",
    "Score",
    SqsQueueUrl="https://sqs.us-east-1.amazonaws.com/123456789012/asks",
)
ASK["Arguments"] = {"path": {"Get": "ForEach.CurrentItem"}}
LOOP = step(
    "Loop",
    "ForEach",
    "Prepare",
    Arguments={
        "IterableItems": ["s3://ml-bucket/a", "s3://ml-bucket/b"],
        "MaxConcurrency": 2,
        "ForEachBody": [SCORE, ASK],
    },
)
DEFINITION = definition(
    step("Prepare", "Lambda"), LOOP, step("Report", "Lambda", "Loop")
)
STEPS = ["Prepare", "Loop", "Score-0", "Score-1", "Ask-0", "Ask-1", "Report"]
SCENARIO: dict[str, Any] = {
    "Score-0": {"property_files": {"Eval": {"auc": 0.8}}},
    "Score-1": {"property_files": {"Eval": {"auc": 0.9}}, "duration": 250},
}
FAILED = {
    "fail": {"reason": "AlgorithmError: no data", "log_lines": ["reading", "no data"]}
}


@pytest.fixture(autouse=True)
def _pipeline(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        moto.sqs.models, "unix_time_millis", lambda *_: world.time.time() * 1000
    )
    monkeypatch.setattr(moto.sqs.models, "unix_time", lambda *_: world.time.time())
    monkeypatch.setattr(callback_run, "POLL_SECONDS", 0)
    world.control.put_scenario({"steps": SCENARIO})
    client: Any = PolysyncSageMakerHook().conn
    client.create_pipeline(
        PipelineName="loops",
        PipelineDefinition=DEFINITION,
        RoleArn="arn:aws:iam::123456789012:role/pipelines",
        ClientRequestToken="l" * 32,
    )


def run_loops(deferrable: bool, **arguments: Any) -> Run:
    """Run a task that starts the pipeline."""
    arguments = {"pipeline_name": "loops", "deferrable": deferrable, **arguments}
    return run_task(PolysyncStartPipelineOperator(task_id="run", **arguments))


def answer(arn: str, name: str, deferrable: bool = False) -> Run:
    """Run a task that answers a callback step."""
    operator = PolysyncCallbackStepOperator(
        task_id="answer",
        execution_arn=arn,
        step_name=name,
        python_callable=lambda path: {"asked": path},
        deferrable=deferrable,
        poll_interval=10,
    )
    return run_task(operator)


def answer_all() -> None:
    """
    Answer the callback steps of the only execution, which run, as their system does.
    """
    client: Any = PolysyncSageMakerHook().conn
    executions = client.list_pipeline_executions(PipelineName="loops")
    (execution,) = executions["PipelineExecutionSummaries"]
    arn = execution["PipelineExecutionArn"]
    steps = client.list_pipeline_execution_steps(PipelineExecutionArn=arn)
    for each in steps["PipelineExecutionSteps"]:
        if each["StepName"].startswith("Ask-"):
            token = each["Metadata"]["Callback"]["CallbackToken"]
            client.send_pipeline_execution_step_success(
                CallbackToken=token, ClientRequestToken=token * 4
            )


@IF_LOOPS_ARE_KNOWN
@IN_BOTH_MODES
def test_start_shows_what_a_loop_runs(
    deferrable: bool, emulated_time: EmulatedTime
) -> None:
    """
    The log, the XComs and the property files have AWS's names; the steps of a loop
    follow it.
    """
    emulated_time.after(600, answer_all)

    with capture_logs() as log:
        run = run_loops(deferrable, property_files=True, poll_interval=20)

    assert run.error is None, run.error
    assert [row["name"] for row in run.xcoms["steps"]] == STEPS
    assert {row["state"] for row in run.xcoms["steps"]} == {"Success"}
    types = [row["type"] for row in run.xcoms["steps"]]
    assert types[1:5] == ["ForEach", "Processing", "Processing", "Callback"]
    outputs = run.xcoms["outputs"]
    assert outputs["Score-0"]["Eval"] == {"auc": 0.8}
    assert outputs["Score-1"]["Eval"] == {"auc": 0.9}
    assert outputs["Loop"] == {
        "input_item_count": 2,
        "total_step_count": 4,
        "succeeded_step_count": 4,
        "failed_step_count": 0,
        "stopped_step_count": 0,
        "status": "Succeeded",
    }
    lines = "\n".join(texts_of(log)).splitlines()
    for name in STEPS:
        succeeded = f"Step {name} succeeded after"
        assert sum(line.startswith(succeeded) for line in lines) == 1
    unnumbered = ("Step Score ", "Step Ask ", "Step Score[")
    assert not any(line.startswith(unnumbered) for line in lines)
    assert run.xcoms["run"]["steps_note"] is None


@IF_LOOPS_ARE_KNOWN
@IN_BOTH_MODES
def test_failed_step_of_a_loop_is_named_with_its_log(
    deferrable: bool, world: World
) -> None:
    """
    The error, the log and the row of the step have its last lines; the loop has none.
    """
    world.control.put_scenario({"steps": {"Score": FAILED}})

    with capture_logs() as log:
        run = run_loops(deferrable)

    assert isinstance(run.error, exceptions.PipelineExecutionFailedError)
    names = [row["name"] for row in run.xcoms["steps"]]
    assert names == [name for name in STEPS if not name.startswith("Ask")]
    for name in ("Score-0", "Score-1"):
        assert f"\nStep {name} failed: AlgorithmError: no data\n" in str(run.error)
        assert re.search(
            rf"\nStep {name}: the last \d+ lines of its log\n(\| .*\n)*\| no data(\n|$)",
            "\n".join(texts_of(log)),
        )
    rows = {row["name"]: row for row in run.xcoms["steps"]}
    assert rows["Score-1"]["log_lines"][-2:] == ["reading", "no data"]
    assert rows["Score-1"]["log_url"]
    assert rows["Loop"]["state"] == "Failed"
    assert (rows["Loop"]["log_lines"], rows["Loop"]["log_url"]) == ([], None)
    assert rows["Report"]["state"] == "NotStarted"


@IN_BOTH_MODES
def test_callback_step_of_a_loop_is_answered(
    deferrable: bool, emulated_time: EmulatedTime
) -> None:
    """Each has a message of its own, with its item."""
    arn = start_execution("loops")

    runs = [answer(arn, f"Ask-{index}", deferrable) for index in (1, 0)]

    assert [run.error for run in runs] == [None, None]
    items = [run.result["asked"] for run in runs]
    assert items == ["s3://ml-bucket/b", "s3://ml-bucket/a"]
