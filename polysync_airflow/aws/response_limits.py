"""
Limits how large a response of AWS may be, how long it may take, and how many pages a list may have.

botocore limits neither: its ``read_timeout`` is the time of one read, and a response of one byte every few
seconds never reaches it. Here, ``read_timeout`` is the time of the whole response, from its status line on. A
response that is large may take longer, but must keep coming.

Lists are not read with botocore's paginators: they compare a token with the one before only, and take any
number of pages.

What is changed here is changed on the clients of one session, never on botocore itself.
"""

from __future__ import annotations

import http.client
import io
import logging
import math
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, Final, TypeVar

from botocore import awsrequest
from botocore.session import Session

from polysync_airflow.aws.error_mapping import ResponseTooLargeError, unusable_response_error
from polysync_airflow.exceptions import PAGINATION, SageMakerApiError

log = logging.getLogger(__name__)

Page = TypeVar("Page")

# Eight times the longest definition of a pipeline, which is the largest member of a response.
MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
# In a triggerer: while Python parses JSON, the event loop stands still, for 0.1 s per MiB of small objects. A
# hundred executions take 50 to 100 KiB.
MAX_POLL_RESPONSE_BYTES: Final = 512 * 1024
# What a response must bring, on average, to take longer than the read timeout.
MIN_BYTES_PER_SECOND: Final = 64 * 1024
PAGE_SIZE: Final = 100
# An account has a few thousand pipelines; AWS allows 50 steps in a pipeline, and more on request.
MAX_PAGES: Final = 1000
MAX_ENTRIES: Final = PAGE_SIZE * MAX_PAGES
MAX_STEPS: Final = 10_000
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html
MAX_TOKEN_LENGTH: Final = 8192
_EVENT: Final = "creating-client-class"

_give_up_at: ContextVar[float] = ContextVar("polysync_give_up_at", default=math.inf)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """
    Limit the time of all calls in a block. A response that has not come by then is a timeout.

    :param seconds: the time, in seconds of the host's clock.
    """
    before = _give_up_at.set(min(_give_up_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _give_up_at.reset(before)


def is_time_over() -> bool:
    """Return whether the time of ``time_limit`` has passed."""
    return time.monotonic() >= _give_up_at.get()


def limit_responses(session: Session, max_bytes: int = MAX_RESPONSE_BYTES) -> None:
    """
    Limit the responses that the clients of a session accept.

    :param session: a session that has made no client yet.
    :param max_bytes: the size of a response, with its headers.
    """

    class LimitedClient:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # botocore has no option for it. A later version may not have these attributes.
            try:
                sender = self._endpoint.http_session  # type: ignore[attr-defined]
                pools = _pool_classes(max_bytes)
                sender._manager.pool_classes_by_scheme = sender._pool_classes_by_scheme = pools
            except AttributeError as error:
                _warn_of_no_limits(str(error))

    def add_base_class(**event: Any) -> None:
        event["base_classes"].insert(0, LimitedClient)

    session.register(_EVENT, add_base_class, unique_id="polysync-response-limits")


@cache
def _warn_of_no_limits(problem: str) -> None:
    log.warning("This version of botocore does not let responses be limited in size and time: %s", problem)


class _LimitedReader(io.RawIOBase):
    """Reads one response from a socket."""

    def __init__(self, raw: Any, sock: socket.socket, max_bytes: int) -> None:
        super().__init__()
        self._raw, self._socket, self._max_bytes = raw, sock, max_bytes
        self._read_timeout = sock.gettimeout()
        self._begin = time.monotonic()
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._socket.settimeout(self._seconds_left())
        count: int | None = self._raw.readinto(buffer)
        self._received += count or 0
        if self._received > self._max_bytes:
            raise ResponseTooLargeError(f"the response has more than {self._max_bytes:,} bytes")
        return count

    def _seconds_left(self) -> float | None:
        end = _give_up_at.get()
        if self._read_timeout is not None:
            end = min(end, self._begin + self._read_timeout + self._received / MIN_BYTES_PER_SECOND)
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the response takes too long")
        return None if left == math.inf else left

    def close(self) -> None:
        self._raw.close()
        super().close()


@cache
def _pool_classes(max_bytes: int) -> dict[str, type]:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            reader: Any = self.fp
            self.fp = io.BufferedReader(_LimitedReader(reader.detach(), sock, max_bytes))

    class HTTPConnection(awsrequest.AWSHTTPConnection):
        response_class: Any = Response

    class HTTPSConnection(awsrequest.AWSHTTPSConnection):
        response_class: Any = Response

    class HTTPPool(awsrequest.AWSHTTPConnectionPool):
        ConnectionCls = HTTPConnection

    class HTTPSPool(awsrequest.AWSHTTPSConnectionPool):
        ConnectionCls = HTTPSConnection

    return {"http": HTTPPool, "https": HTTPSPool}


def paginate(operation: str, list_page: Callable[[str | None], tuple[Page, Any]]) -> Iterator[Page]:
    """
    Yield the pages of a list.

    :param operation: the operation, as AWS names it.
    :param list_page: lists one page. It gets the page's token, None for the first page, and returns the page
        and the token of the next one.
    :raises SageMakerApiError: the list would not end, or the time of ``time_limit`` has passed.
    """
    seen: set[str | None] = set()
    token: str | None = None
    while not is_time_over():
        page, following = list_page(token)
        yield page
        if not following:
            return
        seen.add(token)
        token = following
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:
            raise pagination_error(operation, f"its NextToken is not a text of at most {MAX_TOKEN_LENGTH:,}")
        if token in seen:
            raise pagination_error(operation, f"it returned the same NextToken twice, on page {len(seen)}")
        if len(seen) == MAX_PAGES:
            raise pagination_error(operation, f"it has more than {MAX_PAGES:,} pages")
    raise pagination_error(operation, f"its time was over after {len(seen):,} pages")


def check_size(operation: str, entries: int, limit: int) -> None:
    """
    Check how many entries of a list were read.

    :raises SageMakerApiError: there are more than the provider accepts.
    """
    if entries > limit:
        raise pagination_error(operation, f"it has more than {limit:,} entries")


def pagination_error(operation: str, problem: str) -> SageMakerApiError:
    """Return the error for a list that the provider does not read to its end."""
    return unusable_response_error(operation, PAGINATION, problem)
