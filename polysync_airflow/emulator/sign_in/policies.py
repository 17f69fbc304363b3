"""A policy: what its statements say about a request, in identity, session and trust policies alike.

The rules are those of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
and https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements.html. What is not understood
never opens a door: an Allow with a condition operator or a policy variable that is not known here does not
hold, and a Deny with one does. (moto's own evaluation knows no condition in identity policies, takes every
resource pattern for a regular expression and cannot say which statement it was, so it is not used.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

Policy = Mapping[str, Any]
#: Values of condition keys, by key.
Context = Mapping[str, Iterable[str]]

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


class Verdict(Enum):
    """What policies say: no statement may apply at all."""

    ALLOWED = "allowed"
    DENIED = "denied"
    SILENT = "silent"


@dataclass(frozen=True)
class Question:
    """What the policies are asked.

    :param action: such as ``sagemaker:StartPipelineExecution``.
    :param resource: an ARN or ``*``; None in a trust policy, which has no resource.
    :param context: the values of the condition keys.
    :param principals: in a trust policy, all names the caller goes by, by kind (``AWS``, ``Federated``).
    """

    action: str
    resource: str | None
    context: Context
    principals: Mapping[str, Iterable[str]] | None = None


def judge(policies: Iterable[Policy], question: Question) -> Verdict:
    """Return what all policies of one kind say together: an explicit Deny is stronger than any Allow."""
    verdict = Verdict.SILENT
    facts = {key.lower(): [*values] for key, values in question.context.items()}
    for statement in (entry for policy in policies for entry in _listed(policy.get("Statement"))):
        applies = _applies(statement, question, facts)
        if statement.get("Effect") == "Deny" and applies is not False:
            return Verdict.DENIED
        if statement.get("Effect") == "Allow" and applies is True:
            verdict = Verdict.ALLOWED
    return verdict


def _applies(statement: Policy, question: Question, facts: Mapping[str, list[str]]) -> bool | None:
    """Return whether a statement is about the question, or None if that cannot be told."""
    parts = [
        _named(statement, "Action", question.action, facts, str.lower),
        _conditions_hold(statement.get("Condition") or {}, facts),
    ]
    if question.resource is not None:
        parts.append(_named(statement, "Resource", question.resource, facts, str))
    if question.principals is not None:
        parts.append(_principal_named(statement, question.principals))
    return False if False in parts else None if None in parts else True


def _named(
    statement: Policy, element: str, value: str, facts: Mapping[str, list[str]], fold: Callable[[str], str]
) -> bool | None:
    """Return whether ``Action`` or ``Resource`` (or the ``Not`` form of it) covers a value."""
    inverted = f"Not{element}" in statement
    patterns = _listed(statement.get(f"Not{element}" if inverted else element))
    hit: bool | None = False
    for pattern in patterns:
        expanded = _expanded(str(pattern), facts)
        if expanded is None:
            hit = None
        elif _like(fold(expanded), fold(value)):
            return not inverted
    return hit if hit is None else inverted


def _principal_named(statement: Policy, principals: Mapping[str, Iterable[str]]) -> bool:
    inverted = "NotPrincipal" in statement
    named = statement.get("NotPrincipal" if inverted else "Principal")
    if not isinstance(named, dict):
        return (named == "*") is not inverted
    wanted_by_kind = {kind: set(map(str, _listed(names))) for kind, names in named.items()}
    hit = any(
        "*" in wanted_by_kind.get(kind, ()) or not wanted_by_kind.get(kind, set()).isdisjoint(names)
        for kind, names in principals.items()
    )
    return hit is not inverted


def _like(pattern: str, text: str) -> bool:
    # IAM knows * and ?, but no sets of characters.
    return fnmatchcase(text, pattern.replace("[", "[[]"))


_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringEqualsIgnoreCase": lambda wanted, found: wanted.lower() == found.lower(),
    "StringLike": _like,
    "ArnEquals": _like,
    "ArnLike": _like,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _conditions_hold(conditions: Mapping[str, Any], facts: Mapping[str, list[str]]) -> bool | None:
    """Return whether all conditions hold, or None if one of them is not understood."""
    result: bool | None = True
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            holds = _holds(operator, _listed(wanted), facts.get(key.lower(), []), facts)
            if holds is False:
                return False
            result = result if holds else None
    return result


def _holds(operator: str, wanted: list[Any], found: list[str], facts: Mapping[str, list[str]]) -> bool | None:
    name = operator.removeprefix("ForAnyValue:")
    optional = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    if name == "Null":
        return (not found) is (str(wanted[0]).lower() == "true") if wanted else None
    matches = _OPERATORS.get(_NEGATED.get(name, name))
    if matches is None:
        return None
    if not found:
        return optional or name in _NEGATED
    expanded = [_expanded(_text(item), facts) for item in wanted]
    hit = any(matches(item, value) for item in expanded if item is not None for value in found)
    if not hit and None in expanded:
        return None
    return hit is not (name in _NEGATED)


def _expanded(text: str, facts: Mapping[str, list[str]]) -> str | None:
    """Return a text with its policy variables filled in, or None if one of them is not known."""
    names = [name.lower() for name in _VARIABLE.findall(text)]
    if any(len(facts.get(name, ())) != 1 for name in names):
        return None
    return _VARIABLE.sub(lambda match: facts[match[1].lower()][0], text)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
