"""A trust policy: whom a role lets in.

The rules are those of https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
as far as trust policies need them. What is not understood never opens a door: an Allow with a condition
operator that is not known here does not hold, and a Deny with one does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

_OPERATORS: Mapping[str, Callable[[str, str], bool]] = {
    "StringEquals": lambda wanted, found: wanted == found,
    "StringEqualsIgnoreCase": lambda wanted, found: wanted.lower() == found.lower(),
    "StringLike": lambda wanted, found: fnmatchcase(found, wanted.replace("[", "[[]")),
    "ArnEquals": lambda wanted, found: fnmatchcase(found, wanted.replace("[", "[[]")),
    "ArnLike": lambda wanted, found: fnmatchcase(found, wanted.replace("[", "[[]")),
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
}
_NEGATED = {"StringNotEquals": "StringEquals", "StringNotLike": "StringLike", "ArnNotLike": "ArnLike"}


def allows(
    policy: Mapping[str, Any],
    action: str,
    principals: Mapping[str, Iterable[str]],
    context: Mapping[str, Iterable[str]],
) -> bool:
    """Return whether a trust policy allows an action.

    :param action: such as ``sts:AssumeRole``.
    :param principals: all names the caller goes by, by kind of principal (``AWS`` or ``Federated``).
    :param context: the values of the condition keys.
    """
    allowed = False
    facts = {key.lower(): [*values] for key, values in context.items()}
    for statement in _listed(policy.get("Statement")):
        if not _applies(statement, action, principals):
            continue
        holds = _conditions_hold(statement.get("Condition") or {}, facts)
        if statement.get("Effect") == "Deny" and holds is not False:
            return False
        if statement.get("Effect") == "Allow" and holds is True:
            allowed = True
    return allowed


def _applies(statement: Mapping[str, Any], action: str, principals: Mapping[str, Iterable[str]]) -> bool:
    actions = _listed(statement.get("Action"))
    if not any(fnmatchcase(action.lower(), str(wanted).lower()) for wanted in actions):
        return False
    named = statement.get("Principal")
    if named == "*":
        return True
    if not isinstance(named, dict):
        return False
    wanted_by_kind = {kind: set(map(str, _listed(names))) for kind, names in named.items()}
    return any(
        "*" in wanted_by_kind.get(kind, ()) or not wanted_by_kind.get(kind, set()).isdisjoint(names)
        for kind, names in principals.items()
    )


def _conditions_hold(conditions: Mapping[str, Any], facts: Mapping[str, list[str]]) -> bool | None:
    """Return whether all conditions hold, or None if one of them is not understood."""
    result: bool | None = True
    for operator, keys in conditions.items():
        for key, wanted in keys.items():
            holds = _holds(operator, _listed(wanted), facts.get(key.lower(), []))
            if holds is False:
                return False
            result = result if holds else None
    return result


def _holds(operator: str, wanted: list[Any], found: list[str]) -> bool | None:
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
    hit = any(matches(_text(item), value) for item in wanted for value in found)
    return hit is not (name in _NEGATED)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _listed(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]
