"""
Servers on the loopback interface that respond as a broken proxy does: with one body, or
byte by byte.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

from tests.conftest import connection


@dataclass
class Body:
    """
    What a server responds with; it can be changed while the server runs.

    :param status: its HTTP status.
    :param seconds: the time between two of its bytes.
    """

    content: bytes
    status: int = 200
    seconds: float = 0


# Returns the response to a request, by the operation and the members of the request.
Respond = Callable[[str, dict[str, Any]], Body]


@contextmanager
def responding(
    body: bytes | Body, status: int = 200
) -> Iterator[tuple[str, list[str]]]:
    """
    Run a server that responds to every request with one body.

    :param body: the body of every response.
    :param status: its HTTP status.
    :return: the URL, and the operations that were called.
    """
    response = body if isinstance(body, Body) else Body(body, status)
    with answering(lambda *_: response) as served:
        yield served


@contextmanager
def connected(
    server: AbstractContextManager[tuple[str, list[Any]]],
) -> Iterator[list[Any]]:
    """
    Let the connection ``polysync_default`` lead to a server.

    :return: the operations that were called, or an entry for each request.
    """
    with server as (url, operations), pytest.MonkeyPatch.context() as patch:
        value = connection(endpoint_url=url)
        patch.setenv("AIRFLOW_CONN_POLYSYNC_DEFAULT", value)
        yield operations


@contextmanager
def answering(respond: Respond) -> Iterator[tuple[str, list[str]]]:
    """
    Run a server whose responses a function returns.

    :return: the URL, and the operations that were called.
    """
    operations: list[str] = []
    stopped = Event()

    class Answers(Handler):
        def do_POST(self) -> None:
            """Respond as the function says."""
            request = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
            self._respond(operation, json.loads(request) if operation else {})

        def do_GET(self) -> None:
            """Respond to S3's GetObject as the function says."""
            bucket, _, key = self.path.lstrip("/").partition("?")[0].partition("/")
            self._respond("GetObject", {"Bucket": bucket, "Key": key})

        def _respond(self, operation: str, request: dict[str, Any]) -> None:
            operations.append(operation)
            body = respond(operation, request)
            with suppress(OSError):
                self.send_response(body.status)
                self.send_header("Content-Length", str(len(body.content)))
                self.end_headers()
                if not body.seconds:
                    self.wfile.write(body.content)
                    return
                self.close_connection = True
                for byte in body.content:
                    if stopped.wait(body.seconds):
                        return
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()

    try:
        with serving(Answers) as url:
            yield url, operations
    finally:
        stopped.set()


@contextmanager
def dripping(
    begin: bytes, rest: bytes, seconds: float
) -> Iterator[tuple[str, list[float]]]:
    """
    Run a server whose responses come slowly.

    :param begin: the beginning of every response, from its status line on. It comes at
        once.
    :param rest: what follows, byte by byte.
    :param seconds: the time between two bytes.
    :return: the URL, and a list with an entry for each request.
    """
    requests: list[float] = []
    stopped = Event()

    class Drips(Handler):
        def do_POST(self) -> None:
            """Respond byte by byte."""
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            requests.append(time.monotonic())
            self.close_connection = True
            with suppress(OSError):
                self.wfile.write(begin)
                self.wfile.flush()
                for byte in rest:
                    if stopped.wait(seconds):
                        return
                    self.wfile.write(bytes([byte]))
                    self.wfile.flush()

    try:
        with serving(Drips) as url:
            yield url, requests
    finally:
        stopped.set()


class Handler(BaseHTTPRequestHandler):
    """Handles the requests of a connection. A subclass responds to them."""

    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: the kernel delays the second one of two.
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Run a server, and return its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    # A client may close the connection before it has read everything.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
