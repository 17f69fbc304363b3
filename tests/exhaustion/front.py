"""
What stands between Airflow and the emulator: an endpoint that refuses requests whose
time is not its own, as AWS does, and an HTTP proxy.
"""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final
from urllib.parse import urlsplit

HOST: Final = "127.0.0.1"
FORWARD_SECONDS: Final = 120.0
# https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-troubleshooting.html
TOLERANCE_SECONDS: Final = 300.0
_STS_TEXT: Final = (
    "<ErrorResponse><Error><Type>Sender</Type><Code>SignatureDoesNotMatch</Code>"
    "<Message>{0}</Message></Error></ErrorResponse>"
)


class Front:
    """
    The faults of the server.

    :ivar url: its address.
    :ivar drops: whether the proxy drops each connection: one before it forwards the
        request, the next one in place of the response.
    :ivar closes: whether each connection is closed after a response, as AWS closes idle
        ones: the next request needs the name of the endpoint.
    :ivar sts_seconds: how long a request to STS takes.
    :ivar dropped: how many connections the proxy has dropped.
    :ivar refused: how many requests were refused because of their time.
    """

    def __init__(self, emulator_url: str) -> None:
        self.address = urlsplit(emulator_url).netloc
        self.url = ""
        self.drops = False
        self.closes = False
        self.sts_seconds = 0.0
        self.dropped = 0
        self.refused = 0
        self._numbers = itertools.count()

    def drops_before(self) -> bool:
        """Count a dropped connection; return whether to drop it before the request."""
        self.dropped += 1
        return next(self._numbers) % 2 == 0


@contextmanager
def serving(front: Front) -> Iterator[None]:
    """Run the server for the time of the context."""

    class Handler(_Handler):
        pass

    Handler.front = front
    server = ThreadingHTTPServer((HOST, 0), Handler)
    server.daemon_threads = True
    front.url = f"http://{HOST}:{server.server_address[1]}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    front: Front
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        front = self.front
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_sts = body.startswith(b"Action=")
        # A client names the whole URL only to a proxy.
        drops = front.drops and self.path.startswith("http:")
        self.close_connection = drops
        if drops and front.drops_before():
            return
        if is_sts:
            time.sleep(front.sts_seconds)
        problem = _problem_of_time(self.headers.get("X-Amz-Date"))
        if problem:
            front.refused += 1
            self._refuse(problem, is_sts=is_sts)
            return
        status, headers, content = self._forward(body)
        if drops:
            return
        self._respond(status, headers, content)

    do_GET = do_POST = _serve

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path = urlsplit(self.path)
        headers = {
            name: value
            for name, value in self.headers.items()
            if name.lower() not in ("host", "connection", "proxy-connection")
        }
        connection = http.client.HTTPConnection(
            self.front.address, timeout=FORWARD_SECONDS
        )
        try:
            connection.request(self.command, path.path or "/", body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        kept = ("content-type", "x-amzn-requestid", "x-amzn-errortype")
        names = dict(response.getheaders())
        return (
            response.status,
            {name: value for name, value in names.items() if name.lower() in kept},
            content,
        )

    def _refuse(self, problem: str, *, is_sts: bool) -> None:
        if is_sts:
            text = _STS_TEXT.format(problem)
            headers = {"Content-Type": "text/xml"}
        else:
            text = json.dumps(
                {"__type": "InvalidSignatureException", "message": problem}
            )
            headers = {"Content-Type": "application/x-amz-json-1.1"}
        self._respond(403, headers, text.encode())

    def _respond(self, status: int, headers: dict[str, str], content: bytes) -> None:
        # The client may have given up.
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            if self.front.closes:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Log nothing: the emulator has a log of the calls."""


def _problem_of_time(text: str | None) -> str | None:
    """Return what AWS says of the time of a request; None if it is in order."""
    if not text:
        return None
    sent_at = datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    now = datetime.now(UTC)
    ahead = (sent_at - now).total_seconds()
    if abs(ahead) <= TOLERANCE_SECONDS:
        return None
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    if ahead < 0:
        return f"Signature expired: {text} is now earlier than {stamp} - 5 min."
    return f"Signature not yet current: {text} is still later than {stamp} + 5 min."
