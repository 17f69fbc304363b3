"""
How the members of AWS's responses become the fields of models: types, and validators,
that make None of what is missing or not as AWS documents it.

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

from polysync_airflow.execution.models import MAX_INTEGER
from polysync_airflow.execution.texts import LENIENT, ArnText, Count, NameText

# AWS allows 40 metrics of a training job, and 10 outputs of a processing job.
_MAX_ENTRIES: Final = 100
_S3_URI_PATTERN: Final = r"^s3://[^/\s]+"


def _entries(value: Any) -> list[Any]:
    # A single object stands in place of a list in some responses.
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value[:_MAX_ENTRIES]
    return []


def _value_at(entry: Any, path: str) -> Any:
    for member in path.split("."):
        if not isinstance(entry, Mapping):
            return None
        entry = entry.get(member)
    return entry


def _values_by_name(value: Any, name_member: str, path: str) -> dict[str, Any]:
    values = {}
    for entry in _entries(value):
        name = _value_at(entry, name_member)
        named = _value_at(entry, path)
        if isinstance(name, str) and named is not None:
            values[name] = named
    return values


# A list of objects.
ENTRIES: Final = BeforeValidator(_entries)


# Validators and fields are made at import, where mutmut changes nothing.
def by_name(name_member: str, path: str) -> BeforeValidator:  # pragma: no mutate block
    """
    Return a validator that makes a dict of a list of objects.

    :param name_member: the member whose value becomes the key.
    :param path: the members that lead to the value, with dots between them.
    """
    return BeforeValidator(lambda value: _values_by_name(value, name_member, path))


def _values(value: Any, paths: Iterable[str]) -> list[Any]:
    values = [_value_at(entry, path) for entry in _entries(value) for path in paths]
    return [value for value in values if value is not None]


def each_of(*paths: str) -> BeforeValidator:  # pragma: no mutate block
    """
    Return a validator that makes a list of the values in a list of objects.

    :param paths: the members that lead to a value, with dots between them. An object
        has the value at one of these paths.
    """
    return BeforeValidator(lambda value: _values(value, paths))


def _sum(counts: Any) -> Any:
    if not isinstance(counts, dict):
        return None
    return sum(count for count in counts.values() if isinstance(count, int)) or None


def _has_text(value: Any) -> bool:
    if isinstance(value, list):
        return any(isinstance(text, str) and text for text in value)
    return isinstance(value, str) and value != ""


Name = Annotated[NameText | None, LENIENT]
# Whether the response has a text there, or a list of texts.
IsGiven = Annotated[bool | None, BeforeValidator(_has_text)]
Uri = Annotated[
    Annotated[ArnText, StringConstraints(pattern=_S3_URI_PATTERN)] | None, LENIENT
]
CountsTogether = Annotated[Count, BeforeValidator(_sum)]
Seconds = Annotated[Annotated[float, Field(ge=0, le=MAX_INTEGER)] | None, LENIENT]
Value = Annotated[FiniteFloat | None, LENIENT]
Values = Annotated[dict[NameText, Value] | None, LENIENT]
Uris = Annotated[dict[NameText, Uri] | None, LENIENT]
UriList = Annotated[list[Uri] | None, LENIENT]
_CHANNEL: Final = "DataSource.S3DataSource.S3Uri"
CHANNELS: Final = each_of(_CHANNEL)


def _channels_of_all(definitions: Any) -> list[Any]:
    channels = [_value_at(entry, "InputDataConfig") for entry in _entries(definitions)]
    return [uri for channel in channels for uri in _values(channel, [_CHANNEL])]


# The channels of one definition of a training job, or of a list of them.
CHANNELS_OF_ALL: Final = BeforeValidator(_channels_of_all)


def member(*paths: str, exclude: bool | None = None) -> Any:  # pragma: no mutate block
    """
    Return a field with a member of a response; None if the response has not got it.

    :param paths: the members that lead to it, with dots between them. Of several paths,
        the first one that the response has counts.
    :param exclude: whether the XCom ``outputs`` leaves it out.
    """
    aliases = (AliasPath(*path.split(".")) for path in paths)
    return Field(None, validation_alias=AliasChoices(*aliases), exclude=exclude)
