"""
A proxy for tests that records which hosts a program wants to reach outside of this
machine, and refuses all.
"""

from __future__ import annotations

import socketserver
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread


class Proxy(socketserver.ThreadingTCPServer):
    """The proxy; ``hosts`` has the targets of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.hosts: list[str] = []

    @property
    def variables(self) -> dict[str, str]:
        """
        The environment variables of a program that shall use the proxy. AWS's addresses
        have https.
        """
        return {"HTTPS_PROXY": f"http://127.0.0.1:{self.server_address[1]}"}


class _Handler(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        """Record the target, such as that of ``CONNECT host:443 HTTP/1.1``."""
        self.server.hosts.append(self.rfile.readline(1024).split()[1].decode())
        while self.rfile.readline(65536).strip():
            pass
        self.wfile.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def proxy() -> Iterator[Proxy]:
    """Run a proxy."""
    with Proxy() as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
