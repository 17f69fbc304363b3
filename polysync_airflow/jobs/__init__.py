"""
Polysync jobs: SageMaker pipelines with the parameters that they declare.

``importer`` makes them, ``catalogue`` is a file of them, ``drift`` compares it with
AWS, and ``fan_out`` has the arguments of the mapped tasks that start them.
"""

from polysync_airflow.jobs.fan_out import start_arguments

__all__ = ["start_arguments"]
