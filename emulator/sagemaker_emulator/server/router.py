"""
Routes each request: the control API, the emulated SageMaker and STS operations, or
moto.

This WSGI app handles ``/_emulator`` and ``/moto-api`` with the control API, and
the operations of SageMaker on pipelines and the jobs of their steps and some operations
of STS and IAM with the emulator. Requests to some other services go to moto. It also
applies the faults and writes the call log.
"""

from __future__ import annotations

import logging
import re
import socket
import sys
import time
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from itertools import count
from threading import Event, Thread
from typing import TYPE_CHECKING, Any, NoReturn

from werkzeug.wrappers import Request, Response

from sagemaker_emulator import protocol
from sagemaker_emulator.errors import ApiError
from sagemaker_emulator.protocol import AwsRequest
from sagemaker_emulator.sagemaker.api import SageMaker, is_emulated
from sagemaker_emulator.sagemaker.calls import NotEmulatedError
from sagemaker_emulator.server import bodies
from sagemaker_emulator.server.browser_guard import BrowserGuard
from sagemaker_emulator.server.call_log import CallLog, Entry
from sagemaker_emulator.server.client import PREFIX
from sagemaker_emulator.server.control import MOTO_API, ControlApi
from sagemaker_emulator.server.faults import Fault, Faults
from sagemaker_emulator.server.moto_app import MOTO_SERVICES, Moto
from sagemaker_emulator.sign_in import authorization, callers, simulation
from sagemaker_emulator.sign_in.sts import LOGGED_MEMBERS, Sts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_LOG = logging.getLogger(__name__)
# A region may be newer than the one that botocore and moto know last.
_REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-\d")
# The services of moto that show the events of executions and model packages.
_FILLED_BY_EVENTS = frozenset({"events", "sqs"})
# How soon a client that waits for messages gets an event that has become due, in real
# seconds.
_EVENT_SECONDS = 0.05
# The members of requests that the call log shows, by service. Bodies of messages can
# have secrets.
_LOGGED_MEMBERS = {
    "events": ("Name", "Rule", "EventBusName"),
    "logs": (
        "logGroupName",
        "logStreamName",
        "logStreamNamePrefix",
        "limit",
        "startFromHead",
    ),
    "sqs": (
        "QueueName",
        "QueueUrl",
        "MaxNumberOfMessages",
        "WaitTimeSeconds",
        "VisibilityTimeout",
    ),
}


_STREAM_MEMBERS = ("logStreamName", "logStreamNamePrefix")


class Router:
    """
    The WSGI app of the emulator.

    :param sagemaker: the emulated SageMaker API.
    :param sts: the emulated STS operations, with the sessions and the sign-in settings.
    :param moto: handles all requests that are not emulated.
    :param control: the control API.
    :param faults: the active faults.
    :param calls: the call log.
    :param guard: refuses the requests of web pages.
    """

    def __init__(
        self,
        sagemaker: SageMaker,
        sts: Sts,
        moto: Moto,
        control: ControlApi,
        faults: Faults,
        calls: CallLog,
        guard: BrowserGuard,
    ) -> None:
        self._sagemaker = sagemaker
        self._sts = sts
        self._moto = moto
        self._control = control
        self._faults = faults
        self._calls = calls
        self._guard = guard
        self._request_ids = count(1)

    def __call__(
        self, environ: WSGIEnvironment, start_response: StartResponse
    ) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        request = Request(environ)
        is_control = _is_below(request.path, PREFIX)
        if is_control:
            refusal = self._guard.refuse_control(request)
        else:
            refusal = self._guard.refuse(request)
        if refusal:
            return refusal(environ, start_response)
        limit = bodies.MAX_BYTES
        if protocol.is_of_s3(request):
            limit = bodies.MAX_OBJECT_BYTES
        unreadable = bodies.read(request, limit)
        if is_control or _is_below(request.path, MOTO_API):
            response = self._control.handle(Request(environ), unreadable)
            return response(environ, start_response)

        aws = protocol.parse_request(Request(environ), unreadable)
        entry = self._entry(aws)
        fault = self._faults.take(aws.operation, entry.time, aws.pipeline, aws.service)
        if fault:
            entry.fault = fault.kind
        if fault and fault.kind == "latency":
            time.sleep(fault.delay)
        if fault and fault.kind == "dropped":
            self._calls.add(entry)
            _close_connection(environ)
        app = self._route(aws, entry, fault)
        if fault and fault.kind == "lost_response":
            # Read the whole response, so that moto has processed the request before the
            # response is lost.
            Response.from_app(app, environ, buffered=True)
            entry.status = 0
            self._calls.add(entry)
            _close_connection(environ)
        return self._respond(app, environ, start_response, entry)

    def _entry(self, aws: AwsRequest) -> Entry:
        caller = callers.identify(aws, self._sts.sessions)
        return Entry(
            time=self._sagemaker.clock.now(),
            wall_time=datetime.now(UTC).isoformat(),
            service=aws.service,
            operation=aws.operation,
            region=aws.region,
            access_key_id=aws.access_key_id,
            caller=caller.arn if caller else None,
            user_agent=aws.user_agent,
            request=_logged_members(aws),
        )

    def _route(
        self, aws: AwsRequest, entry: Entry, fault: Fault | None
    ) -> WSGIApplication:
        """
        Return the WSGI app that responds to a request: a response of the emulator, or
        moto.
        """
        request_id = f"emulated-{next(self._request_ids)}"
        try:
            if fault and fault.kind == "http":
                return Response("", fault.status)
            self._check(aws, fault)
            if aws.target == "SageMaker" and is_emulated(aws.operation, aws.body):
                with suppress(NotEmulatedError):
                    return protocol.json_response(
                        self._call_sagemaker(aws, entry), request_id
                    )
            result = self._call_sign_in(aws, entry)
            if result is not None:
                return protocol.query_response(aws, result, request_id)
            self._check_for_moto(aws)
            if self._sts.settings.values.enforce_iam:
                authorization.check_read(callers.identify(aws, self._sts.sessions), aws)
            self._publish_for(aws)
        except ApiError as error:
            refusal = error
        except RecursionError:
            refusal = ApiError("SerializationException", "The body is nested too deep.")
        except Exception as error:
            # A bug in the emulator is reported to the client, in the call log and on
            # the terminal.
            traceback.print_exc(file=sys.stderr)
            refusal = ApiError(
                "InternalFailure", f"{type(error).__name__}: {error}", 500
            )
        else:
            return partial(self._call_moto, aws=aws, request_id=request_id)
        entry.set_error(refusal)
        return protocol.error_response(refusal, aws.protocol, request_id)

    def _check(self, aws: AwsRequest, fault: Fault | None) -> None:
        """Raise the error of a fault, or of a request that no service can process."""
        if fault and fault.kind in ("throttle", "quota", "error"):
            raise fault.error()
        if aws.refusal:
            raise aws.refusal
        if not _REGION.fullmatch(aws.region):
            raise _no_region()

    def _check_for_moto(self, aws: AwsRequest) -> None:
        """Raise the error of a request for what neither moto nor the emulator has."""
        if aws.service not in MOTO_SERVICES:
            service = aws.service or "without a signature"
            raise ApiError(
                "UnknownOperationException",
                f"The emulator has no service {service}.",
            )
        if not self._moto.has_region(aws.region):
            raise _no_region()

    def _publish_for(self, aws: AwsRequest) -> None:
        """
        Write to moto what a request to it may show: the logs, model packages and
        property files of steps, and the events.
        """
        if aws.service == "s3":
            # A bucket can be read from any region.
            self._sagemaker.publish()
        elif aws.service == "sagemaker":
            self._sagemaker.publish(aws.region)
        elif aws.service == "logs":
            names = [aws.members.get(member) for member in _STREAM_MEMBERS]
            stream = next((name for name in names if isinstance(name, str)), "")
            self._sagemaker.publish_logs(aws.region, stream)
        elif aws.service in _FILLED_BY_EVENTS:
            # Also before a rule is made, which gets no events of the past.
            self._sagemaker.send_events(aws.region)

    def _call_moto(
        self,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        *,
        aws: AwsRequest,
        request_id: str,
    ) -> Iterable[bytes]:
        if aws.service == "s3":
            environ["HTTP_HOST"] = self._guard.local_host(environ["HTTP_HOST"])
        try:
            if aws.operation == "ReceiveMessage":
                # moto may wait for a message.
                with self._sending_events(aws.region):
                    return self._moto(environ, start_response)
            response_body = self._moto(environ, start_response)
            if aws.service == "sagemaker":
                # The request may have changed a model package.
                self._sagemaker.send_events(aws.region)
            return response_body
        except NotImplementedError as error:
            refusal = ApiError("UnknownOperationException", str(error))
        except Exception as error:
            # moto expects that a client has checked the request.
            _LOG.warning("moto cannot process %s", aws.operation, exc_info=True)
            refusal = ApiError(
                "ValidationException",
                f"moto cannot process this request: {type(error).__name__}: {error}",
            )
        response = protocol.error_response(refusal, aws.protocol, request_id)
        return response(environ, start_response)

    @contextmanager
    def _sending_events(self, region: str) -> Iterator[None]:
        """Send the events that become due meanwhile."""
        done = Event()

        def send_until_done() -> None:
            while not done.wait(_EVENT_SECONDS):
                self._sagemaker.send_events(region)

        thread = Thread(target=send_until_done, name="emulator-events", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()

    def _call_sagemaker(self, aws: AwsRequest, entry: Entry) -> dict[str, Any]:
        caller = callers.identify(aws, self._sts.sessions)
        if caller is None:
            raise ApiError(
                "MissingAuthenticationTokenException",
                "Missing Authentication Token",
                403,
            )
        entry.request = aws.members
        callers.check_credentials(aws, self._sts.sessions)
        if self._sts.settings.values.enforce_iam:
            authorization.check_operation(
                caller,
                aws.operation,
                aws.region,
                aws.document,
                partial(self._sagemaker.execution_with_token, aws.region),
            )
        result, entry.ignored = self._sagemaker.call(
            aws.operation,
            aws.region,
            aws.document,
            {"Arn": caller.arn, "PrincipalId": caller.user_id},
        )
        return result

    def _call_sign_in(self, aws: AwsRequest, entry: Entry) -> dict[str, Any] | None:
        """
        Return the result of an emulated operation of STS or IAM; None if moto must
        handle the request.
        """
        if aws.service == "iam" and aws.operation == simulation.OPERATION:
            caller = callers.authenticate(aws, self._sts.sessions)
            if self._sts.settings.values.enforce_iam:
                authorization.check_simulation(
                    caller, aws.region, simulation.source_arn(aws.form)
                )
            return simulation.simulate(aws.form)
        if aws.service != "sts":
            return None
        sts_result = self._sts.handle(aws)
        if sts_result is None:
            return None
        entry.issued = sts_result.issued
        return sts_result.result

    def _respond(
        self,
        app: WSGIApplication,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        entry: Entry,
    ) -> Iterable[bytes]:
        """
        Run a WSGI app, and add the entry to the call log before the first byte of the
        response is sent.
        """

        def start(
            status: str, headers: list[tuple[str, str]], exc_info: Any = None
        ) -> Any:
            entry.status = int(status.partition(" ")[0])
            self._calls.add(entry)
            return start_response(status, headers, exc_info)

        return app(environ, start)


def _logged_members(aws: AwsRequest) -> dict[str, Any]:
    """
    Return the members of a request that the call log shows, except those of pipeline
    operations.
    """
    if aws.service == "sts":
        return {name: aws.form[name] for name in LOGGED_MEMBERS if name in aws.form}
    if aws.operation == simulation.OPERATION:
        return simulation.logged_request(aws.form)
    names = _LOGGED_MEMBERS.get(aws.service, ())
    return {name: aws.members[name] for name in names if name in aws.members}


def _is_below(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")


def _close_connection(environ: WSGIEnvironment) -> NoReturn:
    """Close the connection without a response."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("the connection was closed by an injected fault")


def _no_region() -> ApiError:
    return ApiError(
        "InvalidSignatureException",
        "Credential should be scoped to a valid region.",
        403,
    )
