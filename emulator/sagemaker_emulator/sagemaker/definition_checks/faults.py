"""What is wrong with a definition, and where it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

# A definition can have a million characters. An error message does not repeat all of
# them.
_MAX_VALUE_LENGTH = 256


@dataclass(frozen=True)
class Fault:
    """
    A violation of a rule.

    :param text: what is wrong, in the words of AWS where they are known.
    :param step: the name of the step; None outside the steps.
    :param member: the path of the member in the step or in the definition.
    """

    text: str
    step: str | None
    member: str

    def __str__(self) -> str:
        if self.step is None:
            return f"{self.text}. Member '{self.member}'."
        return f"{self.text}. Step '{self.step}', member '{self.member}'."


@dataclass(frozen=True)
class Place:
    """
    A place in a definition.

    :param step: the name of the step; None outside the steps.
    :param path: the path in the step or in the definition.
    """

    step: str | None = None
    path: str = ""

    def member(self, name: str) -> Place:
        """Return the place of a member of an object."""
        if not self.path:
            return Place(self.step, name)
        return Place(self.step, f"{self.path}.{name}")

    def entry(self, index: int) -> Place:
        """Return the place of an entry of a list."""
        return Place(self.step, f"{self.path}[{index}]")

    def fault(self, text: str) -> Fault:
        """Return the violation of a rule of SageMaker's model."""
        return Fault(f"Model Validation failed: {text}", self.step, self.path)

    def wrong_type(self, type_name: str) -> Fault:
        """
        Return that a value has not the type it must have.

        :param type_name: the type, as botocore calls it.
        """
        # Both are texts of AWS:
        # https://github.com/aws/sagemaker-python-sdk/issues/2345
        # https://github.com/aws/sagemaker-python-sdk/issues/3908
        if type_name == "list":
            return Fault("Expecting start of Json Array", self.step, self.path)
        if type_name in ("structure", "map"):
            return Fault("Expecting start of Json Object", self.step, self.path)
        return self.fault(f"the value is no {type_name}")

    def violation(self, shape: str, value: Any, constraint: str) -> Fault:
        """
        Return that a value does not satisfy a constraint of its shape.

        :param shape: the name of the shape.
        :param value: the value.
        :param constraint: the constraint, as in the errors of other requests.
        """
        rule = constraint.removeprefix("Member must ")
        rule = rule.removeprefix("satisfy ").removeprefix("have ")
        return self.fault(
            f"Value '{shown(value)}' for '{shape}' failed to satisfy {rule}"
        )

    def missing(self, name: str) -> Fault:
        """Return that an object lacks a member."""
        return self.member(name).fault(f"'{name}' is missing")

    def unknown(self, name: str) -> Fault:
        """Return that an object has a member that it cannot have."""
        # https://github.com/aws/sagemaker-python-sdk/issues/4994
        kind = "Argument "
        if not self.path.startswith("Arguments"):
            kind = ""
        place = self.member(name)
        return Fault(f"Unknown {kind}member '{name}'", place.step, place.path)


def entries_of(value: Any, place: Place) -> Iterator[tuple[Any, Place]]:
    """Yield the entries of a list with their places; none if it is no list."""
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield entry, place.entry(index)


def names_in(entries: Any, member: str) -> list[Any]:
    """Return a member of each object in a list that nobody has checked."""
    if not isinstance(entries, list):
        return []
    return [entry.get(member) for entry in entries if isinstance(entry, dict)]


def shown(value: Any) -> str:
    """Return a value for an error message."""
    text = re.sub(r"\s+", " ", str(value))
    if len(text) > _MAX_VALUE_LENGTH:
        return f"{text[:_MAX_VALUE_LENGTH]}..."
    return text
