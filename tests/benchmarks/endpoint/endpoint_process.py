"""Starts the AWS test server in a process of its own, and controls it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

from tests.benchmarks.endpoint.account import REGION, ROLE_ARN

TIMEOUT: Final = 60.0
ACCESS_KEY_ID: Final = "AKIAIOSFODNN7EXAMPLE"
# the example key of the AWS documentation
SECRET_ACCESS_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
CREDENTIALS: Final = ("key", "role")


@dataclass(frozen=True)
class StartedExecution:
    """
    An execution to wait for.

    :param arn: the ARN.
    :param pipeline: the name of its pipeline.
    :param start: when it starts (Unix time).
    """

    arn: str
    pipeline: str
    start: float


@dataclass(frozen=True)
class ExecutionStatistics:
    """
    What the server recorded about an execution. Times are Unix times.

    :param start: when it started.
    :param end: when it ended, or will end.
    :param first_poll: when it was polled first; None if it was never polled.
    :param longest_gap: the longest time between two polls, in seconds; the first gap
        begins at the start.
    """

    start: float
    end: float
    first_poll: float | None
    longest_gap: float


@dataclass(frozen=True)
class EndpointStatistics:
    """
    What the server recorded since the last reset.

    :param calls: number of calls by operation.
    :param throttled: number of throttled calls by operation.
    :param peak_connections: the highest number of open connections.
    :param connections: number of connections that were opened.
    :param cpu: CPU seconds of the server.
    :param executions: statistics by execution ARN.
    """

    calls: Mapping[str, int]
    throttled: Mapping[str, int]
    peak_connections: int
    connections: int
    cpu: float
    executions: Mapping[str, ExecutionStatistics]


class EndpointProcess:
    """Context manager that runs ``python -m tests.benchmarks.endpoint``."""

    def __init__(self) -> None:
        self.url = ""
        self._control_url = ""
        self._process: subprocess.Popen[str] | None = None
        # The server is on this machine: never use a proxy.
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def connections(self, credentials: str) -> dict[str, str]:
        """
        Return an Airflow connection for each provider, as environment variables.

        :param credentials: ``key`` for an access key, ``role`` for an access key that
            assumes a role.
        """
        key = {"login": ACCESS_KEY_ID, "password": SECRET_ACCESS_KEY}
        ours = {
            "auth_method": "access_key",
            "region_name": REGION,
            "endpoint_url": self.url,
        }
        amazon: dict[str, Any] = {"region_name": REGION, "endpoint_url": self.url}
        if credentials == "role":
            ours |= {
                "auth_method": "assume_role",
                "role_arn": ROLE_ARN,
                "sts_endpoint_url": self.url,
            }
            amazon |= {
                "role_arn": ROLE_ARN,
                "service_config": {"sts": {"endpoint_url": self.url}},
            }
        connections = {
            "POLYSYNC_DEFAULT": {
                "conn_type": "polysync_sagemaker",
                **key,
                "extra": ours,
            },
            "AWS_DEFAULT": {"conn_type": "aws", **key, "extra": amazon},
        }
        return {
            f"AIRFLOW_CONN_{name}": json.dumps(connection)
            for name, connection in connections.items()
        }

    def reset(
        self, *, quota: float = 0, latency: float = 0, sts_latency: float | None = None
    ) -> None:
        """
        Remove all pipelines and executions, and reset the statistics.

        :param quota: SageMaker calls per second to allow; 0 for no limit.
        :param latency: seconds until SageMaker responds.
        :param sts_latency: seconds until STS responds; None for the same as
            ``latency``.
        """
        settings = {"quota": quota, "latency": latency}
        self._control(
            "reset",
            **settings,
            **({} if sts_latency is None else {"sts_latency": sts_latency}),
        )

    def add_pipelines(self, count: int) -> list[str]:
        """
        Add pipelines until the account has a given number, and return the names of all
        pipelines.

        :param count: the number of pipelines that the account must have.
        """
        return list(self._control("pipelines", count=count))

    def start(
        self,
        count: int,
        pipelines: int,
        *,
        start: float,
        per_second: float,
        seconds: float,
    ) -> Sequence[StartedExecution]:
        """
        Start executions, taking the pipelines in turn.

        :param count: number of executions.
        :param pipelines: number of pipelines.
        :param start: when the first execution starts (Unix time).
        :param per_second: executions that start per second; 0 for all at once.
        :param seconds: how long each execution takes.
        """
        timing = {"start": start, "per_second": per_second, "seconds": seconds}
        started = self._control(
            "executions", count=count, pipelines=pipelines, **timing
        )
        return [StartedExecution(*each) for each in started]

    def statistics(self) -> EndpointStatistics:
        """Return what the server recorded since the last reset."""
        statistics = self._control("statistics")
        executions = {
            arn: ExecutionStatistics(*each)
            for arn, each in statistics.pop("executions").items()
        }
        return EndpointStatistics(**statistics, executions=executions)

    def __enter__(self) -> EndpointProcess:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.endpoint"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.url, self._control_url = json.loads(self._process.stdout.readline())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process
        self._process.kill()
        self._process.communicate()

    def _control(self, command: str, **arguments: Any) -> Any:
        request = urllib.request.Request(
            f"{self._control_url}/{command}", json.dumps(arguments).encode()
        )
        with self._http.open(request, timeout=TIMEOUT) as response:
            return json.load(response)
