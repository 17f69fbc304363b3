"""
Lets the clients of this process reach the emulator without the kernel's sockets, and
without its threads.

The bytes are those of HTTP: what a client writes is read by the emulator's own request
handler, in the thread of the client, and what the handler writes is read by the client.
A connection and a thread for each request were a third of the CPU of a call. Other
processes use the emulator's port, as do other servers and their clients.
"""

from __future__ import annotations

import http.client
import io
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import urllib3.connection
from moto import backends
from werkzeug import serving

from sagemaker_emulator import EmulatorServer
from sagemaker_emulator.server.bodies import TimedInput

_PARSE_HEADERS = http.client.parse_headers


@contextmanager
def connections_without_sockets(emulator: EmulatorServer) -> Iterator[None]:
    """
    Let all connections of this process to the emulator's port call its request handler.
    """
    server: Any = emulator._server
    address = ("127.0.0.1", emulator.port)
    new_connection = urllib3.connection.HTTPConnection._new_conn
    connect = http.client.HTTPConnection.connect
    with pytest.MonkeyPatch.context() as patch, _ended_socket() as ended:

        def new_botocore_connection(self: Any) -> Any:
            if (self.host, self.port) == address:
                return _ClientSocket(server, ended, self.timeout)
            return new_connection(self)

        def connect_control_client(self: Any) -> None:
            if (self.host, self.port) == address:
                self.sock = _ClientSocket(server, ended, self.timeout)
            else:
                connect(self)

        patch.setattr(
            urllib3.connection.HTTPConnection, "_new_conn", new_botocore_connection
        )
        patch.setattr(http.client.HTTPConnection, "connect", connect_control_client)
        patch.setattr(http.client, "parse_headers", _parse_headers)
        # One for each request, of a kind that needs no file of the kernel's.
        quick = SimpleNamespace(
            DefaultSelector=selectors.SelectSelector, EVENT_READ=selectors.EVENT_READ
        )
        patch.setattr(serving, "selectors", quick)
        # moto lists its folder again for each request.
        modules = tuple(backends.list_of_moto_modules())
        patch.setattr(backends, "list_of_moto_modules", lambda: modules)
        yield


def _parse_headers(stream: Any, _class: Any = http.client.HTTPMessage) -> Any:
    """
    Read headers as the standard library does, if a client of this process or the
    emulator has written them.
    """
    raw = getattr(stream, "raw", stream)
    if isinstance(raw, TimedInput):
        raw = raw.connection
    if not isinstance(raw, (_ResponseReader, io.BytesIO)):
        return _PARSE_HEADERS(stream, _class)
    message = _class()
    while line := stream.readline().rstrip(b"\r\n"):
        name, _, value = line.decode("iso-8859-1").partition(":")
        message.set_raw(name, value.lstrip(" \t"))
    message.set_payload("")
    return message


@contextmanager
def _ended_socket() -> Iterator[socket.socket]:
    """
    Yield a socket of which nothing more can be read: werkzeug waits for more than the
    request until then.
    """
    mine, others = socket.socketpair()
    with mine:
        others.close()
        yield mine


class _ClientSocket:
    """What the client has in place of a connected socket, for one request."""

    def __init__(self, server: Any, ended: socket.socket, timeout: Any) -> None:
        self._server, self._ended = server, ended
        self._timeout = timeout if isinstance(timeout, (int, float)) else None
        self._request = bytearray()

    def settimeout(self, seconds: float | None) -> None:
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        return self._timeout

    def sendall(self, data: Any) -> None:
        self._request += data

    def makefile(self, mode: str, buffering: int = -1) -> io.BufferedIOBase:
        assert mode == "rb"
        if buffering == 0:
            # botocore asks so whether it may send the body of an upload.
            return io.BytesIO(b"HTTP/1.1 100 Continue\r\n\r\n")
        return io.BufferedReader(_ResponseReader(self))

    def fileno(self) -> int:
        return self._ended.fileno()

    def respond(self) -> bytes:
        """Let the emulator handle the request, and return its response."""
        begin = time.monotonic()
        handled = _ServerSocket(bytes(self._request), self._ended)
        self._server.RequestHandlerClass(handled, ("127.0.0.1", 0), self._server)
        if self._timeout is not None and time.monotonic() - begin > self._timeout:
            raise TimeoutError("timed out")
        return bytes(handled.response)

    def close(self) -> None:
        """Do nothing: there is nothing to close."""


class _ResponseReader(io.RawIOBase):
    """Reads the response, which the emulator makes when the client begins to read."""

    def __init__(self, connection: _ClientSocket) -> None:
        super().__init__()
        self._connection = connection
        self._response: io.BytesIO | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._response is None:
            self._response = io.BytesIO(self._connection.respond())
        return self._response.readinto(buffer)


class _ServerSocket:
    """What the emulator's request handler has in place of a connected socket."""

    def __init__(self, request: bytes, ended: socket.socket) -> None:
        self._request, self._ended = request, ended
        self.response = bytearray()

    def settimeout(self, seconds: float | None) -> None:
        """Do nothing: the whole request is there."""

    def makefile(self, mode: str, buffer_size: int) -> io.BufferedReader:
        assert mode == "rb"
        return io.BufferedReader(io.BytesIO(self._request))

    def sendall(self, data: Any) -> None:
        self.response += data

    def shutdown(self, how: int) -> None:
        """
        Do nothing: without a response, the client reads the end of the connection.
        """

    def fileno(self) -> int:
        return self._ended.fileno()
