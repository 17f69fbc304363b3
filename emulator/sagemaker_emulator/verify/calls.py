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
# An account has one rate limit for everything that calls AWS in it.
REQUESTS_PER_SECOND: Final = 20.0
PAGE_SIZE: Final = 100
ENDED: Final = "the run was ended"
# Only what a run has made is listed: fewer than a hundred pipelines and executions.
MAX_PAGES: Final = 10
# The executions that use up a quota end within seconds.
_QUOTA_SECONDS: Final = {"ResourceLimitExceeded": 60.0}
# An execution cannot be stopped for a moment while it moves between two steps.
_MOVE_SECONDS: Final = {CONFLICT: 3.0}
_DENIED: Final = "AccessDeniedException"
# With these codes, endpoints that are not AWS's answer to an operation they lack.
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
    """Raised in a check when the run of the checks is ended."""


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
        # By service and operation: whether the endpoint has it. Empty before the first
        # response.
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
        """Return the seconds of a monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float = POLL_SECONDS) -> None:
        """
        Wait until the time is up.

        :raises CancelledError: the run is ended.
        """
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
        # A session of boto3 makes one client at a time.
        with self._lock:
            if service not in self._clients:
                client = self.session.client(service)
                client.meta.events.register("before-call", self._refuse_missing)
                client.meta.events.register("before-send", self._wait_for_turn)
                # Before botocore decides, which sends a request up to eight times.
                client.meta.events.register_first("needs-retry", self._check_response)
                self._clients[service] = client
            return self._clients[service]

    def _refuse_missing(self, model: Any, **_: Any) -> None:
        """Send no request for an operation that the endpoint does not have."""
        if not self._has.get((model.service_model.service_name, model.name), True):
            raise NotCheckedError(f"the endpoint has no {model.name}")

    def _check_response(
        self, operation: Any, response: Any, attempts: int, **_: Any
    ) -> None:
        """
        Note whether the endpoint has an operation. One that does not have it says so,
        or answers with a page.

        :raises NotCheckedError: it does not, or it fails.
        """
        if response is None:
            return
        http, parsed = response
        status = http.status_code
        code = parsed.get("Error", {}).get("Code")
        key = (operation.service_model.service_name, operation.name)
        is_page = status in (200, 500) and _PAGE.match(http.content)
        is_nameless = status in (404, 405) and code == str(status)
        if not (is_page or is_nameless or status == 501 or code in _UNKNOWN):
            self._has[key] = True
            return
        if status == 500 and attempts == 1:
            # A proxy may answer with such a page once.
            return
        if self._has.setdefault(key, False):
            raise NotCheckedError(
                f"the endpoint fails at a request of {operation.name}: HTTP {status}"
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
        Call an operation, and repeat it while AWS refuses it with an error that passes
        by itself.

        :raises botocore.exceptions.ClientError: AWS refuses the request.
        """
        # By the code of the error: for how long the operation is called again.
        patience = _QUOTA_SECONDS
        if operation == "StopPipelineExecution":
            patience = _MOVE_SECONDS
        begin = self.now()
        while True:
            try:
                return getattr(self.client(service), xform_name(operation))(**request)
            except ClientError as error:
                if self.now() - begin >= patience.get(code_of(error), 0):
                    raise
            self.sleep()

    def attempt(
        self, call: Callable[..., Facts], *args: Any, **members: Any
    ) -> Facts | Refusal:
        """
        Make calls that AWS may refuse because of a request or of the state of what it
        names, and return their result, or the refusal.

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
            message = error.response["Error"].get("Message", "")
            return Refusal(f"refused with {code_of(error)}", message)

    def observe(
        self, call: Callable[..., Facts], *args: Any, **members: Any
    ) -> Facts | Refusal | NotCheckedError:
        """
        Make calls as ``attempt`` does, but return why they cannot be made. The reason
        is then about one belief.
        """
        try:
            return self.attempt(call, *args, **members)
        except NotCheckedError as reason:
            return reason

    def answer_to(
        self, call: Callable[..., object], *args: Any, **members: Any
    ) -> Observed:
        """
        Make calls as ``observe`` does, and return "accepted" in place of their result.
        """
        answer = self.observe(call, *args, **members)
        if isinstance(answer, Refusal | NotCheckedError):
            return answer
        return "accepted"

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
        pages = paginator.paginate(PaginationConfig=config, **request)
        return list(islice(pages, MAX_PAGES))

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
        return self.entries(
            "ListPipelineExecutionSteps",
            "PipelineExecutionSteps",
            page_size=page_size,
            PipelineExecutionArn=arn,
        )

    def executions(self, pipeline: str, **request: Any) -> list[dict[str, Any]]:
        """List the executions of a pipeline, as AWS sorts them."""
        return self.entries(
            "ListPipelineExecutions",
            "PipelineExecutionSummaries",
            PipelineName=pipeline,
            **request,
        )
