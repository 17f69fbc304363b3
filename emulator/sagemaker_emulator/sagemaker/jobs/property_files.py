"""
The property files that processing jobs write to S3.

A step with a property file names the output of its job that has the file, and the path in it; see
https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-propertyfile.html. The emulator writes the
content in the scenario. A file whose content the scenario does not have is missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from sagemaker_emulator.engine.caching import property_at
from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.sagemaker.calls import AwsServices
from sagemaker_emulator.sagemaker.jobs.descriptions import Descriptions
from sagemaker_emulator.sagemaker.jobs.names import value_of
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


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
            if folder.scheme != "s3" or not is_bucket(folder.netloc):
                continue
            services.create_bucket(region.name, folder.netloc)
            if entry["PropertyFileName"] in attempt.scenario.property_files:
                path = text(value_of(record, run, entry.get("FilePath")))
                key = f"{folder.path.strip('/')}/{path}".lstrip("/")
                content = attempt.scenario.property_files[entry["PropertyFileName"]]
                services.put_object(region.name, folder.netloc, key, json.dumps(content).encode())


def is_bucket(name: str) -> bool:
    """Return whether a text can be the name of a bucket. Step properties without a value cannot."""
    return _BUCKET.fullmatch(name) is not None


def _unwritten(
    region: Region,
) -> Iterator[tuple[tuple[float, str, int], ExecutionRecord, StepRun, Attempt]]:
    for record in region.executions():
        for run in record.engine.history:
            for attempt in run.attempts if run.step.type == "Processing" and run.step.property_files else ():
                is_new = (record.arn, run.step.name, attempt.number) not in region.written
                if attempt.status == "Succeeded" and is_new:
                    yield (attempt.ended_at or 0.0, record.arn, run.order), record, run, attempt
