"""
The files that jobs write to S3: property files, results of functions, and violations
that checks have found.

A step with a property file names the output of its job that has the file, and the path
in it; see
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html. The
emulator writes the content in the scenario. A file whose content the scenario does not
have is missing.

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
from typing import Any, NamedTuple
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


class _FinishedJob(NamedTuple):
    """The job of an attempt that has succeeded."""

    record: ExecutionRecord
    run: StepRun
    attempt: Attempt

    @property
    def key(self) -> tuple[str, int]:
        """The attempt as an entry of ``ExecutionRecord.written``."""
        return (self.run.step.name, self.attempt.number)

    @property
    def order(self) -> tuple[float, str, int]:
        """The place of the job in the order of the ends."""
        return (self.attempt.ended_at or 0.0, self.record.arn, self.run.order)

    @property
    def has_files(self) -> bool:
        """Whether the job writes property files or the result of a function."""
        if self.run.step.type == "Training":
            return FUNCTION_RESULT in self.attempt.scenario.property_files
        return self.run.step.type == "Processing" and bool(self.run.step.property_files)


def write_files(region: Region, services: AwsServices, now: float) -> None:
    """
    Write the files of all jobs that have succeeded, in the order of their ends, once
    each.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: S3.
    :param now: the time, as Unix time.
    """
    for job in sorted(_unwritten(region), key=lambda job: job.order):
        job.record.written.add(job.key)
        described = Descriptions(region, job.record, now).of(job.run, job.attempt)
        if job.run.step.type == "Training":
            files = _result_files(job, described)
        else:
            files = _property_files(job, described)
        for uri, content in files:
            _write(region, services, uri, content)


def _write(
    region: Region, services: AwsServices, uri: str, content: bytes | None
) -> None:
    """
    Write a file, and create its bucket.

    :param region: the region of the bucket.
    :param services: S3.
    :param uri: the URI of the file.
    :param content: the content; None to create the bucket only.
    """
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
    job: _FinishedJob, described: Mapping[str, Any]
) -> Iterator[tuple[str, bytes | None]]:
    """Yield the URI and the content of each property file that a job has."""
    contents = job.attempt.scenario.property_files
    outputs = property_at(described, "ProcessingOutputConfig.Outputs")
    folders = {
        output["OutputName"]: output.get("S3Output", {}).get("S3Uri", "")
        for output in outputs or ()
    }
    for entry in job.run.step.body["PropertyFiles"]:
        folder = folders.get(text(entry.get("OutputName")), "").rstrip("/")
        path = text(value_of(job.record, job.run, entry.get("FilePath")))
        content = None
        name = entry["PropertyFileName"]
        if name in contents:
            content = json.dumps(contents[name]).encode()
        yield f"{folder}/{path}", content


def _result_files(
    job: _FinishedJob, described: Mapping[str, Any]
) -> Iterator[tuple[str, bytes | None]]:
    """
    Yield the files in which the SageMaker Python SDK stores what a function has
    returned.
    """
    folder = text(property_at(described, "OutputDataConfig.S3OutputPath")).rstrip("/")
    content = job.attempt.scenario.property_files[FUNCTION_RESULT]
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


def _unwritten(region: Region) -> Iterator[_FinishedJob]:
    """Yield the jobs that have succeeded with files that are not written."""
    for record in region.open_executions():
        for run in record.engine.history:
            for attempt in run.attempts:
                job = _FinishedJob(record, run, attempt)
                if attempt.status != "Succeeded" or job.key in record.written:
                    continue
                if job.has_files:
                    yield job


def check_folder(region: Region, record: ExecutionRecord, run: StepRun) -> str:
    """
    Return the folder in S3 that the arguments of a check step name for its results, or
    a default.
    """
    arguments = arguments_of(record, run)
    try:
        output = arguments["ProcessingOutputConfig"]["Outputs"][0]
        location = output["S3Output"]["S3Uri"]
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
    _, source_run = source_of(record, run)
    if not source_run.violations:
        return None
    return f"{check_folder(region, record, run)}/{_REPORT}"


def write_violation_reports(region: Region, services: AwsServices) -> None:
    """
    Write the reports of all check steps that have found violations, once each.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: S3.
    """
    for record in region.open_executions():
        for run in record.engine.history:
            key = (run.step.name, run.attempt)
            if not run.violations or key in record.written:
                continue
            report_uri = violation_report(region, record, run)
            if report_uri is None:
                continue
            record.written.add(key)
            report: dict[str, Any] = {"violations": run.violations}
            if run.step.type != "QualityCheck":
                report = {"version": "1.0", **report}
            _write(region, services, report_uri, json.dumps(report).encode())
