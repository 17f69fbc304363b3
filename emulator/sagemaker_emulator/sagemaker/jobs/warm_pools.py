"""
Which training jobs have a warm pool, and which of them match.

Reference: https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html. The
training jobs of a tuning job have none: AWS does not keep the period of their
resources, as its controllers for Kubernetes report
(https://github.com/aws-controllers-k8s/sagemaker-controller/pull/176). Nor is there a
quota here; AWS keeps no pool until an account has been given one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import inf, nextafter
from typing import Any

from sagemaker_emulator.engine.step_runs import Attempt, StepRun
from sagemaker_emulator.engine.warm_pools import WarmPool
from sagemaker_emulator.sagemaker.jobs.descriptions import Descriptions
from sagemaker_emulator.sagemaker.jobs.job import Job
from sagemaker_emulator.sagemaker.jobs.training import RESOURCES
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region

# What must be the same in two jobs, so that the second one gets the pool of the first.
_RESOURCES = ("InstanceCount", "InstanceType", "VolumeKmsKeyId", "VolumeSizeInGB")
_ARGUMENTS = (
    "VpcConfig",
    "EnableInterContainerTrafficEncryption",
    "EnableNetworkIsolation",
    "SessionChainingConfig",
)


def warm_pool_of(
    region: Region, record: ExecutionRecord, run: StepRun, attempt: Attempt
) -> WarmPool | None:
    """
    Return the warm pool of the training job of an attempt that starts; None if it
    neither gets nor leaves one.
    """
    if not region.keeps_instances:
        return None
    at = attempt.started_at
    job = Descriptions(region, record, at).job(run, attempt)
    given = job.argument("ResourceConfig", "ResourceConfig")
    resources: Mapping[str, Any] = given or RESOURCES
    # AWS keeps neither spot instances nor clusters of several types.
    is_spot = job.arguments.get("EnableManagedSpotTraining") is True
    if is_spot or resources.get("InstanceGroups"):
        return None
    _advance_others(region, record, at)
    return region.warm_pools.pool_of(
        job=job.name,
        key=_key(job, resources),
        keep_alive=resources.get("KeepAlivePeriodInSeconds") or 0,
        at=at,
        launched_at=attempt.executing_at,
    )


def _advance_others(region: Region, record: ExecutionRecord, at: float) -> None:
    """
    Let the jobs of other executions start and end that do so before this one starts.

    What happens at the same time happens in the order in which the executions have
    started, however often and in which order they are advanced.
    """
    before = nextafter(at, -inf)
    for other in region.open_executions():
        if other.order < record.order:
            other.engine.advance(at)
        elif other.order > record.order:
            other.engine.advance(before)


def _key(job: Job, resources: Mapping[str, Any]) -> str:
    compared = [
        job.arguments.get("RoleArn") or job.role_arn,
        # A member that is missing is false, or empty.
        *(resources.get(name) or None for name in _RESOURCES),
        *(job.arguments.get(name) or None for name in _ARGUMENTS),
    ]
    if job.arguments.get("SessionChainingConfig"):
        compared.append(job.arguments.get("Tags"))
    return json.dumps(compared, sort_keys=True, default=str)
