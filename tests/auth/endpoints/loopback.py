"""Owns the tiny threaded http(s) endpoint under every stand-in: its routes, its faults and its call log.

::

    with SomeEndpoint() as endpoint:
        endpoint.faults.add(Fault(status=503), on="token", times=2)   # the next two, then well again
        with endpoint.faults.during(Fault(delay=3)): ...              # slow, on every route
        with endpoint.absent(): ...                                   # connection refused, same port later
        endpoint.calls.count("token", status=200)
"""

from __future__ import annotations

import json
import re
import socketserver
import ssl
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    """What a client sent. Holds secrets: it must not outlive the handler."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    form: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Answer:
    """What goes back; a body other than text or bytes goes as JSON. ``note`` alone reaches the call log."""

    status: int = 200
    body: Any = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    note: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> tuple[bytes, str]:
        """Return the body's bytes and their content type."""
        if isinstance(self.body, str):
            return self.body.encode(), "text/plain; charset=utf-8"
        return json.dumps(self.body).encode(), "application/json; charset=utf-8"


@dataclass(frozen=True)
class Fault:
    """A misbehaviour: wait ``delay`` seconds, then drop the connection, or answer ``status``, or go on."""

    status: int | None = None
    body: Any = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drop: bool = False


@dataclass(frozen=True)
class Call:
    """One request as it is remembered: nothing of it but the route, the path and the handler's note."""

    at: float
    route: str
    method: str
    path: str
    status: int
    faulty: bool
    note: Mapping[str, str]


@dataclass(frozen=True)
class Route:
    """Requests whose method and whole path match, and who answers them."""

    name: str
    method: str
    path: str
    handler: Callable[..., Answer]


class CallLog:
    """All calls in the order of their answers. ``status`` 0 stands for a dropped connection."""

    def __init__(self) -> None:
        self._lock, self._calls = Lock(), list[Call]()

    def add(self, call: Call) -> None:
        """Remember a call."""
        with self._lock:
            self._calls.append(call)

    def all(self, route: str | None = None) -> list[Call]:
        """Return the calls of a route, or all."""
        with self._lock:
            return [call for call in self._calls if route in {None, call.route}]

    def count(self, route: str | None = None, *, status: int | None = None) -> int:
        """Return how many calls a route has had, if wanted only those that ended with ``status``."""
        return sum(status in {None, call.status} for call in self.all(route))

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._calls.clear()


class Faults:
    """The misbehaviours to come."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._planned: list[tuple[Fault, str | None, float]] = []

    def add(self, fault: Fault, *, on: str | None = None, times: float = float("inf")) -> None:
        """Plan a fault for the next ``times`` requests of the route ``on``, or of any route."""
        with self._lock:
            self._planned.append((fault, on, times))

    def take(self, route: str) -> Fault | None:
        """Return the fault that this request meets, and count it."""
        with self._lock:
            for index, (fault, on, times) in enumerate(self._planned):
                if on in {None, route} and times > 0:
                    self._planned[index] = (fault, on, times - 1)
                    return fault
        return None

    @contextmanager
    def during(self, fault: Fault, *, on: str | None = None) -> Iterator[None]:
        """Misbehave inside the block; planned faults of before are in force again after it."""
        with self._lock:
            before, self._planned = self._planned, [(fault, on, float("inf"))]
        try:
            yield
        finally:
            with self._lock:
                self._planned = before

    def clear(self) -> None:
        """Behave from now on."""
        with self._lock:
            self._planned.clear()


class _Server(socketserver.ThreadingTCPServer):
    """TCPServer and not HTTPServer, whose bind looks the host's name up in the DNS."""

    allow_reuse_address, daemon_threads, block_on_close = True, True, False
    request_queue_size = 256

    def __init__(self, port: int, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        super().__init__((HOST, port), _Handler)
        if endpoint.tls:
            # The handshake happens at the first read, thus in the connection's own thread.
            self.socket = endpoint.tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Be quiet: a client that hangs up or distrusts the certificate is no error of this side."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        query, form = dict(parse_qsl(parts.query)), dict(parse_qsl(body))
        answer = self.server.endpoint.respond(Request(self.command, parts.path, query, headers, form))
        if answer is None:
            # A reset and not an orderly end, as when a gateway or a pod dies.
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
            return
        content, content_type = answer.encoded()
        self.send_response(answer.status)
        headers_out = {
            "Content-Type": content_type,
            "Content-Length": str(len(content)),
            "Connection": "close",
        }
        for name, value in {**headers_out, **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = _serve

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Log nothing: the call log does, without queries and headers."""


class Endpoint(ABC):
    """A service on 127.0.0.1 while the context is open.

    An exception in a handler is a bug of the stand-in: it is answered as 500 and raised at the end.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.faults, self.calls = Faults(), CallLog()
        self._server: _Server | None = None
        self._port, self._closing, self._bugs = 0, Event(), list[Exception]()

    @abstractmethod
    def routes(self) -> Sequence[Route]:
        """Return what this service answers."""

    @property
    def url(self) -> str:
        """The service's address, without a slash at the end."""
        if not self._port:
            raise RuntimeError("the endpoint has no address before its context is entered")
        return f"{'https' if self.tls else 'http'}://{HOST}:{self._port}"

    @contextmanager
    def absent(self) -> Iterator[None]:
        """Refuse connections inside the block, and be back at the same address after it."""
        self._close()
        try:
            yield
        finally:
            self._open()

    def respond(self, request: Request) -> Answer | None:
        """Return the answer to a request, None to drop the connection, and log the call."""
        name, answer_it = self._find(request)
        fault = self.faults.take(name)
        if fault and fault.delay:
            self._closing.wait(fault.delay)
        answer: Answer | None
        if fault and (fault.drop or fault.status is not None):
            answer = None if fault.drop else Answer(fault.status or 0, fault.body, fault.headers)
        else:
            answer = self._handled(answer_it)
        status, note = (answer.status, answer.note) if answer else (0, {})
        self.calls.add(Call(time.time(), name, request.method, request.path, status, bool(fault), note))
        return answer

    def _find(self, request: Request) -> tuple[str, Callable[[], Answer]]:
        for route in self.routes():
            match = re.fullmatch(route.path, request.path)
            if match and route.method == request.method:
                return route.name, partial(route.handler, request, **match.groupdict())
        return "unknown", lambda: Answer(404)

    def _handled(self, answer_it: Callable[[], Answer]) -> Answer:
        try:
            return answer_it()
        except Exception as bug:
            self._bugs.append(bug)
            return Answer(500, "bug in the stand-in")

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
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        if self._bugs and error is None:
            raise self._bugs[0]
