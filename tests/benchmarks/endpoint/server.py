"""Owns the endpoint: who calls what, how fast and how often at most, and the orders that it takes."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from tests.benchmarks.endpoint.account import Account
from tests.benchmarks.endpoint.http import Answer, Connections
from tests.benchmarks.endpoint.operations import OPERATIONS, Refused, assume_role

THROTTLED: Final = Refused("ThrottlingException", "Rate exceeded")


@dataclass
class Quota:
    """
    How many calls AWS grants: a bucket that holds those of one second.

    :param per_second: calls; 0 for no limit.
    """

    per_second: float = 0.0
    _left: float = 0.0
    _at: float = 0.0

    def grants(self, now: float) -> bool:
        """
        Tell whether a call is granted; one that is not takes nothing.

        :param now: seconds.
        """
        if not self.per_second:
            return True
        self._left = min(self.per_second, self._left + (now - self._at) * self.per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Endpoint:
    """SageMaker's JSON protocol and STS's AssumeRole at one address, and orders at another."""

    def __init__(self) -> None:
        self.connections = Connections()
        self._reset({})

    def serve(self, path: str, target: str, body: bytes) -> Answer:
        """
        Answer a call of AWS's API.

        :param path: always ``/``.
        :param target: ``SageMaker.Operation``; empty for STS.
        :param body: JSON, or for STS a form.
        """
        now = time.time()
        if not target:
            operation = parse_qs(body.decode()).get("Action", [""])[0]
            self._calls[operation] += 1
            return Answer(assume_role(now).encode(), content_type=b"text/xml", delay=self._sts_latency)
        operation = target.partition(".")[2]
        self._calls[operation] += 1
        try:
            if not self._quota.grants(now):
                self._throttled[operation] += 1
                raise THROTTLED
            if operation not in OPERATIONS:
                raise Refused("UnknownOperationException", f"{operation} is not served here.")
            found = OPERATIONS[operation](self._account, json.loads(body), now)
        except Refused as error:
            told = {"__type": error.code, "message": error.message}
            return Answer(json.dumps(told).encode(), 400, delay=self._latency)
        return Answer(json.dumps(found).encode(), delay=self._latency)

    def obey(self, path: str, target: str, body: bytes) -> Answer:
        """
        Carry out an order of the benchmark.

        :param path: its name.
        :param target: not used.
        :param body: its arguments, as JSON.
        """
        orders: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "/reset": self._reset,
            "/pipelines": self._add_pipelines,
            "/executions": self._start,
            "/seen": self._seen,
        }
        return Answer(json.dumps(orders[path](json.loads(body))).encode())

    def _reset(self, order: Mapping[str, Any]) -> None:
        """Begin anew, with nothing in the account."""
        self._account = Account()
        self._calls: Counter[str] = Counter()
        self._throttled: Counter[str] = Counter()
        self._quota = Quota(order.get("quota", 0.0))
        self._latency = order.get("latency", 0.0)
        self._sts_latency = order.get("sts_latency", self._latency)
        self._cpu = time.process_time()
        self.connections.forget()

    def _add_pipelines(self, order: Mapping[str, Any]) -> list[str]:
        return [pipeline.name for pipeline in self._account.add_pipelines(order["count"])]

    def _start(self, order: Mapping[str, Any]) -> list[tuple[str, str, float]]:
        started = self._account.start_many(**order)
        return [(execution.arn, pipeline.name, execution.begins) for pipeline, execution in started]

    def _seen(self, order: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "calls": self._calls,
            "throttled": self._throttled,
            "peak_connections": self.connections.peak,
            "connections": self.connections.total,
            "cpu": time.process_time() - self._cpu,
            "executions": {
                execution.arn: [execution.begins, execution.ends, execution.first_poll, execution.longest_gap]
                for execution in self._account.executions.values()
            },
        }
