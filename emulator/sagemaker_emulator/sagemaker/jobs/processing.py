"""
The descriptions of processing jobs, transform jobs and endpoints.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeProcessingJob.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTransformJob.html
and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html.
"""

from __future__ import annotations

from typing import Any

from sagemaker_emulator.sagemaker.jobs.job import INSTANCE_TYPE, VOLUME_SIZE, Job

_CLUSTER = {
    "InstanceType": INSTANCE_TYPE,
    "InstanceCount": 1,
    "VolumeSizeInGB": VOLUME_SIZE,
}
_ENDPOINT_STATUSES = {
    "InProgress": "Creating",
    "Stopping": "Creating",
    "Completed": "InService",
    "Failed": "Failed",
    "Stopped": "OutOfService",
}


def describe_processing_job(job: Job) -> dict[str, Any]:
    """Return the response of DescribeProcessingJob."""
    return job.described(
        "DescribeProcessingJob",
        {
            "ProcessingResources": {"ClusterConfig": _CLUSTER},
            "AppSpecification": {"ImageUri": "emulated"},
        },
        ProcessingJobName=job.name,
        ProcessingJobArn=job.arn,
        ProcessingJobStatus=job.status,
        FailureReason=job.failure_reason,
        CreationTime=job.created_at,
        ProcessingStartTime=job.started_at,
        ProcessingEndTime=job.ended_at,
        LastModifiedTime=job.modified_at,
    )


def describe_transform_job(job: Job) -> dict[str, Any]:
    """Return the response of DescribeTransformJob."""
    source = {
        "S3DataSource": {
            "S3DataType": "S3Prefix",
            "S3Uri": f"{job.default_bucket}/input",
        }
    }
    return job.described(
        "DescribeTransformJob",
        {
            "ModelName": "emulated",
            "TransformInput": {"DataSource": source},
            "TransformOutput": {"S3OutputPath": f"{job.default_bucket}/{job.name}"},
            "TransformResources": {"InstanceType": INSTANCE_TYPE, "InstanceCount": 1},
        },
        TransformJobName=job.name,
        TransformJobArn=job.arn,
        TransformJobStatus=job.status,
        FailureReason=job.failure_reason,
        CreationTime=job.created_at,
        TransformStartTime=job.started_at,
        TransformEndTime=job.ended_at,
    )


def describe_endpoint(job: Job) -> dict[str, Any]:
    """Return the response of DescribeEndpoint."""
    return job.described(
        "DescribeEndpoint",
        {},
        EndpointName=job.name,
        EndpointArn=job.arn,
        EndpointStatus=_ENDPOINT_STATUSES[job.status],
        FailureReason=job.failure_reason,
        CreationTime=job.created_at,
        LastModifiedTime=job.modified_at,
    )
