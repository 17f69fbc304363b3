"""Polysync jobs: SageMaker pipelines with the parameters that they declare."""

from polysync_airflow.jobs.arguments import start_arguments

__all__ = ["start_arguments"]
