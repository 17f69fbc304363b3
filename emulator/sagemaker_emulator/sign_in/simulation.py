"""
Simulates requests against the policies in IAM: SimulatePrincipalPolicy, which moto does
not have.

It evaluates the policies as `authorization` does, also if the emulator does not enforce
them. Each action is evaluated for each resource, and each of these is one result,
without ``MatchedStatements``. Context keys have the values of the request only, and for
a user those of its name.

Reference:
https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import islice, product
from typing import Any, Final

from moto.iam.exceptions import MalformedPolicyDocument
from moto.iam.policy_validation import IAMPolicyDocumentValidator

from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.sign_in import iam
from sagemaker_emulator.sign_in.policies import (
    AuthorizationRequest,
    Policy,
    evaluate,
    missing_context_keys,
)

OPERATION: Final = "SimulatePrincipalPolicy"
#: The members of a request that the call log contains; those of a list begin with these
#: names.
LOGGED_MEMBERS: Final = ("PolicySourceArn", "ActionNames", "ResourceArns")

_NOT_SIMULATED: Final = (
    "PermissionsBoundaryPolicyInputList",
    "PolicyExclusionList",
    "ResourceHandlingOption",
    "ResourcePolicy",
)
_ENTITY: Final = re.compile(
    r"arn:[a-z-]+:iam::\d{12}:(?:user|group|role)/(?:[^:]+/)?[^/:]+"
)
_ACTION: Final = re.compile(r"[\w-]+:\w+", re.ASCII)
_EVERYTHING: Final = "*"
_PAGE: Final = 100
_MAX_PAGE: Final = 1000


def source_arn(form: Mapping[str, str]) -> str:
    """
    Return whose policies a request is about.

    :param form: the members of the request.
    :raises ApiError: the ARN is missing, or it is not that of a user, a group or a
        role.
    """
    arn = form.get("PolicySourceArn", "")
    if not _ENTITY.fullmatch(arn):
        raise _invalid(
            f"Invalid Entity Arn: {arn} does not clearly define entity type and name."
        )
    return arn


def simulate(form: Mapping[str, str]) -> dict[str, Any]:
    """
    Evaluate the actions of a request.

    :param form: the members of the request.
    :return: the result of the operation.
    :raises ApiError: InvalidInput, NoSuchEntity, MalformedPolicyDocument or
        ValidationError.
    """
    arn = source_arn(form)
    for name in _NOT_SIMULATED:
        if any(member.startswith(name) for member in form):
            raise _invalid(f"The emulator does not simulate {name}.")
    policies = iam.identity_policies(arn)
    if policies is None:
        kind, name = _entity(arn)
        raise ApiError(
            "NoSuchEntity", f"The {kind} with name {name} cannot be found.", 404
        )
    policies += [_document(text) for text in listed(form, "PolicyInputList")]
    actions = listed(form, "ActionNames")
    if not actions:
        raise ApiError(
            "ValidationError",
            "1 validation error detected: Value null at 'actionNames'",
        )
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise _invalid(f"Invalid Entity Action: {action}")
    resources = listed(form, "ResourceArns") or [_EVERYTHING]
    context = _context(form, arn)
    offset, size = _page(form)
    total = len(actions) * len(resources)
    page = islice(product(actions, resources), offset, offset + size)
    evaluated = [
        _result(policies, AuthorizationRequest(action, resource, context))
        for action, resource in page
    ]
    if offset + size >= total:
        return {"IsTruncated": False, "EvaluationResults": evaluated}
    return {
        "IsTruncated": True,
        "EvaluationResults": evaluated,
        "Marker": str(offset + size),
    }


def logged_request(form: Mapping[str, str]) -> dict[str, Any]:
    """Return the members of a request that the call log shows."""
    return {name: form.get(name, listed(form, name)) for name in LOGGED_MEMBERS}


def listed(form: Mapping[str, str], name: str) -> list[str]:
    """
    Return the values of a list in a request of the query protocol, in their order.
    """
    pattern = re.compile(rf"{re.escape(name)}\.member\.(\d+)")
    numbered = []
    for member, value in form.items():
        match = pattern.fullmatch(member)
        if match:
            numbered.append((int(match[1]), value))
    return [value for _, value in sorted(numbered)]


def _result(policies: list[Policy], request: AuthorizationRequest) -> dict[str, Any]:
    decision = evaluate(policies, request).value
    missing = missing_context_keys(policies, request.context)
    result: dict[str, Any] = {
        "EvalActionName": request.action,
        "EvalResourceName": request.resource,
        "EvalDecision": decision,
    }
    if request.resource == _EVERYTHING:
        return {**result, "MissingContextValues": missing}
    specific = {
        "EvalResourceName": request.resource,
        "EvalResourceDecision": decision,
        "MissingContextValues": missing,
    }
    return {**result, "MissingContextValues": [], "ResourceSpecificResults": [specific]}


def _context(form: Mapping[str, str], arn: str) -> dict[str, list[str]]:
    """Return the values of the condition keys, by their names in lower case."""
    context: dict[str, list[str]] = {}
    kind, name = _entity(arn)
    if kind == "user":
        account, _ = iam.account_and_partition(arn)
        context["aws:username"] = [name]
        context["aws:principalarn"] = [arn]
        context["aws:principalaccount"] = [account]
    for member, key in form.items():
        entry = re.fullmatch(r"(ContextEntries\.member\.\d+)\.ContextKeyName", member)
        if entry:
            context[key.lower()] = listed(form, f"{entry[1]}.ContextKeyValues")
    return context


def _entity(arn: str) -> tuple[str, str]:
    """Return the type of the entity of an ARN, such as ``user``, and its name."""
    resource = arn.split(":")[5]
    return resource.partition("/")[0], resource.rpartition("/")[2]


def _page(form: Mapping[str, str]) -> tuple[int, int]:
    """Return where the page of a request begins, and how many results it may have."""
    size = form.get("MaxItems", str(_PAGE))
    offset = form.get("Marker", "0")
    if not size.isdecimal() or not 1 <= int(size) <= _MAX_PAGE:
        raise ApiError(
            "ValidationError",
            f"Value '{size}' at 'maxItems' must be from 1 to {_MAX_PAGE}",
        )
    if not offset.isdecimal():
        raise _invalid(f"Invalid Marker: {offset}")
    return int(offset), int(size)


def _document(text: str) -> Policy:
    try:
        IAMPolicyDocumentValidator(text).validate()
    except MalformedPolicyDocument as error:
        raise ApiError("MalformedPolicyDocument", error.message) from error
    document: Policy = json.loads(text)
    return document


def _invalid(text: str) -> ApiError:
    return ApiError("InvalidInput", text)
