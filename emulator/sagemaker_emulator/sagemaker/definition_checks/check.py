"""The door of this package: checks a whole definition."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from sagemaker_emulator.engine.definition import (
    Definition,
    DefinitionError,
    duration_seconds,
    parse,
)
from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
    names_in,
)
from sagemaker_emulator.sagemaker.definition_checks.references import Declarations, Json
from sagemaker_emulator.sagemaker.definition_checks.rules import (
    has_own_arguments,
    own_shape,
    request_shape,
    rules,
)
from sagemaker_emulator.sagemaker.definition_checks.values import Checker
from sagemaker_emulator.texts import shown, unknown_property, validation_failed

_LOG = logging.getLogger(__name__)
# AWS tells the first one. The log has some more.
_MAX_FAULTS = 3


def checked(text: str, max_steps: int, lenient: bool = False) -> Definition:
    """
    Return a definition that AWS would accept.

    :param text: the JSON text that was passed to CreatePipeline or UpdatePipeline.
    :param max_steps: the quota of steps.
    :param lenient: write a warning to the log, instead of refusing what the engine can
        run.
    :raises DefinitionError: if AWS would refuse the definition; the message follows
        "Unable to parse pipeline definition.", and its ``places`` name steps and
        members.
    """
    try:
        definition = parse(text)
    except DefinitionError as error:
        raise DefinitionError(
            validation_failed(str(error)), validation_failed(error.places)
        ) from error
    faults = _first_faults(text, max_steps)
    if faults and not lenient:
        raise DefinitionError(faults[0].text, " ".join(map(str, faults)))
    for fault in faults:
        _LOG.warning("AWS would refuse this definition, --lenient does not: %s", fault)
    return definition


@lru_cache(maxsize=32)
def _first_faults(text: str, max_steps: int) -> tuple[Fault, ...]:
    """
    Return the first faults of a definition that the engine can parse.

    What cannot be parsed, such as an unknown member, comes before what a rule refuses:
    AWS says the first of a condition that has both (issue 2746 of the SageMaker SDK).

    Those of the latest ones are kept, because each reset of an emulator creates the
    same pipelines again.
    """
    faults = sorted(_faults(parse(text), max_steps), key=_is_of_a_rule)
    return tuple(faults[:_MAX_FAULTS])


def _is_of_a_rule(fault: Fault) -> bool:
    return fault.text.startswith(validation_failed(""))


def _faults(definition: Definition, max_steps: int) -> Iterator[Fault]:
    # The members of the definition cannot refer to steps.
    checker = Checker(Declarations(definition.parameters, {}))
    yield from checker.faults(own_shape("Definition"), definition.document, Place())
    yield from _faults_of_defaults(definition)
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
    declared = Declarations(definition.parameters, steps)
    for name, body in steps.items():
        yield from _faults_of_step(body, Checker(declared, name in loop_bodies))


def _faults_of_defaults(definition: Definition) -> Iterator[Fault]:
    for index, parameter in enumerate(definition.parameters.values()):
        if not parameter.enum or parameter.default in (None, *parameter.enum):
            continue
        yield Place(None, f"Parameters[{index}].DefaultValue").fault(
            f"'{shown(parameter.default)}' is not one of the enum values of parameter"
            f" '{parameter.name}'"
        )


def _faults_of_step(step: Json, checker: Checker) -> Iterator[Fault]:
    place = Place(step["Name"])
    yield from checker.faults(own_shape("Step"), step, place)
    for member, kinds in rules()["step_members"].items():
        if member in step and step["Type"] not in kinds:
            yield place.member(member).refused(unknown_property(member))
    arguments = step.get("Arguments") or {}
    if not has_own_arguments(step["Type"]):
        shape = request_shape(step["Type"], arguments)
        yield from checker.faults(shape, arguments, place.member("Arguments"))
    yield from _faults_of_property_files(step, arguments, place.member("PropertyFiles"))
    yield from _faults_of_expiry(step.get("CacheConfig"), place)


def _faults_of_property_files(
    step: Json, arguments: Json, place: Place
) -> Iterator[Fault]:
    """
    Check that each property file is that of an output of the job, and has a name of its
    own.

    A job without outputs is not checked, since its image may know of one.
    """
    config = arguments.get("ProcessingOutputConfig")
    outputs: list[Any] = []
    if isinstance(config, dict):
        outputs = names_in(config.get("Outputs"), "OutputName")
    names: list[Any] = []
    for file, file_place in entries_of(step.get("PropertyFiles"), place):
        if not isinstance(file, dict):
            continue
        output = file.get("OutputName")
        if outputs and isinstance(output, str) and output not in outputs:
            yield file_place.member("OutputName").fault(
                f"the job has no output '{shown(output)}'"
            )
        name = file.get("PropertyFileName")
        if name in names:
            yield file_place.member("PropertyFileName").fault(
                f"'{shown(name)}' is not unique"
            )
        names.append(name)


def _faults_of_expiry(config: Any, place: Place) -> Iterator[Fault]:
    if not isinstance(config, dict) or not isinstance(config.get("ExpireAfter"), str):
        return
    if duration_seconds(config["ExpireAfter"]) is None:
        yield (
            place.member("CacheConfig")
            .member("ExpireAfter")
            .fault(f"'{shown(config['ExpireAfter'])}' is not an ISO 8601 duration")
        )
