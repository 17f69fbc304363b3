"""
Checks the ``Arguments`` of steps.

Those of most steps are a request to SageMaker. Beside its shape in botocore's service
model, the pages of the API have rules about members that need or exclude each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
    members_of,
    shown,
)
from sagemaker_emulator.sagemaker.definition_checks.models import (
    emr_structure,
    job_of,
    request_shape,
)
from sagemaker_emulator.sagemaker.definition_checks.references import (
    Declarations,
    Json,
    expression_type,
    is_expression,
    type_of,
)
from sagemaker_emulator.sagemaker.validation import broken_constraints, has_type


class _Choice(NamedTuple):
    """
    Members of which an object needs at least one.

    :param path: the path of the object in the arguments; empty for the arguments.
    :param members: the members.
    :param exclusive: whether it can have one only.
    """

    path: str
    members: tuple[str, ...]
    exclusive: bool = False


# By the type of the step. The pages of the API under
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/ are CreateTrainingJob,
# AlgorithmSpecification, ResourceConfig, CreateHyperParameterTuningJob and CreateModel.
# Those of EMR steps are in ``sagemaker.workflow.emr_step`` of the SageMaker Python SDK.
_CHOICES: Mapping[str, tuple[_Choice, ...]] = {
    "Training": (
        _Choice("", ("AlgorithmSpecification", "ServerlessJobConfig")),
        _Choice("", ("ResourceConfig", "ServerlessJobConfig")),
        _Choice("", ("StoppingCondition", "ServerlessJobConfig")),
        _Choice("AlgorithmSpecification", ("TrainingImage", "AlgorithmName"), True),
        _Choice(
            "ResourceConfig",
            ("InstanceType", "InstanceGroups", "InstancePreferences"),
        ),
    ),
    "Tuning": (
        _Choice("", ("TrainingJobDefinition", "TrainingJobDefinitions"), True),
        _Choice(
            "TrainingJobDefinition.AlgorithmSpecification",
            ("TrainingImage", "AlgorithmName"),
            True,
        ),
    ),
    "Model": (_Choice("", ("PrimaryContainer", "Containers")),),
    "EMR": (
        _Choice("", ("ClusterId", "ClusterConfig"), True),
        _Choice("ClusterConfig.Instances", ("InstanceGroups", "InstanceFleets"), True),
    ),
    "EMRServerless": (_Choice("", ("ApplicationId", "ApplicationConfig"), True),),
}
# The pipeline sets these members of RunJobFlow:
# https://sagemaker.readthedocs.io/en/stable/workflows/pipelines/sagemaker.workflow.pipelines.html#sagemaker.workflow.emr_step.EMRStep
_SET_BY_PIPELINE: Mapping[str, tuple[str, ...]] = {
    "ClusterConfig": ("AutoTerminationPolicy", "Name", "Steps"),
    "Instances": ("KeepJobFlowAliveWhenNoSteps", "TerminationProtected"),
}


def faults_of_arguments(
    step: Json, place: Place, declared: Declarations
) -> Iterator[Fault]:
    """
    Check the arguments of a step, except those of Condition and ForEach steps.

    :param step: the step as the definition has it.
    :param place: the place of its arguments.
    :param declared: what expressions in them can refer to.
    """
    kind = step["Type"]
    arguments = step.get("Arguments") or {}
    check = _Check(declared)
    for choice in _CHOICES.get(kind, ()):
        yield from _faults_of_choice(choice, arguments, place)
    if kind == "EMR":
        yield from _faults_of_emr(arguments, place, check)
    elif kind == "EMRServerless":
        known = ("ApplicationConfig", "ApplicationId", "ExecutionRoleArn", "JobConfig")
        required = ("ExecutionRoleArn", "JobConfig")
        yield from members_of(arguments, place, known, required)
    elif kind == "Fail":
        yield from _faults_of_fail(arguments, place)
    else:
        yield from _faults_of_request(kind, arguments, place, check)
        yield from _faults_of_mode(kind, arguments, place)


class _Check:
    """
    Compares JSON values with shapes.

    :param declared: what expressions can refer to.
    """

    def __init__(self, declared: Declarations) -> None:
        self._declared = declared

    def value(self, shape: Shape, value: Any, place: Place) -> Iterator[Fault]:
        """
        Check a value.

        :param shape: the shape that it must have.
        :param value: the value.
        :param place: its place.
        """
        if is_expression(value):
            yield from self._expression(shape, value, place)
            return
        if not has_type(shape, value):
            yield place.wrong_type(shape.type_name)
            return
        constraints: list[str] = []
        # Programs write empty lists and objects for what is not given.
        if value not in ([], {}):
            constraints = broken_constraints(shape, value)
        for constraint in constraints:
            rule = constraint.removeprefix("Member must ")
            rule = rule.removeprefix("satisfy ").removeprefix("have ")
            yield place.fault(
                f"Value '{shown(value)}' for '{shape.name}' failed to satisfy {rule}"
            )
            return
        if isinstance(shape, StructureShape):
            yield from self.structure(shape, value, place)
        elif isinstance(shape, ListShape):
            for entry, entry_place in entries_of(value, place):
                yield from self.value(shape.member, entry, entry_place)
        elif isinstance(shape, MapShape):
            for key, item in value.items():
                item_place = place.member(key)
                yield from self.value(shape.key, key, item_place)
                yield from self.value(shape.value, item, item_place)

    def structure(
        self,
        shape: StructureShape,
        value: Mapping[str, Any],
        place: Place,
        optional: frozenset[str] | set[str] = frozenset(),
    ) -> Iterator[Fault]:
        """
        Check the members of a structure.

        :param shape: the structure.
        :param value: the object.
        :param place: its place.
        :param optional: members that it can lack though the shape requires them.
        """
        required = [name for name in shape.required_members if name not in optional]
        yield from members_of(value, place, shape.members, required)
        present = {
            name: shape.members[name]
            for name, item in value.items()
            if name in shape.members and item is not None
        }
        if shape.is_tagged_union and len(present) != 1:
            yield place.fault(f"'{shape.name}' needs exactly one member")
        for name, member in present.items():
            yield from self.value(member, value[name], place.member(name))

    def _expression(self, shape: Shape, value: Json, place: Place) -> Iterator[Fault]:
        actual = expression_type(value, self._declared)
        expected = type_of(shape)
        if None in (actual, expected) or actual == expected:
            return
        if expected == "float" and actual == "integer":
            return
        if expected in ("structure", "list", "map"):
            yield place.wrong_type(str(expected))
            return
        # People quote AWS so. The text between the brackets is not known.
        yield place.fault(
            f"Cannot assign property reference [{shown(value.get('Get', 'Std:Join'))}]"
            f" to argument of type {str(expected).capitalize()}"
        )


def _faults_of_choice(
    choice: _Choice, arguments: Json, place: Place
) -> Iterator[Fault]:
    value: Any = arguments
    for name in filter(None, choice.path.split(".")):
        value = value.get(name)
        place = place.member(name)
        if not isinstance(value, dict) or is_expression(value):
            return
    present = [name for name in choice.members if value.get(name) is not None]
    names = " or ".join(f"'{name}'" for name in choice.members)
    if not present:
        yield place.member(choice.members[0]).fault(f"{names} is missing")
    elif choice.exclusive and len(present) > 1:
        yield place.member(present[1]).fault(f"only one of {names} can be specified")


def _faults_of_emr(arguments: Json, place: Place, check: _Check) -> Iterator[Fault]:
    known = ("ClusterConfig", "ClusterId", "ExecutionRoleArn", "StepConfig")
    yield from members_of(arguments, place, known, ("StepConfig",))
    step = arguments.get("StepConfig")
    if isinstance(step, dict):
        yield from check.structure(
            emr_structure("StepConfig"), step, place.member("StepConfig"), {"Name"}
        )
    if "ExecutionRoleArn" in arguments and "ClusterId" not in arguments:
        yield place.member("ExecutionRoleArn").fault(
            "'ExecutionRoleArn' needs 'ClusterId'"
        )
    cluster = arguments.get("ClusterConfig")
    if not isinstance(cluster, dict):
        return
    place = place.member("ClusterConfig")
    yield from check.structure(
        emr_structure("RunJobFlowInput"), cluster, place, {"Name"}
    )
    for member, value in (
        ("ClusterConfig", cluster),
        ("Instances", cluster.get("Instances")),
    ):
        if member == "Instances":
            place = place.member(member)
        for name in _SET_BY_PIPELINE[member]:
            if isinstance(value, dict) and name in value:
                yield place.unknown(name)


def _faults_of_fail(arguments: Json, place: Place) -> Iterator[Fault]:
    yield from members_of(arguments, place, ("ErrorMessage",))
    message = arguments.get("ErrorMessage") or ""
    if not isinstance(message, str) and not is_expression(message):
        yield place.member("ErrorMessage").wrong_type("string")


def _faults_of_request(
    kind: str, arguments: Json, place: Place, check: _Check
) -> Iterator[Fault]:
    job = job_of(kind, arguments)
    if job is None:
        return
    # https://github.com/aws/sagemaker-python-sdk/pull/3472
    if {"ModelPackageName", "ModelPackageGroupName"} <= arguments.keys():
        yield place.unknown("ModelPackageName")
    shape = request_shape(job.operation)
    if shape is not None:
        yield from check.structure(shape, arguments, place, {job.name})


def _faults_of_mode(kind: str, arguments: Json, place: Place) -> Iterator[Fault]:
    """
    Check the mode of AutoML steps, as ``sagemaker.workflow.automl_step`` of the
    SageMaker Python SDK does.
    """
    config = arguments.get("AutoMLJobConfig")
    if kind != "AutoML" or not isinstance(config, dict):
        return
    mode = config.get("Mode", "ENSEMBLING")
    if isinstance(mode, str) and mode != "ENSEMBLING":
        mode_place = place.member("AutoMLJobConfig").member("Mode")
        yield mode_place.fault(
            f"Value '{shown(mode)}' for 'AutoMLMode' failed to satisfy enum value"
            " set: [ENSEMBLING]"
        )
