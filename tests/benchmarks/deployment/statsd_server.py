"""
Receives the metrics of triggerers, as a StatsD server does.

Airflow sends the gauge ``triggers.running`` at the end of each pass of its loop
(``TriggerRunnerSupervisor.emit_metrics``), so their number is that of the passes.
"""

from __future__ import annotations

import socket
import threading
from typing import Final

HOST: Final = "127.0.0.1"
PASS: Final = "airflow.triggers.running"
# Of the provider's gauges, the highest value is kept.
GAUGE: Final = "airflow.polysync."
RECEIVE_BUFFER_BYTES: Final = 4 * 2**20
MAX_PACKET_BYTES: Final = 65_535


class StatsdServer:
    """Context manager that receives the metrics of one triggerer."""

    def __init__(self) -> None:
        self.passes = 0
        # The highest value of each gauge of the provider, by its name.
        self.highest: dict[str, float] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES
        )
        self._socket.bind((HOST, 0))
        self._thread = threading.Thread(target=self._receive, daemon=True)

    @property
    def settings(self) -> dict[str, str]:
        """Environment variables by which a component sends its metrics here."""
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": HOST,
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
            # Otherwise, each gauge is sent twice.
            "AIRFLOW__METRICS__LEGACY_NAMES_ON": "False",
            "AIRFLOW__METRICS__METRICS_ALLOW_LIST": "triggers.running,polysync",
        }

    def __enter__(self) -> StatsdServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty packet ends the thread.
        self._socket.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _receive(self) -> None:
        while packet := self._socket.recv(MAX_PACKET_BYTES):
            for line in packet.decode().splitlines():
                name, _, value = line.partition(":")
                if name == PASS:
                    self.passes += 1
                elif name.startswith(GAUGE) and value.endswith("|g"):
                    number = float(value.removesuffix("|g"))
                    self.highest[name] = max(number, self.highest.get(name, number))
