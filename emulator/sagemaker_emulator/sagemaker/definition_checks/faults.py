"""What is wrong with a definition, and where it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sagemaker_emulator import texts


@dataclass(frozen=True)
class Fault:
    """
    A violation of a rule.

    :param text: the text of AWS, which does not say where it is.
    :param step: the name of the step; None outside the steps.
    :param member: the path of the member in the step or in the definition.
    """

    text: str
    step: str | None
    member: str

    def __str__(self) -> str:
        text = " ".join(self.text.removesuffix(".").split())
        if self.step is None:
            return f"{text}. Member '{self.member}'."
        return f"{text}. Step '{self.step}', member '{self.member}'."


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

    def refused(self, text: str) -> Fault:
        """Return a violation with a text of AWS."""
        return Fault(text, self.step, self.path)

    def fault(self, text: str) -> Fault:
        """Return a violation of which there is no public text of AWS."""
        return self.refused(texts.validation_failed(text))

    def missing(self, name: str) -> Fault:
        """Return that an object lacks a member; there is no public text of AWS."""
        return self.member(name).fault(f"'{name}' is missing")


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
