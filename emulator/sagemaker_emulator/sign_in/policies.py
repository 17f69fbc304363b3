"""
Evaluates IAM policies: identity-based policies, session policies and trust policies.

The rules are those of
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
and
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html.
Unsupported elements never grant access: with a condition operator or a policy variable
that this module does not support, an Allow statement does not apply, and a Deny
statement does. moto's own evaluation is not used: it ignores conditions in
identity-based policies, treats every resource pattern as a regular expression, and does
not report which statement was decisive.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

Policy = Mapping[str, Any]
#: The values of the condition keys.
Context = Mapping[str, Iterable[str]]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class Decision(Enum):
    """
    The result of a policy evaluation. IMPLICIT_DENY means that no statement applies.
    """

    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicitDeny"
    IMPLICIT_DENY = "implicitDeny"


@dataclass(frozen=True)
class AuthorizationRequest:
    """
    The request that policies are evaluated for.

    :param action: the action, such as ``sagemaker:StartPipelineExecution``.
    :param resource: an ARN or ``*``; None for a trust policy, which has no resource.
    :param context: the values of the condition keys.
    :param principals: for a trust policy, all names of the caller by principal type
        (``AWS``, ``Federated``).
    """

    action: str
    resource: str | None
    context: Context
    principals: Mapping[str, Iterable[str]] | None = None


def evaluate(policies: Iterable[Policy], request: AuthorizationRequest) -> Decision:
    """
    Return the decision of all policies of one type. An explicit Deny overrides every
    Allow.

    :param policies: the policies.
    :param request: the request.
    """
    decision = Decision.IMPLICIT_DENY
    context = {key.lower(): [*values] for key, values in request.context.items()}
    for statement in _statements(policies):
        applies = _applies(statement, request, context)
        if statement.get("Effect") == "Deny" and applies is not False:
            return Decision.EXPLICIT_DENY
        if statement.get("Effect") == "Allow" and applies is True:
            decision = Decision.ALLOWED
    return decision


def trusts(
    policy: Policy,
    action: str,
    principals: Mapping[str, Iterable[str]],
    context: Context,
) -> bool:
    """
    Return whether the trust policy of a role allows an action.

    :param policy: the trust policy.
    :param action: the action, such as ``sts:AssumeRole``.
    :param principals: all names of the caller, by principal type (``AWS`` or
        ``Federated``).
    :param context: the values of the condition keys.
    """
    request = AuthorizationRequest(action, None, context, principals)
    return evaluate([policy], request) is Decision.ALLOWED


def missing_context_keys(policies: Iterable[Policy], context: Context) -> list[str]:
    """
    Return the condition keys that policies use, in conditions or as variables, and that
    have no value.
    """
    # As the policies spell them, by the keys in lower case.
    used: dict[str, str] = {}
    for statement in _statements(policies):
        for keys in (statement.get("Condition") or {}).values():
            for key in keys:
                used[key.lower()] = key
        for variable in _VARIABLE.findall(json.dumps(statement)):
            used[variable.lower()] = variable
    for key in context:
        used.pop(key.lower(), None)
    return sorted(used.values())


def _statements(policies: Iterable[Policy]) -> Iterator[Policy]:
    for policy in policies:
        yield from _as_list(policy.get("Statement"))


def _applies(
    statement: Policy, request: AuthorizationRequest, context: Mapping[str, list[str]]
) -> bool | None:
    """
    Return whether a statement applies to the request, or None if this module cannot
    decide it.
    """
    parts = [
        _element_matches(statement, "Action", request.action, context, str.lower),
        _conditions_met(statement.get("Condition") or {}, context),
    ]
    if request.resource is not None:
        parts.append(
            _element_matches(statement, "Resource", request.resource, context, str)
        )
    if request.principals is not None:
        parts.append(_principal_matches(statement, request.principals))
    if False in parts:
        return False
    if None in parts:
        return None
    return True


def _element_matches(
    statement: Policy,
    element: str,
    value: str,
    context: Mapping[str, list[str]],
    fold: Callable[[str], str],
) -> bool | None:
    """
    Return whether ``Action`` or ``Resource`` of a statement (or ``NotAction``,
    ``NotResource``) matches a value, or None if this module cannot decide it.

    :param fold: applied to both before they are compared, such as ``str.lower``.
    """
    is_inverted = f"Not{element}" in statement
    if is_inverted:
        element = f"Not{element}"
    is_undecided = False
    for pattern in _as_list(statement.get(element)):
        expanded = _replace_variables(str(pattern), context)
        if expanded is None:
            is_undecided = True
        elif _pattern_matches(fold(expanded), fold(value)):
            return not is_inverted
    if is_undecided:
        return None
    return is_inverted


def _principal_matches(
    statement: Policy, principals: Mapping[str, Iterable[str]]
) -> bool:
    if "NotPrincipal" in statement:
        return not _names_one(statement["NotPrincipal"], principals)
    return _names_one(statement.get("Principal"), principals)


def _names_one(element: Any, principals: Mapping[str, Iterable[str]]) -> bool:
    """Return whether ``Principal`` of a statement names one of some principals."""
    if not isinstance(element, dict):
        return bool(element == "*")
    for kind, names in principals.items():
        named = {str(name) for name in _as_list(element.get(kind))}
        if "*" in named or not named.isdisjoint(names):
            return True
    return False


def _pattern_matches(pattern: str, text: str) -> bool:
    # IAM supports * and ?, but no character sets.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda expected, actual: expected == actual,
    "StringEqualsIgnoreCase": lambda expected, actual: (
        expected.lower() == actual.lower()
    ),
    "StringLike": _pattern_matches,
    "ArnEquals": _pattern_matches,
    "ArnLike": _pattern_matches,
    "Bool": lambda expected, actual: expected.lower() == actual.lower(),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _conditions_met(
    conditions: Mapping[str, Any], context: Mapping[str, list[str]]
) -> bool | None:
    """
    Return whether all conditions are met, or None if one of them is not supported.
    """
    result: bool | None = True
    for operator, keys in conditions.items():
        for key, expected in keys.items():
            actual = context.get(key.lower(), [])
            is_met = _condition_met(operator, _as_list(expected), actual, context)
            if is_met is False:
                return False
            if is_met is None:
                result = None
    return result


def _condition_met(
    operator: str,
    expected: list[Any],
    actual: list[str],
    context: Mapping[str, list[str]],
) -> bool | None:
    """
    Return whether a condition is met, or None if this module cannot decide it.

    :param expected: the values in the policy, one of which must match.
    :param actual: the values of the condition key in the request; empty for none.
    """
    name = operator.removeprefix("ForAnyValue:")
    is_optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name == "Null":
        if not expected:
            return None
        must_be_missing = str(expected[0]).lower() == "true"
        return (not actual) is must_be_missing

    is_negated = name in _NEGATED
    matches = _OPERATORS.get(_NEGATED.get(name, name))
    if matches is None:
        return None
    if not actual:
        return is_optional or is_negated
    patterns = [_replace_variables(_text(value), context) for value in expected]
    is_match = any(
        matches(pattern, value)
        for pattern in patterns
        if pattern is not None
        for value in actual
    )
    if not is_match and None in patterns:
        return None
    return is_match is not is_negated


def _replace_variables(text: str, context: Mapping[str, list[str]]) -> str | None:
    """
    Return a text with its policy variables replaced, or None if a variable has no
    single value.
    """
    names = [name.lower() for name in _VARIABLE.findall(text)]
    if any(len(context.get(name, ())) != 1 for name in names):
        return None
    return _VARIABLE.sub(lambda match: context[match[1].lower()][0], text)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        # As in JSON.
        return str(value).lower()
    return str(value)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    if isinstance(value, list):
        return value
    return [value]
