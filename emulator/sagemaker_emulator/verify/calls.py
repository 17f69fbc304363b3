"""
The calls of the checks, at a gentle rate, until the run is ended. Only this module
waits.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from functools import cached_property
from itertools import islice
from typing import Any, Final, TypeGuard, TypeVar

from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError

from sagemaker_emulator.verify.models import (
    CONFLICT,
    NOT_FOUND,
    REFUSALS,
    NotCheckedError,
    Observed,
    Refusal,
)
from sagemaker_emulator.verify.session import Session

Facts = TypeVar("Facts")

POLL_SECONDS: Final = 1.0
# Because an account shares its rate with everything else in it.
REQUESTS_PER_SECOND: Final = 20.0
PAGE_SIZE: Final = 100
ENDED: Final = "the run was ended"
# What is listed is what a run has made: fewer than a hundred pipelines and executions.
MAX_PAGES: Final = 10
# The executions that use up a quota end within seconds.
_QUOTA_SECONDS: Final = {"ResourceLimitExceeded": 60.0}
# An execution cannot be stopped for a moment while it moves between two steps.
_MOVE_SECONDS: Final = {CONFLICT: 3.0}
_DENIED: Final = "AccessDeniedException"
# What endpoints that are not AWS's answer to an operation that they do not have.
_UNKNOWN: Final = (
    "UnknownOperationException",
    "UnknownOperation",
    "InvalidAction",
    "NotImplemented",
)
# Other services have other names for the same.
_ALIASES: Final = {"AccessDenied": _DENIED, "ResourceNotFoundException": NOT_FOUND}
# Some endpoints give the type of a page to their JSON, too.
_PAGE: Final = re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE)


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
        # By service and operation: whether the endpoint has it, once that is known.
        self._has: dict[tuple[str, str], bool] = {}
        self._next_request = 0.0

    def cancel(self) -> None:
        """
        End the checks: each raises ``CancelledError`` before a request, and after a
        pause.
        """
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
            raise CancelledError(ENDED)

    def client(self, service: str = "sagemaker") -> Any:
        """
        Return the client of a service, whose requests, also repeated ones, wait for
        their turn.
        """
        # A session of boto3 makes one at a time.
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self.session.client(service)
                events = self._clients[service].meta.events
                events.register("before-call", self._refuse_missing)
                events.register("before-send", self._wait_for_turn)
                # Before botocore decides, which sends a request up to eight times.
                events.register_first("needs-retry", self._look_at_answer)
            return self._clients[service]

    def _refuse_missing(self, model: Any, **_: Any) -> None:
        if not self._has.get((model.service_model.service_name, model.name), True):
            raise NotCheckedError(f"the endpoint has no {model.name}")

    def _look_at_answer(
        self, operation: Any, response: Any, attempts: int, **_: Any
    ) -> None:
        """
        Find that the endpoint does not have an operation: it says so, or answers with a
        page.
        """
        if response is None:
            return
        key, status = (
            (operation.service_model.service_name, operation.name),
            response[0].status_code,
        )
        code = response[1].get("Error", {}).get("Code")
        is_page = status in (200, 500) and _PAGE.match(response[0].content)
        is_nameless = status in (404, 405) and code == str(status)
        if not (is_page or is_nameless or status == 501 or code in _UNKNOWN):
            self._has[key] = True
        # A proxy may answer with such a page once.
        elif status != 500 or attempts > 1:
            if self._has.setdefault(key, False):
                raise NotCheckedError(
                    f"the endpoint fails at a request of {operation.name}: HTTP"
                    f" {status}"
                )
            self._refuse_missing(operation)

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

    def call(
        self, operation: str, *, service: str = "sagemaker", **request: Any
    ) -> Any:
        """
        Call an operation. It is called again while that may be all that an error asks
        for.

        :raises botocore.exceptions.ClientError: AWS refuses the request.
        """
        begin = self.now()
        while True:
            try:
                return getattr(self.client(service), xform_name(operation))(**request)
            except ClientError as error:
                seconds = (
                    _MOVE_SECONDS
                    if operation == "StopPipelineExecution"
                    else _QUOTA_SECONDS
                )
                if self.now() - begin >= seconds.get(code_of(error), 0):
                    raise
            self.sleep()

    def attempt(
        self, call: Callable[..., Facts], *args: Any, **members: Any
    ) -> Facts | Refusal:
        """
        Make calls that AWS may refuse because of a request or of the state of what it
        names.

        :raises NotCheckedError: the calls cannot be made here.
        :raises botocore.exceptions.ClientError: another error, such as a missing
            permission.
        """
        try:
            return call(*args, **members)
        except ParamValidationError as error:
            raise NotCheckedError(
                f"the installed boto3 does not know a member: {error}"
            ) from None
        except ClientError as error:
            if code_of(error) not in REFUSALS:
                raise
            return Refusal(
                f"refused with {code_of(error)}",
                error.response["Error"].get("Message", ""),
            )

    def observe(
        self, call: Callable[..., Facts], *args: Any, **members: Any
    ) -> Facts | Refusal | NotCheckedError:
        """
        Make calls as ``attempt`` does, but return why they cannot be made, which is
        about one belief.
        """
        try:
            return self.attempt(call, *args, **members)
        except NotCheckedError as reason:
            return reason

    def told(self, call: Callable[..., object], *args: Any, **members: Any) -> Observed:
        """Make calls as ``observe`` does, and return whether AWS has accepted them."""
        answer = self.observe(call, *args, **members)
        return answer if isinstance(answer, Refusal | NotCheckedError) else "accepted"

    def pages(
        self,
        operation: str,
        *,
        service: str = "sagemaker",
        page_size: int = 0,
        **request: Any,
    ) -> list[dict[str, Any]]:
        """Return the first pages of a list; ``page_size`` is 0 for the usual one."""
        paginator = self.client(service).get_paginator(xform_name(operation))
        config = {"PageSize": page_size or PAGE_SIZE}
        return list(
            islice(paginator.paginate(PaginationConfig=config, **request), MAX_PAGES)
        )

    def entries(
        self, operation: str, member: str, **request: Any
    ) -> list[dict[str, Any]]:
        """Return the entries of the first pages of a list."""
        return [
            entry
            for page in self.pages(operation, **request)
            for entry in page.get(member, [])
        ]

    def steps(self, arn: str, page_size: int = 0) -> list[dict[str, Any]]:
        """List the steps of an execution, as AWS sorts them."""
        operation, request = "ListPipelineExecutionSteps", {"PipelineExecutionArn": arn}
        return self.entries(
            operation, "PipelineExecutionSteps", page_size=page_size, **request
        )

    def executions(self, pipeline: str, **request: Any) -> list[dict[str, Any]]:
        """List the executions of a pipeline, as AWS sorts them."""
        member = "PipelineExecutionSummaries"
        return self.entries(
            "ListPipelineExecutions", member, PipelineName=pipeline, **request
        )
