"""
What AWS responds: errors become this provider's, and what is large, slow or endless is
an error, too.

The code of an error decides: ``exceptions.HINTS`` says what each code means, what to do
about it, and whether the error is permanent or transient. This module adds the
operation, the resource and AWS's own message.

botocore limits neither size nor time: its ``read_timeout`` is the time of one read, and
a response of one byte every few seconds never reaches it. Here, ``read_timeout`` is the
time of the whole response, from its status line on. A response that is large may take
longer, but must keep coming: no silence in it lasts longer than ``read_timeout``.

Lists are not read with botocore's paginators: they compare a token with the one before
only, and take any number of pages.

What is changed here is changed on the clients of one session, never on botocore itself.
"""

from __future__ import annotations

import http.client
import io
import logging
import math
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Final, TypeVar

from botocore import awsrequest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, SSLError
from botocore.exceptions import ConnectionError as BotoConnectionError
from botocore.parsers import ResponseParserError
from botocore.session import Session

from polysync_airflow import exceptions
from polysync_airflow.aws.regions import has_misspelt_region, region_cure
from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.models import pipeline_arns
from polysync_airflow.execution.texts import clean_line, clean_text, format_seconds

BotoError = ClientError | BotoCoreError | ResponseParserError
BOTO_ERRORS = (ClientError, BotoCoreError, ResponseParserError)
# AWS refuses a request whose time is five minutes off. The header has whole seconds,
# and is as old as the response.
WRONG_CLOCK_SECONDS: Final = 240.0
# With which AWS refuses it, beside other reasons:
# https://github.com/aws/aws-sdk-js-v3/blob/main/packages/service-error-classification/src/constants.ts
_CLOCK_CODES: Final = ("InvalidSignatureException", "RequestExpired")
_TIMES: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z")
# AWS also asks for actions that no operation has, such as iam:PassRole:
# https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html
_DENIED: Final = re.compile(
    r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+) on resource: (arn:[^\s]+)"
)
# The code of a certificate that this host does not trust, as Python names its error.
UNTRUSTED: Final = "SSLCertVerificationError"


class ResponseTooLargeError(Exception):
    """
    Raised inside of botocore when a response has more bytes than a client accepts.
    """


def map_error(
    error: BotoError,
    operation: str,
    request: Mapping[str, Any],
    *,
    region: str | None,
    partition: str,
) -> SageMakerApiError:
    """
    Map an error of botocore to ``SageMakerApiError``.

    :param operation: the operation that was called, as AWS names it.
    :param partition: AWS partition, such as ``aws``.
    """
    # A call can fail in an operation of the sign-in (AssumeRole). The error names that
    # operation.
    if isinstance(error, ClientError):
        operation = error.operation_name
    if is_invalid_value(error):
        return invalid_value_error(operation)
    cause = _cause(error)
    if isinstance(cause, ResponseTooLargeError):
        return unusable_response_error(
            operation, exceptions.RESPONSE_TOO_LARGE, str(cause)
        )
    code, message = code_and_message(error)
    hint = hint_of(error, operation)
    fields = _hint_fields(
        operation, request, message, region or "of the session", partition
    )
    cure = region_cure(error) or hint.cure.format(**fields)
    if (
        request.get("RoleArn")
        and hint is exceptions.HINTS[exceptions.ACCESS_DENIED]
        and not _DENIED.search(message)
    ):
        cure += (
            " The request names a role, so the identity needs iam:PassRole on"
            f" {request['RoleArn']} too."
        )
    return SageMakerApiError(
        f"{operation} failed: {code}: {message}{what_to_do(cure)}",
        error_code=code,
        operation=operation,
        permanent=hint.permanent or has_misspelt_region(error),
        transient=is_transient(error, hint),
    )


def code_and_message(error: BotoError) -> tuple[str, str]:
    """
    Return AWS's code and message, or the class and the text of an error without a
    response.
    """
    if _is_untrusted(error):
        return UNTRUSTED, clean_text(str(error))
    if not isinstance(error, ClientError):
        return type(error).__name__, clean_text(str(error))
    details = error.response.get("Error", {})
    code = clean_line(str(details.get("Code", "Unknown")), 128)
    message = clean_text(str(details.get("Message", "")))
    if clock_offset(error):
        # With the times in it, each poll would be another line in the log.
        message = _TIMES.sub("...", message)
    return code, message


def hint_of(error: BotoError, operation: str = "") -> exceptions.Hint:
    """
    Return what an error means.

    :param operation: the operation that was called.
    """
    code, _ = code_and_message(error)
    offset = clock_offset(error)
    if not offset:
        return exceptions.hint_for(code, operation)
    side = "behind"
    if offset > 0:
        side = "ahead of"
    # A time that changes with each poll would be another line in the log.
    minutes = format_seconds(round(abs(offset) / 60) * 60)
    hint = exceptions.HINTS["RequestExpired"]
    text = f"The clock of this host is {minutes} {side} that of AWS. {hint.cure}"
    return replace(hint, cure=text)


def clock_offset(error: BotoError) -> float:
    """
    Return by how many seconds the clock of this host is ahead of AWS's, if AWS has
    refused a request because of its time; 0 otherwise.
    """
    if not isinstance(error, ClientError):
        return 0.0
    code = error.response.get("Error", {}).get("Code")
    if exceptions.ALIASES.get(str(code), code) not in _CLOCK_CODES:
        return 0.0
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    try:
        answered_at = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, OverflowError, TypeError, ValueError):
        return 0.0
    # botocore signs with the time of the host, also where tests replace the provider's.
    offset = time.time() - answered_at
    if abs(offset) < WRONG_CLOCK_SECONDS:
        return 0.0
    return offset


def _is_untrusted(error: BotoError) -> bool:
    """Return whether the certificate of an endpoint cannot be verified."""
    if not isinstance(error, SSLError):
        return False
    cause = error.kwargs.get("error")
    reasons = (cause, *getattr(cause, "args", ()))
    return any(isinstance(reason, ssl.SSLCertVerificationError) for reason in reasons)


def text_with_cure(error: BotoError) -> str:
    """
    Return the text of an error of the sign-in, and what to do if an endpoint cannot be
    reached, or not be trusted.
    """
    if isinstance(error, ClientError) and not clock_offset(error):
        return clean_text(str(error))
    _, message = code_and_message(error)
    cure = region_cure(error) or hint_of(error).cure
    return f"{message}{what_to_do(cure)}"


def what_to_do(cure: str) -> str:
    """Return the end of an error's text; empty if no cure is known."""
    if not cure:
        return ""
    return f"{exceptions.BEFORE_CURE}{cure}"


def is_invalid_value(error: BaseException) -> bool:
    """
    Return whether botocore could not send a request because of a value that no header
    or URL can have.
    """
    return isinstance(_cause(error), (ValueError, http.client.InvalidURL))


def _cause(error: BaseException) -> Any:
    """Return the error of the HTTP library that botocore has wrapped, if any."""
    if not isinstance(error, HTTPClientError):
        return None
    return error.kwargs.get("error")


def invalid_value_error(operation: str) -> SageMakerApiError:
    """
    Return the error for a request that could not be sent because of a value in it.
    """
    # Neither botocore's text nor its error is passed on: they quote the value, which
    # may be a secret.
    return SageMakerApiError(
        f"{operation} failed: a value cannot be sent in a header or URL. -- What to do:"
        " check the session token, the keys and the endpoint_url of the connection for"
        " line breaks and other invisible characters.",
        error_code="InvalidHeaderValue",
        operation=operation,
        permanent=True,
    )


def invalid_response_error(operation: str, problem: str) -> SageMakerApiError:
    """
    Return the error for a response that AWS would not send. It counts as no response at
    all.
    """
    problem = f"the response is not one of AWS's: {clean_text(problem)}"
    return unusable_response_error(
        operation, exceptions.INVALID_RESPONSE, problem, transient=True
    )


def unusable_response_error(
    operation: str, code: str, problem: str, *, transient: bool = False
) -> SageMakerApiError:
    """Return the error for a response that the provider does not use."""
    return SageMakerApiError(
        f"{operation} failed: {problem}. -- What to do: check whether a proxy responds"
        " in place of AWS.",
        error_code=code,
        operation=operation,
        permanent=False,
        transient=transient,
    )


def is_transient(error: BotoError, hint: exceptions.Hint) -> bool:
    """Return whether the same call may succeed if it is repeated within moments."""
    if has_misspelt_region(error):
        return False
    if hint is not exceptions.UNKNOWN_HINT:
        # The meaning of a known code is more exact than the HTTP status that came with
        # it.
        return hint.transient
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return bool(status == 429 or status >= 500)
    # The errors that botocore itself retries: no response, an incomplete one, or a
    # proxy's page in its place.
    return isinstance(
        error, (BotoConnectionError, HTTPClientError, ResponseParserError)
    )


# What a request is about, by one of its members: the service, the words for it, and the
# resource in a policy.
_SUBJECTS: Final = {
    "PipelineExecutionArn": ("sagemaker", "execution {0}", "{0}"),
    "PipelineName": ("sagemaker", "pipeline {0!r}", "{pipeline_arns}"),
    "ModelPackageName": ("sagemaker", "model package {0}", "{0}"),
    "ModelPackageArn": ("sagemaker", "model package {0}", "{0}"),
    # Not that of the group: AWS is not clear about the resource of this action.
    "ModelPackageGroupName": ("sagemaker", "model package group {0}", "*"),
    "logGroupName": (
        "logs",
        "log group {0}",
        "arn:{partition}:logs:{region}:<account>:log-group:{0}:*",
    ),
    "Bucket": ("s3", "object s3://{0}/{key}", "arn:{partition}:s3:::{0}/{key}"),
    "QueueUrl": ("sqs", "queue {0}", "arn:{partition}:sqs:{region}:{queue}"),
    "PolicySourceArn": ("iam", "identity {0}", "{0}"),
    "ServiceCode": ("pricing", "price list of {0}", "*"),
}


def _hint_fields(
    operation: str,
    request: Mapping[str, Any],
    message: str,
    region: str,
    partition: str,
) -> dict[str, str]:
    """Return the values of the placeholders that a hint's text may use."""
    service = "sagemaker"
    subject = "such resource"
    resource = "*"
    value: Any = None
    member = next((name for name in _SUBJECTS if request.get(name)), None)
    if member is not None:
        service, subject, resource = _SUBJECTS[member]
        value = request[member]
    elif operation.startswith("AssumeRole"):
        service = "sts"
    places = {"partition": partition, "region": region, "key": request.get("Key")}
    if member == "PipelineName":
        prefix = f"arn:{partition}:sagemaker:{region}:<account>:pipeline/"
        places["pipeline_arns"] = " and ".join(pipeline_arns(prefix, value))
    elif member == "QueueUrl":
        places["queue"] = ":".join(value.split("/")[-2:])
        # The actions of IAM are those for one message.
        operation = operation.removesuffix("Batch")
    fields = {
        "permission": f"{service}:{operation}",
        "resource": resource.format(value, **places),
        "region": region,
        "subject": subject.format(value, **places),
        "parameter": "",
    }
    denied = _DENIED.search(message)
    if denied and denied[1] != fields["permission"]:
        fields["permission"], fields["resource"] = denied.groups()
    names = [parameter["Name"] for parameter in request.get("PipelineParameters", ())]
    quoted = [name for name in names if f"'{name}'" in message]
    if quoted:
        fields["parameter"] = f" (parameter {', '.join(quoted)})"
    return fields


log = logging.getLogger(__name__)

Page = TypeVar("Page")

# Eight times the longest definition of a pipeline, which is the largest member of a
# response.
MAX_RESPONSE_BYTES: Final = 8 * 1024 * 1024
# In a triggerer: while Python parses JSON, the event loop stands still, for 0.1 s per
# MiB of small objects. A hundred executions take 50 to 100 KiB.
MAX_POLL_RESPONSE_BYTES: Final = 512 * 1024
# What a response must bring, on average, to take longer than the read timeout.
MIN_BYTES_PER_SECOND: Final = 64 * 1024
PAGE_SIZE: Final = 100
# An account has a few thousand pipelines; AWS allows 50 steps in a pipeline, and more
# on request.
MAX_PAGES: Final = 1000
MAX_ENTRIES: Final = PAGE_SIZE * MAX_PAGES
MAX_STEPS: Final = 10_000
# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ListPipelines.html
MAX_TOKEN_LENGTH: Final = 8192

_give_up_at: ContextVar[float] = ContextVar("polysync_give_up_at", default=math.inf)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """
    Limit the time of all calls in a block. A response that has not come by then is a
    timeout.

    :param seconds: the time, in seconds of the host's clock.
    """
    before = _give_up_at.set(min(_give_up_at.get(), time.monotonic() + seconds))
    try:
        yield
    finally:
        _give_up_at.reset(before)


def limit_responses(session: Session, max_bytes: int = MAX_RESPONSE_BYTES) -> None:
    """
    Limit the responses that the clients of a session accept.

    :param session: a session that has made no client yet.
    :param max_bytes: the size of a response, with its headers.
    """

    class LimitedClient:
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            # botocore has no option for it. A later version may not have these
            # attributes.
            try:
                sender = self._endpoint.http_session  # type: ignore[attr-defined]
                sender._manager.pool_classes_by_scheme = _pool_classes(max_bytes)
                sender._pool_classes_by_scheme = _pool_classes(max_bytes)
            except AttributeError as error:
                _warn_of_no_limits(str(error))

    def add_base_class(**event: Any) -> None:
        event["base_classes"].insert(0, LimitedClient)

    session.register(
        "creating-client-class", add_base_class, unique_id="polysync-response-limits"
    )


@cache
def _warn_of_no_limits(problem: str) -> None:
    log.warning(
        "This version of botocore does not let responses be limited in size and"
        " time: %s",
        problem,
    )


class _LimitedReader(io.RawIOBase):
    """Reads one response from a socket."""

    def __init__(self, raw: Any, sock: socket.socket, max_bytes: int) -> None:
        super().__init__()
        self._raw = raw
        self._socket = sock
        self._max_bytes = max_bytes
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
            raise ResponseTooLargeError(
                f"the response has more than {self._max_bytes:,} bytes"
            )
        return count

    def _seconds_left(self) -> float | None:
        """
        Return how long the next read may take; None if there is no limit.

        :raises TimeoutError: the time of the response is over.
        """
        now = time.monotonic()
        left = _give_up_at.get() - now
        if self._read_timeout is not None:
            earned = self._received / MIN_BYTES_PER_SECOND
            end = self._begin + self._read_timeout + earned
            # What came in a burst must not become a long silence.
            left = min(left, end - now, self._read_timeout)
        if left <= 0:
            raise TimeoutError("the response takes too long")
        if left == math.inf:
            return None
        return left

    def close(self) -> None:
        self._raw.close()
        super().close()


@cache
def _pool_classes(max_bytes: int) -> dict[str, type]:
    class Response(http.client.HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            reader: Any = self.fp
            self.fp = io.BufferedReader(
                _LimitedReader(reader.detach(), sock, max_bytes)
            )

    def limited(pool: Any) -> type:
        connection = type(
            "LimitedConnection", (pool.ConnectionCls,), {"response_class": Response}
        )
        return type("LimitedPool", (pool,), {"ConnectionCls": connection})

    return {
        "http": limited(awsrequest.AWSHTTPConnectionPool),
        "https": limited(awsrequest.AWSHTTPSConnectionPool),
    }


def paginate(
    operation: str, list_page: Callable[[str | None], tuple[Page, Any]]
) -> Iterator[Page]:
    """
    Yield the pages of a list.

    :param list_page: lists one page. It gets the page's token, None for the first page,
        and returns the page and the token of the next one.
    :raises SageMakerApiError: the list would not end, or the time of ``time_limit`` has
        passed.
    """
    seen: set[str | None] = set()
    token: str | None = None
    while time.monotonic() < _give_up_at.get():
        page, following = list_page(token)
        yield page
        if not following:
            return
        seen.add(token)
        token = following
        if not isinstance(token, str) or len(token) > MAX_TOKEN_LENGTH:
            raise pagination_error(
                operation,
                f"its NextToken is not a text of at most {MAX_TOKEN_LENGTH:,}",
            )
        if token in seen:
            raise pagination_error(
                operation, f"it returned the same NextToken twice, on page {len(seen)}"
            )
        if len(seen) == MAX_PAGES:
            raise pagination_error(operation, f"it has more than {MAX_PAGES:,} pages")
    raise pagination_error(operation, f"its time was over after {len(seen):,} pages")


def pagination_error(operation: str, problem: str) -> SageMakerApiError:
    """Return the error for a list that the provider does not read to its end."""
    return unusable_response_error(operation, exceptions.PAGINATION, problem)
