"""Owns the measurement of what the endpoint can serve, so that nobody takes its limit for a provider's."""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any, Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.endpoint.running import RunningEndpoint

CONNECTIONS: Final = 8
SECONDS: Final = 1.5


def capacity(endpoint: RunningEndpoint) -> dict[str, float]:
    """
    Return how many calls a second it serves, by operation; it shares the machine with who calls.

    :param endpoint: the endpoint.
    """
    endpoint.reset()
    started = endpoint.start(1000, 10, begin=time.time() - 60, per_second=0, seconds=3600)[0]
    requests = {
        "DescribePipelineExecution": {"PipelineExecutionArn": started.arn},
        "ListPipelineExecutions, 100 a page": {"PipelineName": started.pipeline},
    }
    return {name: asyncio.run(_rate(endpoint, name, request)) for name, request in requests.items()}


async def _rate(endpoint: RunningEndpoint, operation: str, request: dict[str, Any]) -> float:
    body = json.dumps(request).encode()
    head = f"POST / HTTP/1.1\r\nX-Amz-Target: SageMaker.{operation.partition(',')[0]}\r\n"
    call = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    until = time.perf_counter() + SECONDS
    counts = await asyncio.gather(*(_call(endpoint.url, call, until) for _ in range(CONNECTIONS)))
    return sum(counts) / SECONDS


async def _call(url: str, call: bytes, until: float) -> int:
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    served = 0
    while time.perf_counter() < until:
        writer.write(call)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.partition(b"Content-Length: ")[2]))
        served += 1
    writer.close()
    return served


def show(options: argparse.Namespace, bench: Bench) -> None:
    """
    Measure and print.

    :param options: the command line.
    :param bench: where.
    """
    rates = [f"{rate:,.0f} calls of {name}" for name, rate in capacity(bench.endpoint).items()]
    print(f"The endpoint serves, a second, {' or '.join(rates)}.", flush=True)
