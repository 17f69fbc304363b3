"""
Uses version 3 of the SageMaker Python SDK as people do. ``test_clients`` runs it.

Its argument is a folder for files. It prints its results as JSON.
"""

# The SDK is installed in that environment only.
# mypy: disable-error-code="import-not-found,untyped-decorator"

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path

import boto3
from botocore.exceptions import ProxyConnectionError, WaiterError
from sagemaker.core.helper.iam_role_resolver import RoleValidationError
from sagemaker.core.helper.session_helper import get_execution_role
from sagemaker.core.lambda_helper import Lambda
from sagemaker.core.workflow.conditions import ConditionGreaterThan
from sagemaker.core.workflow.functions import Join
from sagemaker.core.workflow.parameters import ParameterFloat, ParameterString
from sagemaker.core.workflow.pipeline_context import PipelineSession
from sagemaker.mlops.workflow.condition_step import ConditionStep
from sagemaker.mlops.workflow.fail_step import FailStep
from sagemaker.mlops.workflow.for_each_step import (
    CurrentItem,
    ForEachSelector,
    ForEachStep,
    IterationOutput,
)
from sagemaker.mlops.workflow.function_step import step
from sagemaker.mlops.workflow.lambda_step import LambdaOutput, LambdaStep
from sagemaker.mlops.workflow.pipeline import Pipeline
from sagemaker.mlops.workflow.steps import StepTypeEnum, TrainingStep
from sagemaker.train import ModelTrainer
from sagemaker.train.configs import Compute, SourceCode

from sagemaker_emulator.clients import RedirectedBoto3

TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ],
}


def build(session: PipelineSession, folder: Path, role: str | None = None) -> Pipeline:
    """
    Return a pipeline that trains a model if the score is high enough. Without a role,
    the SDK finds one.
    """
    (folder / "train.py").write_text("print('never run')")
    score = ParameterFloat("Score", default_value=0.9)
    trainer = ModelTrainer(
        training_image="123456789012.dkr.ecr.us-east-1.amazonaws.com/churn:1",
        source_code=SourceCode(source_dir=str(folder), entry_script="train.py"),
        compute=Compute(instance_type="ml.m5.large", instance_count=1),
        sagemaker_session=session,
        role=role,
    )
    train = TrainingStep("Train", step_args=trainer.train())
    low = FailStep("TooLow", error_message="Score is too low")
    check = ConditionStep(
        "Check",
        conditions=[ConditionGreaterThan(score, 0.5)],
        if_steps=[train],
        else_steps=[low],
    )
    return Pipeline("SdkPipeline", [score], steps=[check], sagemaker_session=session)


def loops(session: PipelineSession) -> Pipeline:
    """
    Return a pipeline with two loops: one has items in the definition, two steps in its
    body, of which one uses the other's result, and a selector; the other one is in a
    branch, and its items are objects.
    """
    arn = "arn:aws:lambda:us-east-1:123456789012:function:score"

    def call(name: str, *values: object) -> LambdaStep:
        inputs = {f"value{number}": value for number, value in enumerate(values)}
        outputs = [LambdaOutput("auc")]
        return LambdaStep(
            name, lambda_func=Lambda(function_arn=arn), inputs=inputs, outputs=outputs
        )

    work, item = call("Work", CurrentItem()), CurrentItem()
    first = ForEachStep(
        "Literals",
        iterable_items=["a", 2, ParameterString("Third", default_value="c")],
        max_concurrency=2,
        for_each_body=[work, call("Check", item, work.properties.Outputs["auc"])],
        selector=ForEachSelector(
            "MaxBy", IterationOutput(work).OutputParameters["auc"]
        ),
    )
    items = ParameterString("Items", default_value='[{"a": {"b": 1}}]')
    second = ForEachStep(
        "Objects",
        iterable_items=items,
        max_concurrency=1,
        for_each_body=[call("Field", item.a["b"])],
    )
    counts = [
        first.properties.InputItemCount,
        first.properties.TotalStepCount,
        second.properties.Status,
    ]
    best = call("Best", first.properties.Selected.OutputParameters["auc"])
    third = call(
        "Third", first.properties.IterationOutputs[2].Check.OutputParameters["auc"]
    )
    end = FailStep("End", error_message=Join(on=" ", values=counts))
    has_run_all = ConditionGreaterThan(first.properties.TotalStepCount, 5)
    branch = ConditionStep("If", conditions=[has_run_all], if_steps=[second])
    steps = [first, branch, best, third, end]
    return Pipeline(
        "Loops",
        [first.iterable_items[2], items],
        steps=steps,
        sagemaker_session=session,
    )


def result_of_a_function(session: PipelineSession) -> object:
    """
    Return what a function that is a step has returned. It returns something else in the
    emulator.
    """

    @step(
        image_uri="image", instance_type="ml.m5.large", role=get_execution_role(session)
    )
    def add(a: int, b: int) -> int:
        return a - b

    pipeline = Pipeline(name="Functions", steps=[add(2, 3)], sagemaker_session=session)
    pipeline.upsert(get_execution_role(session))
    execution = pipeline.start()
    execution.wait(delay=1, max_attempts=60)
    return execution.result(execution.list_steps()[0]["StepName"])


def run(folder: Path) -> dict[str, object]:
    """
    Create, update, start and stop the pipeline; one execution succeeds and one fails.
    """
    session = PipelineSession()
    results: dict[str, object] = {
        "role": get_execution_role(),
        "bucket": session.default_bucket(),
    }
    pipeline = build(session, folder)
    results["created"] = pipeline.upsert()["PipelineArn"]
    results["updated"] = pipeline.update(description="again")["PipelineArn"]

    succeeded = pipeline.start()
    succeeded.wait(delay=1, max_attempts=60)
    results["succeeded"] = succeeded.describe()["PipelineExecutionStatus"]
    results["steps"] = sorted(entry["StepName"] for entry in succeeded.list_steps())

    failed = pipeline.start(parameters={"Score": 0.1})
    try:
        failed.wait(delay=1, max_attempts=60)
    except WaiterError:
        results["reasons"] = [
            entry.get("FailureReason")
            for entry in failed.list_steps()
            if "FailureReason" in entry
        ]

    stopped = pipeline.start()
    stopped.stop()
    status = stopped.describe()["PipelineExecutionStatus"]
    results["is_stopped"] = status in ("Stopping", "Stopped")
    results["function"] = result_of_a_function(session)

    pipeline = loops(session)
    pipeline.upsert()
    looped = pipeline.start()
    with suppress(WaiterError):
        looped.wait(delay=1, max_attempts=60)
    entries = sorted(looped.list_steps(), key=lambda entry: entry["StepName"])
    results["loops"] = [entry["StepName"] for entry in entries]
    results["counts"] = [
        entry["FailureReason"] for entry in entries if "FailureReason" in entry
    ]

    role = boto3.client("iam").create_role(
        RoleName="Bare", AssumeRolePolicyDocument=json.dumps(TRUST)
    )
    try:
        build(session, folder, role["Role"]["Arn"])
    except RoleValidationError as error:
        results["refused"] = "ecr:GetAuthorizationToken" in str(error)
    return results


def main(folder: Path) -> None:
    """
    Run the pipeline in the context manager, and see that it leaves nothing behind.
    """
    before = dict(os.environ), boto3.DEFAULT_SESSION
    results: dict[str, object] = {"types": [each.value for each in StepTypeEnum]}
    try:
        get_execution_role()
    except ProxyConnectionError as error:
        results["without"] = type(error).__name__
    with RedirectedBoto3(os.environ["AWS_ENDPOINT_URL"]):
        results |= run(folder)
    results["restored"] = before == (dict(os.environ), boto3.DEFAULT_SESSION)
    print(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
