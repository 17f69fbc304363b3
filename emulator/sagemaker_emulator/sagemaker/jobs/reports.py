"""
The files that jobs write to S3: property files, and the reports of the violations that checks have found.

A step with a property file names the output of its job that has the file, and the path in it; see
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html. The emulator writes the
content in the scenario. A file whose content the scenario does not have is missing.

The schemas of the reports of QualityCheck and ClarifyCheck steps are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-interpreting-violations.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/clarify-model-monitor-bias-drift-violations.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import SplitResult, urlsplit

from sagemaker_emulator.engine.caching import property_at
from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.sagemaker.calls import AwsServices
from sagemaker_emulator.sagemaker.jobs.descriptions import Descriptions
from sagemaker_emulator.sagemaker.jobs.names import arguments_of, job_name, source_of, value_of
from sagemaker_emulator.sagemaker.store import ACCOUNT, ExecutionRecord, Region

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_URI_LENGTH = 1024
_REPORT = "constraint_violations.json"


def write_property_files(region: Region, services: AwsServices, now: float) -> None:
    """
    Write the property files of all jobs that have succeeded, in the order of their ends, once each.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: S3.
    :param now: the time, in seconds since the epoch.
    """
    for _, record, run, attempt in sorted(_unwritten(region), key=lambda entry: entry[0]):
        region.written.add((record.arn, run.step.name, attempt.number))
        outputs = property_at(
            Descriptions(region, record, now).of(run, attempt), "ProcessingOutputConfig.Outputs"
        )
        folders = {each["OutputName"]: each.get("S3Output", {}).get("S3Uri", "") for each in outputs or ()}
        for entry in run.step.body["PropertyFiles"]:
            folder = urlsplit(folders.get(entry.get("OutputName"), ""))
            if not _is_in_s3(folder):
                continue
            services.create_bucket(region.name, folder.netloc)
            if entry["PropertyFileName"] in attempt.scenario.property_files:
                path = text(value_of(record, run, entry.get("FilePath")))
                key = f"{folder.path.strip('/')}/{path}".lstrip("/")
                content = attempt.scenario.property_files[entry["PropertyFileName"]]
                services.put_object(region.name, folder.netloc, key, json.dumps(content).encode())


def _is_in_s3(location: SplitResult) -> bool:
    """Return whether a URI names a bucket. Step properties without a value cannot be one."""
    return location.scheme == "s3" and _BUCKET.fullmatch(location.netloc) is not None


def _unwritten(
    region: Region,
) -> Iterator[tuple[tuple[float, str, int], ExecutionRecord, StepRun, Attempt]]:
    for record in region.executions():
        for run in record.engine.history:
            for attempt in run.attempts if run.step.type == "Processing" and run.step.property_files else ():
                is_new = (record.arn, run.step.name, attempt.number) not in region.written
                if attempt.status == "Succeeded" and is_new:
                    yield (attempt.ended_at or 0.0, record.arn, run.order), record, run, attempt


def check_folder(region: Region, record: ExecutionRecord, run: StepRun) -> str:
    """Return the folder in S3 that the arguments of a check step name for its results, or a default."""
    try:
        location = arguments_of(record, run)["ProcessingOutputConfig"]["Outputs"][0]["S3Output"]["S3Uri"]
    except (KeyError, IndexError, TypeError):
        source, own_run = source_of(record, run)
        name = job_name(region, source, own_run, own_run.attempt)
        location = f"s3://sagemaker-{region.name}-{ACCOUNT}/{name}/output"
    return text(location).rstrip("/")[: _URI_LENGTH - 64]


def violation_report(region: Region, record: ExecutionRecord, run: StepRun) -> str | None:
    """Return the URI of the report of a check step; None if it has found no violations."""
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
            location = urlsplit(report)
            if not _is_in_s3(location):
                continue
            version = {} if run.step.type == "QualityCheck" else {"version": "1.0"}
            content = json.dumps({**version, "violations": run.violations}).encode()
            services.create_bucket(region.name, location.netloc)
            services.put_object(region.name, location.netloc, location.path.lstrip("/"), content)
