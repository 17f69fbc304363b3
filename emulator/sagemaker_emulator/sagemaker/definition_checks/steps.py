"""Checks the members that a step has beside its ``Arguments``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from sagemaker_emulator.engine.definition import (
    EXCEPTION_TYPES,
    MAX_RETRIES,
    PARAMETER_TYPES,
    duration_seconds,
)
from sagemaker_emulator.sagemaker.definition_checks.arguments import faults_of_arguments
from sagemaker_emulator.sagemaker.definition_checks.conditions import (
    faults_of_conditions,
)
from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
    members_of,
    names_in,
    shown,
)
from sagemaker_emulator.sagemaker.definition_checks.references import (
    Declarations,
    Json,
    faults_of_expressions,
    is_expression,
)

_MEMBERS = (
    "Arguments",
    "CacheConfig",
    "DependsOn",
    "Description",
    "DisplayName",
    "Name",
    "RetryPolicies",
    "Type",
)
_CHECK_MEMBERS = (
    "CheckType",
    "FailOnViolation",
    "ModelName",
    "ModelPackageGroupName",
    "PropertyFiles",
    "RegisterNewBaseline",
    "SkipCheck",
    "SuppliedBaselineConstraints",
    "SuppliedBaselineStatistics",
)
# By the type of the step: the members that not all steps have, and those of them that
# it must have.
_OWN_MEMBERS: Mapping[str, tuple[str, ...]] = {
    "Callback": ("OutputParameters", "SqsQueueUrl"),
    "ClarifyCheck": _CHECK_MEMBERS,
    "Lambda": ("FunctionArn", "OutputParameters"),
    "Processing": ("PropertyFiles",),
    "QualityCheck": _CHECK_MEMBERS,
}
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "Callback": ("SqsQueueUrl",),
    "ClarifyCheck": ("CheckType",),
    "Lambda": ("FunctionArn",),
    "QualityCheck": ("CheckType",),
}
_CHECK_TYPES: Mapping[str, tuple[str, ...]] = {
    "ClarifyCheck": ("DATA_BIAS", "MODEL_BIAS", "MODEL_EXPLAINABILITY"),
    "QualityCheck": ("DATA_QUALITY", "MODEL_QUALITY"),
}
_TEXTS = ("Description", "DisplayName")
# Texts that can be expressions.
_VALUES = (
    "FunctionArn",
    "ModelPackageGroupName",
    "SqsQueueUrl",
    "SuppliedBaselineConstraints",
    "SuppliedBaselineStatistics",
)
_FLAGS = ("FailOnViolation", "RegisterNewBaseline", "SkipCheck")
_FOR_EACH = ("ForEachBody", "IterableItems", "MaxConcurrency", "Selector")
# AWS's schema has a sixth type, for EMR.
_EXCEPTION_TYPES = (*EXCEPTION_TYPES, "Emr.RESOURCE_LIMIT")
_RETRY_LIMITS: Mapping[str, tuple[float, float]] = {
    "IntervalSeconds": (0, 43_200),
    "BackoffRate": (0, inf),
    "MaxAttempts": (0, MAX_RETRIES),
    "ExpireAfterMin": (0, 14_400),
}


def faults_of_step(
    step: Json, declared: Declarations, in_loop: bool
) -> Iterator[Fault]:
    """
    Check a step, without the steps in it.

    :param step: the step as the definition has it.
    :param declared: what its expressions can refer to.
    :param in_loop: whether it is in the body of a ForEach step.
    """
    kind = step["Type"]
    place = Place(step["Name"])
    known = (*_MEMBERS, *_OWN_MEMBERS.get(kind, ()))
    yield from members_of(step, place, known, _REQUIRED.get(kind, ()))
    yield from _faults_of_values(step, place)
    yield from _faults_of_outputs(step.get("OutputParameters"), place)
    yield from _faults_of_property_files(step, place)
    if step.get("CacheConfig") is not None:
        yield from _faults_of_cache(step["CacheConfig"], place.member("CacheConfig"))
    if step.get("RetryPolicies") is not None:
        yield from _faults_of_policies(
            step["RetryPolicies"], place.member("RetryPolicies")
        )

    arguments = step.get("Arguments") or {}
    arguments_place = place.member("Arguments")
    own_arguments = arguments
    if kind == "Condition":
        own_arguments = {"Conditions": arguments["Conditions"]}
        branches = ("Conditions", "ElseSteps", "IfSteps")
        yield from members_of(arguments, arguments_place, branches)
        yield from faults_of_conditions(
            arguments["Conditions"], arguments_place.member("Conditions")
        )
    elif kind == "ForEach":
        own_arguments = {"IterableItems": arguments["IterableItems"]}
        yield from members_of(arguments, arguments_place, _FOR_EACH)
    else:
        yield from faults_of_arguments(step, arguments_place, declared)
    yield from faults_of_expressions(own_arguments, arguments_place, declared, in_loop)
    for name in known:
        if name not in ("Arguments", "PropertyFiles"):
            yield from faults_of_expressions(
                step.get(name), place.member(name), declared, in_loop
            )


def _faults_of_values(step: Json, place: Place) -> Iterator[Fault]:
    for name in _TEXTS:
        if not isinstance(step.get(name) or "", str):
            yield place.member(name).wrong_type("string")
    for name in _VALUES:
        value = step.get(name) or ""
        if not isinstance(value, str) and not is_expression(value):
            yield place.member(name).wrong_type("string")
    for name in _FLAGS:
        value = step.get(name) or False
        if not isinstance(value, bool) and not is_expression(value):
            yield place.member(name).wrong_type("boolean")
    types = _CHECK_TYPES.get(step["Type"], ())
    kind = step.get("CheckType")
    if types and kind is not None and kind not in types:
        yield place.member("CheckType").fault(
            f"Value '{shown(kind)}' for 'CheckType' failed to satisfy enum value set:"
            f" [{', '.join(types)}]"
        )


def _faults_of_outputs(outputs: Any, place: Place) -> Iterator[Fault]:
    place = place.member("OutputParameters")
    if outputs is not None and not isinstance(outputs, list):
        yield place.wrong_type("list")
    members = ("OutputName", "OutputType")
    for output, output_place in entries_of(outputs, place):
        yield from members_of(output, output_place, members, ("OutputName",))
        if not isinstance(output, dict):
            continue
        kind = output.get("OutputType", "String")
        if kind not in PARAMETER_TYPES:
            yield output_place.member("OutputType").fault(
                f"Value '{shown(kind)}' for 'OutputType' failed to satisfy enum value"
                f" set: [{', '.join(PARAMETER_TYPES)}]"
            )


def _faults_of_property_files(step: Json, place: Place) -> Iterator[Fault]:
    """
    Check that each property file is that of an output of the job.

    A job without outputs is not checked, since its image may know of one.
    """
    files = step.get("PropertyFiles")
    members = ("FilePath", "OutputName", "PropertyFileName")
    config = (step.get("Arguments") or {}).get("ProcessingOutputConfig")
    outputs: list[Any] = []
    if isinstance(config, dict):
        outputs = names_in(config.get("Outputs"), "OutputName")
    repeated = Counter(str(name) for name in names_in(files, "PropertyFileName"))
    for file, file_place in entries_of(files, place.member("PropertyFiles")):
        yield from members_of(file, file_place, members, members)
        if not isinstance(file, dict):
            continue
        output = file.get("OutputName")
        if outputs and output not in outputs and isinstance(output, str):
            yield file_place.member("OutputName").fault(
                f"the job has no output '{shown(output)}'"
            )
        name = str(file.get("PropertyFileName"))
        if repeated[name] > 1:
            repeated[name] = 0
            yield file_place.member("PropertyFileName").fault(
                f"'{shown(name)}' is not unique"
            )


def _faults_of_cache(config: Any, place: Place) -> Iterator[Fault]:
    """
    Check ``CacheConfig``.

    https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-caching-enabling.html
    """
    yield from members_of(config, place, ("Enabled", "ExpireAfter"))
    if not isinstance(config, dict):
        return
    if not isinstance(config.get("Enabled", False), bool):
        yield place.member("Enabled").wrong_type("boolean")
    expire_after = config.get("ExpireAfter")
    if expire_after is not None and duration_seconds(expire_after) is None:
        yield place.member("ExpireAfter").fault(
            f"'{shown(expire_after)}' is not an ISO 8601 duration"
        )


def _faults_of_policies(policies: Any, place: Place) -> Iterator[Fault]:
    """
    Check ``RetryPolicies``.

    https://docs.aws.amazon.com/sagemaker/latest/dg/pipelines-retry-policy.html
    """
    if not isinstance(policies, list):
        yield place.wrong_type("list")
    members = ("ExceptionType", *_RETRY_LIMITS)
    used: set[str] = set()
    for policy, policy_place in entries_of(policies, place):
        yield from members_of(policy, policy_place, members)
        if not isinstance(policy, dict):
            continue
        types_place = policy_place.member("ExceptionType")
        types = policy.get("ExceptionType")
        if not isinstance(types, list) or not types:
            yield types_place.fault("'ExceptionType' is not a list of exception types")
        for kind, kind_place in entries_of(types, types_place):
            if kind not in _EXCEPTION_TYPES:
                yield kind_place.fault(
                    f"'{shown(kind)}' is not one of {list(_EXCEPTION_TYPES)}"
                )
            elif kind in used:
                yield kind_place.fault(f"'{kind}' is in the policies more than once")
            else:
                used.add(kind)
        yield from _faults_of_limits(policy, policy_place)


def _faults_of_limits(policy: Json, place: Place) -> Iterator[Fault]:
    for name, (least, most) in _RETRY_LIMITS.items():
        value = policy.get(name)
        if value is None:
            continue
        types: type | tuple[type, ...] = int
        if name == "BackoffRate":
            types = (int, float)
        is_number = isinstance(value, types) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            yield place.member(name).fault(
                f"'{name}' is not a number from {least} to {most}"
            )
    if None not in (policy.get("MaxAttempts"), policy.get("ExpireAfterMin")):
        yield place.member("ExpireAfterMin").fault(
            "only one of 'MaxAttempts' and 'ExpireAfterMin' can be given"
        )
