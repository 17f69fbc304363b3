"""
Pipelines that tasks make: one whose definition is given, or one that runs a single job.

The request of a job becomes a step. What Airflow renders in it becomes a parameter of
the pipeline, so that all runs of a task have one definition, and so one version. What
is not a text or number when it is rendered, such as a whole list, stays in the
definition: the run then has a version of its own.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, pipelines, texts
from polysync_airflow.execution.definitions import PipelineDraft, PutArguments, to_text
from polysync_airflow.execution.job_types import (
    ELSEWHERE,
    JOB_TYPES,
    MODEL,
    JobType,
    readable_name,
)

if TYPE_CHECKING:
    from polysync_airflow.execution.lifecycle.instructions import TaskIdentity

SCHEMA_VERSION: Final = "2020-12-01"
# The tags of a pipeline that say which task has made it.
DEPLOYMENT_TAG: Final = "airflow:deployment"
DAG_TAG: Final = "airflow:dag_id"
TASK_TAG: Final = "airflow:task_id"
_MAX_NAME: Final = 256
# 64, less what the name of the step that makes a model has at its end.
_MAX_STEP_NAME: Final = 58
_DIGITS: Final = 8
_NOT_STARTED: Final = "Nothing was started."
_PARAMETERS: Final = "Parameters."
# The types of parameters for botocore's types of members; String for all others.
_TYPES: Final = {
    "integer": "Integer",
    "long": "Integer",
    "float": "Float",
    "double": "Float",
    "boolean": "Boolean",
}
_PARAMETER_LENGTH: Final = (
    "a value with a template is a parameter of the pipeline, and has 1 to"
    f" {texts.MAX_VALUE_LENGTH:,} characters; pass larger data by its S3 URI, leave an"
    " empty member out, or let a task make the whole config"
)
# A place in a request: the names of members, and indexes of lists.
Place = tuple[str | int, ...]


# ---- names


def pipeline_name(deployment: str, dag_id: str, task_id: str) -> str:
    """
    Return the name of the pipeline that a task makes.

    It does not follow from the request of the job: a try that has lost its record lists
    the executions of this pipeline.

    :param deployment: the identity of the Airflow deployment, so that two deployments
        with the same DAG do not change one pipeline in turns.
    """
    readable = readable_name(dag_id, task_id)[: _MAX_NAME - _DIGITS - 1].rstrip("-")
    return f"{readable}-{_digest(deployment, dag_id, task_id)}"


def origin_tags(deployment: str, dag_id: str, task_id: str) -> dict[str, str]:
    """Return the tags that say which task makes a pipeline."""
    return {
        DEPLOYMENT_TAG: _digest(deployment),
        DAG_TAG: _tag_value(dag_id),
        TASK_TAG: _tag_value(task_id),
    }


def _tag_value(text: str) -> str:
    return re.sub(r"[^\w.:/=+\-@]", "_", text)[:256]


def step_name(task_id: str) -> str:
    """Return the name of the step that runs the job of a task."""
    wanted = task_id.rpartition(".")[2]
    name = re.sub(r"[^A-Za-z0-9_-]", "-", wanted)
    if name == wanted and len(name) <= _MAX_STEP_NAME:
        return name
    return f"{name[: _MAX_STEP_NAME - _DIGITS - 1]}-{_digest(task_id)}"


def _digest(*parts: object) -> str:
    text = "\0".join(map(str, parts))
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:_DIGITS]


def _parameter_names(places: Sequence[Place], taken: set[str]) -> dict[Place, str]:
    """
    Name each place by as much of its end as tells it from the others.

    :param taken: names that the DAG author has given to other parameters.
    """
    candidates = {place: list(_ends_of(place)) for place in places}
    counts = Counter(name for names in candidates.values() for name in names)
    names = {}
    for place, ends in candidates.items():
        free = [name for name in ends if counts[name] == 1 and name not in taken]
        # Two names can differ only in what a parameter's name cannot have.
        names[place] = next(iter(free), f"{ends[0][:200]}-{_digest(*place)}")
    return names


def _ends_of(place: Place) -> Iterator[str]:
    for start in reversed(range(len(place))):
        if isinstance(place[start], str):
            text = "-".join(map(str, place[start:]))
            yield re.sub(r"[^A-Za-z0-9_-]", "_", text)[:_MAX_NAME]


# ---- the pipeline of a job


class JobRequests(Protocol):
    """What botocore knows of the requests of jobs."""

    def request_shape(self, operation: str) -> Any:
        """Return the shape of a request."""

    def request_problems(self, operation: str, request: Any) -> list[str]:
        """Return what is wrong with a request, as lines."""


class MadePipeline(NamedTuple):
    """
    The pipeline of a job, and the start of its execution.

    :param parameters: the values of all parameters.
    """

    draft: PipelineDraft
    parameters: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class JobPipeline:
    """
    The pipeline that a task makes for its job.

    :param config: the request of the job, rendered.
    :param template: the same before Airflow has rendered it.
    :param name: the name of the pipeline; None for one that follows from the task.
    :param role_arn: the role of the pipeline; None for that of the connection or job.
    :param step: other members of the step.
    :param parameters: the values of parameters to which the request refers.
    """

    job_type: str
    config: Any
    template: Any
    name: Any
    role_arn: Any
    step: Mapping[str, Any]
    tags: Any
    parameters: Any

    def name_for(self, task: TaskIdentity) -> str:
        """Return the name of the pipeline."""
        if self.name:
            return str(self.name)
        return pipeline_name(task.deployment, task.key.dag_id, task.key.task_id)

    def make(
        self, task: TaskIdentity, requests: JobRequests, default_role: str | None
    ) -> MadePipeline:
        """
        Return the pipeline and the parameters of its start.

        :param default_role: the role of the connection.
        :raises ParametersError: lists what is wrong with the request, or names another
            argument that is not valid.
        """
        key = task.key
        if not isinstance(self.config, Mapping):
            operation = JOB_TYPES[self.job_type].operation
            raise ParametersError(
                f"config = {texts.shorten(self.config)} is not valid: give the request"
                f" of {operation} as a dict. {_NOT_STARTED}"
            )
        given = self.parameters or {}
        if not isinstance(given, Mapping):
            raise ParametersError(
                f"pipeline_parameters = {texts.shorten(given)} is not valid: give a"
                f" dict. {_NOT_STARTED}"
            )
        lifter = _Lifter(requests)
        try:
            steps = self._steps(lifter, step_name(key.task_id))
        except RecursionError:
            raise ParametersError(
                f"config = {texts.shorten(self.config)} is not valid: it is nested too"
                f" deeply. {_NOT_STARTED}"
            ) from None
        parameters, declared = lifter.finish(self.job_type, given)
        definition = {
            "Version": SCHEMA_VERSION,
            "Parameters": declared,
            "PipelineExperimentConfig": _taken_experiment(steps[-1]["Arguments"]),
            "Steps": steps,
        }
        tags = self.tags or {}
        if isinstance(tags, Mapping):
            tags = {**tags, **origin_tags(task.deployment, key.dag_id, key.task_id)}
        arguments = PutArguments.of(
            pipeline_name=self.name_for(task),
            role_arn=self.role_arn or default_role or self._role_of_job(),
            pipeline_description=None,
            max_parallel_steps=None,
            pipeline_tags=tags,
        )
        draft = arguments.draft(to_text(definition))
        return MadePipeline(draft, parameters)

    def _steps(self, lifter: _Lifter, name: str) -> list[dict[str, Any]]:
        job_type = JOB_TYPES[self.job_type]
        step = {**self.step, "Name": name, "Type": self.job_type}
        if self.job_type != "Transform" or "Transform" not in self.config:
            arguments = lifter.lift(job_type, self.template, self.config, ())
            return [{**step, "Arguments": arguments}]
        # The form of the Amazon provider that makes a model, too.
        model = lifter.lift(
            MODEL, _part(self.template, "Model"), self.config.get("Model"), ("Model",)
        )
        model_step = f"{name}-model"
        made = {"ModelName": {"Get": f"Steps.{model_step}.ModelName"}}
        arguments = lifter.lift(
            job_type,
            _part(self.template, "Transform"),
            self.config["Transform"],
            ("Transform",),
            made,
        )
        return [
            {"Name": model_step, "Type": "Model", "Arguments": model},
            {**step, "Arguments": arguments},
        ]

    def _role_of_job(self) -> Any:
        value: Any = self.config
        for name in JOB_TYPES[self.job_type].role:
            value = _part(value, name)
        return value


class _Value(NamedTuple):
    """
    A value that Airflow has rendered.

    :param kind: the type of the parameter.
    :param reference: the reference to the parameter, which gets its name at the end.
    """

    text: str
    kind: str
    reference: dict[str, str]


class _Lifter:
    """
    Replaces what Airflow has rendered in requests by references to parameters.

    botocore checks the values. The references take their places afterwards, when all
    are known: the name of a parameter follows from its place among them.
    """

    def __init__(self, requests: JobRequests) -> None:
        self._requests = requests
        self._problems: list[str] = []
        self._values: dict[Place, _Value] = {}
        self._references: dict[Place, Mapping[str, Any]] = {}
        self._types: dict[str, str] = {}

    def lift(
        self,
        job_type: JobType,
        template: Any,
        config: Any,
        place: Place,
        made: Mapping[str, Any] | None = None,
    ) -> Any:
        """
        Return a request as the arguments of a step.

        :param place: where the request is in ``config`` of the task.
        :param made: members that the pipeline makes.
        """
        if isinstance(config, Mapping):
            config = {**config, **(made or {})}
            config.pop(job_type.name, None)
            self._problems += _misplaced(config)
        shape = self._requests.request_shape(job_type.operation)
        checked = self._checked(template, config, shape, place)
        named = checked
        if isinstance(checked, Mapping):
            named = {**checked, job_type.name: "x"}
        self._problems += self._requests.request_problems(job_type.operation, named)
        return self._with_references(checked, place)

    def finish(
        self, job_type: str, given: Mapping[str, Any]
    ) -> tuple[dict[str, Any], list[dict[str, str]]]:
        """
        Name the parameters.

        :param given: the values of parameters that the DAG author has named.
        :return: all values, and the declarations.
        :raises ParametersError: the requests are not valid.
        """
        for name in self._types:
            if name not in given:
                self._problems.append(
                    f"Parameters.{name}: add {name} to pipeline_parameters"
                )
        count = len(self._values) + len(given)
        if count > models.MAX_PARAMETERS:
            self._problems.append(
                f"it has {count} values with templates and parameters, and a pipeline"
                f" at most {models.MAX_PARAMETERS}: join some, or let a task make the"
                " whole config"
            )
        if self._problems:
            lines = "\n- ".join(texts.first_problems(self._problems))
            raise ParametersError(
                f"The config does not fit a {job_type} job. {_NOT_STARTED}\n- {lines}"
            )
        names = _parameter_names(list(self._values), set(given))
        types = {name: self._types.get(name, "String") for name in given}
        values = dict(given)
        for place, name in names.items():
            value = self._values[place]
            value.reference["Get"] = f"Parameters.{name}"
            types[name] = value.kind
            values[name] = value.text
        declared = [{"Name": name, "Type": types[name]} for name in sorted(types)]
        return values, declared

    def _checked(self, template: Any, value: Any, shape: Any, place: Place) -> Any:
        """Return a value as botocore checks it; keep its reference, if it has one."""
        kind = _TYPES.get(getattr(shape, "type_name", ""), "String")
        if _is_expression(value):
            self._references[place] = value
            for name in _parameters_in(value):
                self._types.setdefault(name, kind)
            return _sample(shape, kind)
        if isinstance(value, Mapping):
            return {
                name: self._checked(
                    _part(template, name),
                    member,
                    _member_shape(shape, name),
                    (*place, str(name)),
                )
                for name, member in value.items()
            }
        if isinstance(value, list | tuple):
            return [
                self._checked(
                    _part(template, index),
                    member,
                    getattr(shape, "member", None),
                    (*place, index),
                )
                for index, member in enumerate(value)
            ]
        if _is_rendered(template) and isinstance(value, str | int | float):
            text = str(value)
            if not 1 <= len(text) <= texts.MAX_VALUE_LENGTH:
                self._add_problem(place, value, _PARAMETER_LENGTH)
                return _sample(shape, kind)
            reference: dict[str, str] = {}
            self._references[place] = reference
            self._values[place] = _Value(text, kind, reference)
            return self._typed(text, shape, kind, place)
        if isinstance(value, str):
            return self._typed(value, shape, kind, place)
        return value

    def _typed(self, text: str, shape: Any, kind: str, place: Place) -> Any:
        """Return a text as the number or boolean that it stands for, if any."""
        declared = {"Name": "value", "Type": kind}
        parameter = pipelines.DeclaredParameter.model_validate(declared)
        try:
            # As in the Amazon provider, a text in the place of a number is a number.
            return pipelines.typed_value(parameter, text)
        except ValueError as error:
            self._add_problem(place, text, str(error))
            return _sample(shape, kind)

    def _add_problem(self, place: Place, value: Any, problem: str) -> None:
        name = ""
        for part in place:
            name += f"[{part}]" if isinstance(part, int) else f".{part}"
        member = texts.clean_line(name.lstrip("."))
        self._problems.append(f"{member} = {texts.shorten(value)}: {problem}")

    def _with_references(self, value: Any, place: Place) -> Any:
        if place in self._references:
            return self._references[place]
        if isinstance(value, Mapping):
            return {
                name: self._with_references(member, (*place, str(name)))
                for name, member in value.items()
            }
        if isinstance(value, list):
            return [
                self._with_references(member, (*place, index))
                for index, member in enumerate(value)
            ]
        return value


def _is_expression(value: Any) -> bool:
    """Return whether a value is one that a pipeline evaluates, such as a reference."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    name = next(iter(value))
    return name == "Get" or str(name).startswith("Std:")


def _parameters_in(expression: Any) -> Iterator[str]:
    """Return the names of the parameters to which an expression refers."""
    parts: Iterable[Any] = ()
    if isinstance(expression, Mapping):
        parts = expression.values()
    elif isinstance(expression, list | tuple):
        parts = expression
    elif isinstance(expression, str) and expression.startswith(_PARAMETERS):
        yield expression.removeprefix(_PARAMETERS)
    for part in parts:
        yield from _parameters_in(part)


def _misplaced(config: dict[str, Any]) -> list[str]:
    """Return which members of a request no step may have, and the cure."""
    holders = {"S3Operations": config, "RunName": config.get("ExperimentConfig")}
    problems = [
        f"{name}: {ELSEWHERE[name]}"
        for name, holder in holders.items()
        if isinstance(holder, Mapping) and name in holder
    ]
    # botocore does not know it.
    config.pop("S3Operations", None)
    return problems


def _is_rendered(template: Any) -> bool:
    """Return whether Airflow renders a value, which may be another one in each run."""
    if isinstance(template, str):
        return "{{" in template or "{%" in template
    # Such as the output of a task.
    return not isinstance(template, bool | int | float | Mapping | list | tuple | None)


def _part(value: Any, key: str | int) -> Any:
    """Return a part of a value; None if it has none of its own."""
    if isinstance(value, Mapping):
        return value.get(key)
    if isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
        return value[key]
    return None


def _member_shape(shape: Any, name: str) -> Any:
    if getattr(shape, "type_name", "") == "map":
        return shape.value
    return getattr(shape, "members", {}).get(name)


def _sample(shape: Any, kind: str) -> Any:
    metadata = getattr(shape, "metadata", {})
    if kind == "String":
        return "x" * metadata.get("min", 1)
    if kind == "Boolean":
        return True
    return metadata.get("min", 1)


def _taken_experiment(arguments: Any) -> Any:
    """
    Take the experiment out of the arguments of a step, which may only have the display
    name. None is for no experiment, which the definition must say.
    """
    given = arguments.pop("ExperimentConfig", None) or {}
    if "TrialComponentDisplayName" in given:
        kept = {"TrialComponentDisplayName": given["TrialComponentDisplayName"]}
        arguments["ExperimentConfig"] = kept
    experiment = {
        name: given[name] for name in ("ExperimentName", "TrialName") if name in given
    }
    return experiment or None
