"""A page of a sorted list, and the opaque token of the next one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from polysync_airflow.emulator.errors import invalid

Item = TypeVar("Item")
_NOT_A_FILTER = ("NextToken", "MaxResults")
_LARGEST_PAGE = 100


def page(
    items: Iterable[Item], key: Callable[[Item], tuple[Any, ...]], request: Mapping[str, Any]
) -> tuple[list[Item], dict[str, str]]:
    """Sort and cut a list.

    The token names the last item of the page, so that items which come or go between two calls neither
    repeat nor hide others. AWS documents no default order; newest first is what it does.

    :param key: a unique, JSON-able sort key.
    :param request: the list request, with ``NextToken``, ``MaxResults`` and ``SortOrder`` where it has them.
    :returns: the page, and ``{"NextToken": ...}`` or an empty dict.
    :raises ApiError: ValidationException if the token is not one of this list.
    """
    descending = request.get("SortOrder", "Descending") == "Descending"
    ordered = sorted(items, key=key, reverse=descending)
    filters = {k: v for k, v in request.items() if k not in _NOT_A_FILTER}
    digest = hashlib.sha256(json.dumps(filters, sort_keys=True, default=str).encode()).hexdigest()[:16]
    if "NextToken" in request:
        last = _decode(request["NextToken"], digest)
        try:
            ordered = [item for item in ordered if (key(item) < last if descending else key(item) > last)]
        except TypeError as error:
            raise invalid("Invalid pagination token.") from error
    size = request.get("MaxResults", _LARGEST_PAGE)
    if len(ordered) <= size:
        return ordered, {}
    token = json.dumps([digest, *key(ordered[size - 1])]).encode()
    return ordered[:size], {"NextToken": base64.urlsafe_b64encode(token).decode()}


def _decode(token: str, digest: str) -> tuple[Any, ...]:
    try:
        found, *last = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, binascii.Error) as error:
        raise invalid("Invalid pagination token.") from error
    if found != digest:
        raise invalid("Invalid pagination token: it belongs to another request.")
    return tuple(last)
