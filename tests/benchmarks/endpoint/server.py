"""
Dispatches calls of AWS's API and control commands; applies the quota and the latency,
and counts the calls.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

from tests.benchmarks.endpoint.account import Account
from tests.benchmarks.endpoint.http_protocol import Connections, Response
from tests.benchmarks.endpoint.operations import OPERATIONS, ApiError, assume_role

THROTTLED: Final = ApiError("ThrottlingException", "Rate exceeded")


@dataclass
class Quota:
    """
    A token bucket for the calls that AWS allows. Its capacity is the calls of one
    second.

    :param per_second: calls per second; 0 for no limit.
    """

    per_second: float = 0.0
    _tokens: float = 0.0
    _refilled_at: float = 0.0

    def allows(self, now: float) -> bool:
        """
        Take a token if there is one, and return whether the call is allowed. A rejected
        call takes no token.

        :param now: the time in seconds.
        """
        if not self.per_second:
            return True
        self._tokens = min(
            self.per_second, self._tokens + (now - self._refilled_at) * self.per_second
        )
        self._refilled_at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Endpoint:
    """
    The AWS test server: SageMaker's JSON protocol and AssumeRole of STS on one port,
    control on another.
    """

    def __init__(self) -> None:
        self.connections = Connections()
        self._reset({})

    def serve(self, path: str, target: str, body: bytes) -> Response:
        """
        Respond to a call of AWS's API.

        :param path: always ``/``.
        :param target: ``SageMaker.<operation>``; empty for STS.
        :param body: JSON for SageMaker, a form for STS.
        """
        now = time.time()
        if not target:
            operation = parse_qs(body.decode()).get("Action", [""])[0]
            self._calls[operation] += 1
            return Response(
                assume_role(now).encode(),
                content_type=b"text/xml",
                delay=self._sts_latency,
            )
        operation = target.partition(".")[2]
        self._calls[operation] += 1
        try:
            if not self._quota.allows(now):
                self._throttled[operation] += 1
                raise THROTTLED
            if operation not in OPERATIONS:
                raise ApiError(
                    "UnknownOperationException",
                    f"The test server does not serve {operation}.",
                )
            result = OPERATIONS[operation](self._account, json.loads(body), now)
        except ApiError as error:
            content = {"__type": error.code, "message": error.message}
            return Response(json.dumps(content).encode(), 400, delay=self._latency)
        return Response(json.dumps(result).encode(), delay=self._latency)

    def control(self, path: str, target: str, body: bytes) -> Response:
        """
        Carry out a control command of the benchmark.

        :param path: the name of the command.
        :param target: not used.
        :param body: the arguments, as JSON.
        """
        commands: Mapping[str, Callable[[Mapping[str, Any]], Any]] = {
            "/reset": self._reset,
            "/pipelines": self._add_pipelines,
            "/executions": self._start,
            "/statistics": self._statistics,
        }
        return Response(json.dumps(commands[path](json.loads(body))).encode())

    def _reset(self, arguments: Mapping[str, Any]) -> None:
        self._account = Account()
        self._calls: Counter[str] = Counter()
        self._throttled: Counter[str] = Counter()
        self._quota = Quota(arguments.get("quota", 0.0))
        self._latency = arguments.get("latency", 0.0)
        self._sts_latency = arguments.get("sts_latency", self._latency)
        self._cpu = time.process_time()
        self.connections.reset()

    def _add_pipelines(self, arguments: Mapping[str, Any]) -> list[str]:
        return [
            pipeline.name
            for pipeline in self._account.add_pipelines(arguments["count"])
        ]

    def _start(self, arguments: Mapping[str, Any]) -> list[tuple[str, str, float]]:
        started = self._account.start_many(**arguments)
        return [
            (execution.arn, pipeline.name, execution.start)
            for pipeline, execution in started
        ]

    def _statistics(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "calls": self._calls,
            "throttled": self._throttled,
            "peak_connections": self.connections.peak,
            "connections": self.connections.total,
            "cpu": time.process_time() - self._cpu,
            "executions": {
                execution.arn: [
                    execution.start,
                    execution.end,
                    execution.first_poll,
                    execution.longest_gap,
                ]
                for execution in self._account.executions.values()
            },
        }
