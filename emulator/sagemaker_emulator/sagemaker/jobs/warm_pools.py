"""
The warm pools of training jobs: the instances that AWS keeps after the end of a job
whose ``KeepAlivePeriodInSeconds`` is above 0.

Reference: https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_WarmPoolStatus.html. AWS
looks for a job that matches in the whole account; the emulator looks in the execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sagemaker_emulator.sagemaker.jobs.job import Job

# What must be the same in two jobs, so that the second one gets the pool of the first.
_RESOURCES = ("InstanceCount", "InstanceType", "VolumeKmsKeyId", "VolumeSizeInGB")
_ARGUMENTS = (
    "RoleArn",
    "VpcConfig",
    "EnableInterContainerTrafficEncryption",
    "EnableNetworkIsolation",
)


def warm_pool_status(
    job: Job, jobs: Iterable[Job], now: float
) -> dict[str, Any] | None:
    """
    Return the member ``WarmPoolStatus`` of a training job; None if it has no pool.

    :param job: the training job.
    :param jobs: all training jobs of its execution.
    :param now: the time, as Unix time.
    """
    in_order = sorted(jobs, key=lambda each: (each.created_at, each.name))
    kept: list[Job] = []
    reused_by: dict[str, Job] = {}
    for later in in_order:
        for earlier in kept:
            if _is_reused(earlier, later):
                reused_by[earlier.name] = later
                kept.remove(earlier)
                break
        kept.append(later)
    return _status(job, reused_by, now)


def _status(
    job: Job, reused_by: Mapping[str, Job], now: float
) -> dict[str, Any] | None:
    has_pool = _keep_alive_seconds(job) > 0 and job.started_at is not None
    uses_pool = any(later.name == job.name for later in reused_by.values())
    if job.ended_at is None and (has_pool or uses_pool):
        return {"Status": "InUse"}
    if job.ended_at is None or not has_pool:
        return None
    later = reused_by.get(job.name)
    if later:
        return {
            "Status": "Reused",
            "ResourceRetainedBillableTimeInSeconds": round(
                later.created_at - job.ended_at
            ),
            "ReusedByJob": later.name,
        }
    if now < job.ended_at + _keep_alive_seconds(job):
        return {"Status": "Available"}
    return {
        "Status": "Terminated",
        "ResourceRetainedBillableTimeInSeconds": _keep_alive_seconds(job),
    }


def _resources(job: Job) -> Mapping[str, Any]:
    resources: Mapping[str, Any] = (
        job.argument("ResourceConfig", "ResourceConfig") or {}
    )
    return resources


def _keep_alive_seconds(job: Job) -> int:
    return int(_resources(job).get("KeepAlivePeriodInSeconds") or 0)


def _is_reused(earlier: Job, later: Job) -> bool:
    if earlier.ended_at is None or earlier.started_at is None:
        return False
    seconds = later.created_at - earlier.ended_at
    return 0 <= seconds < _keep_alive_seconds(earlier) and (
        _compared(earlier) == _compared(later)
    )


def _compared(job: Job) -> list[Any]:
    resources = _resources(job)
    return [
        *(resources.get(name) for name in _RESOURCES),
        *(job.arguments.get(name) for name in _ARGUMENTS),
    ]
