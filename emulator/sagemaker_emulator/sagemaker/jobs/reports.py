"""
The files that jobs write to S3: property files, results of functions, and violations
that checks have found.

A step with a property file names the output of its job that has the file, and the path
in it; see
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html. The
emulator writes the
content in the scenario. A file whose content the scenario does not have is missing.

The job of a function that is a step (``@step``) stores what the function returns, as in
the modules ``remote_function.core.stored_function`` and
``remote_function.core.serialization`` of the SageMaker Python SDK: pickled and with a
hash, for ``execution.result()``, and as JSON, for other steps. In the emulator, no job
runs the function, and the scenario has the result.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import platform
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from sagemaker_emulator.engine.caching import property_at
from sagemaker_emulator.engine.expressions import FUNCTION_RESULT, text
from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.sagemaker.calls import AwsServices
from sagemaker_emulator.sagemaker.jobs.descriptions import Descriptions
from sagemaker_emulator.sagemaker.jobs.names import (
    arguments_of,
    job_name,
    source_of,
    value_of,
)
from sagemaker_emulator.sagemaker.store import ACCOUNT, ExecutionRecord, Region

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_URI_LENGTH = 1024
_REPORT = "constraint_violations.json"


def write_files(region: Region, services: AwsServices, now: float) -> None:
    """
    Write the files of all jobs that have succeeded, in the order of their ends, once
    each.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: S3.
    :param now: the time, in seconds since the epoch.
    """
    for _, record, run, attempt in sorted(
        _unwritten(region), key=lambda entry: entry[0]
    ):
        region.written.add((record.arn, run.step.name, attempt.number))
        described = Descriptions(region, record, now).of(run, attempt)
        files = _result_files if run.step.type == "Training" else _property_files
        for uri, content in files(record, run, attempt, described):
            _write(region, services, uri, content)


def _write(
    region: Region, services: AwsServices, uri: str, content: bytes | None
) -> None:
    """Write a file, and create its bucket; only its bucket without a content."""
    location = urlsplit(uri)
    # Step properties without a value cannot name a bucket.
    if location.scheme != "s3" or not _BUCKET.fullmatch(location.netloc):
        return
    services.create_bucket(region.name, location.netloc)
    if content is not None:
        services.put_object(
            region.name, location.netloc, location.path.strip("/"), content
        )


def _property_files(
    record: ExecutionRecord,
    run: StepRun,
    attempt: Attempt,
    described: Mapping[str, Any],
) -> Iterator[tuple[str, bytes | None]]:
    outputs = property_at(described, "ProcessingOutputConfig.Outputs")
    folders = {
        each["OutputName"]: each.get("S3Output", {}).get("S3Uri", "")
        for each in outputs or ()
    }
    for entry in run.step.body["PropertyFiles"]:
        folder = folders.get(entry.get("OutputName"), "").rstrip("/")
        path, name = (
            text(value_of(record, run, entry.get("FilePath"))),
            entry["PropertyFileName"],
        )
        content = attempt.scenario.property_files
        yield (
            f"{folder}/{path}",
            json.dumps(content[name]).encode() if name in content else None,
        )


def _result_files(
    record: ExecutionRecord,
    run: StepRun,
    attempt: Attempt,
    described: Mapping[str, Any],
) -> Iterator[tuple[str, bytes]]:
    """
    Yield the files in which the SageMaker Python SDK stores what a function has
    returned.
    """
    folder = text(property_at(described, "OutputDataConfig.S3OutputPath")).rstrip("/")
    content = attempt.scenario.property_files[FUNCTION_RESULT]
    payload = pickle.dumps(content["Result"], protocol=4)
    metadata = {
        "sha256_hash": hashlib.sha256(payload).hexdigest(),
        "version": "2023-04-24",
        "python_version": platform.python_version(),
        "serialization_module": "cloudpickle",
    }
    yield f"{folder}/payload.pkl", payload
    yield f"{folder}/metadata.json", json.dumps(metadata).encode()
    yield f"{folder}/{FUNCTION_RESULT}", json.dumps(content).encode()


def _unwritten(
    region: Region,
) -> Iterator[tuple[tuple[float, str, int], ExecutionRecord, StepRun, Attempt]]:
    for record in region.executions():
        for run in record.engine.history:
            for attempt in run.attempts:
                has_result = (
                    run.step.type == "Training"
                    and FUNCTION_RESULT in attempt.scenario.property_files
                )
                has_files = has_result or (
                    run.step.type == "Processing" and run.step.property_files
                )
                is_new = (
                    record.arn,
                    run.step.name,
                    attempt.number,
                ) not in region.written
                if has_files and attempt.status == "Succeeded" and is_new:
                    yield (
                        (attempt.ended_at or 0.0, record.arn, run.order),
                        record,
                        run,
                        attempt,
                    )


def check_folder(region: Region, record: ExecutionRecord, run: StepRun) -> str:
    """
    Return the folder in S3 that the arguments of a check step name for its results, or
    a default.
    """
    try:
        location = arguments_of(record, run)["ProcessingOutputConfig"]["Outputs"][0][
            "S3Output"
        ]["S3Uri"]
    except (KeyError, IndexError, TypeError):
        source, own_run = source_of(record, run)
        name = job_name(region, source, own_run, own_run.attempt)
        location = f"s3://sagemaker-{region.name}-{ACCOUNT}/{name}/output"
    return text(location).rstrip("/")[: _URI_LENGTH - 64]


def violation_report(
    region: Region, record: ExecutionRecord, run: StepRun
) -> str | None:
    """
    Return the URI of the report of a check step; None if it has found no violations.
    """
    violations = source_of(record, run)[1].violations
    return f"{check_folder(region, record, run)}/{_REPORT}" if violations else None


def write_violation_reports(region: Region, services: AwsServices) -> None:
    """
    Write the reports of all check steps that have found violations, once each.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: S3.
    """
    for record in region.executions():
        for run in record.engine.history:
            written = (record.arn, run.step.name, run.attempt)
            report = violation_report(region, record, run) if run.violations else None
            if report is None or written in region.written:
                continue
            region.written.add(written)
            version = {} if run.step.type == "QualityCheck" else {"version": "1.0"}
            content = json.dumps({**version, "violations": run.violations}).encode()
            _write(region, services, report, content)
