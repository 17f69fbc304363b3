"""
Measures how much memory the emulator needs for many executions, most of which have
ended. In the folder ``emulator``::

    python -m tests.memory --executions 100000

It starts executions of the examples `abalone` and `fanout` over HTTP, 20 at once, with
a client token and parameters each, and lets all but the last 20 end. It prints the
resident memory of the process, and how long some requests take then.
"""

from __future__ import annotations

import argparse
import json
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from sagemaker_emulator import EXAMPLE_DEFINITIONS, EmulatorServer, Limits, VirtualClock

AT_ONCE = 20
DAY = 24 * 3600.0
MIB = 1024 * 1024
PAGE_SIZE = 4096
AUTHORIZATION = (
    "AWS4-HMAC-SHA256 Credential=AKIAMEMORY/20250101/us-east-1/sagemaker/aws4_request,"
    " SignedHeaders=host, Signature=0"
)


INPUT = "s3://bucket/input/2026-12-02/data.csv"
PARAMETERS: tuple[list[Any], ...] = ([{"Name": "InputDataUrl", "Value": INPUT}], [])


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=100_000)
    options = parser.parse_args()
    limits = Limits(max_ended_executions=options.executions)
    with EmulatorServer(
        clock=VirtualClock(), definitions=EXAMPLE_DEFINITIONS, limits=limits
    ) as server:
        call(server, "ListPipelines", {})
        idle = resident()
        print(f"idle: {idle / MIB:.0f} MiB")
        begin = time.monotonic()
        arns = run(server, options.executions, idle)
        seconds = time.monotonic() - begin
        print(f"{options.executions / seconds:.0f} executions a second")
        for operation, request in requests_of(arns):
            print(f"{operation}: {duration(server, operation, request) * 1000:.1f} ms")


def run(server: EmulatorServer, count: int, idle: int) -> list[str]:
    """Start executions, and print the memory ten times. Return their ARNs."""
    arns: list[str] = []
    while len(arns) < count:
        if arns:
            server.control.advance(DAY)
        for number in range(len(arns), min(len(arns) + AT_ONCE, count)):
            arns.append(start(server, number))
        if len(arns) % (count // 10) < AT_ONCE:
            used = resident()
            each = (used - idle) / len(arns)
            print(f"{len(arns)}: {used / MIB:.0f} MiB, {each:.0f} bytes each")
    return arns


def start(server: EmulatorServer, number: int) -> str:
    """Start an execution, and return its ARN."""
    request = {
        "PipelineName": ("abalone", "fanout")[number % 2],
        "ClientRequestToken": f"polysync-{number:032}",
        "PipelineExecutionDisplayName": f"run-{number}",
        "PipelineParameters": PARAMETERS[number % 2],
    }
    arn: str = call(server, "StartPipelineExecution", request)["PipelineExecutionArn"]
    return arn


def requests_of(arns: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Return requests about the oldest execution and about all."""
    first = {"PipelineExecutionArn": arns[0]}
    return [
        ("DescribePipelineExecution", first),
        ("ListPipelineExecutionSteps", first),
        ("ListPipelineExecutions", {"PipelineName": "abalone"}),
        ("ListPipelineExecutions", {"PipelineName": "fanout"}),
    ]


def duration(server: EmulatorServer, operation: str, request: dict[str, Any]) -> float:
    """Return the shortest time of three requests, in seconds."""
    durations = []
    for _ in range(3):
        begin = time.monotonic()
        call(server, operation, request)
        durations.append(time.monotonic() - begin)
    return min(durations)


def call(
    server: EmulatorServer, operation: str, request: dict[str, Any]
) -> dict[str, Any]:
    """Return the response to a request."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=600)
    headers = {
        "X-Amz-Target": f"SageMaker.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": AUTHORIZATION,
    }
    connection.request("POST", "/", json.dumps(request), headers)
    response = connection.getresponse()
    body: dict[str, Any] = json.loads(response.read())
    connection.close()
    if response.status != 200:
        raise SystemExit(f"{operation}: {body}")
    return body


def resident() -> int:
    """Return the resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_SIZE


if __name__ == "__main__":
    main()
