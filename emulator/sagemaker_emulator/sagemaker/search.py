"""
The operation Search, for pipelines and their executions. moto searches other resources.

A filter compares a property of the resource, by the rules of
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Search.html and
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Filter.html. AWS does not
document how a filter on a list compares: here, one item of the list is sufficient. Nor
does it document what ``NotEquals`` says of a resource without the property: here, such
a resource does not have the value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
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
    declared_members,
    service_model,
    structure,
)

_MAX_CONDITIONS: Final = 50
_TAGS: Final = "Tags."
_NUMBERS: Final = ("integer", "long", "float", "double")

_TEXT_ONLY: Final = ("Contains", "In")
_ORDERS: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "GreaterThan": lambda actual, value: bool(actual > value),
    "GreaterThanOrEqualTo": lambda actual, value: bool(actual >= value),
    "LessThan": lambda actual, value: bool(actual < value),
    "LessThanOrEqualTo": lambda actual, value: bool(actual <= value),
}

# A resource as its Describe operation describes it, or a part of it.
Resource = Mapping[str, Any]
Condition = Callable[[Resource], bool]


def search(call: Call) -> dict[str, Any]:
    """Return the pipelines or executions that an expression selects."""
    request = call.request
    resource_type = request["Resource"]
    if resource_type not in _RESOURCES:
        raise NotEmulatedError(resource_type)
    if "VisibilityConditions" in request:
        raise invalid("The emulator has no VisibilityConditions in Search.")
    shape = structure(resource_type)
    is_selected = _condition(shape, request.get("SearchExpression"))
    selected: list[Resource] = []
    # No other account shares resources with the one of the emulator.
    if request.get("CrossAccountFilterOption") != "CrossAccount":
        resources = _RESOURCES[resource_type](call)
        selected = [resource for resource in resources if is_selected(resource)]
    sorted_by = _Property.of(shape, request.get("SortBy", "LastModifiedTime"))
    if not sorted_by.is_value:
        raise invalid(f"The results cannot be sorted by {'.'.join(sorted_by.path)}.")

    def sort_key(resource: Resource) -> tuple[Any, ...]:
        arn = resource[f"{resource_type}Arn"]
        value = next(sorted_by.values(resource), None)
        if value is None:
            return (False, 0, arn)
        return (True, value, arn)

    resources_of_page, token = page(selected, sort_key, request)
    results = [
        {resource_type: declared_members(resource_type, resource)}
        for resource in resources_of_page
    ]
    response: dict[str, Any] = {"Results": results, **token}
    if "TotalHits" in structure("SearchResponse").members:
        response["TotalHits"] = {"Value": len(selected), "Relation": "EqualTo"}
    return response


def _pipelines(call: Call) -> Iterator[Resource]:
    for pipeline in call.region.pipelines.values():
        if not pipeline.is_managed:
            yield {
                **pipeline_details(pipeline, pipeline.version()),
                "Tags": tags_of(pipeline),
            }


def _executions(call: Call) -> Iterator[Resource]:
    for record in call.region.executions():
        record.engine.advance(call.now)
        properties = execution_details(record, call.now)
        if record.version.display_name:
            properties["PipelineVersionDisplayName"] = record.version.display_name
        properties["PipelineParameters"] = execution_parameters(record)
        yield properties


_RESOURCES: Final[Mapping[str, Callable[[Call], Iterator[Resource]]]] = {
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
    def of(cls, resource_shape: StructureShape, name: str) -> _Property:
        """
        Return a property by its name, such as ``CreatedBy.DomainId``.

        :raises ApiError: ValidationException if the resource has no such property.
        """
        shape: Shape = resource_shape
        if name.startswith(_TAGS) and "Tags" in resource_shape.members:
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

    def values(self, resource: Resource) -> Iterator[Any]:
        """Yield the values that a resource has: one for each item of a list."""
        if self.path[0] == "Tags" and len(self.path) > 1:
            for tag in resource.get("Tags", ()):
                if tag["Key"] == self.path[1]:
                    yield tag["Value"]
        else:
            yield from _values_at(resource, self.path)

    def parse(self, value: str) -> Any:
        """
        Return the value of a filter in the type of the property.

        :raises ApiError: ValidationException if it has another type.
        """
        kind = self.shape.type_name
        try:
            if kind == "timestamp":
                time = datetime.fromisoformat(value)
                if not time.tzinfo:
                    time = time.replace(tzinfo=UTC)
                return time.timestamp()
            if kind in _NUMBERS:
                return float(value)
        except ValueError as error:
            raise invalid(
                f"Value '{value}' is not a {kind}, as {'.'.join(self.path)} is."
            ) from error
        return value


def _values_at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Yield what a JSON value, or each item of a list in it, has at a path."""
    if isinstance(value, list):
        for item in value:
            yield from _values_at(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping) and path[0] in value:
        yield from _values_at(value[path[0]], path[1:])


def _condition(shape: StructureShape, expression: Any) -> Condition:
    """Return the condition of a whole ``SearchExpression``; None selects all."""
    if expression is None:
        return lambda resource: True
    conditions, contains = _counts(expression)
    if conditions > _MAX_CONDITIONS:
        raise invalid(
            f"A search expression can have at most {_MAX_CONDITIONS} filters and"
            " subexpressions."
        )
    if contains > 1:
        raise invalid("'CONTAINS' operator usage limit of 1 exceeded.")
    return _expression(shape, expression)


def _counts(expression: Mapping[str, Any]) -> tuple[int, int]:
    """
    Return how many filters and subexpressions an expression has at all levels, and how
    many of the filters have the operator ``Contains``.
    """
    filters = list(expression.get("Filters", ()))
    nested_filters = expression.get("NestedFilters", ())
    for nested in nested_filters:
        filters += nested["Filters"]
    conditions = len(filters) + len(nested_filters)
    contains = sum(entry.get("Operator") == "Contains" for entry in filters)
    for subexpression in expression.get("SubExpressions", ()):
        conditions_below, contains_below = _counts(subexpression)
        conditions += 1 + conditions_below
        contains += contains_below
    return conditions, contains


def _expression(shape: StructureShape, expression: Mapping[str, Any]) -> Condition:
    conditions: list[Condition] = []
    for entry in expression.get("Filters", ()):
        conditions.append(_filter(shape, entry))
    for nested in expression.get("NestedFilters", ()):
        conditions.append(_nested(shape, nested))
    for subexpression in expression.get("SubExpressions", ()):
        conditions.append(_expression(shape, subexpression))
    if not conditions:
        raise invalid(
            "A search expression needs at least one filter, nested filter or"
            " subexpression."
        )
    if expression.get("Operator") == "Or":
        return lambda resource: any(condition(resource) for condition in conditions)
    return lambda resource: all(condition(resource) for condition in conditions)


def _nested(shape: StructureShape, nested: Mapping[str, Any]) -> Condition:
    """Return a condition that one item of a list must meet with all its filters."""
    name = nested["NestedPropertyName"]
    items = _Property.of(shape, name)
    if not isinstance(items.shape, ListShape) or not isinstance(
        items.shape.member, StructureShape
    ):
        raise invalid(
            f"{name} is not a list of objects, so it cannot be a nested property."
        )
    conditions: list[Condition] = []
    for entry in nested["Filters"]:
        if not entry["Name"].startswith(f"{name}."):
            raise invalid(f"Unknown property name: {entry['Name']}")
        member_name = entry["Name"].removeprefix(f"{name}.")
        conditions.append(_filter(items.shape.member, {**entry, "Name": member_name}))
    return lambda resource: any(
        all(condition(item) for condition in conditions)
        for item in items.values(resource)
    )


def _filter(shape: StructureShape, entry: Mapping[str, Any]) -> Condition:
    compared = _Property.of(shape, entry["Name"])
    operator = entry.get("Operator", "Equals")
    if operator == "Exists":
        return lambda resource: next(compared.values(resource), None) is not None
    if operator == "NotExists":
        return lambda resource: next(compared.values(resource), None) is None
    if "Value" not in entry:
        raise invalid(f"A filter with the operator {operator} needs a value.")
    unsupported: Collection[str] = _ORDERS
    if compared.shape.type_name in ("timestamp", *_NUMBERS):
        unsupported = _TEXT_ONLY
    if not compared.is_value or operator in unsupported:
        raise invalid(
            f"The operator {operator} is not supported for the property"
            f" {entry['Name']}."
        )
    return _comparison(compared, operator, entry["Value"])


def _comparison(compared: _Property, operator: str, value: str) -> Condition:
    if operator == "Contains":
        return lambda resource: any(
            value in text(actual) for actual in compared.values(resource)
        )
    if operator == "In":
        options = {option.strip() for option in value.split(",")}
        return lambda resource: any(
            text(actual) in options for actual in compared.values(resource)
        )
    expected = compared.parse(value)
    if operator in _ORDERS:
        is_in_order = _ORDERS[operator]
        return lambda resource: any(
            is_in_order(actual, expected) for actual in compared.values(resource)
        )

    def is_equal(resource: Resource) -> bool:
        if isinstance(expected, str):
            return any(text(actual) == expected for actual in compared.values(resource))
        return any(actual == expected for actual in compared.values(resource))

    if operator == "Equals":
        return is_equal
    return lambda resource: not is_equal(resource)


OPERATIONS: Mapping[str, Operation] = {"Search": search}
