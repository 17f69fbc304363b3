"""Polysync jobs: SageMaker pipelines with the parameters that they declare."""

from polysync_airflow.jobs.fan_out import jobs_to_start, start_arguments

__all__ = ["jobs_to_start", "start_arguments"]
