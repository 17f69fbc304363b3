"""
The base class of all fake servers: a threaded HTTP(S) server with routes, injected
faults and a call log.

::

    with SomeServer() as server:
        server.faults.add(Fault(status=503), on="token", times=2)   # the next two requests of the route fail
        server.calls.count("token", status=200)
"""

from __future__ import annotations

import json
import re
import socketserver
import ssl
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler
from socket import SO_LINGER, SOL_SOCKET
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Request:
    """
    A request of a client. It contains secrets: no reference to it may outlive the
    handler.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Response:
    """
    The response to a request.

    :param body: a string is sent as text, everything else as JSON.
    :param log_fields: what the call log shows of the request and the response.
    """

    status: int = 200
    body: Any = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    log_fields: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        """Return the bytes of the body and their content type."""
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json; charset=utf-8"


@dataclass(frozen=True)
class Fault:
    """
    An injected fault. Without ``drop`` and ``status``, the request is handled normally
    after the delay.

    :param status: HTTP status of the response.
    :param body: body of the response.
    :param headers: headers of the response.
    :param delay: seconds to wait first.
    :param drop: drop the connection without a response.
    """

    status: int | None = None
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


@dataclass(frozen=True)
class Call:
    """
    An entry of the call log. It contains no headers, query or body, so no secrets.
    """

    at: float
    route: str
    method: str
    path: str
    status: int
    log_fields: Mapping[str, str]


@dataclass(frozen=True)
class Route:
    """
    The handler of all requests with a method and a path; the path is a regular
    expression.
    """

    name: str
    method: str
    path: str
    handler: Callable[..., Response]


class CallLog:
    """
    All calls in the order of their responses. ``status`` 0 means a dropped connection.
    """

    def __init__(self) -> None:
        self._lock, self._calls = Lock(), list[Call]()

    def add(self, call: Call) -> None:
        """Add a call."""
        with self._lock:
            self._calls.append(call)

    def all(self, route: str | None = None) -> list[Call]:
        """Return the calls of a route, or all calls."""
        with self._lock:
            return [call for call in self._calls if route in {None, call.route}]

    def count(self, route: str | None = None, *, status: int | None = None) -> int:
        """
        Return the number of calls of a route, or of all routes, optionally only those
        with ``status``.
        """
        return sum(status in {None, call.status} for call in self.all(route))

    def clear(self) -> None:
        """Remove all calls."""
        with self._lock:
            self._calls.clear()


class Faults:
    """The planned faults."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._planned: list[tuple[Fault, str | None, float]] = []

    def add(
        self, fault: Fault, *, on: str | None = None, times: float = float("inf")
    ) -> None:
        """
        Plan a fault for the next ``times`` requests of the route ``on``; None for any
        route.
        """
        with self._lock:
            self._planned.append((fault, on, times))

    def take(self, route: str) -> Fault | None:
        """Return the fault for the current request, and count it."""
        with self._lock:
            for index, (fault, on, times) in enumerate(self._planned):
                if on in {None, route} and times > 0:
                    self._planned[index] = (fault, on, times - 1)
                    return fault
        return None

    def clear(self) -> None:
        """Remove all planned faults."""
        with self._lock:
            self._planned.clear()


class _Server(socketserver.ThreadingTCPServer):
    """
    Derived from TCPServer, because HTTPServer looks the host name up in the DNS when it
    binds.
    """

    allow_reuse_address, daemon_threads, block_on_close = True, True, False
    request_queue_size = 256

    def __init__(self, port: int, fake_server: FakeServer) -> None:
        self.fake_server = fake_server
        super().__init__((HOST, port), _Handler)
        if fake_server.tls:
            # The TLS handshake happens at the first read, so in the thread of the
            # connection.
            self.socket = fake_server.tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """
        Log nothing: a client that disconnects or rejects the certificate is not an
        error of the server.
        """


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        query, form = dict(parse_qsl(parts.query)), dict(parse_qsl(body))
        response = self.server.fake_server.respond(
            Request(self.command, parts.path, query, headers, form)
        )
        if response is None:
            # A TCP reset, as when a gateway or a pod dies.
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        content, content_type = response.encoded()
        self.send_response(response.status)
        response_headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        for name, value in {**response_headers, **response.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the call log records the request, without query and headers."""


class FakeServer(ABC):
    """
    A server on 127.0.0.1 that runs while the context is open.

    An exception in a handler is an error of the test code: the client gets a 500, and
    the end of the context raises the exception.

    :param tls: TLS context of the server; None for plain HTTP.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.faults, self.calls = Faults(), CallLog()
        self._server: _Server | None = None
        self._port, self._closing, self._handler_errors = 0, Event(), list[Exception]()

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """Return the routes of this server."""

    @property
    def url(self) -> str:
        """The URL of the server, without a slash at the end."""
        if not self._port:
            raise RuntimeError("the server has no URL before its context is entered")
        return f"{'https' if self.tls else 'http'}://{HOST}:{self._port}"

    def respond(self, request: Request) -> Response | None:
        """Handle a request and log the call. Return None to drop the connection."""
        name, handler = self._find(request)
        fault = self.faults.take(name)
        if fault and fault.delay:
            self._closing.wait(fault.delay)
        response: Response | None
        if fault and (fault.drop or fault.status is not None):
            response = (
                None
                if fault.drop
                else Response(fault.status or 0, fault.body, fault.headers)
            )
        else:
            response = self._handle(handler)
        status, log_fields = (
            (response.status, response.log_fields) if response else (0, {})
        )
        self.calls.add(
            Call(time.time(), name, request.method, request.path, status, log_fields)
        )
        return response

    def _find(self, request: Request) -> tuple[str, Callable[[], Response]]:
        for route in self.routes():
            match = re.fullmatch(route.path, request.path)
            if match and route.method == request.method:
                return route.name, partial(route.handler, request, **match.groupdict())
        return "unknown", lambda: Response(404)

    def _handle(self, handler: Callable[[], Response]) -> Response:
        try:
            return handler()
        except Exception as error:
            self._handler_errors.append(error)
            return Response(500, "error in the fake server")

    def _open(self) -> None:
        self._closing.clear()
        self._server = _Server(self._port, self)
        self._port = self._server.server_address[1]
        Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def _close(self) -> None:
        if self._server:
            self._closing.set()
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self._open()
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()
        if self._handler_errors and error is None:
            raise self._handler_errors[0]
