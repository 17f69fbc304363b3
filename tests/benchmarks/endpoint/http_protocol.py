"""
A minimal HTTP/1.1 server protocol with keep-alive connections, and a count of the
connections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

_HEAD_END: Final = b"\r\n\r\n"
_STATUS: Final = {
    status.value: f"{status.value} {status.phrase}".encode() for status in HTTPStatus
}


@dataclass(frozen=True)
class Response:
    """
    An HTTP response.

    :param body: the content.
    :param status: the HTTP status.
    :param content_type: the content type.
    :param delay: seconds until the response is sent.
    """

    body: bytes
    status: int = 200
    content_type: bytes = b"application/x-amz-json-1.1"
    delay: float = 0.0

    def encode(self) -> bytes:
        """Return the response as bytes, with status line and headers."""
        return (
            b"HTTP/1.1 %b\r\nContent-Type: %b\r\nx-amzn-RequestId: 0\r\nContent-Length: %d\r\n\r\n%b"
            % (
                _STATUS[self.status],
                self.content_type,
                len(self.body),
                self.body,
            )
        )


@dataclass
class Connections:
    """The connections to the server: how many are open, the peak, and the total."""

    open: int = 0
    peak: int = 0
    total: int = 0
    _transports: set[asyncio.Transport] = field(default_factory=set)

    def add(self, transport: asyncio.Transport) -> None:
        """Count a connection that was opened."""
        self._transports.add(transport)
        self.open += 1
        self.total += 1
        self.peak = max(self.peak, self.open)

    def remove(self, transport: asyncio.Transport) -> None:
        """Count a connection that was closed."""
        self._transports.discard(transport)
        self.open -= 1

    def reset(self) -> None:
        """Close all open connections and reset the counts."""
        for transport in self._transports.copy():
            transport.abort()
        self.peak = self.total = 0


class HttpProtocol(asyncio.Protocol):
    """
    One connection. Each request has a ``Content-Length`` header or no body, like the
    requests of botocore.

    :param serve: returns the response for a request's path, ``X-Amz-Target`` header
        (empty if absent), and body.
    :param connections: counts this connection.
    """

    def __init__(
        self, serve: Callable[[str, str, bytes], Response], connections: Connections
    ) -> None:
        self._serve, self._connections = serve, connections
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the new connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the end of the connection."""
        self._connections.remove(self._transport)

    def data_received(self, data: bytes) -> None:
        """Respond to every request that is complete."""
        self._received += data
        while (end := self._received.find(_HEAD_END)) >= 0:
            head, rest = self._received[:end], self._received[end + len(_HEAD_END) :]
            length = int(_header(head, b"content-length") or 0)
            if len(rest) < length:
                return
            self._received = rest[length:]
            path = head[: head.index(b"\r\n")].split()[1].decode()
            target = _header(head, b"x-amz-target").decode()
            self._send(self._serve(path, target, rest[:length]))

    def _send(self, response: Response) -> None:
        if response.delay:
            asyncio.get_running_loop().call_later(
                response.delay, self._transport.write, response.encode()
            )
        else:
            self._transport.write(response.encode())


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip()
