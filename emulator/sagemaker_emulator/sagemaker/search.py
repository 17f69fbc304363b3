"""
The operation Search, for pipelines and their executions. moto searches other resources.

A filter compares a property of the resource, by the rules of
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Search.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Filter.html. AWS does not
document how a filter
on a list compares, and what ``NotEquals`` says of a resource without the property: here
one item of the list is sufficient, and such a resource does not have the value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from botocore.model import ListShape, Shape, StructureShape

from sagemaker_emulator.engine.expressions import text
from sagemaker_emulator.errors import invalid
from sagemaker_emulator.sagemaker.calls import Call, NotEmulatedError, Operation
from sagemaker_emulator.sagemaker.executions import (
    execution_details,
    execution_parameters,
)
from sagemaker_emulator.sagemaker.pagination import page
from sagemaker_emulator.sagemaker.pipelines import pipeline_details, tags_of
from sagemaker_emulator.sagemaker.validation import (
    known_members,
    service_model,
    structure,
)

_MAX_CONDITIONS: Final = 50
_TAGS: Final = "Tags."
_NUMBERS: Final = ("integer", "long", "float", "double")
_WITHOUT_VALUE: Final = ("Exists", "NotExists")
_TEXT_ONLY: Final = ("Contains", "In")
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "GreaterThan": lambda actual, value: bool(actual > value),
    "GreaterThanOrEqualTo": lambda actual, value: bool(actual >= value),
    "LessThan": lambda actual, value: bool(actual < value),
    "LessThanOrEqualTo": lambda actual, value: bool(actual <= value),
}

Record = Mapping[str, Any]
Condition = Callable[[Record], bool]


def search(call: Call) -> dict[str, Any]:
    """Return the pipelines or executions that an expression selects."""
    request = call.request
    resource = request["Resource"]
    if resource not in _RECORDS:
        raise NotEmulatedError(resource)
    if "VisibilityConditions" in request:
        raise invalid("The emulator has no VisibilityConditions in Search.")
    shape = structure(resource)
    selected = _condition(shape, request.get("SearchExpression"))
    # No other account shares resources with that of the emulator.
    is_shared = request.get("CrossAccountFilterOption") == "CrossAccount"
    records = (
        []
        if is_shared
        else [record for record in _RECORDS[resource](call) if selected(record)]
    )
    order = _Property.of(shape, request.get("SortBy", "LastModifiedTime"))
    if not order.is_value:
        raise invalid(f"The results cannot be sorted by {'.'.join(order.path)}.")
    identity = f"{resource}Arn"

    def key(record: Record) -> tuple[Any, ...]:
        value = next(order.values(record), None)
        return (value is not None, 0 if value is None else value, record[identity])

    shown, token = page(records, key, request)
    total = {"TotalHits": {"Value": len(records), "Relation": "EqualTo"}}
    known = service_model().operation_model("Search").output_shape
    members = known.members if isinstance(known, StructureShape) else {}
    return {
        "Results": [{resource: known_members(resource, record)} for record in shown],
        **token,
        **(total if "TotalHits" in members else {}),
    }


def _pipelines(call: Call) -> Iterator[Record]:
    for pipeline in call.region.pipelines.values():
        if not pipeline.is_managed:
            yield {
                **pipeline_details(pipeline, pipeline.version()),
                "Tags": tags_of(pipeline),
            }


def _executions(call: Call) -> Iterator[Record]:
    for record in call.region.executions():
        record.engine.advance(call.now)
        parameters = execution_parameters(record)
        name = (
            {"PipelineVersionDisplayName": record.version.display_name}
            if record.version.display_name
            else {}
        )
        yield {
            **execution_details(record, call.now),
            **name,
            "PipelineParameters": parameters,
        }


_RECORDS: Final[Mapping[str, Callable[[Call], Iterator[Record]]]] = {
    "Pipeline": _pipelines,
    "PipelineExecution": _executions,
}


@dataclass(frozen=True)
class _Property:
    """
    A property of a resource.

    :param path: the names of its members, from the resource downwards.
    :param shape: its type.
    """

    path: tuple[str, ...]
    shape: Shape

    @property
    def is_value(self) -> bool:
        """Whether it has a value of its own, and no members or items."""
        return not isinstance(self.shape, ListShape | StructureShape)

    @classmethod
    def of(cls, resource: StructureShape, name: str) -> _Property:
        """
        Return a property by its name, such as ``CreatedBy.DomainId``.

        :raises ApiError: ValidationException if the resource has no such property.
        """
        shape: Shape = resource
        if name.startswith(_TAGS) and "Tags" in resource.members:
            return cls(
                ("Tags", name.removeprefix(_TAGS)),
                service_model().shape_for("TagValue"),
            )
        path = tuple(name.split("."))
        for member in path:
            while isinstance(shape, ListShape):
                shape = shape.member
            if not isinstance(shape, StructureShape) or member not in shape.members:
                raise invalid(f"Unknown property name: {name}")
            shape = shape.members[member]
        return cls(path, shape)

    def values(self, record: Record) -> Iterator[Any]:
        """Return the values that a resource has, of all items if it is in a list."""
        if self.path[0] == "Tags" and len(self.path) > 1:
            return (
                tag["Value"]
                for tag in record.get("Tags", ())
                if tag["Key"] == self.path[1]
            )
        return self._below(record, self.path)

    def _below(self, value: Any, path: tuple[str, ...]) -> Iterator[Any]:
        if isinstance(value, list):
            for item in value:
                yield from self._below(item, path)
        elif not path:
            yield value
        elif isinstance(value, Mapping) and path[0] in value:
            yield from self._below(value[path[0]], path[1:])

    def parse(self, value: str) -> Any:
        """
        Return the value of a filter in the type of the property.

        :raises ApiError: ValidationException if it has another type.
        """
        kind = self.shape.type_name
        try:
            if kind == "timestamp":
                time = datetime.fromisoformat(value)
                return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
            return float(value) if kind in _NUMBERS else value
        except ValueError as error:
            raise invalid(
                f"Value '{value}' is not a {kind}, as {'.'.join(self.path)} is."
            ) from error


def _condition(resource: StructureShape, expression: Any) -> Condition:
    if expression is None:
        return lambda record: True
    counts = _counts(expression)
    if counts["conditions"] > _MAX_CONDITIONS:
        raise invalid(
            f"A search expression can have at most {_MAX_CONDITIONS} filters and"
            " subexpressions."
        )
    if counts["contains"] > 1:
        raise invalid("'CONTAINS' operator usage limit of 1 exceeded.")
    return _expression(resource, expression)


def _counts(expression: Record) -> dict[str, int]:
    nested = expression.get("NestedFilters", ())
    filters = [
        *expression.get("Filters", ()),
        *(each for entry in nested for each in entry["Filters"]),
    ]
    below = [_counts(each) for each in expression.get("SubExpressions", ())]
    contains = sum(each.get("Operator") == "Contains" for each in filters)
    return {
        "conditions": (
            len(filters)
            + len(nested)
            + len(below)
            + sum(each["conditions"] for each in below)
        ),
        "contains": contains + sum(each["contains"] for each in below),
    }


def _expression(resource: StructureShape, expression: Record) -> Condition:
    conditions = [
        *(_filter(resource, each) for each in expression.get("Filters", ())),
        *(_nested(resource, each) for each in expression.get("NestedFilters", ())),
        *(_expression(resource, each) for each in expression.get("SubExpressions", ())),
    ]
    if not conditions:
        raise invalid(
            "A search expression needs at least one filter, nested filter or"
            " subexpression."
        )
    combine = any if expression.get("Operator") == "Or" else all
    return lambda record: combine(condition(record) for condition in conditions)


def _nested(resource: StructureShape, nested: Record) -> Condition:
    """Return a condition that one item of a list must meet with all its filters."""
    name = nested["NestedPropertyName"]
    items = _Property.of(resource, name)
    member = items.shape.member if isinstance(items.shape, ListShape) else None
    if not isinstance(member, StructureShape):
        raise invalid(
            f"{name} is not a list of objects, so it cannot be a nested property."
        )
    conditions = []
    for each in nested["Filters"]:
        if not each["Name"].startswith(f"{name}."):
            raise invalid(f"Unknown property name: {each['Name']}")
        conditions.append(
            _filter(member, {**each, "Name": each["Name"].removeprefix(f"{name}.")})
        )
    return lambda record: any(
        all(met(item) for met in conditions) for item in items.values(record)
    )


def _filter(resource: StructureShape, entry: Record) -> Condition:
    found, operator = (
        _Property.of(resource, entry["Name"]),
        entry.get("Operator", "Equals"),
    )
    if operator in _WITHOUT_VALUE:
        return lambda record: (
            (next(found.values(record), None) is not None) is (operator == "Exists")
        )
    if "Value" not in entry:
        raise invalid(f"A filter with the operator {operator} needs a value.")
    is_text = found.shape.type_name not in ("timestamp", *_NUMBERS)
    unsupported = _ORDERS if is_text else _TEXT_ONLY
    if not found.is_value or operator in unsupported:
        raise invalid(
            f"The operator {operator} is not supported for the property"
            f" {entry['Name']}."
        )
    return _comparison(found, operator, entry["Value"])


def _comparison(found: _Property, operator: str, value: str) -> Condition:
    if operator == "Contains":
        return lambda record: any(value in text(each) for each in found.values(record))
    if operator == "In":
        options = {option.strip() for option in value.split(",")}
        return lambda record: any(
            text(each) in options for each in found.values(record)
        )
    expected = found.parse(value)
    if operator in _ORDERS:
        return lambda record: any(
            _ORDERS[operator](each, expected) for each in found.values(record)
        )
    equal = operator == "Equals"

    def compare(record: Record) -> bool:
        values = found.values(record)
        shown = (text(each) if isinstance(expected, str) else each for each in values)
        return any(each == expected for each in shown) is equal

    return compare


OPERATIONS: Mapping[str, Operation] = {"Search": search}
