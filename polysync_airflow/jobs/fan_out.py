"""The arguments of the mapped tasks that start imported jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.providers.common.compat.sdk import literal

from polysync_airflow.execution.models import name_or_arn


def start_arguments(job: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments that start the pipeline of an imported job with its declared
    default values.

    ::

        jobs = PolysyncListImportOperator(task_id="import_jobs")
        PolysyncStartPipelineOperator.partial(task_id="start").expand_kwargs(jobs.output.map(start_arguments))

    Every user who may create a pipeline writes its default values, and Airflow renders
    the arguments of mapped tasks as templates: a default value such as ``{{
    conn.other.password }}`` would send that password to AWS. The values are therefore
    marked with ``airflow.sdk.literal``. Do the same with every text of a job that you
    pass to a task yourself.

    A pipeline with a parameter that has no default needs its value, too. Add it in a
    function of yours that calls this one:
    docs/how-to/jobs-as-dags.md#how-do-i-start-one-task-for-each-imported-pipeline.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/operators.html

    :param job: a job, as ``PolysyncListImportOperator`` returns it.
    :return: ``pipeline_name`` and ``pipeline_parameters``, for ``expand_kwargs``.
    """
    # AWS accepts no empty value in a request. Without the parameter, it uses the empty
    # default.
    defaults = {
        parameter["name"]: literal(parameter["default"])
        for parameter in job["parameters"]
        if parameter["default"] not in (None, "")
    }
    name = name_or_arn(job["name"], job.get("arn", ""))
    return {"pipeline_name": literal(name), "pipeline_parameters": defaults}
