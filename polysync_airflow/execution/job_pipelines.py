"""
Pipelines that tasks make to run a single job.

The request of a job becomes a step. What Airflow renders in it becomes a parameter of
the pipeline, so that all runs of a task have one definition, and so one version. What
is not a text or number when it is rendered, such as a whole list, stays in the
definition: the run then has a version of its own.

https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import job_types, models, pipelines, texts
from polysync_airflow.execution.definitions import PipelineDraft, to_text
from polysync_airflow.execution.job_types import DIGITS, JOB_TYPES

if TYPE_CHECKING:
    from polysync_airflow.execution.lifecycle.instructions import TaskIdentity

# Where an argument is in the config.
Path = tuple[str | int, ...]

# The tags of a pipeline that say which task has made it.
DEPLOYMENT_TAG: Final = "airflow:deployment"
DAG_TAG: Final = "airflow:dag_id"
TASK_TAG: Final = "airflow:task_id"
# The name of a parameter in a definition; a start allows longer ones.
# https://aws-sagemaker-mlops.github.io/sagemaker-model-building-pipeline-definition-JSON-schema/
_MAX_NAME: Final = 64
_NAME: Final = re.compile(rf"[A-Za-z0-9_-]{{1,{_MAX_NAME}}}")
# 64, less what the name of the step that makes a model has at its end.
_MAX_STEP_NAME: Final = 58
# The types of parameters for botocore's types of members, and for those of Python;
# String for all others.
_TYPES: Final = {
    "integer": "Integer",
    "long": "Integer",
    "float": "Float",
    "double": "Float",
    "boolean": "Boolean",
    int: "Integer",
    float: "Float",
    bool: "Boolean",
}
_LIMITS: Final = (
    "what has a template is a parameter of the pipeline, which has at most"
    f" {models.MAX_PARAMETERS}, of 1 to {texts.MAX_VALUE_LENGTH:,} characters; pass"
    " larger data by its S3 URI, or let a task make the whole config"
)


def pipeline_name(deployment: str, dag_id: str, task_id: str) -> str:
    """
    Return the name of the pipeline that a task makes.

    It does not follow from the request of the job: a try that has lost its record lists
    the executions of this pipeline.

    :param deployment: the identity of the Airflow deployment, so that two deployments
        with the same DAG do not change one pipeline in turns.
    """
    digest = _digest(deployment, dag_id, task_id)
    return f"{job_types.readable_name(dag_id, task_id)}-{digest}"


def origin_tags(deployment: str, dag_id: str, task_id: str) -> dict[str, str]:
    """Return the tags that say which task makes a pipeline."""
    return {
        DEPLOYMENT_TAG: _digest(deployment),
        DAG_TAG: _tag_value(dag_id),
        TASK_TAG: _tag_value(task_id),
    }


def _tag_value(text: str) -> str:
    return re.sub(r"[^\w.:/=+\-@]", "_", text)[:256]


def _digest(*parts: str) -> str:
    text = "\0".join(parts)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()[:DIGITS]


class JobRequests(Protocol):
    """What botocore knows of the requests of jobs."""

    def request_shape(self, operation: str) -> Any:
        """Return the shape of a request."""

    def request_problems(self, operation: str, request: Any) -> list[str]:
        """Return what is wrong with a request, as lines."""


@dataclass(frozen=True, kw_only=True)
class JobPipeline:
    """
    The pipeline that a task makes for its job. The fields are attributes of the
    operator.

    :param config: the request of the job, rendered.
    :param config_template: the same before Airflow has rendered it.
    :param pipeline_name: empty for the name that follows from the task.
    :param role_arn: the role of the pipeline; None for that of the connection or job.
    :param step: other members of the step.
    :param pipeline_parameters: the values of parameters to which the request refers.
    """

    job_type: str
    config: Any
    config_template: Any
    pipeline_name: str
    role_arn: Any
    step: Mapping[str, Any] | None
    pipeline_tags: Any
    pipeline_parameters: Any

    def name_for(self, task: TaskIdentity) -> str:
        """Return the name of the pipeline."""
        if self.pipeline_name:
            return self.pipeline_name
        return pipeline_name(task.deployment, task.key.dag_id, task.key.task_id)

    def make(
        self, task: TaskIdentity, requests: JobRequests, default_role: str | None
    ) -> tuple[PipelineDraft, dict[str, Any]]:
        """
        Return the pipeline, and the values of all its parameters.

        :param default_role: the role of the connection.
        :raises ParametersError: lists what is wrong with the request, or names another
            argument that is not valid.
        """
        key = task.key
        given = self.pipeline_parameters or {}
        if not isinstance(given, Mapping):
            raise texts.invalid_argument(
                "pipeline_parameters", given, "give a dict. Nothing was started"
            )
        lifter = _Lifter(requests, given)
        steps = self._steps(lifter, key.task_id)
        lifter.check(self.job_type)
        definition = {
            "Version": "2020-12-01",
            "Parameters": [
                {"Name": name, "Type": kind}
                for name, kind in sorted(lifter.types.items())
            ],
            "PipelineExperimentConfig": _taken_experiment(steps[-1]["Arguments"]),
            "Steps": steps,
        }
        tags = self.pipeline_tags or {}
        if isinstance(tags, Mapping):
            tags = {**tags, **origin_tags(task.deployment, key.dag_id, key.task_id)}
        draft = PipelineDraft.of(
            pipeline_name=self.name_for(task),
            definition=to_text(definition),
            role_arn=self.role_arn or default_role or self._role_of_job(),
            pipeline_tags=tags,
        )
        return draft, lifter.values

    def _steps(self, lifter: _Lifter, task_id: str) -> list[dict[str, Any]]:
        """Return the step of the job, after one that makes its model, if it has one."""
        name = re.sub(r"[^A-Za-z0-9_-]", "-", task_id.rpartition(".")[2])
        name = name[:_MAX_STEP_NAME]
        request = self.config
        template = self.config_template
        before = []
        # The form of the Amazon provider that makes a model, too.
        transform = _part(request, "Transform")
        if self.job_type == "Transform" and isinstance(transform, Mapping):
            model_name = f"{name}-model"
            own = _part(template, "Model"), _part(request, "Model")
            arguments = lifter.lift("CreateModel", *own, "Model")
            model = {"Name": model_name, "Type": "Model", "Arguments": arguments}
            before.append(model)
            template = _part(template, "Transform")
            made = {"ModelName": {"Get": f"Steps.{model_name}.ModelName"}}
            request = {**transform, **made}
        arguments = lifter.lift(JOB_TYPES[self.job_type], template, request)
        step = {"Name": name, "Type": self.job_type, "Arguments": arguments}
        return [*before, {**(self.step or {}), **step}]

    def _role_of_job(self) -> Any:
        config = self.config
        if self.job_type == "Tuning":
            several = _part(config, "TrainingJobDefinitions")
            config = _part(config, "TrainingJobDefinition") or _part(several, 0)
        if self.job_type == "Transform":
            return _part(_part(config, "Model"), "ExecutionRoleArn")
        return _part(config, "RoleArn")


class Parameter(dict[str, str]):
    """
    A reference to a parameter, in the place of its value.

    :param value: what botocore checks.
    """

    def __init__(self, name: str, value: object) -> None:
        super().__init__(Get=f"Parameters.{name}")
        self.value = value


class _Lifter:
    """
    Replaces what Airflow has rendered in requests by parameters.

    :param given: the values of parameters that the DAG author has named.
    """

    def __init__(self, requests: JobRequests, given: Mapping[str, Any]) -> None:
        self._requests = requests
        self._given = given
        self._problems = [
            f"pipeline_parameters[{texts.shorten(name)}]: in a definition, a name has 1"
            f" to {_MAX_NAME} letters, digits, '-' and '_'; give it another one"
            for name in given
            if not _NAME.fullmatch(str(name))
        ]
        self.values = dict(given)
        self.types = {
            name: _TYPES.get(type(value), "String") for name, value in given.items()
        }

    def lift(self, operation: str, template: Any, request: Any, *path: str) -> Any:
        """
        Return the request of an operation as the arguments of a step.

        :param path: where the request is in the config.
        """
        arguments = request
        if isinstance(request, Mapping):
            name = f"{operation.removeprefix('Create')}Name"
            shape = self._requests.request_shape(operation)
            named = {**request}
            if isinstance(named.get(name), str):
                rules = shape.members[name].metadata
                named[name] = self._prefix(name, named[name], rules)
            arguments = self._lift(template, named, shape, path)
            # A step needs none.
            request = {name: "x", **arguments}
        self._problems += self._requests.request_problems(operation, request)
        return arguments

    def _prefix(self, name: str, value: str, rules: Mapping[str, Any]) -> str:
        """Return what AWS begins the name of a job with."""
        if len(value) > rules["max"] or not re.fullmatch(rules["pattern"], value):
            self._problems.append(
                f"{name} = {texts.shorten(value)}: the name that AWS makes begins with"
                f" it; give 1 to {rules['max']} letters, digits and hyphens, beginning"
                " and ending with a letter or digit, or leave it out"
            )
        longest = job_types.MAX_PREFIXES.get(name, job_types.MAX_PREFIX)
        return value[:longest].rstrip("-")

    def check(self, job_type: str) -> None:
        """
        Check what was lifted.

        :raises ParametersError: the requests are not valid.
        """
        problems = self._problems
        if len(self.values) > models.MAX_PARAMETERS:
            problems.append(f"config has {len(self.values)} templates: {_LIMITS}")
        if problems:
            lines = "\n- ".join(texts.first_problems(problems))
            raise ParametersError(
                f"The config does not fit a {job_type} job. Nothing was started.\n"
                f"- {lines}"
            )

    def _lift(self, template: Any, value: Any, shape: Any, path: Path) -> Any:
        if is_expression(value):
            return value
        if isinstance(value, Mapping):
            return {
                name: self._lift(
                    _part(template, name),
                    member,
                    _member_shape(shape, name),
                    (*path, name),
                )
                for name, member in value.items()
            }
        if isinstance(value, list | tuple):
            shape = getattr(shape, "member", None)
            return [
                self._lift(_part(template, index), member, shape, (*path, index))
                for index, member in enumerate(value)
            ]
        is_lifted = _is_rendered(template) and isinstance(value, str | int | float)
        if not is_lifted and not isinstance(value, str):
            return value
        kind = _TYPES.get(getattr(shape, "type_name", ""), "String")
        typed = _typed(str(value), kind)
        if is_lifted:
            return self._parameter(path, kind, str(value), typed)
        return typed

    def _parameter(self, path: Path, kind: str, text: str, typed: Any) -> Parameter:
        parts = [f"[{p}]" if isinstance(p, int) else f".{p}" for p in path]
        place = texts.clean_line("".join(parts).removeprefix("."))
        if not 1 <= len(text) <= texts.MAX_VALUE_LENGTH:
            self._problems.append(f"{place} = {texts.shorten(text)}: {_LIMITS}")
        name = _parameter_name([str(part) for part in path], self._given)
        self.values[name] = text
        self.types[name] = kind
        return Parameter(name, typed)


def _parameter_name(path: list[str], given: Mapping[str, Any]) -> str:
    """
    Return the name of the parameter for an argument. It follows from the argument only,
    so that all runs have the same one, whatever else has a template.

    :param path: where the argument is in the config.
    :param given: the parameters that the DAG author has named.
    """
    name = "-".join(path)
    readable = re.sub(r"[^A-Za-z0-9_]+", "-", name)[-(_MAX_NAME - DIGITS - 1) :]
    digest = ""
    while name in given or not _NAME.fullmatch(name):
        digest = _digest(digest, *path)
        name = f"{readable}-{digest}"
    return name


def _typed(text: str, kind: str) -> Any:
    """
    Return a text as the number or boolean that it stands for in this place, as in the
    Amazon provider. botocore refuses others.
    """
    parameter = pipelines.DeclaredParameter.model_validate(
        {"Name": "value", "Type": kind}
    )
    with suppress(ValueError):
        return pipelines.typed_value(parameter, text)
    return text


def is_expression(value: Any) -> bool:
    """Return whether a value is one that a pipeline evaluates, such as a reference."""
    if not isinstance(value, Mapping) or len(value) != 1:
        return False
    name = next(iter(value))
    return name == "Get" or str(name).startswith("Std:")


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


def _taken_experiment(arguments: dict[str, Any]) -> Any:
    """
    Take the experiment out of the arguments of a step, which may only have the display
    name. None is for no experiment, which the definition must say.

    :raises ParametersError: it names a run.
    """
    given = arguments.pop("ExperimentConfig", {})
    if "RunName" in given:
        raise ParametersError(
            "ExperimentConfig.RunName: leave it out, a step has no run of an"
            " experiment. Nothing was started."
        )
    experiment = {**given}
    display_name = experiment.pop("TrialComponentDisplayName", None)
    if display_name:
        arguments["ExperimentConfig"] = {"TrialComponentDisplayName": display_name}
    return experiment or None
