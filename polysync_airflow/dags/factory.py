"""Makes DAGs, or a task group, from the jobs of a catalogue, without any call to AWS."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from airflow.providers.common.compat.sdk import DAG, TaskGroup

from polysync_airflow.airflow_compat.sdk import AirflowException, literal
from polysync_airflow.dags.broken_jobs import show_broken_jobs
from polysync_airflow.dags.job_values import check_names, is_plain, is_template, job_form
from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.texts import clean_text, nearest_name
from polysync_airflow.jobs.catalogue.file import read_catalogue
from polysync_airflow.jobs.catalogue.models import BrokenJob, CatalogueJob
from polysync_airflow.operators import PolysyncStartPipelineOperator

Selection = Collection[str] | Callable[[CatalogueJob], bool]
ByJob = Mapping[str, Mapping[str, Any]]

TASK_ID: Final = "run"
TAGS: Final = ("polysync", "sagemaker")
# What a mistake in the arguments of one job raises. Airflow's errors, and so ours, are AirflowExceptions.
_MISTAKES: Final = (AirflowException, TypeError, ValueError)
# For schedules: without a date, Airflow 2 refuses the tasks.
START_DATE: Final = datetime(2024, 1, 1, tzinfo=UTC)


def polysync_dags(
    catalogue: str | os.PathLike[str],
    *,
    jobs: Selection | None = None,
    schedule: Any = None,
    parameters: ByJob | None = None,
    dag_id_prefix: str = "",
    operator_args: Mapping[str, Any] | None = None,
    job_args: ByJob | None = None,
    **dag_args: Any,
) -> dict[str, DAG]:
    """
    Make one DAG for each job of a catalogue file, with a typed form under "Trigger".

    ::

        polysync_dags("jobs.yaml", schedule={"churn-tuning": "@weekly"}, default_args={"retries": 1})

    The form has a field for each parameter: of its type, with its default, its allowed values and its
    description; parameters without a default are required. A scheduled run uses the defaults, and
    ``parameters``. A job that cannot become a DAG is shown as an import error; the others are not affected.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/params.html

    :param catalogue: the file that ``polysync jobs import`` has written. A relative path begins at the folder
        of the DAG file.
    :param jobs: names of jobs, or a function that returns whether a job is wanted. Default: all.
    :param schedule: the schedule of all DAGs, or a dict of schedules by the name of the job; jobs that are
        not in it have none. Everything that Airflow's ``schedule`` accepts.
    :param parameters: values by the name of the job and of the parameter, in place of the defaults. A text
        with ``{{`` or ``{%`` is a Jinja template; it is used when a run leaves the field empty.
    :param dag_id_prefix: what DAG ids begin with, before the name of the job.
    :param operator_args: arguments of ``PolysyncStartPipelineOperator`` for all jobs.
    :param job_args: the same by the name of the job.
    :param dag_args: further arguments of ``DAG``, such as ``default_args``, ``tags``, ``catchup``.
    :return: the DAGs by their ids. Airflow finds them without further code.
    :raises CatalogueError: the file is not a catalogue.
    """
    caller = sys._getframe(1).f_globals
    by_job = isinstance(schedule, Mapping)
    named = {"schedule": schedule if by_job else None, "parameters": parameters, "job_args": job_args}
    path, selected, broken = _read(catalogue, caller, jobs, named)
    dags: dict[str, DAG] = {}
    for job in selected:
        arguments = {**(operator_args or {}), **(job_args or {}).get(job.name, {})}
        try:
            dag = _dag(
                job,
                dag_id=dag_id_prefix + job.name,
                schedule=schedule.get(job.name) if by_job else schedule,
                given=(parameters or {}).get(job.name, {}),
                arguments=arguments,
                dag_args=dag_args,
            )
        except _MISTAKES as error:
            broken.append(BrokenJob(job.name, clean_text(str(error))))
            continue
        dags[dag.dag_id] = dag
    show_broken_jobs(path.name, broken, caller)
    return dags


def polysync_task_group(
    catalogue: str | os.PathLike[str],
    *,
    group_id: str = "jobs",
    jobs: Selection | None = None,
    parameters: ByJob | None = None,
    operator_args: Mapping[str, Any] | None = None,
    job_args: ByJob | None = None,
    **group_args: Any,
) -> TaskGroup:
    """
    Make a task group with one Start task for each job of a catalogue file. Use it inside of a DAG.

    The tasks have the names of the jobs. They start with the default values of the jobs, or with
    ``parameters``.

    :param catalogue: the file that ``polysync jobs import`` has written. A relative path begins at the folder
        of the DAG file.
    :param group_id: the id of the task group.
    :param jobs: names of jobs, or a function that returns whether a job is wanted. Default: all.
    :param parameters: values by the name of the job and of the parameter, in place of the defaults. A text
        with ``{{`` or ``{%`` is a Jinja template; a value can be the output of another task.
    :param operator_args: arguments of ``PolysyncStartPipelineOperator`` for all jobs.
    :param job_args: the same by the name of the job.
    :param group_args: further arguments of ``TaskGroup``.
    :raises CatalogueError: the file is not a catalogue, or a job of it cannot be started. The DAG is one
        unit, so it is shown as an import error.
    """
    named = {"parameters": parameters, "job_args": job_args}
    path, selected, broken = _read(catalogue, sys._getframe(1).f_globals, jobs, named)
    group = TaskGroup(group_id, **group_args)
    for job in selected:
        try:
            values = _values(job, (parameters or {}).get(job.name, {}))
            arguments = {**(operator_args or {}), **(job_args or {}).get(job.name, {})}
            _start_task(job, job.name, {"task_group": group, "pipeline_parameters": values, **arguments})
        except _MISTAKES as error:
            broken.append(BrokenJob(job.name, clean_text(str(error))))
    if broken:
        raise CatalogueError(f"{path.name}: " + "; ".join(f"{job.name}: {job.problem}" for job in broken[:5]))
    return group


def _dag(
    job: CatalogueJob,
    *,
    dag_id: str,
    schedule: Any,
    given: Mapping[str, Any],
    arguments: Mapping[str, Any],
    dag_args: Mapping[str, Any],
) -> DAG:
    form = job_form(job, given)
    if schedule is not None and form.required:
        raise CatalogueError(
            f"it has a schedule, and no value for {', '.join(form.required)}: "
            f"give one in parameters[{job.name!r}]"
        )
    defaults = {
        "start_date": START_DATE,
        "catchup": False,
        "tags": list(TAGS),
        "description": job.description or f"Runs the SageMaker pipeline {job.name}",
    }
    dag = DAG(dag_id, schedule=schedule, params=form.params, **{**defaults, **dag_args})
    _start_task(job, TASK_ID, {"dag": dag, "pipeline_parameters": form.values, **arguments})
    # Airflow registers a DAG of the file that it parses when its context ends. One that fails above is none.
    with dag:
        return dag


def _start_task(job: CatalogueJob, task_id: str, arguments: dict[str, Any]) -> None:
    of_job = {
        "pipeline_name": job.name,
        "region_name": job.region,
        "execution_display_name": job.execution_display_name,
    }
    PolysyncStartPipelineOperator(**{"task_id": task_id, **of_job, **arguments})


def _values(job: CatalogueJob, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a job without a form: only what the DAG's author has given is rendered."""
    check_names(job, given)
    # Outputs of other tasks: nothing is known of them while the DAG is parsed.
    later = {name: value for name, value in given.items() if not (value is None or is_plain(value))}
    form = job_form(job, {name: value for name, value in given.items() if name not in later})
    missing = [name for name in form.required if name not in later]
    if missing:
        raise CatalogueError(f"no value for {', '.join(missing)}: give one in parameters[{job.name!r}]")
    defaults = {name: literal(param.value) for name, param in form.params.items() if param.has_value}
    templates = {name: value for name, value in given.items() if is_template(value)}
    return {**defaults, **templates, **later}


def _read(
    catalogue: str | os.PathLike[str],
    caller: Mapping[str, Any],
    jobs: Selection | None,
    named: Mapping[str, Mapping[str, Any] | None],
) -> tuple[Path, list[CatalogueJob], list[BrokenJob]]:
    """
    Return the path of a catalogue, the jobs that are wanted, and the problems of others.

    :param caller: the global names of the DAG file.
    :param named: the arguments by job. They may name jobs that an import has removed.
    """
    if isinstance(jobs, str):
        raise CatalogueError(f"jobs = {jobs!r} is a text: give a list of names, or a function.")
    # The working folder of a DAG processor or a worker can be any.
    path = Path(caller.get("__file__", "")).parent / catalogue
    found = read_catalogue(path)
    known = {job.name for job in found.jobs} | {job.name for job in found.broken}
    if jobs is None or callable(jobs):
        selected = [job for job in found.jobs if jobs is None or jobs(job)]
        broken = list(found.broken)
    else:
        selected = [job for job in found.jobs if job.name in jobs]
        broken = [job for job in found.broken if job.name in jobs]
        named = {"jobs": dict.fromkeys(jobs), **named}
    broken += [
        _not_in_catalogue(argument, name, known)
        for argument, by_job in named.items()
        for name in by_job or ()
        if name not in known
    ]
    return path, selected, broken


def _not_in_catalogue(argument: str, name: str, names: Collection[str]) -> BrokenJob:
    nearest = nearest_name(name, names)
    hint = f" (did you mean {nearest!r}?)" if nearest else ""
    return BrokenJob(name, f"{argument} names it, but the catalogue has no such job{hint}")
