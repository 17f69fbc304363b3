"""
Checks the conditions of condition steps.

The SageMaker Python SDK writes ``QueryValue`` and ``Values`` in a condition ``In``,
AWS's schema has ``Value`` and ``In``; the SDK has ``Not``, the schema has ``NotEquals``
and ``NotIn``. Both are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sagemaker_emulator.engine.conditions import COMPARISONS, MEMBERSHIPS
from sagemaker_emulator.sagemaker.definition_checks.faults import (
    Fault,
    Place,
    entries_of,
    members_of,
)
from sagemaker_emulator.sagemaker.definition_checks.references import (
    SCALARS,
    is_expression,
)


def faults_of_conditions(conditions: Any, place: Place) -> Iterator[Fault]:
    """
    Check a list of conditions, with all conditions in them.

    :param conditions: the list.
    :param place: its place.
    """
    if not isinstance(conditions, list):
        yield place.wrong_type("list")
    for condition, condition_place in entries_of(conditions, place):
        yield from _faults_of_condition(condition, condition_place)


def _faults_of_condition(condition: Any, place: Place) -> Iterator[Fault]:
    if not isinstance(condition, dict):
        yield place.wrong_type("structure")
        return
    kind = condition.get("Type")
    if kind in ("And", "Or"):
        yield from members_of(condition, place, ("Type", "Conditions"), ("Conditions",))
        if condition.get("Conditions") is not None:
            yield from faults_of_conditions(
                condition["Conditions"], place.member("Conditions")
            )
    elif kind == "Not":
        yield from members_of(condition, place, ("Type", "Condition", "Expression"))
        name = "Condition"
        if "Expression" in condition:
            name = "Expression"
        yield from _faults_of_condition(condition.get(name), place.member(name))
    elif kind in MEMBERSHIPS:
        yield from _faults_of_membership(condition, place)
    elif kind in COMPARISONS:
        members = ("Type", "LeftValue", "RightValue")
        yield from members_of(condition, place, members, members)
        for name in ("LeftValue", "RightValue"):
            yield from _faults_of_side(condition.get(name), place.member(name))
    elif kind is None:
        yield place.missing("Type")
    else:
        yield place.member("Type").fault(f"'{kind}' is no type of conditions")


def _faults_of_membership(condition: dict[str, Any], place: Place) -> Iterator[Fault]:
    value = "QueryValue"
    values = "Values"
    if "QueryValue" not in condition and "Value" in condition:
        value = "Value"
        values = "In"
    names = ("Type", value, values)
    yield from members_of(condition, place, names, names)
    yield from _faults_of_side(condition.get(value), place.member(value))
    entries = condition.get(values)
    if entries is not None and not isinstance(entries, list):
        yield place.member(values).wrong_type("list")
    for entry, entry_place in entries_of(entries, place.member(values)):
        yield from _faults_of_side(entry, entry_place)


def _faults_of_side(value: Any, place: Place) -> Iterator[Fault]:
    """Check what is compared. A missing value is another fault."""
    if value is None or isinstance(value, SCALARS) or is_expression(value):
        return
    yield place.fault("the value is neither text, number, Boolean nor expression")
