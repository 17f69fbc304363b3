"""Owns an endpoint in a process of its own, and the benchmark's conversation with it."""

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
SECRET_ACCESS_KEY: Final = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # AWS's own example
CREDENTIALS: Final = ("key", "role")


@dataclass(frozen=True)
class Started:
    """
    An execution to wait for.

    :param arn: its ARN.
    :param pipeline: its pipeline's name.
    :param begins: when it begins (seconds since the epoch).
    """

    arn: str
    pipeline: str
    begins: float


@dataclass(frozen=True)
class SeenExecution:
    """
    What the endpoint saw of an execution; times in seconds since the epoch.

    :param begins: when it began.
    :param ends: when it ended, or will.
    :param first_poll: when it was looked at first; None if never.
    :param longest_gap: the longest time without a look, in seconds, from its beginning on.
    """

    begins: float
    ends: float
    first_poll: float | None
    longest_gap: float


@dataclass(frozen=True)
class Seen:
    """
    What the endpoint saw.

    :param calls: how many, by operation.
    :param throttled: how many of them were refused as too many.
    :param peak_connections: how many were open at once.
    :param connections: how many were opened.
    :param cpu: CPU seconds of the endpoint.
    :param executions: by ARN.
    """

    calls: Mapping[str, int]
    throttled: Mapping[str, int]
    peak_connections: int
    connections: int
    cpu: float
    executions: Mapping[str, SeenExecution]


class RunningEndpoint:
    """``python -m tests.benchmarks.endpoint`` while the context is open."""

    def __init__(self) -> None:
        self.url = ""
        self._orders = ""
        self._process: subprocess.Popen[str] | None = None
        # Never through a proxy: it is on this machine.
        self._http = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def connections(self, credentials: str) -> dict[str, str]:
        """
        Return an Airflow connection for each provider, as environment variables.

        :param credentials: ``key`` for an access key, ``role`` for one that assumes a role.
        """
        key = {"login": ACCESS_KEY_ID, "password": SECRET_ACCESS_KEY}
        ours = {"auth_method": "access_key", "region_name": REGION, "endpoint_url": self.url}
        amazon: dict[str, Any] = {"region_name": REGION, "endpoint_url": self.url}
        if credentials == "role":
            ours |= {"auth_method": "assume_role", "role_arn": ROLE_ARN, "sts_endpoint_url": self.url}
            amazon |= {"role_arn": ROLE_ARN, "service_config": {"sts": {"endpoint_url": self.url}}}
        found = {
            "POLYSYNC_DEFAULT": {"conn_type": "polysync_sagemaker", **key, "extra": ours},
            "AWS_DEFAULT": {"conn_type": "aws", **key, "extra": amazon},
        }
        return {f"AIRFLOW_CONN_{name}": json.dumps(connection) for name, connection in found.items()}

    def reset(self, *, quota: float = 0, latency: float = 0, sts_latency: float | None = None) -> None:
        """
        Begin anew, with nothing in the account.

        :param quota: how many calls a second SageMaker grants; 0 for no limit.
        :param latency: seconds until an answer comes.
        :param sts_latency: the same for STS; None for the same.
        """
        order = {"quota": quota, "latency": latency}
        self._order("reset", **order, **({} if sts_latency is None else {"sts_latency": sts_latency}))

    def add_pipelines(self, count: int) -> list[str]:
        """
        Add pipelines and return their names.

        :param count: how many there are afterwards.
        """
        return list(self._order("pipelines", count=count))

    def start(
        self, count: int, pipelines: int, *, begin: float, per_second: float, seconds: float
    ) -> Sequence[Started]:
        """
        Start executions of several pipelines in turn.

        :param count: how many.
        :param pipelines: of how many pipelines.
        :param begin: when the first begins (seconds since the epoch).
        :param per_second: how many begin each second; 0 for all at once.
        :param seconds: how long each takes.
        """
        order = {"begin": begin, "per_second": per_second, "seconds": seconds}
        return [
            Started(*each) for each in self._order("executions", count=count, pipelines=pipelines, **order)
        ]

    def seen(self) -> Seen:
        """Tell what it saw since the last reset."""
        seen = self._order("seen")
        executions = {arn: SeenExecution(*each) for arn, each in seen.pop("executions").items()}
        return Seen(**seen, executions=executions)

    def __enter__(self) -> RunningEndpoint:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.endpoint"],
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.url, self._orders = json.loads(self._process.stdout.readline())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        self._process.kill()
        self._process.communicate()

    def _order(self, order: str, **arguments: Any) -> Any:
        request = urllib.request.Request(f"{self._orders}/{order}", json.dumps(arguments).encode())
        with self._http.open(request, timeout=TIMEOUT) as answer:
            return json.load(answer)
