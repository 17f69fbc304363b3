"""A loopback server in front of the emulator that may answer in another way, as AWS may."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import TracebackType
from typing import Any

JSON = "application/x-amz-json-1.1"


@dataclass
class Exchange:
    """
    A request of SageMaker and its response.

    :param send: sends the request, as it is now, to the emulator, and stores the response here.
    """

    operation: str
    request: dict[str, Any]
    send: Callable[[], None]
    status: int = 0
    response: Any = None

    def refuse(self, code: str, text: str) -> None:
        """Answer with an error."""
        self.status, self.response = 400, {"__type": code, "message": text}

    def accept(self, **members: Any) -> None:
        """Answer with these members."""
        self.status, self.response = 200, members

    @property
    def subject(self) -> str:
        """The last part of the name of the pipeline, such as ``tokens``."""
        name = str(self.request.get("PipelineName") or self.request.get("PipelineExecutionArn"))
        return name.partition("pipeline/")[2].split("/")[0].split("-", 3)[-1] or name.split("-", 3)[-1]


# Answers a request: calls ``send``, before or after it changes something.
Answer = Callable[[Exchange], None]


class OtherAws:
    """
    Context manager that runs the server.

    ``answers`` has what answers in place of the emulator, by operation.
    """

    def __init__(self, port: int) -> None:
        self.answers: dict[str, list[Answer]] = {}
        handler = type("Handler", (_Handler,), {"aws": self, "port": port})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, operation: str, answer: Answer) -> None:
        """Let a function answer the requests for an operation."""
        self.answers.setdefault(operation, []).append(answer)

    def __enter__(self) -> OtherAws:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Headers and body in one packet: otherwise the second one waits for the acknowledgement of the first.
    wbufsize = -1
    aws: OtherAws
    port: int
    _date = ""

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def do_POST(self) -> None:
        """Answer a request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        service, _, operation = self.headers.get("X-Amz-Target", "").partition(".")
        if service == "SageMaker" and operation in self.aws.answers:
            self._answer(operation, json.loads(body))
            return
        self._send(*self._forward(body))

    def _answer(self, operation: str, request: dict[str, Any]) -> None:
        def send() -> None:
            status, self._type, content = self._forward(json.dumps(exchange.request).encode())
            exchange.status, exchange.response = status, json.loads(content)

        exchange = Exchange(operation, request, send)
        for answer in self.aws.answers[operation]:
            answer(exchange)
            if exchange.response is not None:
                break
        else:
            send()
        self._send(exchange.status, JSON, json.dumps(exchange.response).encode())

    def _forward(self, body: bytes) -> tuple[int, str, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            hidden = ("host", "content-length", "connection")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hidden}
            connection.request("POST", self.path, body, headers)
            response = connection.getresponse()
            # The emulated time.
            self._date = response.headers.get("Date", "")
            return response.status, response.headers.get("Content-Type", JSON), response.read()
        finally:
            connection.close()

    def _send(self, status: int, content_type: str, content: bytes) -> None:
        self.send_response_only(status)
        self.send_header("Date", self._date)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.wfile.flush()
