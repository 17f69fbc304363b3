"""Owns what is waited for: executions of pipelines, and how AWS answers; as a value, and as options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from tests.benchmarks.endpoint.running import CREDENTIALS


@dataclass(frozen=True)
class Workload:
    """
    What is waited for.

    :param executions: how many.
    :param pipelines: of how many pipelines, in turn.
    :param seconds: how long each execution takes.
    :param poll: seconds between two looks.
    :param per_second: how many begin each second, each with its trigger; 0 for all at once.
    :param credentials: ``key`` for an access key, ``role`` for one that assumes a role.
    :param quota: calls a second that AWS grants; 0 for no limit.
    :param latency: seconds until AWS answers.
    :param sts_latency: seconds until STS answers; None for the same.
    :param grace: seconds from the last execution's end until the triggers are cancelled.
    :param memory: GiB above the start at which the triggers are cancelled.
    """

    executions: int = 1000
    pipelines: int = 20
    seconds: float = 60.0
    poll: float = 5.0
    per_second: float = 100.0
    credentials: str = "key"
    quota: float = 0.0
    latency: float = 0.02
    sts_latency: float | None = None
    grace: float = 60.0
    memory: float = 6.0

    @property
    def limit(self) -> float:
        """Seconds from the first trigger's start until they are cancelled."""
        beginning = self.executions / self.per_second if self.per_second else 0.0
        return beginning + self.seconds + self.grace

    def __str__(self) -> str:
        begin = f"{self.per_second:g} a second" if self.per_second else "all at once"
        parts = [
            f"{self.executions:,} executions of {self.pipelines:,} pipelines",
            f"{self.seconds:g} s each, begun {begin}",
            f"poll {self.poll:g} s",
            {"key": "access key", "role": "assumed role"}[self.credentials],
            f"AWS answers after {1000 * self.latency:g} ms",
        ]
        if self.sts_latency is not None:
            parts.append(f"STS after {1000 * self.sts_latency:g} ms")
        if self.quota:
            parts.append(f"and grants {self.quota:g} calls a second")
        return ", ".join(parts)


def add_options(parser: argparse.ArgumentParser, default: Workload) -> None:
    """
    Add the options of a workload.

    :param parser: the part's.
    :param default: the part's workload.
    """
    add = parser.add_argument
    add("--executions", default=str(default.executions), help="how many, or several numbers with commas")
    add(
        "--pipelines",
        default=str(default.pipelines),
        help="of how many pipelines; N for one each; or several",
    )
    add("--credentials", default=default.credentials, help="key, role, or key,role")
    add("--seconds", type=float, default=default.seconds, help="how long each execution takes")
    add("--poll", type=float, default=default.poll, help="seconds between two looks")
    add(
        "--per-second",
        type=float,
        default=default.per_second,
        help="how many begin each second; 0: all at once",
    )
    add("--quota", type=float, default=default.quota, help="calls a second that AWS grants; 0: no limit")
    add("--latency", type=float, default=default.latency, help="seconds until AWS answers")
    add("--sts-latency", type=float, default=default.sts_latency, help="the same for STS, if it is another")
    add(
        "--grace",
        type=float,
        default=default.grace,
        help="seconds from the last end until triggers are cancelled",
    )
    add("--memory", type=float, default=default.memory, help="GiB at which triggers are cancelled")


def workloads(options: argparse.Namespace) -> list[Workload]:
    """
    Return the workloads that were asked for.

    :param options: the command line.
    """
    names = ("seconds", "poll", "per_second", "quota", "latency", "sts_latency", "grace", "memory")
    common = Workload(**{name: getattr(options, name) for name in names})
    found = []
    for credentials in options.credentials.split(","):
        if credentials not in CREDENTIALS:
            raise SystemExit(f"--credentials {credentials}: give {' or '.join(CREDENTIALS)}.")
        for count in map(int, options.executions.split(",")):
            for pipelines in options.pipelines.split(","):
                of = count if pipelines == "N" else min(int(pipelines), count)
                found.append(replace(common, credentials=credentials, executions=count, pipelines=of))
    return list(dict.fromkeys(found))
