"""Makes the arguments of a Start task from an imported job, so that Airflow renders none of its texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from polysync_airflow.airflow_compat.sdk import literal


def start_arguments(job: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments that start the pipeline of an imported job with its declared default values.

    ::

        jobs = PolysyncListImportOperator(task_id="import_jobs")
        PolysyncStartPipelineOperator.partial(task_id="start").expand_kwargs(jobs.output.map(start_arguments))

    Every user who may create a pipeline writes its default values, and Airflow renders the arguments of
    mapped tasks as templates: a default value such as ``{{ conn.other.password }}`` would send that password
    to AWS. The values are therefore marked with ``airflow.sdk.literal``. Do the same with every
    text of a job that you pass to a task yourself.

    A pipeline with a parameter that has no default cannot be started with these arguments. ``jobs_to_start``
    leaves such jobs out, or gives them values.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/operators.html

    :param job: a job, as ``PolysyncListImportOperator`` returns it.
    :return: ``pipeline_name`` and ``pipeline_parameters``, for ``expand_kwargs``.
    """
    defaults = {each["name"]: each["default"] for each in job["parameters"] if each["default"] is not None}
    return inert_arguments({"pipeline_name": job["name"], "pipeline_parameters": defaults})


def inert_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments of a Start task so that Airflow does not render them.

    :param arguments: ``pipeline_name`` and ``pipeline_parameters`` with plain values.
    """
    values = {name: literal(value) for name, value in arguments["pipeline_parameters"].items()}
    return {"pipeline_name": literal(arguments["pipeline_name"]), "pipeline_parameters": values}
