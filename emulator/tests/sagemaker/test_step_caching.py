"""Tests of step caching, through boto3."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import ROLE, definition, step

Steps = Callable[[str], dict[str, dict[str, Any]]]
CACHED: dict[str, Any] = {"CacheConfig": {"Enabled": True, "ExpireAfter": "PT2H"}}
NO_HIT = {"SourcePipelineExecutionArn": ""}
IMAGE = {"Name": "Image", "Type": "String", "DefaultValue": "v1"}


def pipeline(**members: Any) -> str:
    """
    Return the definition of a cached processing step and of a training step on its
    result.
    """
    image = {"AppSpecification": {"ImageUri": {"Get": "Parameters.Image"}}}
    prepare = step("Prepare", Arguments=image, **{**CACHED, **members})
    job = {"HyperParameters": {"job": {"Get": "Steps.Prepare.ProcessingJobName"}}}
    train = step("Train", "Training", Arguments=job, **CACHED)
    return definition(prepare, train, parameters=(IMAGE,))


def test_cache_hit(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    status_of: Callable[[str], str],
    server: EmulatorServer,
) -> None:
    """
    A step with the same arguments takes no time, starts no job, and names its source.
    """
    create(pipeline())
    first = start()
    server.control.advance(1000)
    second = start()
    server.control.advance(4)
    before, after = steps_of(first), steps_of(second)
    assert status_of(second) == "Succeeded"
    assert list(after) == ["Prepare", "Train"]
    for name in after:
        assert after[name]["CacheHitResult"] == {"SourcePipelineExecutionArn": first}
        assert after[name]["Metadata"] == before[name]["Metadata"]
        assert after[name]["StartTime"] == after[name]["EndTime"]
        assert (before[name]["AttemptCount"], after[name]["AttemptCount"]) == (1, 0)
        assert before[name]["CacheHitResult"] == NO_HIT


def test_source_is_the_run_with_the_job(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    A step that has reused results is not the source of later executions, and does not
    extend the expiry.
    """
    create(pipeline())
    first = start()
    server.control.advance(4000)
    start()
    server.control.advance(3000)
    third = start()
    server.control.advance(100)
    assert steps_of(third)["Prepare"]["CacheHitResult"] == {
        "SourcePipelineExecutionArn": first
    }
    server.control.advance(1000)
    expired = start()
    server.control.advance(100)
    assert steps_of(expired)["Prepare"]["CacheHitResult"] == NO_HIT


@pytest.mark.parametrize(
    "change",
    ["arguments", "expired", "disabled", "failed", "running", "other pipeline"],
)
def test_cache_miss(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
    change: str,
) -> None:
    """
    A step runs again if its arguments differ, or if no recent run of the same step has
    succeeded.
    """
    create(pipeline())
    if change == "failed":
        server.control.put_scenario({"steps": {"Prepare": {"fail": {}}}})
    start()
    server.control.advance({"expired": 242 + 7201, "running": 100}.get(change, 1000))
    server.control.delete_scenario()
    name, parameters = "Demo", {}
    if change == "arguments":
        parameters = {"Image": "v2"}
    elif change == "disabled":
        text = pipeline(CacheConfig={"Enabled": False})
        sagemaker.update_pipeline(
            PipelineName="Demo", PipelineDefinition=text, RoleArn=ROLE
        )
    elif change == "other pipeline":
        name = create(pipeline(), "Other")
    second = start(name, **parameters)
    server.control.advance(100)
    shown = steps_of(second)
    assert list(shown) == ["Prepare"]
    assert shown["Prepare"]["CacheHitResult"] == NO_HIT


def test_step_on_another_job_runs_again(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """A step that uses the result of a job runs again if that job has run again."""
    create(pipeline(CacheConfig={"Enabled": False}))
    start()
    server.control.advance(1000)
    second = start()
    server.control.advance(300)
    shown = steps_of(second)
    assert list(shown) == ["Prepare", "Train"]
    assert shown["Train"]["CacheHitResult"] == NO_HIT


def _on_default_outputs(**members: Any) -> str:
    """
    Return the definition of three steps on each other's outputs, which are where the
    SDK puts them.
    """
    values = [
        "s3:/",
        "bucket",
        {"Get": "Execution.PipelineExecutionId"},
        "Prepare",
        "output",
    ]
    location = {"Std:Join": {"On": "/", "Values": values}}
    output = {"S3Uri": location, "S3UploadMode": "EndOfJob"}
    outputs = {"Outputs": [{"OutputName": "data", "S3Output": output}]}
    prepare = step(
        "Prepare",
        Arguments={"ProcessingOutputConfig": outputs},
        **{**CACHED, **members},
    )
    data = {
        "Get": "Steps.Prepare.ProcessingOutputConfig.Outputs['data'].S3Output.S3Uri"
    }
    channel = {
        "ChannelName": "train",
        "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": data}},
    }
    train = step(
        "Train", "Training", Arguments={"InputDataConfig": [channel]}, **CACHED
    )
    source = {
        "Std:Join": {
            "On": "/",
            "Values": [{"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}, "x"],
        }
    }
    model = {"S3DataType": "S3Prefix", "S3Uri": source}
    inputs = {"ProcessingInputs": [{"InputName": "m", "S3Input": model}]}
    evaluate = step("Evaluate", Arguments=inputs, **CACHED)
    return definition(prepare, train, evaluate)


@pytest.mark.parametrize("is_first_cached", [True, False])
def test_steps_after_a_cached_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    is_first_cached: bool,
) -> None:
    """
    The outputs of a cached step are those of the job that made them, so the steps after
    it are cached as well.

    The first step's output is under the id of its execution: if it runs again, so does
    all that reads it.
    """
    create(_on_default_outputs(CacheConfig={"Enabled": is_first_cached}))
    first = start()
    server.control.advance(3000)
    executions = [start(), start()]
    server.control.advance(3000)
    expected = [first if is_first_cached else ""] * 3
    for execution in executions:
        hits = [each["CacheHitResult"] for each in steps_of(execution).values()]
        assert [hit["SourcePipelineExecutionArn"] for hit in hits] == expected


def test_outputs_of_a_cached_lambda_step(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """A Lambda step that reuses results has the output parameters of its source."""
    function = "arn:aws:lambda:us-east-1:123456789012:function:f"
    create(definition(step("L", "Lambda", FunctionArn=function, **CACHED)))
    server.control.put_scenario({"steps": {"L": {"outputs": {"a": "1"}}}})
    start()
    server.control.advance(60)
    server.control.put_scenario({"steps": {"L": {"outputs": {"a": "2"}}}})
    second = start()
    server.control.advance(2)
    shown = steps_of(second)["L"]
    assert shown["StepStatus"] == "Succeeded"
    assert shown["Metadata"]["Lambda"]["OutputParameters"] == [
        {"Name": "a", "Value": "1"}
    ]


def test_cache_does_not_depend_on_polling(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    An execution that nobody has described since its start is found in the cache too.
    """
    create(pipeline())
    first = start()
    server.control.advance(300)
    second = start()
    server.control.advance(2000)
    assert steps_of(second)["Prepare"]["CacheHitResult"] == {
        "SourcePipelineExecutionArn": first
    }
    # The training of the first execution had not ended when the second one needed it.
    assert steps_of(second)["Train"]["CacheHitResult"] == NO_HIT
