"""A server on the loopback interface that responds to every request with one body, as a broken proxy does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Body:
    """What the server responds with; it can be changed while the server runs."""

    content: bytes
    status: int = 200


@contextmanager
def responding(body: bytes | Body, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """
    Run the server.

    :param body: the body of every response.
    :param status: its HTTP status.
    :return: the URL, and the operations that were called.
    """
    response = body if isinstance(body, Body) else Body(body, status)
    operations: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Respond with the body."""
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            operations.append(self.headers.get("X-Amz-Target", "").rpartition(".")[2])
            self.send_response(response.status)
            self.send_header("Content-Length", str(len(response.content)))
            self.end_headers()
            self.wfile.write(response.content)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", operations
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
