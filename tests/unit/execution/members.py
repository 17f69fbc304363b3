"""The members of responses that a model reads."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, AliasPath, BaseModel


def paths(model: type[BaseModel]) -> list[tuple[str, ...]]:
    """
    Return the members of a response that are read, each with the members around it.
    """
    found: set[tuple[str, ...]] = set()
    for field in model.model_fields.values():
        alias = field.validation_alias
        if alias is None:
            continue
        for choice in alias.choices if isinstance(alias, AliasChoices) else [alias]:
            members = choice.path if isinstance(choice, AliasPath) else [choice]
            names = tuple(map(str, members))
            found |= {names[:depth] for depth in range(1, len(names) + 1)}
    return sorted(found)


def nested(path: tuple[str, ...], value: Any) -> Any:
    """Return a response that has a value at a member."""
    for member in reversed(path):
        value = {member: value}
    return value
