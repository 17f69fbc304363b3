"""
How the members of a response about a job are read.

A member that is missing, or is not as AWS documents it, is None, so that it does not hide the others.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import (
    AliasChoices,
    AliasPath,
    BeforeValidator,
    Field,
    FiniteFloat,
    StringConstraints,
)

from polysync_airflow.execution.models import MAX_INTEGER, ResponseTime
from polysync_airflow.execution.storable import LENIENT, Count
from polysync_airflow.execution.texts import ArnText, NameText

# AWS allows 40 metrics of a training job, and 10 outputs of a processing job.
_MAX_ENTRIES: Final = 100
S3_URI_PATTERN: Final = r"^s3://[^/\s]+"


def _entries(value: Any) -> list[Any]:
    # A single object stands in place of a list in some responses.
    entries = [value] if isinstance(value, dict) else value
    return entries[:_MAX_ENTRIES] if isinstance(entries, list) else []


def _value_at(entry: Any, path: str) -> Any:
    for member in path.split("."):
        entry = entry.get(member) if isinstance(entry, Mapping) else None
    return entry


def _values_by_name(value: Any, name_member: str, path: str) -> dict[str, Any]:
    pairs = [(_value_at(entry, name_member), _value_at(entry, path)) for entry in _entries(value)]
    return {name: each for name, each in pairs if isinstance(name, str) and each is not None}


def by_name(name_member: str, path: str) -> BeforeValidator:
    """
    Return what makes a dict of a list of objects.

    :param name_member: the member whose value becomes the key.
    :param path: the members that lead to the value, with dots between them.
    """
    # mutmut changes nothing that runs at import.
    return BeforeValidator(lambda value: _values_by_name(value, name_member, path))  # pragma: no mutate


def _values(value: Any, paths: Iterable[str]) -> list[Any]:
    values = [_value_at(entry, path) for entry in _entries(value) for path in paths]
    return [each for each in values if each is not None]


def each_of(*paths: str) -> BeforeValidator:
    """
    Return what makes a list of the values in a list of objects.

    :param paths: the members that lead to a value, with dots between them. An object has one of the values.
    """
    return BeforeValidator(lambda value: _values(value, paths))  # pragma: no mutate


def _sum(counts: Any) -> Any:
    numbers = counts.values() if isinstance(counts, dict) else ()
    return sum(each for each in numbers if isinstance(each, int)) or None


Name = Annotated[NameText | None, LENIENT]
Uri = Annotated[Annotated[ArnText, StringConstraints(pattern=S3_URI_PATTERN)] | None, LENIENT]
CountsTogether = Annotated[Count, BeforeValidator(_sum)]
Seconds = Annotated[Annotated[float, Field(ge=0, le=MAX_INTEGER)] | None, LENIENT]
Time = Annotated[ResponseTime, LENIENT]
Value = Annotated[FiniteFloat | None, LENIENT]
Values = Annotated[dict[NameText, Value] | None, LENIENT]
Uris = Annotated[dict[NameText, Uri] | None, LENIENT]
UriList = Annotated[list[Uri] | None, LENIENT]
_CHANNEL: Final = "DataSource.S3DataSource.S3Uri"
CHANNELS: Final = each_of(_CHANNEL)


def _channels_of_all(definitions: Any) -> list[Any]:
    channels = [_value_at(entry, "InputDataConfig") for entry in _entries(definitions)]
    return [uri for each in channels for uri in _values(each, [_CHANNEL])]


# Of one definition of a job, or of a list of them.
CHANNELS_OF_ALL: Final = BeforeValidator(_channels_of_all)


def first_of(member: str, *names: str) -> AliasChoices:
    """Return the first of several members of an object in the response."""
    return AliasChoices(*(AliasPath(*member.split("."), name) for name in names))  # pragma: no mutate
