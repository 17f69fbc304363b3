"""
Chooses the imported jobs that a mapped Start task can start, and their parameter
values.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from numbers import Number
from typing import Any

from airflow.providers.common.compat.sdk import XComArg, literal
from pydantic import ConfigDict, Field, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import texts
from polysync_airflow.execution.models import FrozenModel, PipelineName, name_or_arn
from polysync_airflow.execution.pipelines import DeclaredParameter, parameter_problems


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

    A pipeline with a parameter that has no default cannot be started with these
    arguments. ``jobs_to_start`` leaves such jobs out, or gives them values.
    https://airflow.apache.org/docs/apache-airflow/stable/core-concepts/operators.html

    :param job: a job, as ``PolysyncListImportOperator`` returns it.
    :return: ``pipeline_name`` and ``pipeline_parameters``, for ``expand_kwargs``.
    """
    # AWS accepts no empty value in a request. Without the parameter, it uses the empty
    # default.
    defaults = {
        each["name"]: each["default"]
        for each in job["parameters"]
        if each["default"] not in (None, "")
    }
    name = name_or_arn(job["name"], job.get("arn", ""))
    return inert_arguments({"pipeline_name": name, "pipeline_parameters": defaults})


def inert_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return the arguments of a Start task so that Airflow does not render them.

    :param arguments: ``pipeline_name`` and ``pipeline_parameters`` with plain values.
    """
    values = {
        name: literal(value) for name, value in arguments["pipeline_parameters"].items()
    }
    return {
        "pipeline_name": literal(arguments["pipeline_name"]),
        "pipeline_parameters": values,
    }


# Returns the value for a parameter of a job; None for its default.
ValueFunction = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]

_log = logging.getLogger(__name__)


class _Parameter(DeclaredParameter):
    model_config = ConfigDict(populate_by_name=True)


class _Job(FrozenModel):
    name: PipelineName
    arn: texts.ArnText = ""
    parameters: list[_Parameter] = Field(default_factory=list)
    parameters_error: texts.ReasonText | None = None


def jobs_to_start(
    jobs: XComArg | Sequence[Mapping[str, Any]],
    *,
    values: Mapping[str, Any] | XComArg | ValueFunction | None = None,
    task_id: str = "jobs_to_start",
) -> XComArg:
    """
    Make a task that chooses the jobs which can be started, and return the arguments of
    their Start tasks.

    ::

        jobs = PolysyncListImportOperator(task_id="import_jobs")
        PolysyncStartPipelineOperator.partial(
            task_id="start", deferrable=True
        ).expand_kwargs(jobs_to_start(jobs.output, values={"ScoreDate": "{{ ds }}"}))

    The task leaves out the jobs of which a parameter has no value, does not accept its
    value, or cannot be read. It logs one warning, which names each of them with the
    reason. The others are started with the values that ``values`` gives, and with the
    declared default values of the other parameters. If no job is left, Airflow skips
    the Start task.

    As with ``start_arguments``, Airflow renders no text of a job as a template.
    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/dynamic-task-mapping.html

    :param jobs: the output of ``PolysyncListImportOperator``, or a list of such jobs.
    :param values: the values that the defaults do not give, or that replace them: a
        mapping from names of parameters to values for all jobs (templated; a value may
        be the output of a task), or a function ``(job, parameter) -> value`` that the
        task calls for each declared parameter, and that returns None for its default. A
        value is a text, a number or a boolean.
    :return: the keyword arguments of each Start task, for ``expand_kwargs``.
    """
    # Its import takes time, and only files that call this function need it.
    from airflow.providers.common.compat.sdk import task

    function = values if callable(values) else None

    def choose_jobs(jobs: Any, values: Any) -> list[dict[str, Any]]:
        return choose(jobs, function or values)

    # A list of jobs would be rendered. The function is no argument of the task, because
    # Airflow would store its address with the DAG, which is another one after each
    # parsing.
    choosing: Any = task(task_id=task_id)(choose_jobs)
    arguments: XComArg = choosing(
        jobs if isinstance(jobs, XComArg) else literal(jobs),
        {} if function or values is None else values,
    )
    # Airflow can store no literals in an XCom.
    return arguments.map(inert_arguments)


def choose(
    jobs: Sequence[Mapping[str, Any]], values: Mapping[str, Any] | ValueFunction
) -> list[dict[str, Any]]:
    """
    Return ``pipeline_name`` and ``pipeline_parameters`` of each job that can be
    started.

    The jobs that cannot be started are named in one warning.

    :param values: as in ``jobs_to_start``.
    :raises ParametersError: the jobs are no list of jobs, or a value is no text, number
        or boolean.
    """
    if not isinstance(jobs, Sequence) or isinstance(jobs, str):
        raise ParametersError(
            f"jobs = {texts.shorten(jobs)} is not valid: give a list of imported jobs."
        )
    if not callable(values) and not isinstance(values, Mapping):
        raise ParametersError(
            f"values = {texts.shorten(values)} is not valid: give a mapping or a"
            " function."
        )
    chosen: list[dict[str, Any]] = []
    left_out: list[str] = []
    for position, job in enumerate(jobs):
        try:
            parsed = _Job.model_validate(job)
        except ValidationError as error:
            left_out.append(
                f"jobs[{position}] is not a job:"
                f" {texts.describe_validation_error(error)}"
            )
            continue
        given = _given_values(job, parsed, values)
        if reasons := _reasons(parsed, given):
            left_out.append(f"{parsed.name} {'; '.join(reasons)}")
        else:
            # AWS accepts no empty value in a request. Without the parameter, it uses
            # the empty default.
            defaults = {
                p.name: p.default
                for p in parsed.parameters
                if p.default not in (None, "")
            }
            name = name_or_arn(parsed.name, parsed.arn)
            chosen.append(
                {"pipeline_name": name, "pipeline_parameters": defaults | given}
            )
    _log.info("%s of %s jobs are started.", len(chosen), len(jobs))
    if left_out:
        lines = "\n".join(
            f"- {texts.clean_line(line, 2000)}"
            for line in texts.first_problems(left_out)
        )
        _log.warning("%s of %s jobs are left out:\n%s", len(left_out), len(jobs), lines)
    return chosen


def _given_values(
    job: Mapping[str, Any], parsed: _Job, values: Mapping[str, Any] | ValueFunction
) -> dict[str, Any]:
    given = {}
    for parameter in parsed.parameters:
        name = parameter.name
        value = (
            values(job, parameter.model_dump())
            if callable(values)
            else values.get(name)
        )
        if value is None:
            continue
        try:
            is_valid = isinstance(value, (str, Number)) and texts.is_storable_text(
                str(value)
            )
        except ValueError:
            # Python refuses to write integers of more than 4,300 digits.
            is_valid = False
        if not is_valid:
            raise ParametersError(
                f"The value of parameter {texts.clean_line(name)} of job {parsed.name}"
                f" is {texts.shorten(value)}: give a text, a number or a boolean that"
                " Airflow can store, or None for the default."
            )
        # AWS gets a text in any case, and a database stores neither NaN nor a Decimal
        # in JSON.
        given[name] = (
            texts.storable_number(value)
            if isinstance(value, (str, int))
            else str(value)
        )
    return given


def _reasons(job: _Job, given: Mapping[str, Any]) -> list[str]:
    """Return why a job cannot be started; an empty list if it can."""
    if job.parameters_error:
        return [f"has parameters that cannot be read: {job.parameters_error}"]
    reasons = []
    missing = [
        each.name
        for each in job.parameters
        if each.default is None and each.name not in given
    ]
    if missing:
        reasons.append(f"needs a value for: {texts.clean_line(', '.join(missing))}")
    declared = [each for each in job.parameters if each.name in given]
    problems = parameter_problems(
        {name: str(value) for name, value in given.items()}, declared
    )
    return reasons + [f"does not accept {problem}" for problem in problems]
