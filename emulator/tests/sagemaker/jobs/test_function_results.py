"""
Tests of the results of functions that are steps of the SageMaker Python SDK
(``@step``), through boto3.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.builders import condition, fail
from tests.conftest import ClientOf

Steps = Callable[[str], dict[str, dict[str, Any]]]
#: The name that the SDK gives to the step of the function ``score``.
NAME = "score-0f8fad5b-d9cb-469f-a165-70867728950e"


def function(name: str = NAME) -> dict[str, Any]:
    """Return the step of a function, with the output location that the SDK gives it."""
    location = [
        "s3://bucket/root",
        {"Get": "Execution.PipelineExecutionId"},
        name,
        "results",
    ]
    output = {"S3OutputPath": {"Std:Join": {"On": "/", "Values": location}}}
    return step(name, "Training", Arguments={"OutputDataConfig": output})


def result_of(name: str, path: str) -> dict[str, Any]:
    """Return the expression of the SDK for a part of what a function has returned."""
    uri = [{"Get": f"Steps.{name}.OutputDataConfig.S3OutputPath"}, "results.json"]
    return {
        "Std:JsonGet": {
            "S3Uri": {"Std:Join": {"On": "/", "Values": uri}},
            "Path": f"Result{path}",
        }
    }


def files(s3: Any, execution: str, name: str = NAME) -> dict[str, bytes]:
    """Return the files in the output location of a function."""
    prefix = f"root/{execution.rpartition('/')[2]}/{name}/results/"
    listed = s3.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", ())
    return {
        each["Key"].removeprefix(prefix): s3.get_object(
            Bucket="bucket", Key=each["Key"]
        )["Body"].read()
        for each in listed
    }


@pytest.mark.parametrize("named", [NAME, "score"])
def test_result_is_in_s3_as_the_sdk_reads_it(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    client_of: ClientOf,
    named: str,
) -> None:
    """
    The result is pickled, with its hash, and in JSON. The scenario can leave out the
    UUID of the name.
    """
    create(definition(function()))
    server.control.put_scenario({"steps": {named: {"result": {"auc": [0.9, None]}}}})
    execution = start()
    server.control.advance(700)

    found = files(client_of("s3"), execution)
    assert sorted(found) == ["metadata.json", "payload.pkl", "results.json"]
    assert pickle.loads(found["payload.pkl"]) == {"auc": [0.9, None]}
    metadata = json.loads(found["metadata.json"])
    assert metadata.pop("python_version").startswith("3.")
    assert metadata == {
        "sha256_hash": hashlib.sha256(found["payload.pkl"]).hexdigest(),
        "version": "2023-04-24",
        "serialization_module": "cloudpickle",
    }
    assert json.loads(found["results.json"]) == {
        "Result": {"auc": [0.9, None]},
        "Exception": None,
    }


def test_function_without_result_or_that_failed_has_no_files(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """Nothing is invented for a function whose result the scenario does not have."""
    create(definition(function()))
    s3 = client_of("s3")
    s3.create_bucket(Bucket="bucket")
    for scenario in ({}, {"result": 1, "fail": {}}):
        server.control.put_scenario({"steps": {"score": scenario}})
        execution = start()
        server.control.advance(700)
        assert files(s3, execution) == {}


def test_other_steps_use_the_result(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    A condition compares a part of it, and a message has it. Without a result, it is the
    text of the reference.
    """
    low = fail(
        "Low", {"Std:Join": {"On": " ", "Values": ["Only", result_of(NAME, "['auc']")]}}
    )
    high = {
        "Type": "GreaterThan",
        "LeftValue": result_of(NAME, "['auc']"),
        "RightValue": 0.8,
    }
    create(
        definition(function(), condition("Check", [high], [function("publish")], [low]))
    )
    shown = []
    for auc in (0.9, 0.7):
        server.control.put_scenario({"steps": {"score": {"result": {"auc": auc}}}})
        shown.append(start())
        server.control.advance(2000)
    assert list(steps_of(shown[0])) == [NAME, "Check", "publish"]
    assert steps_of(shown[1])["Low"]["FailureReason"] == "Only 0.7"


def test_selective_execution_reuses_the_result(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
    sagemaker: Any,
) -> None:
    """
    A step that runs alone has the result of the function that it needs from the source
    execution.
    """
    create(definition(function(), fail("End", result_of(NAME, ""))))
    server.control.put_scenario({"steps": {"score": {"result": 5}}})
    source = start()
    server.control.advance(2000)
    selected = {
        "SourcePipelineExecutionArn": source,
        "SelectedSteps": [{"StepName": "End"}],
    }
    execution = sagemaker.start_pipeline_execution(
        PipelineName="Demo", SelectiveExecutionConfig=selected
    )
    server.control.advance(60)
    shown = steps_of(execution["PipelineExecutionArn"])
    assert shown[NAME]["SelectiveExecutionResult"] == {
        "SourcePipelineExecutionArn": source
    }
    assert shown["End"]["FailureReason"] == "5"


def test_repeated_function_is_another_job(
    create: Callable[..., str],
    start: Callable[..., str],
    steps_of: Steps,
    server: EmulatorServer,
) -> None:
    """
    A step that uses a result which is not known runs again if the function has run
    again.
    """
    train = step(
        "Train",
        "Training",
        Arguments={"HyperParameters": {"rate": result_of(NAME, "")}},
        CacheConfig={"Enabled": True},
    )
    create(definition(function(), train))
    for scenario, is_hit in (({}, False), ({"score": {"result": 5}}, True)):
        server.control.put_scenario({"steps": scenario})
        for _ in range(2):
            execution = start()
            server.control.advance(2000)
        hit = steps_of(execution)["Train"]["CacheHitResult"]
        assert bool(hit["SourcePipelineExecutionArn"]) is is_hit
