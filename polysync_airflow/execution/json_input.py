"""
Reads JSON that others have written: Variables, XComs, connections, arguments of
triggers, messages of queues, pipeline definitions and files.

``json.loads`` raises different errors for what cannot be read: a ``RecursionError`` for
a text of many brackets, a ``ValueError`` for an integer of more than 4,300 digits. It
reads ``NaN``, which is no JSON. Here, all of this is one error, whose text names what
was read.

An integer may still have more than 64 bits, and a text a NUL or half a surrogate pair:
``texts.storable`` returns what Airflow stores of them.

Everything here is pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any, Final, NoReturn

# A definition has 1 MiB, and a record with the longest parameters 3 MiB.
MAX_BYTES: Final = 4 * 1024 * 1024
# Airflow and pydantic go through a value with functions that call themselves, and the
# stack of Python ends at 1,000 calls.
MAX_DEPTH: Final = 100
# In place of an XCom that cannot be read. No XCom of ours is an empty text, so each
# reader takes it for one that somebody has edited.
UNREADABLE: Final = ""
_MAX_BYTES_OF_CHARACTER: Final = 4


class UnreadableJsonError(ValueError):
    """
    Raised when a text of others cannot be read. The message has no part of the text.
    """


def read_json(
    content: object,
    subject: str,
    *,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
) -> Any:
    """
    Return the value of a JSON text.

    :param content: the text, or its bytes; anything else is an error, too.
    :param subject: what is read, as the error begins: ``the definition``.
    :param max_bytes: how long the text may be.
    :param max_depth: how many objects and lists may be inside of each other.
    :raises UnreadableJsonError: the content is not JSON, or exceeds a limit.
    """
    if not isinstance(content, (str, bytes)):
        raise UnreadableJsonError(f"{subject} is no text")
    if _is_longer(content, max_bytes):
        raise UnreadableJsonError(f"{subject} has more than {max_bytes:,} bytes")
    try:
        value = json.loads(content, parse_constant=_refuse, parse_float=_finite)
    except RecursionError:
        raise _too_deep(subject) from None
    except OverflowError:
        raise UnreadableJsonError(f"{subject} has a number that is too large") from None
    except ValueError as error:
        raise UnreadableJsonError(f"{subject} is not JSON: {error}") from None
    if _is_deeper(value, max_depth):
        raise _too_deep(subject)
    return value


def is_larger(value: Any, max_bytes: int = MAX_BYTES) -> bool:
    """
    Return whether the JSON of a value has certainly more bytes than a limit. Most of a
    value that is much larger is not looked at.
    """
    left = max_bytes
    remaining = [value]
    while remaining and left >= 0:
        member = remaining.pop()
        if isinstance(member, (str, dict, list)):
            left -= len(member)
        if left >= 0 and isinstance(member, dict):
            remaining += [*member, *member.values()]
        elif left >= 0 and isinstance(member, list):
            remaining += member
    return left < 0


def _too_deep(subject: str) -> UnreadableJsonError:
    return UnreadableJsonError(f"{subject} is nested too deeply")


def _is_longer(content: str | bytes, max_bytes: int) -> bool:
    if len(content) > max_bytes:
        return True
    if isinstance(content, bytes):
        return False
    if _MAX_BYTES_OF_CHARACTER * len(content) <= max_bytes:
        # No text of so few characters is longer, so it need not be encoded.
        return False
    return len(content.encode("utf-8", "surrogatepass")) > max_bytes


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise OverflowError
    return number


def _is_deeper(value: Any, max_depth: int) -> bool:
    # One level after the other: a function that calls itself would fail, too.
    level = [value]
    for _ in range(max_depth + 1):
        containers = [member for member in level if isinstance(member, (dict, list))]
        if not containers:
            return False
        level = [member for container in containers for member in _members(container)]
    return True


def _members(container: dict[str, Any] | list[Any]) -> Iterable[Any]:
    if isinstance(container, dict):
        return container.values()
    return container
