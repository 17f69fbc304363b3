"""The emulator's front: one WSGI app that sends each request where it belongs, with faults and call log.

The pipeline operations of SageMaker are answered here, ``/_emulator`` by the control API, everything else by
moto; what STS does with credentials is answered here, too.
"""

from __future__ import annotations

import json
import socket
import sys
import time
import traceback
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from werkzeug.wrappers import Request, Response

from polysync_airflow.emulator.errors import ApiError
from polysync_airflow.emulator.protocol import AwsRequest, answer, error_answer, read, sts_answer
from polysync_airflow.emulator.sagemaker.api import SageMaker, emulates
from polysync_airflow.emulator.server.call_log import CallLog, Entry
from polysync_airflow.emulator.server.control import PREFIX, Control
from polysync_airflow.emulator.server.faults import Fault, Faults
from polysync_airflow.emulator.server.moto_app import Moto
from polysync_airflow.emulator.sign_in import authorization, callers
from polysync_airflow.emulator.sign_in.sts import LOGGED, Sts

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Front:
    """The WSGI app.

    :param sts: the operations of STS that are emulated, with the sessions and the settings of sign-in.
    :param control: the control API.
    :param moto: what answers everything that is not emulated here.
    """

    def __init__(
        self, sagemaker: SageMaker, sts: Sts, moto: Moto, control: Control, faults: Faults, calls: CallLog
    ) -> None:
        self._sagemaker = sagemaker
        self._sts = sts
        self._moto = moto
        self._control = control
        self._faults = faults
        self._calls = calls
        self._request_ids = count(1)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request, as WSGI."""
        request = Request(environ)
        if request.path == PREFIX or request.path.startswith(f"{PREFIX}/"):
            return self._control.answer(request)(environ, start_response)
        aws = read(request)
        entry = self._entry(aws)
        fault = self._faults.take(aws.operation, entry.time, aws.pipeline)
        entry.fault = fault.kind if fault else None
        if fault and fault.kind == "latency":
            time.sleep(fault.delay)
        if fault and fault.kind == "dropped":
            self._calls.add(entry)
            _drop(environ)
        app = self._app(aws, entry, fault)
        if fault and fault.kind == "lost_response":
            # What moto answers must be run to its end before it can be lost.
            Response.from_app(app, environ, buffered=True)
            entry.status = 0
            self._calls.add(entry)
            _drop(environ)
        return self._logged(app, environ, start_response, entry)

    def _entry(self, aws: AwsRequest) -> Entry:
        caller = callers.identify(aws, self._sts.sessions)
        shown = {name: aws.form[name] for name in LOGGED if name in aws.form}
        return Entry(
            time=self._sagemaker.clock.now(),
            wall_time=datetime.now(UTC).isoformat(),
            service=aws.service,
            operation=aws.operation,
            region=aws.region,
            access_key_id=aws.access_key_id,
            caller=caller.arn if caller else None,
            user_agent=aws.user_agent,
            request=shown if aws.service == "sts" else {},
        )

    def _app(self, aws: AwsRequest, entry: Entry, fault: Fault | None) -> WSGIApplication:
        """Return what answers a request: an answer of the emulator, or moto."""
        request_id = f"emulated-{next(self._request_ids)}"
        try:
            if fault and fault.kind == "http":
                return Response("", fault.status)
            if fault and fault.kind in ("throttle", "error"):
                raise fault.error()
            if aws.target == "SageMaker" and emulates(aws.operation, aws.body):
                return answer(self._sagemaker_answer(aws, entry), request_id)
            if aws.service == "sts" and (given := self._sts.answer(aws)) is not None:
                entry.issued = given.issued
                return sts_answer(aws.operation, given.result, request_id)
        except ApiError as error:
            entry.error_code, entry.error_message, entry.detail = error.code, error.message, error.detail
            return error_answer(error, aws.protocol, request_id)
        except Exception as error:
            # A bug of the emulator must be seen: by the client, in the call log and on the terminal.
            traceback.print_exc(file=sys.stderr)
            failure = ApiError("InternalFailure", f"{type(error).__name__}: {error}", 500)
            entry.error_code, entry.error_message = failure.code, failure.message
            return error_answer(failure, aws.protocol, request_id)
        return partial(self._moto_answer, protocol=aws.protocol, request_id=request_id)

    def _moto_answer(
        self, environ: WSGIEnvironment, start_response: StartResponse, *, protocol: str, request_id: str
    ) -> Iterable[bytes]:
        try:
            return self._moto(environ, start_response)
        except NotImplementedError as error:
            refusal = ApiError("UnknownOperationException", str(error))
            return error_answer(refusal, protocol, request_id)(environ, start_response)

    def _sagemaker_answer(self, aws: AwsRequest, entry: Entry) -> dict[str, Any]:
        caller = callers.identify(aws, self._sts.sessions)
        if caller is None:
            raise ApiError("MissingAuthenticationTokenException", "Missing Authentication Token", 403)
        try:
            body = json.loads(aws.body or b"{}")
        except ValueError as error:
            raise ApiError("SerializationException", f"The body is not JSON: {error}") from error
        entry.request = body if isinstance(body, dict) else {}
        callers.check_credentials(aws, self._sts.sessions)
        if self._sts.settings.values.enforce_iam:
            authorization.check_pipeline_operation(caller, aws.operation, aws.region, body)
        result, entry.ignored = self._sagemaker.call(aws.operation, aws.region, body)
        return result

    def _logged(
        self, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse, entry: Entry
    ) -> Iterable[bytes]:
        """Run an app and log its status before the first byte of the answer leaves."""

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            entry.status = int(status.partition(" ")[0])
            self._calls.add(entry)
            return start_response(status, headers, exc_info)

        return app(environ, start)


def _drop(environ: WSGIEnvironment) -> None:
    """End the connection without an answer."""
    connection: socket.socket = environ["werkzeug.socket"]
    connection.shutdown(socket.SHUT_RDWR)
    raise ConnectionAbortedError("a fault ended the connection")
