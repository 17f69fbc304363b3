"""
What receives metrics on the loopback interface: a StatsD server and an OTLP receiver,
and Airflow's Stats for them.
"""

from __future__ import annotations

import importlib
import logging
import re
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from opentelemetry.metrics import get_meter_provider
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.sdk.metrics import MeterProvider

from polysync_airflow import metrics
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.metrics import Metric, metrics_sender

METRICS = tuple(value for value in vars(metrics).values() if isinstance(value, Metric))
HOST = "127.0.0.1"
Tags = tuple[tuple[str, str], ...]
_LINE = re.compile(
    r"(?P<name>[^:,]+)(?P<tags>(?:,[^:,=]+=[^:,=]+)*):(?P<value>[-+0-9.]+)\|(?P<kind>[a-z]+)$"
)


class Received:
    """
    Metrics that were received.

    ``counters`` are sums, and ``gauges`` are all values in their order; both by name,
    without Airflow's prefix, and tags in alphabetical order. ``packets`` counts what
    came; ``values`` has names and values as they came by StatsD.
    """

    def __init__(self) -> None:
        self.counters: defaultdict[str, defaultdict[Tags, float]] = defaultdict(
            lambda: defaultdict(float)
        )
        self.gauges: defaultdict[str, defaultdict[Tags, list[float]]] = defaultdict(
            lambda: defaultdict(list)
        )
        self.unreadable: list[str] = []
        self.packets = 0
        self.values: list[str] = []

    def total(self, name: str, **tags: str) -> float:
        """Return the sum of a counter over all series with these tags."""
        wanted = set(tags.items())
        return sum(
            value
            for series, value in self.counters[name].items()
            if wanted <= set(series)
        )

    def wait_for(self, holds: Callable[[], bool], timeout: float = 5) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + timeout
        while not holds():
            assert time.monotonic() < end, (
                dict(self.counters),
                dict(self.gauges),
                self.unreadable,
            )
            time.sleep(0.005)


class StatsdServer(Received):
    """A StatsD server, with tags in the format of InfluxDB if they come."""

    def __init__(self) -> None:
        super().__init__()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((HOST, 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, daemon=True)

    def __enter__(self) -> StatsdServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty packet ends the thread.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", (HOST, self.port))
        self._thread.join(5)
        self._socket.close()

    def _receive(self) -> None:
        while packet := self._socket.recv(65536):
            self.packets += 1
            for line in packet.decode().splitlines():
                self._read(line)

    def _read(self, line: str) -> None:
        match = _LINE.match(line)
        if not match:
            self.unreadable.append(line)
            return
        name = match["name"].removeprefix("airflow.")
        tags = tuple(
            sorted(tuple(tag.split("=")) for tag in match["tags"].split(",")[1:])
        )
        self.values.append(f"{name} {match['value']}")
        if match["kind"] == "c":
            self.counters[name][tags] += float(match["value"])
        elif match["kind"] == "g":
            self.gauges[name][tags].append(float(match["value"]))


class OtlpReceiver(Received):
    """
    Receives metrics by OTLP over HTTP. The counters of a process are sums since it
    began.
    """

    def __init__(self) -> None:
        super().__init__()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver._read(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

        self._server = HTTPServer((HOST, 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )

    def __enter__(self) -> OtlpReceiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _read(self, body: bytes) -> None:
        self.packets += 1
        request = ExportMetricsServiceRequest.FromString(body)
        metrics = (
            metric
            for resource in request.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        )
        for metric in metrics:
            name = metric.name.removeprefix("airflow.")
            for point in (*metric.sum.data_points, *metric.gauge.data_points):
                tags = tuple(
                    sorted(
                        (each.key, each.value.string_value) for each in point.attributes
                    )
                )
                value = point.as_int if point.HasField("as_int") else point.as_double
                if metric.HasField("sum"):
                    self.counters[name][tags] = value
                else:
                    self.gauges[name][tags].append(value)


@contextmanager
def metrics_to(monkeypatch: pytest.MonkeyPatch, **options: object) -> Iterator[None]:
    """
    Let Airflow's Stats of this process send as a deployment with these options does.

    :param options: of the section ``[metrics]``.
    """
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__METRICS__{name.upper()}", str(value))
    _initialize()
    try:
        yield
    finally:
        # No report may come to the server of the next test.
        for thread in threading.enumerate():
            if thread.name == "polysync-airflow":
                thread.join(5)
        # That of OpenTelemetry has a thread, and would send once more when the process
        # ends.
        provider = get_meter_provider()
        if isinstance(provider, MeterProvider):
            provider.shutdown()
            # Airflow flushes it nevertheless when the process ends.
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        for name in options:
            monkeypatch.delenv(f"AIRFLOW__METRICS__{name.upper()}")
        _initialize()


def _initialize() -> None:
    """Do what Airflow does when a process begins."""
    stats: Any = metrics_sender()
    if not CAPABILITIES.task_sdk:
        # As at its import.
        stats.instance = None
        if hasattr(type(stats), "factory"):
            del type(stats).factory
        type(stats).__init__(stats)
        return
    utils = importlib.import_module("airflow.sdk.observability.metrics.stats_utils")
    try:
        stats.initialize(factory=utils.get_stats_factory(), export_legacy_names=True)
    except TypeError:
        # Airflow 3.2.
        stats.initialize(factory=utils.get_stats_factory(stats))
