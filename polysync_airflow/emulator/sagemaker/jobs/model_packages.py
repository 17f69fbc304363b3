"""The model packages that RegisterModel steps create."""

from __future__ import annotations

from collections.abc import Iterator

from polysync_airflow.emulator.engine.step_runs import StepRun
from polysync_airflow.emulator.sagemaker.calls import AwsServices
from polysync_airflow.emulator.sagemaker.jobs.descriptions import Descriptions
from polysync_airflow.emulator.sagemaker.store import ExecutionRecord, Region

_DEFAULT_GROUP = "emulated"


def register_model_packages(region: Region, services: AwsServices, now: float) -> None:
    """
    Create the model packages of all RegisterModel steps that have succeeded, in the order of their ends.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: the model registry.
    :param now: the time, in seconds since the epoch.
    """
    for _, record, run in sorted(_unregistered(region), key=lambda entry: entry[0]):
        request = Descriptions(region, record, now).arguments(run)
        if not request.get("ModelPackageName"):
            request.setdefault("ModelPackageGroupName", _DEFAULT_GROUP)
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_MetadataProperties.html
        request["MetadataProperties"] = {
            "GeneratedBy": record.arn,
            **(request.get("MetadataProperties") or {}),
        }
        arn = services.create_model_package(region.name, request, run.ended_at or 0.0)
        record.model_packages[run.step.name] = arn


def _unregistered(region: Region) -> Iterator[tuple[tuple[float, str, int], ExecutionRecord, StepRun]]:
    for record in region.executions():
        for run in record.engine.runs.values():
            is_new = run.step.name not in record.model_packages and run.reused_from is None
            if run.step.type == "RegisterModel" and run.status == "Succeeded" and is_new:
                yield (run.ended_at or 0.0, record.arn, run.order), record, run
