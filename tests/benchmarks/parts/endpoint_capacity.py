"""
Measures how many calls per second the AWS test server can serve, to show that it does
not limit the providers.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any, Final

from tests.benchmarks.context import BenchmarkContext
from tests.benchmarks.endpoint.endpoint_process import EndpointProcess

CONNECTIONS: Final = 8
SECONDS: Final = 1.5


def capacity(endpoint: EndpointProcess) -> dict[str, float]:
    """
    Return the calls per second by operation. The server shares the CPUs with the client
    that measures it.

    :param endpoint: the AWS test server.
    """
    endpoint.reset()
    started = endpoint.start(
        1000, 10, start=time.time() - 60, per_second=0, seconds=3600
    )[0]
    requests = {
        "DescribePipelineExecution": {"PipelineExecutionArn": started.arn},
        "ListPipelineExecutions, 100 per page": {"PipelineName": started.pipeline},
    }
    return {
        name: asyncio.run(_rate(endpoint, name, request))
        for name, request in requests.items()
    }


async def _rate(
    endpoint: EndpointProcess, operation: str, request: dict[str, Any]
) -> float:
    body = json.dumps(request).encode()
    head = (
        f"POST / HTTP/1.1\r\nX-Amz-Target: SageMaker.{operation.partition(',')[0]}\r\n"
    )
    http_request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    end = time.perf_counter() + SECONDS
    counts = await asyncio.gather(
        *(_call(endpoint.url, http_request, end) for _ in range(CONNECTIONS))
    )
    return sum(counts) / SECONDS


async def _call(url: str, http_request: bytes, end: float) -> int:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    count = 0
    while time.perf_counter() < end:
        writer.write(http_request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2]))
        count += 1
    writer.close()
    return count


def show(options: argparse.Namespace, context: BenchmarkContext) -> None:
    """
    Measure the capacity and print it.

    :param options: the parsed command line.
    :param context: the benchmark context.
    """
    rates = [
        f"{rate:,.0f} calls of {name}"
        for name, rate in capacity(context.endpoint).items()
    ]
    print(f"The AWS test server serves per second: {' or '.join(rates)}.", flush=True)
