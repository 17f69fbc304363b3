"""Tests of the keys and the expiry of step caching."""

from __future__ import annotations

from typing import Any

import pytest

from sagemaker_emulator.builders import definition, step
from sagemaker_emulator.engine.caching import cache_key, max_age
from sagemaker_emulator.engine.definition import Step, duration_seconds, parse
from sagemaker_emulator.engine.expressions import Scope, Unknown

IMAGE = {"ImageUri": "image"}
OUTPUT = "Steps.First.ProcessingOutputConfig.Outputs['train'].S3Output.S3Uri"


def key_of(
    arguments: dict[str, Any],
    kind: str = "Processing",
    job: str = "job-1",
    **members: Any,
) -> str | None:
    """
    Return the cache key of a step that runs after a processing step, whose jobs share
    one output location.
    """
    second = {"Name": "A", "Type": kind, "Arguments": arguments, **members}
    steps = parse(definition(step("First"), second)).steps
    known = {OUTPUT: "s3://out"}
    scope = Scope(resolve=lambda reference: known.get(reference, Unknown(reference)))
    return cache_key(steps["A"], scope, lambda name: f"{name} {job}")


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({"AppSpecification": {"ImageUri": "other"}}, False),
        ({"Environment": {"A": "1"}}, False),
        ({"ProcessingInputs": [{"InputName": "x"}]}, False),
        ({"RoleArn": "arn:other"}, True),
        ({"ProcessingResources": {"ClusterConfig": {"InstanceCount": 2}}}, True),
    ],
)
def test_only_the_key_attributes_count(changed: dict[str, Any], same: bool) -> None:
    """An attribute that AWS's page does not list can change; the listed ones cannot."""
    assert (
        key_of({"AppSpecification": IMAGE})
        == key_of({"AppSpecification": IMAGE, **changed})
    ) is same


def test_parts_of_an_attribute_can_count() -> None:
    """
    Of the definition of a training job in a tuning step, only the listed members count.
    """
    base = {
        "TrainingJobDefinition": {"StaticHyperParameters": {"a": "1"}, "RoleArn": "r"}
    }
    role = {
        "TrainingJobDefinition": {"StaticHyperParameters": {"a": "1"}, "RoleArn": "s"}
    }
    parameters = {
        "TrainingJobDefinition": {"StaticHyperParameters": {"a": "2"}, "RoleArn": "r"}
    }
    assert (
        key_of(base, "Tuning") == key_of(role, "Tuning") != key_of(parameters, "Tuning")
    )


def test_members_of_the_step_count() -> None:
    """The function of a Lambda step and the flags of a check step are in the key."""
    assert key_of({"a": 1}, "Lambda", FunctionArn="f") != key_of(
        {"a": 1}, "Lambda", FunctionArn="g"
    )
    assert key_of({}, "QualityCheck", SkipCheck=True) != key_of(
        {}, "QualityCheck", SkipCheck=False
    )


def test_known_property_of_another_step_counts_by_its_value() -> None:
    """
    A property that is the same for two jobs of another step, such as a fixed output
    location, is no change.
    """
    arguments = {"ProcessingInputs": [{"S3Input": {"S3Uri": {"Get": OUTPUT}}}]}
    literal = {"ProcessingInputs": [{"S3Input": {"S3Uri": "s3://out"}}]}
    assert (
        key_of(arguments, job="job-1")
        == key_of(arguments, job="job-2")
        == key_of(literal)
    )


@pytest.mark.parametrize(
    "value",
    [
        {"Get": "Steps.First.ProcessingJobName"},
        {"Get": "Steps.First.ProcessingOutputConfig.Outputs['test'].S3Output.S3Uri"},
        {
            "Std:Join": {
                "On": "/",
                "Values": ["x", {"Get": "Steps.First.ProcessingJobName"}],
            }
        },
        {
            "Std:JsonGet": {
                "PropertyFile": {"Get": "Steps.First.PropertyFiles.F"},
                "Path": "a",
            }
        },
        {
            "Std:JsonGet": {
                "S3Uri": {"Get": "Steps.First.OutputDataConfig.S3OutputPath"},
                "Path": "Result",
            }
        },
        {"Get": "Steps.First.OutputParameters['a']"},
        {"Get": "Steps.First.FinalMetricDataList['a'].Value"},
    ],
)
def test_result_of_another_job_differs_from_job_to_job(value: Any) -> None:
    """
    A value that only another job can produce is part of the key with the identity of
    that job.
    """
    arguments = {"Environment": {"A": value}}
    assert (
        key_of(arguments, job="job-1")
        == key_of(arguments, job="job-1")
        != key_of(arguments, job="job-2")
    )


@pytest.mark.parametrize("kind", ["Model", "RegisterModel", "Condition", "Fail"])
def test_other_step_types_have_no_key(kind: str) -> None:
    """AWS caches no steps of other types."""
    conditions: dict[str, Any] = {"Conditions": []}
    assert key_of(conditions, kind, CacheConfig={"Enabled": True}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT1H", 3600),
        ("30d", 30 * 86_400),
        ("5y", 5 * 365 * 86_400),
        ("T16m", 16 * 60),
        ("30dT5h", 30 * 86_400 + 5 * 3600),
        ("P4DT12H", 4.5 * 86_400),
        ("P2W", 14 * 86_400),
        ("P", None),
        ("", None),
        ("1 day", None),
        (60, None),
    ],
)
def test_durations(text: Any, seconds: float | None) -> None:
    """A duration has the form in AWS's examples."""
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    ("config", "age"),
    [
        ({"Enabled": True, "ExpireAfter": "PT1H"}, 3600),
        ({"Enabled": True}, float("inf")),
        ({"Enabled": False, "ExpireAfter": "PT1H"}, None),
        ({}, None),
    ],
)
def test_maximum_age(config: dict[str, Any], age: float | None) -> None:
    """Caching must be enabled, and the expiry is optional."""
    assert max_age(Step("A", "Training", {"CacheConfig": config}, frozenset())) == age
