"""Tests of the property files that processing jobs write to S3, through boto3."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.builders import definition, step
from tests.conftest import ClientOf
from tests.sagemaker.test_pipelines import error_of

FOLDER = {
    "Std:Join": {
        "On": "/",
        "Values": ["s3://ml-bucket", {"Get": "Execution.PipelineName"}, "out"],
    }
}
FILE = {
    "PropertyFileName": "Eval",
    "OutputName": "evaluation",
    "FilePath": "a/report.json",
}


def evaluation(*files: dict[str, Any]) -> dict[str, Any]:
    """Return a processing step with property files."""
    output = {
        "OutputName": "evaluation",
        "S3Output": {
            "S3Uri": FOLDER,
            "LocalPath": "/opt/ml/processing/out",
            "S3UploadMode": "EndOfJob",
        },
    }
    arguments = {"ProcessingOutputConfig": {"Outputs": [output]}}
    return step("Evaluate", Arguments=arguments, PropertyFiles=list(files))


def test_file_is_an_object_in_the_output_of_the_job(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """It appears when the step has succeeded, for clients of every region."""
    create(definition(evaluation(FILE)))
    server.control.put_scenario(
        {"steps": {"Evaluate": {"property_files": {"Eval": {"auc": 0.9}}}}}
    )
    start()
    server.control.advance(100)
    s3 = client_of("s3", "eu-west-1")
    request = {"Bucket": "ml-bucket", "Key": "Demo/out/a/report.json"}
    assert error_of(s3.get_object, **request)[0] == "NoSuchBucket"
    server.control.advance(300)
    assert json.loads(s3.get_object(**request)["Body"].read()) == {"auc": 0.9}


def test_object_is_written_once_for_each_job(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """
    What a client deletes stays deleted, and the next execution overwrites the file of
    the first one.
    """
    create(definition(evaluation(FILE)))
    s3 = client_of("s3")
    s3.create_bucket(Bucket="ml-bucket")
    request = {"Bucket": "ml-bucket", "Key": "Demo/out/a/report.json"}
    for value in (1, 2):
        server.control.put_scenario(
            {"steps": {"Evaluate": {"property_files": {"Eval": value}}}}
        )
        start()
        server.control.advance(300)
    assert json.loads(s3.get_object(**request)["Body"].read()) == 2
    s3.delete_object(**request)
    assert error_of(s3.get_object, **request)[0] == "NoSuchKey"


def test_file_without_content_or_of_a_failed_job_is_missing(
    create: Callable[..., str],
    start: Callable[..., str],
    server: EmulatorServer,
    client_of: ClientOf,
) -> None:
    """The bucket of a job that has succeeded exists, the objects of neither do."""
    create(
        definition(
            evaluation(
                FILE, {**FILE, "PropertyFileName": "Other", "FilePath": "b/other.json"}
            )
        )
    )
    for scenario in ({}, {"property_files": {"Eval": 1}, "fail": {}}):
        server.control.put_scenario({"steps": {"Evaluate": scenario}})
        start()
        server.control.advance(300)
    s3 = client_of("s3")
    assert (
        error_of(s3.get_object, Bucket="ml-bucket", Key="Demo/out/a/report.json")[0]
        == "NoSuchKey"
    )
    assert s3.list_objects_v2(Bucket="ml-bucket")["KeyCount"] == 0
