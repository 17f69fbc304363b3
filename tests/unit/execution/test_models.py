"""What is read of AWS's clock, and of members for which AWS has no value."""

from __future__ import annotations

from datetime import UTC, datetime
from inspect import isabstract
from typing import Any

import pytest

from polysync_airflow.execution import (
    approval,
    events,
    models,
    pipelines,
    results,
    search,
)
from polysync_airflow.execution.steps import descriptions
from tests.unit.execution.lifecycle.builders import ARN
from tests.unit.execution.members import nested, paths

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
# What some model requires.
VALUES: dict[str, Any] = {
    **dict.fromkeys(("event_time", "StartTime"), NOON),
    **dict.fromkeys(("PipelineExecutionArn", "pipelineExecutionArn"), ARN),
    **dict.fromkeys(("StepName", "stepName", "PipelineName", "PipelineArn"), "churn"),
    **dict.fromkeys(("PipelineExecutionStatus", "ModelPackageStatus"), "Failed"),
    **dict.fromkeys(("currentPipelineExecutionStatus", "currentStepStatus"), "Failed"),
    "ModelPackageArn": "arn:aws:sagemaker:us-east-1:123456789012:model-package/churn/1",
}


def response(**headers: Any) -> dict[str, Any]:
    """Return a response of botocore."""
    return {"ResponseMetadata": {"HTTPHeaders": headers}}


def test_time_of_a_response_is_that_of_its_header() -> None:
    """A header that is missing, or is no usable time, says nothing."""
    for given, expected in (
        (response(date="Sun, 01 Mar 2026 12:00:00 GMT"), NOON),
        (response(date="Sun, 01 Mar 2026 14:00:00 +0200"), NOON),
        (response(date="Sun, 01 Mar 1970 12:00:00 GMT"), None),
        (response(date="Sun, 01 Mar 9999 12:00:00 GMT"), None),
        (response(date="soon"), None),
        (response(), None),
        ({}, None),
    ):
        assert models.sent_at(given) == expected


MODELS = {
    model.__name__: model
    for module in (approval, events, pipelines, results, search, descriptions)
    for model in vars(module).values()
    if isinstance(model, type) and issubclass(model, models.AwsModel)
    # The others are bases.
    if model.__name__[0] != "_" and not isabstract(model)
}


@pytest.mark.parametrize("model", MODELS.values())
def test_empty_text_is_no_value(model: type[models.AwsModel]) -> None:
    """A member with an empty text is read as if it were absent, wherever it is."""
    required = {
        str(field.validation_alias or name)
        for name, field in model.model_fields.items()
        if field.is_required()
    }
    minimal = {name: VALUES[name] for name in required}
    for path in paths(model):
        if path[0] in required:
            continue
        absent = model.model_validate(minimal | nested(path[:-1], {}))
        assert model.model_validate(minimal | nested(path, "")) == absent


def test_empty_text_hides_no_other_member() -> None:
    """The first member that has a value counts, in objects in lists, too."""
    instances = {"SelectedInstanceType": "", "InstanceType": "ml.a"}
    definition = {"HyperParameterTuningResourceConfig": "", "ResourceConfig": instances}
    metrics = [{"MetricName": "", "Value": 1}, {"MetricName": "auc", "Value": 2}]

    job = results.TrainingJob.model_validate(
        {"ResourceConfig": instances, "FinalMetricDataList": metrics}
    )
    tuning = results.TuningJob.model_validate({"TrainingJobDefinitions": [definition]})

    assert job.instance_type == "ml.a"
    assert job.metrics == {"auc": 2}
    assert tuning.definitions
    (of_tuning,) = tuning.definitions
    assert of_tuning.resources
    assert of_tuning.resources.instance_type == "ml.a"
