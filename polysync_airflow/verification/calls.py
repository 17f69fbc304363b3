"""The calls of the checks. All go through the hook of the Airflow connection, so its limits apply."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar

from polysync_airflow.aws.rate_limiter import RateLimiter
from polysync_airflow.aws.responses import PAGE_SIZE, check_size, paginate
from polysync_airflow.aws.retry import call_with_retry
from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PolysyncError,
    SageMakerApiError,
    has_code,
    is_throttling,
)
from polysync_airflow.execution import clock
from polysync_airflow.hooks.calls import entries_of
from polysync_airflow.verification.hook import VerifyHook

Response = Mapping[str, Any]
Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)

POLL_SECONDS: Final = 1.0
# Gentle, because an account shares its rate with everything else in it.
CALLS_PER_SECOND: Final = 20.0
# How long a call is repeated.
REPEAT_SECONDS: Final = 60.0
# How many executions or steps a check looks at: a check starts a few only.
MAX_LISTED: Final = 1000
_REFUSALS: Final = (CONFLICT, RESOURCE_NOT_FOUND, VALIDATION)
_QUOTA: Final = "ResourceLimitExceeded"
_CURE: Final = " -- What to do: "


class CancelledError(Exception):
    """Raised in a check when the run is ended."""


@dataclass(frozen=True)
class Refusal:
    """
    An answer of AWS that refuses a request.

    :param code: AWS's error code, as SageMaker spells it.
    :param text: AWS's message.
    """

    code: str
    text: str


class Calls:
    """
    Calls AWS until the run is ended. Thread-safe.

    :param hook: the hook of the Airflow connection.
    """

    def __init__(self, hook: VerifyHook) -> None:
        self.hook = hook
        self._cancelled = threading.Event()
        self._limiter = RateLimiter(clock.monotonic(), rate=CALLS_PER_SECOND)

    def cancel(self) -> None:
        """End the checks: each raises ``CancelledError`` before its next call, and after its next pause."""
        self._cancelled.set()

    def sleep(self, seconds: float = POLL_SECONDS) -> None:
        """Wait until the time is up or the run is ended."""
        while seconds > 0:
            clock.sleep(min(seconds, POLL_SECONDS))
            self._check()
            seconds -= POLL_SECONDS

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def call(self, operation: str, **request: Any) -> Response:
        """
        Call an operation of SageMaker.

        :raises SageMakerApiError: AWS refuses the request.
        """
        return self.repeat(lambda: self.hook.call(operation, **request))

    def repeat(self, call: Callable[[], Answer]) -> Answer:
        """
        Make a call of the hook, again after throttling and lost connections.

        :raises SageMakerApiError: AWS refuses the request.
        """
        return call_with_retry(
            lambda: self._limited(call),
            until=clock.time() + REPEAT_SECONDS,
            warn=_log.info,
            sleep=self.sleep,
            is_transient=_may_be_repeated,
        )

    def _limited(self, call: Callable[[], Answer]) -> Answer:
        self._check()
        self._limiter.acquire(self.sleep)
        try:
            return call()
        except SageMakerApiError as error:
            if is_throttling(error):
                self._limiter.throttled(clock.monotonic())
            raise

    def attempt(self, operation: str, **request: Any) -> Response | Refusal:
        """
        Call an operation that AWS may refuse because of the request or of the state of what it names.

        :raises SageMakerApiError: another error, such as a missing permission.
        """
        return self.answer_to(lambda: self.hook.call(operation, **request))

    def answer_to(self, call: Callable[[], Answer]) -> Answer | Refusal:
        """Make a call of the hook that AWS may refuse, as ``attempt`` does."""
        try:
            return self.repeat(call)
        except SageMakerApiError as error:
            if not has_code(error, *_REFUSALS):
                raise
            return Refusal(error.canonical_code, _text_of(error))

    def has_member(self, operation: str, member: str) -> bool:
        """Return whether the installed boto3 knows a member of a request."""
        client: Any = self.hook.conn
        return member in client.meta.service_model.operation_model(operation).input_shape.members

    @cached_property
    def region(self) -> str:
        """The AWS region of the client."""
        return self.hook.client_region

    def entries(
        self, operation: str, member: str, *, page_size: int = PAGE_SIZE, **request: Any
    ) -> list[Response]:
        """Return the entries of all pages of a list."""
        entries: list[Response] = []
        for page in self.pages(operation, page_size=page_size, **request):
            entries += [
                entry for entry in entries_of(dict(page), operation, member) if isinstance(entry, dict)
            ]
            check_size(operation, len(entries), MAX_LISTED)
        return entries

    def pages(self, operation: str, *, page_size: int = PAGE_SIZE, **request: Any) -> Sequence[Response]:
        """Read the pages of a list."""

        def list_page(token: str | None) -> tuple[Response, Any]:
            following = {"NextToken": token} if token else {}
            page = self.call(operation, MaxResults=page_size, **request, **following)
            return page, page.get("NextToken")

        return list(paginate(operation, list_page))


def _may_be_repeated(error: PolysyncError) -> bool:
    # A conflict is an answer that the checks look at. The executions that use up a quota end within seconds.
    return has_code(error, _QUOTA) or (error.transient and not has_code(error, CONFLICT))


def _text_of(error: SageMakerApiError) -> str:
    text = str(error).removeprefix(f"{error.operation} failed: {error.error_code}: ")
    return text.partition(_CURE)[0]
