"""
Polysync jobs: SageMaker pipelines with the parameters that they declare.

``importer`` makes them, ``catalogue`` is a file of them, ``drift`` compares it with
AWS, and ``fan_out`` chooses those that a mapped Start task can start.
"""

from polysync_airflow.jobs.fan_out import jobs_to_start, start_arguments

__all__ = ["jobs_to_start", "start_arguments"]
