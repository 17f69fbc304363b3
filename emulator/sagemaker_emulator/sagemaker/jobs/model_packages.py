"""
The model packages that RegisterModel steps create, and the operations on model
packages.

A package is created, approved, listed and deleted here; everything else about it is
moto's, which also keeps it.

Reference:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModelPackage.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListModelPackages.html,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateModelPackage.html
and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DeleteModelPackage.html.
AWS does not document its answer for a package that does not exist; public logs show the
ValidationException below.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import Any

from botocore.validate import ParamValidator

from sagemaker_emulator.engine.step_runs import StepRun
from sagemaker_emulator.errors import invalid
from sagemaker_emulator.sagemaker.calls import (
    AwsServices,
    Call,
    NotEmulatedError,
    Operation,
)
from sagemaker_emulator.sagemaker.jobs.names import arguments_of
from sagemaker_emulator.sagemaker.pagination import page
from sagemaker_emulator.sagemaker.store import ExecutionRecord, Region
from sagemaker_emulator.sagemaker.validation import matching_members, structure

_DEFAULT_GROUP = "emulated"
#: The members of model packages that moto does not have.
MEMBERS_BESIDE_MOTO = ("ModelCard", "ModelLifeCycle", "SourceUri")
# The members of UpdateModelPackage that replace what the package has.
_REPLACED = ("ModelApprovalStatus", "ApprovalDescription", *MEMBERS_BESIDE_MOTO)


def register_model_packages(region: Region, services: AwsServices) -> None:
    """
    Create the model packages of all RegisterModel steps that have succeeded, in the
    order of their ends.

    All executions of the region must have been advanced to the present.

    :param region: the region.
    :param services: the model registry.
    """
    for record, run in sorted(_unregistered(region), key=_order_of_ends):
        request = _with_types(arguments_of(record, run))
        if not request.get("ModelPackageName"):
            request.setdefault("ModelPackageGroupName", _DEFAULT_GROUP)
        # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_MetadataProperties.html
        request["MetadataProperties"] = {
            "GeneratedBy": record.arn,
            **(request.get("MetadataProperties") or {}),
        }
        arn = services.create_model_package(region.name, request, run.ended_at or 0.0)
        record.model_packages[run.step.name] = arn


def _with_types(request: dict[str, Any]) -> dict[str, Any]:
    """
    Return a request without the members that have other types than AWS's.

    A lenient emulator accepts a definition with such members, and a reference may have
    a value of another type.
    """
    shape = structure("CreateModelPackageInput")
    if ParamValidator().validate(request, shape).has_errors():
        return matching_members(shape, request)
    return request


def _unregistered(region: Region) -> Iterator[tuple[ExecutionRecord, StepRun]]:
    for record in region.open_executions():
        for run in record.engine.runs.values():
            if run.step.type != "RegisterModel" or run.status != "Succeeded":
                continue
            if run.step.name not in record.model_packages and run.reused_from is None:
                yield record, run


def _order_of_ends(entry: tuple[ExecutionRecord, StepRun]) -> tuple[float, str, int]:
    record, run = entry
    return (run.ended_at or 0.0, record.arn, run.order)


def _described(call: Call, name_or_arn: str) -> dict[str, Any]:
    """Return the description of a model package."""
    arn = name_or_arn
    if not arn.startswith("arn:"):
        arn = call.region.arn("model-package", name_or_arn.lower())
    for package in call.services.model_packages(call.region.name):
        if package["ModelPackageArn"] == arn:
            return package
    raise invalid(f"ModelPackage {arn} does not exist.")


def _create(call: Call) -> dict[str, Any]:
    request = dict(call.request)
    group = request.get("ModelPackageGroupName")
    has_name = request.get("ModelPackageName") is not None
    if has_name is (group is not None):
        raise invalid("Specify either ModelPackageName or ModelPackageGroupName.")
    if group is not None:
        request["ModelPackageGroupName"] = _existing_group(call, group)
    arn = call.services.create_model_package(call.region.name, request, call.now)
    if arn is None:
        raise invalid("The model package can't be created.")
    return {"ModelPackageArn": arn}


def _existing_group(call: Call, name_or_arn: str) -> str:
    """Return the name of a model package group, which must exist."""
    name = name_or_arn.rpartition("/")[2]
    if not call.services.has_model_package_group(call.region.name, name):
        raise invalid(
            f"ModelPackageGroup {call.region.arn('model-package-group', name)} does not"
            " exist."
        )
    return name


def _describe(call: Call) -> dict[str, Any]:
    _described(call, call.request["ModelPackageName"])
    raise NotEmulatedError(call.request["ModelPackageName"])


def _update(call: Call) -> dict[str, Any]:
    request = call.request
    package = _described(call, request["ModelPackageArn"])
    changes: dict[str, Any] = {
        name: request[name] for name in _REPLACED if name in request
    }
    properties = {
        **(package.get("CustomerMetadataProperties") or {}),
        **request.get("CustomerMetadataProperties", {}),
    }
    for name in request.get("CustomerMetadataPropertiesToRemove", ()):
        properties.pop(name, None)
    changes["CustomerMetadataProperties"] = properties or None
    added = request.get("AdditionalInferenceSpecificationsToAdd", [])
    before = package.get("AdditionalInferenceSpecifications") or []
    changes["AdditionalInferenceSpecifications"] = [*before, *added] or None
    changes["LastModifiedBy"] = {"IamIdentity": dict(call.identity)}
    arn = package["ModelPackageArn"]
    call.services.update_model_package(call.region.name, arn, changes, call.now)
    return {"ModelPackageArn": arn}


def _delete(call: Call) -> dict[str, Any]:
    package = _described(call, call.request["ModelPackageName"])
    call.services.delete_model_package(call.region.name, package["ModelPackageArn"])
    return {}


def _list(call: Call) -> dict[str, Any]:
    request = {"SortOrder": "Ascending", **call.request}

    def sort_key(package: Mapping[str, Any]) -> tuple[Any, ...]:
        version = package.get("ModelPackageVersion", 0)
        by_name = (_name(package), version, package["ModelPackageArn"])
        if request.get("SortBy") == "Name":
            return by_name
        return (package["CreationTime"], *by_name)

    packages, token = page(_selected(call), sort_key, request)
    shape = structure("ModelPackageSummary")
    summaries = [matching_members(shape, package) for package in packages]
    return {"ModelPackageSummaryList": summaries, **token}


def _selected(call: Call) -> list[dict[str, Any]]:
    """Return the model packages that the filters of a request select."""
    request = call.request
    # Without a group, AWS lists packages without one, unless the request says
    # otherwise.
    kind = request.get("ModelPackageType", "Unversioned")
    group = request.get("ModelPackageGroupName")
    if group is not None:
        group = _existing_group(call, group)
        kind = "Versioned"
    approval = request.get("ModelApprovalStatus")
    after = request.get("CreationTimeAfter", -inf)
    before = request.get("CreationTimeBefore", inf)
    return [
        package
        for package in call.services.model_packages(call.region.name)
        if group in (None, package.get("ModelPackageGroupName"))
        and kind in ("Both", _kind(package))
        and approval in (None, package.get("ModelApprovalStatus"))
        and after < package["CreationTime"] < before
        and request.get("NameContains", "") in _name(package)
    ]


def _kind(package: Mapping[str, Any]) -> str:
    if "ModelPackageVersion" in package:
        return "Versioned"
    return "Unversioned"


def _name(package: Mapping[str, Any]) -> str:
    return str(package.get("ModelPackageGroupName") or package.get("ModelPackageName"))


OPERATIONS: Mapping[str, Operation] = {
    "CreateModelPackage": _create,
    "DescribeModelPackage": _describe,
    "ListModelPackages": _list,
    "UpdateModelPackage": _update,
    "DeleteModelPackage": _delete,
}
