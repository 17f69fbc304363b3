"""
What QualityCheck and ClarifyCheck steps write to S3: the report of the violations that the scenario has.

The schemas of the report are those of
https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-interpreting-violations.html and
https://docs.aws.amazon.com/sagemaker/latest/dg/clarify-model-monitor-bias-drift-violations.html
"""

from __future__ import annotations

import json
from urllib.parse import urlsplit

from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.sagemaker.calls import AwsServices
from sagemaker_emulator.sagemaker.jobs.names import arguments_of, job_name, source_of
from sagemaker_emulator.sagemaker.jobs.property_files import is_bucket
from sagemaker_emulator.sagemaker.store import ACCOUNT, ExecutionRecord, Region

_URI_LENGTH = 1024
_REPORT = "constraint_violations.json"


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
            if location.scheme != "s3" or not is_bucket(location.netloc):
                continue
            version = {} if run.step.type == "QualityCheck" else {"version": "1.0"}
            content = json.dumps({**version, "violations": run.violations}).encode()
            services.create_bucket(region.name, location.netloc)
            services.put_object(region.name, location.netloc, location.path.lstrip("/"), content)
