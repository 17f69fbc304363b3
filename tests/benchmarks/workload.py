"""
Workloads: how many executions the triggers wait for and how AWS responds, and the
command line options for it.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace

from tests.benchmarks.endpoint.endpoint_process import CREDENTIALS


@dataclass(frozen=True)
class Workload:
    """
    A workload: executions to wait for, and the behaviour of the AWS test server.

    :param executions: number of executions.
    :param pipelines: number of pipelines that the executions are spread over.
    :param seconds: how long each execution takes, in seconds.
    :param poll_interval: seconds between two polls of the same execution.
    :param starts_per_second: executions that start per second, each with its trigger; 0
        for all at once.
    :param credentials: ``key`` for an access key, ``role`` for an access key that
        assumes a role.
    :param quota: SageMaker calls per second that AWS allows; 0 for no limit.
    :param latency: seconds until SageMaker responds.
    :param sts_latency: seconds until STS responds; None for the same as ``latency``.
    :param grace: seconds between the end of the last execution and the cancellation of
        the triggers.
    :param memory_limit: GiB above the start at which the triggers are cancelled.
    :param progress_interval: seconds between two lists of an execution's steps; None
        for none. The Amazon provider has no such lists.
    :param max_cost: what each task may spend; None for no limit. It needs
        ``progress_interval``.
    :param job_logs: whether our tasks write the lines of running jobs. It needs
        ``progress_interval``.
    """

    executions: int = 1000
    pipelines: int = 20
    seconds: float = 60.0
    poll_interval: float = 5.0
    starts_per_second: float = 100.0
    credentials: str = "key"
    quota: float = 0.0
    latency: float = 0.02
    sts_latency: float | None = None
    grace: float = 60.0
    memory_limit: float = 6.0
    progress_interval: float | None = None
    max_cost: float | None = None
    job_logs: bool = False

    @property
    def time_limit(self) -> float:
        """
        Seconds between the start of the first trigger and the cancellation of the
        triggers.
        """
        start_time = (
            self.executions / self.starts_per_second if self.starts_per_second else 0.0
        )
        return start_time + self.seconds + self.grace

    def __str__(self) -> str:
        starts = (
            f"{self.starts_per_second:g} per second"
            if self.starts_per_second
            else "all at once"
        )
        parts = [
            f"{self.executions:,} executions of {self.pipelines:,} pipelines",
            f"{self.seconds:g} s each, started {starts}",
            f"poll interval {self.poll_interval:g} s",
            {"key": "access key", "role": "assumed role"}[self.credentials],
            f"AWS responds after {1000 * self.latency:g} ms",
        ]
        if self.sts_latency is not None:
            parts.append(f"STS after {1000 * self.sts_latency:g} ms")
        if self.progress_interval is not None:
            parts.append(f"steps listed every {self.progress_interval:g} s")
        if self.max_cost is not None:
            parts.append(f"max_cost {self.max_cost:g}")
        if self.job_logs:
            parts.append("job_logs")
        if self.quota:
            parts.append(f"quota of {self.quota:g} calls per second")
        return ", ".join(parts)


def add_options(parser: argparse.ArgumentParser, default: Workload) -> None:
    """
    Add the options that describe a workload.

    :param parser: the parser of a part.
    :param default: the workload that the part measures without options.
    """
    add = parser.add_argument
    add(
        "--executions",
        default=str(default.executions),
        help="number of executions, or several numbers separated by commas",
    )
    add(
        "--pipelines",
        default=str(default.pipelines),
        help="number of pipelines, or several numbers separated by commas; N for one pipeline per execution",
    )
    add("--credentials", default=default.credentials, help="key, role, or key,role")
    add(
        "--seconds",
        type=float,
        default=default.seconds,
        help="how long each execution takes, in seconds",
    )
    add(
        "--poll",
        dest="poll_interval",
        type=float,
        default=default.poll_interval,
        help="seconds between two polls of the same execution",
    )
    add(
        "--per-second",
        dest="starts_per_second",
        type=float,
        default=default.starts_per_second,
        help="executions that start per second; 0 for all at once",
    )
    add(
        "--quota",
        type=float,
        default=default.quota,
        help="SageMaker calls per second that AWS allows; 0 for no limit",
    )
    add(
        "--latency",
        type=float,
        default=default.latency,
        help="seconds until SageMaker responds",
    )
    add(
        "--sts-latency",
        type=float,
        default=default.sts_latency,
        help="seconds until STS responds; by default the same as --latency",
    )
    add(
        "--grace",
        type=float,
        default=default.grace,
        help="seconds between the end of the last execution and the cancellation of the triggers",
    )
    add(
        "--memory",
        dest="memory_limit",
        type=float,
        default=default.memory_limit,
        help="GiB above the start at which the triggers are cancelled",
    )
    add(
        "--progress",
        dest="progress_interval",
        type=float,
        default=default.progress_interval,
        help="seconds between two lists of an execution's steps; by default the steps are not listed",
    )
    add(
        "--max-cost",
        type=float,
        default=default.max_cost,
        help="what each of our tasks may spend, with --progress; by default no limit",
    )
    add(
        "--job-logs",
        action="store_true",
        help="let our tasks write the lines of running jobs, with --progress",
    )


def workloads(options: argparse.Namespace) -> list[Workload]:
    """
    Return the workloads that the command line describes.

    :param options: the parsed command line.
    :raises SystemExit: if ``--credentials`` has an unknown value.
    """
    names = (
        "seconds",
        "poll_interval",
        "starts_per_second",
        "quota",
        "latency",
        "sts_latency",
        "grace",
        "memory_limit",
        "progress_interval",
        "max_cost",
        "job_logs",
    )
    common = Workload(**{name: getattr(options, name) for name in names})
    selected = []
    for credentials in options.credentials.split(","):
        if credentials not in CREDENTIALS:
            raise SystemExit(
                f"--credentials {credentials}: use {' or '.join(CREDENTIALS)}."
            )
        for executions in map(int, options.executions.split(",")):
            for text in options.pipelines.split(","):
                pipelines = executions if text == "N" else min(int(text), executions)
                selected.append(
                    replace(
                        common,
                        credentials=credentials,
                        executions=executions,
                        pipelines=pipelines,
                    )
                )
    return list(dict.fromkeys(selected))
