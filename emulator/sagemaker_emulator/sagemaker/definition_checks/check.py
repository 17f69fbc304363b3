"""The door of this package: checks a whole definition."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from sagemaker_emulator.engine.definition import (
    Definition,
    DefinitionError,
    Parameter,
    parse,
)
from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
    members_of,
    shown,
)
from sagemaker_emulator.sagemaker.definition_checks.references import (
    EXPERIMENT,
    Declarations,
    Json,
    faults_of_expressions,
    is_expression,
)
from sagemaker_emulator.sagemaker.definition_checks.steps import faults_of_step

_LOG = logging.getLogger(__name__)
_MEMBERS = (
    "Metadata",
    "MlflowConfig",
    "Parameters",
    "PipelineExperimentConfig",
    "Steps",
    "Version",
)
_MLFLOW = ("MlflowExperimentName", "MlflowResourceArn")
_VERSION = "2020-12-01"
_PARAMETER = ("DefaultValue", "Description", "EnumValues", "Name", "Type")
_VALUE_TYPES: Mapping[str, tuple[type, ...]] = {
    "Boolean": (bool,),
    "Float": (int, float),
    "Integer": (int,),
    "String": (str,),
}
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Parameter.html
_PARAMETER_NAME = re.compile(r"[A-Za-z0-9\-_]{1,256}")
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_StartPipelineExecution.html
_MAX_PARAMETERS = 200
# A refusal names the first ones only.
_MAX_FAULTS = 3


def checked(text: str, max_steps: int, lenient: bool = False) -> Definition:
    """
    Return a definition that AWS would accept.

    :param text: the JSON text that was passed to CreatePipeline or UpdatePipeline.
    :param max_steps: the quota of steps.
    :param lenient: write a warning to the log, instead of refusing what the engine can
        run.
    :raises DefinitionError: if AWS would refuse the definition; the message names the
        step and the member, and follows "Unable to parse pipeline definition.".
    """
    try:
        definition = parse(text)
    except DefinitionError as error:
        raise DefinitionError(f"Model Validation failed: {error}") from error
    faults = _first_faults(text, max_steps)
    if faults and not lenient:
        raise DefinitionError(" ".join(faults))
    for fault in faults:
        _LOG.warning("AWS would refuse this definition, --lenient does not: %s", fault)
    return definition


@lru_cache(maxsize=32)
def _first_faults(text: str, max_steps: int) -> tuple[str, ...]:
    """
    Return the first faults of a definition that can be parsed.

    Those of the latest ones are kept, because each reset of an emulator creates the
    same pipelines again.
    """
    faults = _faults(parse(text), max_steps)
    return tuple(str(fault) for fault in islice(faults, _MAX_FAULTS))


def _faults(definition: Definition, max_steps: int) -> Iterator[Fault]:
    yield from _faults_of_document(definition.document)
    steps: dict[str, Json] = {}
    loop_bodies: set[str] = set()
    for step in definition.steps.values():
        steps[step.name] = step.body
        for body in step.loop_body:
            steps[body["Name"]] = body
            loop_bodies.add(body["Name"])
    if len(steps) > max_steps:
        # https://docs.aws.amazon.com/general/latest/gr/sagemaker.html
        yield Place(None, "Steps").fault(
            f"the pipeline has {len(steps)} steps, more than the quota of {max_steps}"
        )
    if len(definition.parameters) > _MAX_PARAMETERS:
        yield Place(None, "Parameters").fault(
            f"the pipeline has {len(definition.parameters)} parameters, more than"
            f" {_MAX_PARAMETERS}"
        )
    parameters = definition.document.get("Parameters")
    for entry, place in entries_of(parameters, Place(None, "Parameters")):
        yield from _faults_of_parameter(
            entry, place, definition.parameters[entry["Name"]]
        )
    declared = Declarations(definition.parameters, steps)
    for name, body in steps.items():
        yield from faults_of_step(body, declared, name in loop_bodies)
    yield from _faults_of_branches(definition)


def _faults_of_document(document: Mapping[str, Any]) -> Iterator[Fault]:
    yield from members_of(document, Place(), _MEMBERS)
    if document["Version"] != _VERSION:
        yield Place(None, "Version").fault(
            f"Value '{shown(document['Version'])}' for 'Version' failed to satisfy enum"
            f" value set: [{_VERSION}]"
        )
    if not isinstance(document.get("Metadata") or {}, dict):
        yield Place(None, "Metadata").wrong_type("structure")
    for name, members in (
        ("PipelineExperimentConfig", EXPERIMENT),
        ("MlflowConfig", _MLFLOW),
    ):
        config = document.get(name)
        if config is not None:
            yield from _faults_of_config(config, Place(None, name), members, document)


def _faults_of_config(
    config: Any, place: Place, members: tuple[str, ...], document: Mapping[str, Any]
) -> Iterator[Fault]:
    """Check names of experiments, which cannot refer to steps."""
    yield from members_of(config, place, members)
    if not isinstance(config, dict):
        return
    names = [entry["Name"] for entry in document.get("Parameters") or ()]
    parameters = {name: Parameter(name, "String") for name in names}
    for name, value in config.items():
        value_place = place.member(name)
        yield from faults_of_expressions(
            value, value_place, Declarations(parameters, {})
        )
        if (
            value is not None
            and not isinstance(value, str)
            and not is_expression(value)
        ):
            yield value_place.wrong_type("string")


def _faults_of_parameter(
    entry: Json, place: Place, parameter: Parameter
) -> Iterator[Fault]:
    name = f"parameter '{shown(parameter.name)}'"
    yield from members_of(entry, place, _PARAMETER)
    if not _PARAMETER_NAME.fullmatch(parameter.name):
        yield place.member("Name").fault(
            f"{name} does not match {_PARAMETER_NAME.pattern}"
        )
    if not isinstance(entry.get("Description") or "", str):
        yield place.member("Description").wrong_type("string")
    values = {"DefaultValue": parameter.default}
    for index, value in enumerate(parameter.enum):
        values[f"EnumValues[{index}]"] = value
    for member, value in values.items():
        types = _VALUE_TYPES[parameter.type]
        is_boolean = isinstance(value, bool)
        if value is None and member == "DefaultValue":
            continue
        if not isinstance(value, types) or is_boolean is not (types == (bool,)):
            yield place.member(member).fault(
                f"'{shown(value)}' is not a value of {name}, which has the type"
                f" {parameter.type}"
            )
    has_default = parameter.default is not None
    if has_default and parameter.enum and parameter.default not in parameter.enum:
        yield place.member("DefaultValue").fault(
            f"'{shown(parameter.default)}' is not one of the enum values of {name}"
        )


def _faults_of_branches(definition: Definition) -> Iterator[Fault]:
    """
    Check that no step waits for one in the other branch of the same condition step: one
    of them never runs.
    """
    branches: dict[str, dict[str, bool]] = {}
    for step in definition.steps.values():
        taken: dict[str, bool] = {}
        if step.condition is not None and step.branch is not None:
            # A condition step stands before the steps of its branches.
            taken = {**branches[step.condition], step.condition: step.branch}
        branches[step.name] = taken
    for step in definition.steps.values():
        own = branches[step.name]
        for other in sorted(step.depends_on):
            for condition, branch in branches[other].items():
                if own.get(condition, branch) is not branch:
                    yield Place(step.name, step.member_naming(other)).fault(
                        f"step '{other}' is in the other branch of step '{condition}'"
                    )
