"""
DAGs and task groups that are made from a catalogue of imported jobs.

Nothing here calls AWS. Jobs that cannot become DAGs are an import error, while the DAGs
of the other jobs work.

Users of AWS write the default values and the names of parameters, and people write the
descriptions into the catalogue. Airflow renders none of these texts: it calls a
``JobValues`` in place of rendering it, which renders only the templates that the DAG's
author has written in code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, Final, NamedTuple, NoReturn

from airflow.providers.common.compat.sdk import (
    DAG,
    AirflowException,
    Param,
    TaskGroup,
    literal,
)

from polysync_airflow.exceptions import CatalogueError, ParametersError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.pipelines import Value, allowed_values, typed_value
from polysync_airflow.jobs.catalogue import (
    BrokenJob,
    CatalogueJob,
    CatalogueParameter,
    read_catalogue,
)
from polysync_airflow.operators import PolysyncStartPipelineOperator
from polysync_airflow.task_groups import PolysyncPipelineTaskGroup

__all__ = ["polysync_dags", "polysync_task_group"]


class BrokenJobsDag(DAG):
    """
    A DAG that Airflow refuses with the problems of the jobs as the error.

    Airflow validates each DAG of a file on its own: the others of the file are used,
    and "Import Errors" in the UI has the message. An error that the file itself raises
    would take all of its DAGs away.
    """

    messages: Sequence[str] = ()

    def validate(self) -> NoReturn:
        """Refuse the DAG: always raise ``CatalogueError``."""
        raise CatalogueError("\n".join(self.messages))


def show_broken_jobs(
    catalogue: str, broken: Sequence[BrokenJob], file: MutableMapping[str, Any]
) -> None:
    """
    Let Airflow show the problems of jobs as an import error of the file that it parses.

    :param file: the global names of the DAG file.
    """
    if not broken:
        return
    problems = texts.first_problems([f"{job.name}: {job.problem}" for job in broken])
    # Airflow keeps one error for a file, so each of these DAGs has the messages about
    # all catalogues of the file.
    messages: list[str] = file.setdefault("__polysync_broken_jobs__", [])
    title = f"{catalogue}: these jobs cannot be DAGs, and the others are not affected:"
    messages.append("\n- ".join([title, *problems]))
    with BrokenJobsDag("polysync_broken_jobs", schedule=None) as dag:
        dag.messages = messages


# https://json-schema.org/understanding-json-schema/reference/type
_JSON_TYPES: Final = {
    "String": "string",
    "Integer": "integer",
    "Float": "number",
    "Boolean": "boolean",
}
_LIMITS: Final[Mapping[str, Mapping[str, int]]] = {
    "String": {"minLength": 1, "maxLength": texts.MAX_VALUE_LENGTH},
    "Integer": {"minimum": -models.MAX_INTEGER - 1, "maximum": models.MAX_INTEGER},
    "Float": {"minimum": texts.MIN_NUMBER, "maximum": texts.MAX_NUMBER},
}


class JobValues:
    """
    The value of ``pipeline_parameters`` for a job. Airflow calls it before the task
    runs.

    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/operators.html
    (templating, callables)

    :param types: the types of the parameters by name.
    :param templates: Jinja templates of the DAG's author by parameter name, for
        parameters that a run leaves empty.
    """

    def __init__(self, types: Mapping[str, str], templates: Mapping[str, str]) -> None:
        self._types = dict(types)
        self._templates = dict(templates)

    def __call__(self, context: Mapping[str, Any], jinja_env: Any) -> dict[str, Value]:
        """Return the values of a run by parameter name."""
        values: dict[str, Value] = {}
        for name, kind in self._types.items():
            value = context["params"].get(name)
            if kind == "Boolean" and value in ("true", "false"):
                # The form's drop-down has texts.
                value = value == "true"
            if value is None and name in self._templates:
                value = jinja_env.from_string(self._templates[name]).render(context)
            if value is not None:
                values[name] = value
        return values

    def serialize(self) -> str:
        """
        Return what Airflow stores and shows before the task runs. It must be the same
        at each parse.
        """
        return repr(self)

    def __repr__(self) -> str:
        return f"the values of the run for {', '.join(self._types) or 'no parameters'}"


class JobForm(NamedTuple):
    """
    What a job's DAG needs for its parameters.

    :param params: Airflow's params by parameter name, for the form of "Trigger".
    :param required: the parameters for which each run must give a value.
    """

    params: dict[str, Param]
    values: JobValues
    required: list[str]


def job_form(job: CatalogueJob, overrides: Mapping[str, Any]) -> JobForm:
    """
    Return the form of a job.

    :param overrides: values, or Jinja templates, of the DAG's author by parameter
        name.
    :raises ParametersError: the job cannot have a form, or a value is not one of its
        parameters.
    """
    if job.parameters_error:
        raise ParametersError(
            f"its parameters could not be imported: {job.parameters_error}"
        )
    check_names(job, overrides)
    templates = {name: value for name, value in overrides.items() if is_template(value)}
    params: dict[str, Param] = {}
    required = []
    for parameter in job.parameters:
        name = parameter.name
        default = _default(parameter, overrides)
        if default is not None:
            params[name] = Param(
                default, description=parameter.description or None, **_schema(parameter)
            )
        elif name in templates:
            params[name] = _optional_field(parameter, templates[name])
        elif _has_unsent_default(parameter, overrides):
            shown = texts.clean_line(str(parameter.default), 60)
            params[name] = _optional_field(parameter, shown)
        else:
            params[name] = Param(
                description=parameter.description or None,
                **_schema_without_default(parameter),
            )
            required.append(name)
    types = {parameter.name: parameter.type for parameter in job.parameters}
    return JobForm(params, JobValues(types, templates), required)


def check_names(job: CatalogueJob, overrides: Mapping[str, Any]) -> None:
    """
    Check the names of parameters that the DAG's author has given.

    :param overrides: values by parameter name.
    :raises ParametersError: the job has no parameter of a name.
    """
    declared = [parameter.name for parameter in job.parameters]
    for name in overrides:
        if name not in declared:
            raise ParametersError(f"parameters: it has no parameter {name!r}")


def is_template(value: Any) -> bool:
    """Return whether a value that the DAG's author has given is a Jinja template."""
    return isinstance(value, str) and any(mark in value for mark in ("{{", "{%"))


def _default(
    parameter: CatalogueParameter, overrides: Mapping[str, Any]
) -> Value | None:
    """
    Return the default of a form's field; None if the field has none, or if a template
    takes its place.
    """
    name = parameter.name
    value = overrides.get(name, parameter.default)
    if value is None or value == "" or is_template(overrides.get(name)):
        return None
    try:
        typed = typed_value(parameter, value)
        if name in overrides and not _fits(parameter, typed):
            limits = _LIMITS[parameter.type]
            raise ValueError(
                f"is not between {limits['minimum']} and {limits['maximum']}"
            )
    except ValueError as problem:
        where = (
            f"parameters[{name!r}]" if name in overrides else f"the default of {name!r}"
        )
        raise ParametersError(f"{where} = {texts.shorten(value)} {problem}") from None
    if not _fits(parameter, typed):
        return None
    return typed


def _has_unsent_default(
    parameter: CatalogueParameter, overrides: Mapping[str, Any]
) -> bool:
    """
    Return whether the pipeline has a default that a form without one leaves to AWS.

    AWS accepts an empty text as a default only, so an empty default is not sent. Nor is
    one that does not fit into the form.
    """
    if parameter.default is None:
        return False
    return parameter.default == "" or parameter.name not in overrides


def _fits(parameter: CatalogueParameter, value: Value) -> bool:
    limits = _LIMITS.get(parameter.type)
    if limits is None or isinstance(value, str):
        return True
    return limits["minimum"] <= value <= limits["maximum"]


def _optional_field(parameter: CatalogueParameter, used_if_empty: str) -> Param:
    """
    Return a field that may stay empty.

    :param used_if_empty: what is used then; empty for an empty text.
    """
    empty = f"Empty: {used_if_empty}" if used_if_empty else "May be empty."
    description = empty
    if parameter.description:
        description = f"{parameter.description} {empty}"
    schema = _or_null(_schema_without_default(parameter))
    return Param(None, description=description, **schema)


def _schema(parameter: CatalogueParameter) -> dict[str, Any]:
    """Return the JSON schema of a field."""
    schema: dict[str, Any] = {
        "type": _JSON_TYPES[parameter.type],
        **_LIMITS.get(parameter.type, {}),
    }
    allowed = _values_in_form(parameter)
    if allowed:
        schema["enum"] = allowed
    return schema


def _values_in_form(parameter: CatalogueParameter) -> list[Value]:
    return [value for value in allowed_values(parameter) if _fits(parameter, value)]


def _schema_without_default(parameter: CatalogueParameter) -> dict[str, Any]:
    """
    Return the JSON schema of a field without a default.

    For a Boolean, it has a drop-down in the form, and also accepts booleans of the API.
    """
    if parameter.type != "Boolean":
        return _schema(parameter)
    # A switch is off or on, so it cannot show that no value is chosen, and Airflow's
    # form refuses it until it was on once. Airflow has drop-downs for texts only.
    values = _values_in_form(parameter) or [True, False]
    options = [str(value).lower() for value in values]
    return {
        # In this version of JSON Schema, the keywords beside "$ref" are only for the
        # form.
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "string",
        "enum": options,
        "$ref": "#/definitions/accepted",
        "definitions": {"accepted": {"enum": [*options, *values]}},
    }


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON schema that also accepts null, which an empty field sends."""
    nullable = {**schema, "type": ["null", schema["type"]]}
    if "enum" in schema:
        nullable["enum"] = [None, *schema["enum"]]
    if "definitions" in schema:
        accepted = schema["definitions"]["accepted"]["enum"]
        nullable["definitions"] = {"accepted": {"enum": [None, *accepted]}}
    return nullable


Selection = Collection[str] | Callable[[CatalogueJob], bool]
ByJob = Mapping[str, Mapping[str, Any]]

# What a mistake in the arguments of one job raises. Airflow's errors, and so ours, are
# AirflowExceptions.
_MISTAKES: Final = (AirflowException, TypeError, ValueError)


def polysync_dags(
    catalogue: str | os.PathLike[str],
    *,
    jobs: Selection | None = None,
    schedule: Any = None,
    parameters: ByJob | None = None,
    dag_id_prefix: str = "",
    operator_args: Mapping[str, Any] | None = None,
    job_args: ByJob | None = None,
    steps_as_tasks: bool = False,
    **dag_args: Any,
) -> dict[str, DAG]:
    """
    Make one DAG for each job of a catalogue file, with a typed form under "Trigger".

    ::

        polysync_dags(
            "jobs.yaml",
            schedule={"churn-tuning": "@weekly"},
            default_args={"retries": 1},
        )

    The form has a field for each parameter: of its type, with its default, its allowed
    values and its description; parameters without a default are required. A scheduled
    run uses the defaults, and ``parameters``. A job that cannot become a DAG is shown
    as an import error; the others are not affected.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/params.html

    :param catalogue: the file that ``polysync jobs import`` has written. A relative
        path begins at the folder of the DAG file.
    :param jobs: names of jobs, or a function that returns whether a job is wanted.
        Default: all.
    :param schedule: the schedule of all DAGs, or a dict of schedules by the name of the
        job; jobs that are not in it have none. Everything that Airflow's ``schedule``
        accepts.
    :param parameters: values by the name of the job and of the parameter, in place of
        the defaults. A text with ``{{`` or ``{%`` is a Jinja template; it is used when
        a run leaves the field empty.
    :param dag_id_prefix: what DAG ids begin with, before the name of the job.
    :param operator_args: arguments of ``PolysyncStartPipelineOperator`` for all jobs.
    :param job_args: the same by the name of the job.
    :param steps_as_tasks: whether each DAG has, in place of the task ``run``, a group
        of this name with a task for each step: a ``PolysyncPipelineTaskGroup``, for
        which the other arguments are then.
    :param dag_args: further arguments of ``DAG``, such as ``default_args``, ``tags``,
        ``catchup``.
    :return: the DAGs by their ids. Airflow finds them without further code.
    :raises CatalogueError: the file is not a catalogue.
    """
    caller = sys._getframe(1).f_globals
    by_job = {"parameters": parameters, "job_args": job_args}
    if isinstance(schedule, Mapping):
        by_job = {"schedule": schedule, **by_job}
    path, selected, broken = _read(catalogue, caller, jobs, by_job)
    dags: dict[str, DAG] = {}
    for job in selected:
        schedule_of_job = schedule
        if isinstance(schedule, Mapping):
            schedule_of_job = schedule.get(job.name)
        overrides = (parameters or {}).get(job.name, {})
        arguments = {**(operator_args or {}), **(job_args or {}).get(job.name, {})}
        try:
            dag, values = _dag(
                job, dag_id_prefix + job.name, schedule_of_job, overrides, dag_args
            )
            arguments = {"dag": dag, "pipeline_parameters": values, **arguments}
            if steps_as_tasks:
                _add_steps(job, "run", arguments)
            else:
                _add_start(job, "run", arguments)
        except _MISTAKES as error:
            broken.append(BrokenJob(job.name, texts.clean_text(str(error))))
            continue
        # Airflow registers a DAG of the file that it parses when its context ends: not
        # one that has failed.
        with dag:
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
    Make a task group with one Start task for each job of a catalogue file. Use it
    inside of a DAG.

    The tasks have the names of the jobs. They start with the default values of the
    jobs, or with ``parameters``.

    :param catalogue: the file that ``polysync jobs import`` has written. A relative
        path begins at the folder of the DAG file.
    :param group_id: the id of the task group.
    :param jobs: names of jobs, or a function that returns whether a job is wanted.
        Default: all.
    :param parameters: values by the name of the job and of the parameter, in place of
        the defaults. A text with ``{{`` or ``{%`` is a Jinja template; a value can be
        the output of another task.
    :param operator_args: arguments of ``PolysyncStartPipelineOperator`` for all jobs.
    :param job_args: the same by the name of the job.
    :param group_args: further arguments of ``TaskGroup``.
    :raises CatalogueError: the file is not a catalogue, or a job of it cannot be
        started. The DAG is one unit, so it is shown as an import error.
    """
    caller = sys._getframe(1).f_globals
    by_job = {"parameters": parameters, "job_args": job_args}
    path, selected, broken = _read(catalogue, caller, jobs, by_job)
    group = TaskGroup(group_id, **group_args)
    for job in selected:
        try:
            values = _values(job, (parameters or {}).get(job.name, {}))
            arguments = {
                "task_group": group,
                "pipeline_parameters": values,
                **(operator_args or {}),
                **(job_args or {}).get(job.name, {}),
            }
            _add_start(job, job.name, arguments)
        except _MISTAKES as error:
            broken.append(BrokenJob(job.name, texts.clean_text(str(error))))
    if broken:
        problems = "; ".join(f"{job.name}: {job.problem}" for job in broken[:5])
        raise CatalogueError(f"{path.name}: {problems}")
    return group


def _dag(
    job: CatalogueJob,
    dag_id: str,
    schedule: Any,
    overrides: Any,
    dag_args: Mapping[str, Any],
) -> tuple[DAG, JobValues]:
    form = job_form(job, overrides)
    if schedule is not None and form.required:
        raise CatalogueError(
            f"it has a schedule, and no value for {', '.join(form.required)}: "
            f"give one in parameters[{job.name!r}]"
        )
    defaults = {
        # For schedules: without a date, Airflow 2 refuses the tasks.
        "start_date": datetime(2024, 1, 1, tzinfo=UTC),
        "catchup": False,
        "tags": ["polysync", "sagemaker"],
        "description": job.description or f"Runs the SageMaker pipeline {job.name}",
    }
    dag = DAG(dag_id, schedule=schedule, params=form.params, **{**defaults, **dag_args})
    return dag, form.values


def _add_start(job: CatalogueJob, task_id: str, arguments: dict[str, Any]) -> None:
    of_job = {
        "task_id": task_id,
        "pipeline_name": models.name_or_arn(job.name, job.arn),
        "region_name": job.region,
        "execution_display_name": job.execution_display_name,
    }
    PolysyncStartPipelineOperator(**{**of_job, **arguments})


def _add_steps(job: CatalogueJob, group_id: str, arguments: dict[str, Any]) -> None:
    of_job = {
        "group_id": group_id,
        "job": job,
        "region_name": job.region,
        "execution_display_name": job.execution_display_name,
    }
    PolysyncPipelineTaskGroup(**{**of_job, **arguments})


def _values(job: CatalogueJob, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the values of a job without a form: only what the DAG's author has given is
    rendered.
    """
    check_names(job, overrides)
    values = {
        name: value
        for name, value in overrides.items()
        if isinstance(value, (str, int, float, NoneType))
    }
    # The others are outputs of tasks, which are not known while the DAG is parsed.
    later = {name: value for name, value in overrides.items() if name not in values}
    form = job_form(job, values)
    missing = [name for name in form.required if name not in later]
    if missing:
        raise CatalogueError(
            f"no value for {', '.join(missing)}: give one in parameters[{job.name!r}]"
        )
    defaults = {
        name: literal(param.value)
        for name, param in form.params.items()
        if param.has_value
    }
    templates = {name: value for name, value in values.items() if is_template(value)}
    return {**defaults, **templates, **later}


def _read(
    catalogue: str | os.PathLike[str],
    caller: Mapping[str, Any],
    jobs: Selection | None,
    by_job: Mapping[str, Mapping[str, Any] | None],
) -> tuple[Path, list[CatalogueJob], list[BrokenJob]]:
    """
    Return the path of a catalogue, the jobs that are wanted, and the problems of
    others.

    :param caller: the global names of the DAG file.
    :param by_job: the arguments that have values by the name of the job. They may name
        jobs that an import has removed.
    """
    # The working folder of a DAG processor or a worker can be any.
    path = Path(caller.get("__file__", "")).parent / catalogue
    content = read_catalogue(path)
    selected = content.jobs
    broken = list(content.broken)
    if callable(jobs):
        selected = [job for job in content.jobs if jobs(job)]
    elif jobs is not None:
        selected = [job for job in content.jobs if job.name in jobs]
        broken = [job for job in content.broken if job.name in jobs]
        by_job = {"jobs": dict.fromkeys(jobs), **by_job}
    names = {job.name for job in content.jobs} | {job.name for job in content.broken}
    for argument, values in by_job.items():
        for name in values or ():
            if name not in names:
                problem = f"{argument} names it, but the catalogue has no such job"
                broken.append(BrokenJob(name, problem))
    return path, selected, broken
