"""
Pagination of list operations: sorts the items, selects a page, and encodes the token of
the next page.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from sagemaker_emulator.errors import invalid

Item = TypeVar("Item")
_PAGINATION_MEMBERS = ("NextToken", "MaxResults")
_MAX_PAGE_SIZE = 100


def page(
    items: Iterable[Item],
    key: Callable[[Item], tuple[Any, ...]],
    request: Mapping[str, Any],
) -> tuple[list[Item], dict[str, str]]:
    """
    Return one page of a list.

    The token contains the sort key of the last item on the page. So an item that is
    added or removed between two calls causes no other item to be repeated or skipped.
    AWS does not document a default order, but lists the newest first.

    :param items: all items.
    :param key: returns a unique sort key that can be encoded as JSON.
    :param request: the list request, with ``NextToken``, ``MaxResults`` and
        ``SortOrder`` if it has them.
    :return: the items of the page, and ``{"NextToken": ...}`` or an empty dict.
    :raises ApiError: ValidationException if the token does not belong to this list.
    """
    descending = request.get("SortOrder", "Descending") == "Descending"
    ordered = sorted(items, key=key, reverse=descending)
    filters = {
        name: value
        for name, value in request.items()
        if name not in _PAGINATION_MEMBERS
    }
    digest = hashlib.sha256(
        json.dumps(filters, sort_keys=True, default=str).encode()
    ).hexdigest()[:16]
    if "NextToken" in request:
        last = _decode(request["NextToken"], digest)
        try:
            if descending:
                ordered = [item for item in ordered if key(item) < last]
            else:
                ordered = [item for item in ordered if key(item) > last]
        except TypeError as error:
            raise invalid("Invalid pagination token.") from error
    size = request.get("MaxResults", _MAX_PAGE_SIZE)
    if len(ordered) <= size:
        return ordered, {}
    token = json.dumps([digest, *key(ordered[size - 1])]).encode()
    return ordered[:size], {"NextToken": base64.urlsafe_b64encode(token).decode()}


def _decode(token: str, digest: str) -> tuple[Any, ...]:
    """Return the sort key in a token that belongs to the list with a digest."""
    try:
        token_digest, *last = json.loads(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, TypeError, binascii.Error) as error:
        raise invalid("Invalid pagination token.") from error
    if token_digest != digest:
        raise invalid("Invalid pagination token: it belongs to another request.")
    return tuple(last)
