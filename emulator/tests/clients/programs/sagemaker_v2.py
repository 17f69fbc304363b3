"""
Uses version 2 of the SageMaker Python SDK as people do. ``test_clients`` runs it.

Its argument is a folder for files. It prints its results as JSON.
"""

# The SDK is installed in that environment only.
# mypy: disable-error-code="import-not-found,union-attr,untyped-decorator"

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import boto3
from botocore.exceptions import ClientError, ProxyConnectionError, WaiterError
from sagemaker import get_execution_role
from sagemaker.processing import ScriptProcessor
from sagemaker.workflow.condition_step import ConditionStep
from sagemaker.workflow.conditions import ConditionGreaterThan
from sagemaker.workflow.fail_step import FailStep
from sagemaker.workflow.function_step import step
from sagemaker.workflow.functions import Join
from sagemaker.workflow.parameters import ParameterFloat, ParameterString
from sagemaker.workflow.pipeline import Pipeline
from sagemaker.workflow.pipeline_context import PipelineSession
from sagemaker.workflow.steps import ProcessingStep, StepTypeEnum


def build(session: PipelineSession, role: str, folder: Path) -> Pipeline:
    """
    Return a pipeline with two processing steps and a condition that fails for a low
    score.
    """
    script = folder / "prepare.py"
    script.write_text("print('never run')")
    source = ParameterString("Source", default_value="s3://sdk-bucket/in")
    score = ParameterFloat("Score", default_value=0.9)
    processor = ScriptProcessor(
        role=role,
        image_uri="image",
        command=["python3"],
        instance_count=1,
        instance_type="ml.m5.large",
        sagemaker_session=session,
    )
    prepare = ProcessingStep(
        "Prepare", step_args=processor.run(code=str(script), arguments=["--in", source])
    )
    train = ProcessingStep(
        "Train", step_args=processor.run(code=str(script)), depends_on=[prepare]
    )
    low = FailStep(
        "TooLow", error_message=Join(on=" ", values=["Score is only", score])
    )
    check = ConditionStep(
        "Check",
        conditions=[ConditionGreaterThan(score, 0.5)],
        if_steps=[train],
        else_steps=[low],
    )
    return Pipeline(
        "SdkPipeline",
        [source, score],
        steps=[prepare, check],
        sagemaker_session=session,
    )


def result_of_a_function(session: PipelineSession, role: str) -> object:
    """
    Return what a function that is a step has returned. It returns something else in the
    emulator.
    """

    @step(role=role, image_uri="image", instance_type="ml.m5.large")
    def add(a: int, b: int) -> int:
        return a - b

    pipeline = Pipeline("Functions", steps=[add(2, 3)], sagemaker_session=session)
    pipeline.upsert(role)
    execution = pipeline.start()
    execution.wait(delay=1, max_attempts=60)
    return execution.result(execution.list_steps()[0]["StepName"])


def send_sts_to_the_emulator() -> None:
    """
    Set up boto3 as docs/clients-and-services.md shows it for programs without this
    package.
    """
    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register(
        "before-send.sts",
        lambda request, **_: setattr(request, "url", os.environ["AWS_ENDPOINT_URL"]),
    )


def main(folder: Path) -> None:
    """
    Create, update, start and stop the pipeline; one execution succeeds and one fails.
    """
    results: dict[str, object] = {"types": [each.value for each in StepTypeEnum]}
    try:
        get_execution_role()
    except ProxyConnectionError as error:
        results["without"] = type(error).__name__
    send_sts_to_the_emulator()
    role = results["role"] = get_execution_role()
    session = PipelineSession()
    results["bucket"] = session.default_bucket()
    pipeline = build(session, role, folder)
    results["created"] = pipeline.upsert(role)["PipelineArn"]
    results["updated"] = pipeline.update(role, description="again")["PipelineArn"]

    succeeded = pipeline.start(
        parameters={"Source": "s3://other"}, execution_display_name="first"
    )
    succeeded.wait(delay=1, max_attempts=60)
    results["succeeded"] = succeeded.describe()["PipelineExecutionStatus"]
    results["steps"] = sorted(entry["StepName"] for entry in succeeded.list_steps())
    parameters = succeeded.list_parameters()["PipelineParameters"]
    results["parameters"] = {entry["Name"]: entry["Value"] for entry in parameters}

    failed = pipeline.start(parameters={"Score": 0.1})
    try:
        failed.wait(delay=1, max_attempts=60)
    except WaiterError:
        results["failed"] = failed.describe()["FailureReason"]
    results["reasons"] = [
        entry.get("FailureReason")
        for entry in failed.list_steps()
        if "FailureReason" in entry
    ]

    stopped = pipeline.start()
    stopped.stop()
    status = stopped.describe()["PipelineExecutionStatus"]
    results["is_stopped"] = status in ("Stopping", "Stopped")
    try:
        pipeline.start(parameters={"Nonsense": "x"})
    except ClientError as error:
        results["refused"] = error.response["Error"]["Code"]
    results["function"] = result_of_a_function(session, role)
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
