"""The calls of the checks, at a gentle rate, until the run is ended. Only this module waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError

from sagemaker_emulator.verify.models import NOT_FOUND, REFUSALS, NotCheckedError, Observed, Refusal, Response
from sagemaker_emulator.verify.session import Session

Facts = TypeVar("Facts")

POLL_SECONDS: Final = 1.0
# Because an account shares its rate with everything else in it.
REQUESTS_PER_SECOND: Final = 20.0
# The executions that use up a quota end within seconds.
QUOTA_SECONDS: Final = 60.0
PAGE_SIZE: Final = 100
# What is listed is what a run has made: fewer than a hundred pipelines and executions.
MAX_PAGES: Final = 10
_QUOTA: Final = "ResourceLimitExceeded"
_DENIED: Final = "AccessDeniedException"
# Other services have other names for the same.
_ALIASES: Final = {"AccessDenied": _DENIED, "ResourceNotFoundException": NOT_FOUND}


class CancelledError(Exception):
    """Raised in a check when the run is ended."""


def code_of(error: ClientError) -> str:
    """Return AWS's error code, as SageMaker spells it."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    return _ALIASES.get(code, code)


def is_denied(error: Exception) -> TypeGuard[ClientError]:
    """Return whether an error says that a permission is missing."""
    return isinstance(error, ClientError) and code_of(error) == _DENIED


class Calls:
    """
    Calls AWS until the run is ended. Thread-safe.

    :param session: how the account is called.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self._next_request = 0.0

    def cancel(self) -> None:
        """End the checks: each raises ``CancelledError`` before a request, and after a pause."""
        self._cancelled.set()

    @staticmethod
    def now() -> float:
        """Return seconds of a clock that only counts."""
        return time.monotonic()

    def sleep(self, seconds: float = POLL_SECONDS) -> None:
        """Wait until the time is up or the run is ended, which is an error."""
        while not self._cancelled.is_set() and seconds > 0:
            time.sleep(min(seconds, POLL_SECONDS))
            seconds -= POLL_SECONDS
        if self._cancelled.is_set():
            raise CancelledError

    def client(self, service: str = "sagemaker") -> Any:
        """Return the client of a service, whose requests, also repeated ones, wait for their turn."""
        # A session of boto3 makes one at a time.
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self.session.client(service)
                self._clients[service].meta.events.register("before-send", self._wait_for_turn)
            return self._clients[service]

    def _wait_for_turn(self, **_: Any) -> None:
        with self._lock:
            # A pause saves the requests of one second.
            turn = max(self._next_request, self.now() - 1)
            self._next_request = turn + 1 / REQUESTS_PER_SECOND
        self.sleep(turn - self.now())

    @cached_property
    def region(self) -> str:
        """The AWS region of the client."""
        return str(self.client().meta.region_name)

    def call(self, operation: str, *, service: str = "sagemaker", **request: Any) -> Any:
        """
        Call an operation. While a quota is used up, it is called again for a minute.

        :raises botocore.exceptions.ClientError: AWS refuses the request.
        """
        until = self.now() + QUOTA_SECONDS
        while True:
            try:
                return getattr(self.client(service), xform_name(operation))(**request)
            except ClientError as error:
                if code_of(error) != _QUOTA or self.now() > until:
                    raise
            self.sleep()

    def attempt(
        self, call: Callable[..., Facts], *args: Any, **members: Any
    ) -> Facts | Refusal | NotCheckedError:
        """
        Make calls that AWS may refuse because of a request or of the state of what it names.

        :raises botocore.exceptions.ClientError: another error, such as a missing permission.
        """
        try:
            return call(*args, **members)
        except ParamValidationError as error:
            return NotCheckedError(f"the installed boto3 does not know a member: {error}")
        except ClientError as error:
            if code_of(error) not in REFUSALS:
                raise
            return Refusal(f"refused with {code_of(error)}", error.response["Error"].get("Message", ""))

    def told(self, call: Callable[..., object], *args: Any, **members: Any) -> Observed:
        """Make calls as ``attempt`` does, and return whether AWS has accepted them."""
        answer = self.attempt(call, *args, **members)
        return answer if isinstance(answer, Refusal | NotCheckedError) else "accepted"

    def pages(
        self, operation: str, *, service: str = "sagemaker", page_size: int = 0, **request: Any
    ) -> list[Response]:
        """Return the first pages of a list; ``page_size`` is 0 for the usual one."""
        paginator = self.client(service).get_paginator(xform_name(operation))
        return list(
            islice(
                paginator.paginate(PaginationConfig={"PageSize": page_size or PAGE_SIZE}, **request),
                MAX_PAGES,
            )
        )

    def entries(self, operation: str, member: str, **request: Any) -> list[Response]:
        """Return the entries of the first pages of a list."""
        return [entry for page in self.pages(operation, **request) for entry in page.get(member, [])]

    def steps(self, arn: str, page_size: int = 0) -> list[Response]:
        """List the steps of an execution, as AWS sorts them."""
        operation, request = "ListPipelineExecutionSteps", {"PipelineExecutionArn": arn}
        return self.entries(operation, "PipelineExecutionSteps", page_size=page_size, **request)

    def executions(self, pipeline: str, **request: Any) -> list[Response]:
        """List the executions of a pipeline, as AWS sorts them."""
        member = "PipelineExecutionSummaries"
        return self.entries("ListPipelineExecutions", member, PipelineName=pipeline, **request)
