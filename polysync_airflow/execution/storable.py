"""
What Airflow can send and store of the numbers, texts and names that others have written.

Airflow 3 sends XComs, rendered arguments and DAGs as msgpack, whose integers have 64 bits, and then as JSON,
which has no NaN. PostgreSQL reads a large float of an XCom back as an integer, and stores neither NUL nor
half a surrogate pair in it. Airflow refuses some names in an XCom, or makes a Python object of their values:
https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/serializers.html

Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationError, WrapValidator

from polysync_airflow.execution.texts import clean_line, shorten

MIN_NUMBER: Final = -(2**63)
MAX_NUMBER: Final = 2**64 - 1
# Without "__var", Airflow does not look at "__type".
RESERVED_NAMES: Final = frozenset({"__classname__", "__id__", "__var"})
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def storable_number(value: Any) -> Any:
    """
    Return a number that Airflow cannot store as its text, which is also what a start sends to AWS.

    :param value: a number; anything else is returned as it is.
    :raises ValueError: an integer has more than 4,300 digits, of which Python makes no text.
    """
    if not isinstance(value, (int, float)) or MIN_NUMBER <= value <= MAX_NUMBER:
        return value
    return str(value)


def is_storable_text(text: str) -> bool:
    """Return whether Airflow can store a text as it is. As a name, it can also be a reserved one."""
    return not _UNSTORABLE.search(text)


def storable(value: Any, changes: list[str], place: str = "") -> Any:
    """
    Return JSON that Airflow can store.

    A number becomes its text, a name that Airflow reserves is left out with its value, and U+FFFD
    replaces a character.

    :param value: JSON that Python has read, so that no number has more than 4,300 digits.
    :param changes: gets a sentence about each number and name.
    :param place: the names that lead to the value, with dots between them.
    """
    if isinstance(value, Mapping):
        return {
            _with_replacements(name): storable(each, changes, f"{place}.{name}".removeprefix("."))
            for name, each in value.items()
            if not _is_left_out(name, changes, place)
        }
    if isinstance(value, (list, tuple)):
        return [storable(each, changes, f"{place}[{index}]") for index, each in enumerate(value)]
    if isinstance(value, str):
        return _with_replacements(value)
    made = storable_number(value)
    if made is not value:
        changes.append(f"{clean_line(place)} = {shorten(value)} is a text, because the number is too large.")
    return made


def _with_replacements(text: str) -> str:
    return _UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def _is_left_out(name: str, changes: list[str], place: str) -> bool:
    if name not in RESERVED_NAMES:
        return False
    changes.append(f"{clean_line(place) or 'It'} lacks {name}, because Airflow reserves this name.")
    return True


def _none_if_invalid(value: Any, validate: Callable[[Any], Any]) -> Any:
    try:
        return validate(value)
    except ValidationError:
        return None


def _not_reserved(name: str) -> str:
    if name in RESERVED_NAMES:
        raise ValueError("is a name that Airflow reserves")
    return name


# A member of a response that is missing, or is not as AWS documents it, is None, and hides no others.
LENIENT: Final = WrapValidator(_none_if_invalid)
Count = Annotated[Annotated[int, Field(ge=0, le=MAX_NUMBER)] | None, LENIENT]
NotReserved: Final = AfterValidator(_not_reserved)
