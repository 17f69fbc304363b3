"""
Finds what is wrong with the members of a request that need or exclude each other, or
compare with each other: botocore's service model does not know it.

The rules are in ``request_rules.toml``. `polysync_airflow` and `sagemaker_emulator` are
two distributions, and either works without the other, so both have these two files. A
test keeps them the same.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jmespath
from jmespath.exceptions import JMESPathTypeError
from jmespath.functions import Functions, signature


class BrokenRule(NamedTuple):
    """
    A rule that a request violates.

    :param path: the path of the member, such as ``ResourceConfig.InstanceType``.
    :param value: its value; None if it has none.
    :param rule: the rule, as a sentence without a full stop.
    :param published: the text of AWS, where people have published it; else None.
    """

    path: str
    value: Any
    rule: str
    published: str | None


class _Functions(Functions):
    """The functions in the rules that JMESPath does not have."""

    @signature({"types": ["array"]})
    def _func_given(self, values: list[Any]) -> int:
        return sum(value is not None for value in values)

    @signature({"types": ["array-number"]})
    def _func_product(self, numbers: list[float]) -> float:
        return math.prod(numbers)

    @signature({"types": ["array"]})
    def _func_repeated(self, values: list[Any]) -> list[Any]:
        return [each for n, each in enumerate(values) if each in values[:n]]


_OPTIONS = jmespath.Options(custom_functions=_Functions())


@cache
def request_rules() -> Mapping[str, Sequence[Mapping[str, Any]]]:
    """Return the rules, by the names of the structures in botocore's service model."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))


def broken_rules(shape: Any, value: Any, path: str = "") -> Iterator[BrokenRule]:
    """
    Yield the rules that a request violates. Expressions of pipelines stand for values
    that nobody knows.

    :param shape: botocore's shape of the value.
    :param value: the value. It may have other types than those of its shape.
    :param path: its path in the request.
    """
    if shape.type_name == "structure" and isinstance(value, Mapping):
        if value and value.keys().isdisjoint(shape.members):
            # An expression, or botocore does not know any of it.
            return
        yield from broken_in(request_rules().get(shape.name, ()), value, path)
        for name, member in shape.members.items():
            place = f"{path}.{name}".removeprefix(".")
            yield from broken_rules(member, value.get(name), place)
    elif shape.type_name == "list" and isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            yield from broken_rules(shape.member, entry, f"{path}[{index}]")


def broken_in(
    rules: Sequence[Mapping[str, Any]], value: Any, path: str
) -> Iterator[BrokenRule]:
    """
    Yield those of the rules of a structure that its value violates.

    :param rules: the rules.
    :param value: the value.
    :param path: its path.
    """
    for rule in rules:
        try:
            fault = _result(rule["fault"], value)
        except (JMESPathTypeError, TypeError):
            # A value has another type, or is an expression.
            continue
        if not fault:
            continue
        members = rule["members"]
        given = [name for name in members if _result(name, value) is not None]
        member = members[0]
        if given:
            member = given[-1]
        shown = _result(member, value)
        if isinstance(fault, list):
            shown = ", ".join(map(str, fault))
        place = f"{path}.{member}".removeprefix(".")
        yield BrokenRule(place, shown, rule["rule"], rule.get("published"))


def _result(expression: str, value: Any) -> Any:
    return jmespath.compile(expression).search(value, _OPTIONS)
