"""
A loopback server that receives messages for Slack, Microsoft Teams and a mail server.
"""

from __future__ import annotations

import email
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler
from socketserver import (
    BaseRequestHandler,
    StreamRequestHandler,
    TCPServer,
    ThreadingTCPServer,
)


class MessageReceiver:
    """
    Receives messages by HTTP and SMTP.

    :param messages: their texts, as the servers read them.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.ports: dict[str, int] = {}

    def connections(self) -> dict[str, str]:
        """
        Return the Airflow connections of the documentation that lead to this receiver,
        by their ids.
        """
        http = f"http://127.0.0.1:{self.ports['http']}"
        no_tls = {
            "from_email": "airflow@example.com",
            "disable_tls": True,
            "disable_ssl": True,
        }
        smtp = {
            "conn_type": "smtp",
            "host": "127.0.0.1",
            "port": self.ports["smtp"],
            "extra": no_tls,
        }
        connections = {
            "slack_default": {
                "conn_type": "slackwebhook",
                "host": http,
                "password": "T0/B0/XXXXXXXX",
            },
            "teams": {
                "conn_type": "http",
                "password": f"{http}/workflows/1?sig=secret",
            },
            "smtp_default": smtp,
        }
        return {
            name: json.dumps(connection) for name, connection in connections.items()
        }

    @contextmanager
    def running(self) -> Iterator[MessageReceiver]:
        """Run the servers for the time of the context."""
        with ExitStack() as stack:
            for name, handler in {
                "http": self._http_handler(),
                "smtp": self._smtp_handler(),
            }.items():
                server: TCPServer = stack.enter_context(
                    ThreadingTCPServer(("127.0.0.1", 0), handler)
                )
                self.ports[name] = server.server_address[1]
                threading.Thread(
                    target=server.serve_forever, args=(0.01,), daemon=True
                ).start()
                stack.callback(server.shutdown)
            yield self

    def _http_handler(self) -> type[BaseRequestHandler]:
        messages = self.messages

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                messages.append(json.dumps(body))
                self.send_response(200)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def _smtp_handler(self) -> type[BaseRequestHandler]:
        messages = self.messages

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(b"220 ready\r\n")
                while line := self.rfile.readline():
                    command = line[:4].upper().strip()
                    if command == b"DATA":
                        self.wfile.write(b"354 go on\r\n")
                        data = b"".join(iter(self.rfile.readline, b".\r\n"))
                        mail = email.message_from_bytes(
                            data, policy=email.policy.default
                        )
                        messages.extend(
                            part.get_content()
                            for part in mail.walk()
                            if not part.is_multipart()
                        )
                    self.wfile.write(
                        b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n"
                    )

        return Handler
