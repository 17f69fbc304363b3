"""
Runs the AWS test server on two loopback ports: one for AWS's API, and one for control
commands.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys

from tests.benchmarks.endpoint.http_protocol import Connections, HttpProtocol
from tests.benchmarks.endpoint.server import Endpoint
from tests.benchmarks.measure.file_limit import raise_file_limit

HOST = "127.0.0.1"
# Thousands of clients may connect at the same time.
BACKLOG = 8192


async def main() -> None:
    """
    Print the URLs of both ports as JSON in the first line of output, then serve until
    standard input closes.
    """
    loop, endpoint, control_connections = (
        asyncio.get_running_loop(),
        Endpoint(),
        Connections(),
    )
    api = await loop.create_server(
        lambda: HttpProtocol(endpoint.serve, endpoint.connections),
        HOST,
        0,
        backlog=BACKLOG,
    )
    control = await loop.create_server(
        lambda: HttpProtocol(endpoint.control, control_connections), HOST, 0
    )
    ports = [server.sockets[0].getsockname()[1] for server in (api, control)]
    print(json.dumps([f"http://{HOST}:{port}" for port in ports]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    raise_file_limit()
    # All objects live as long as the process, and a garbage collection would show up as
    # latency.
    gc.disable()
    asyncio.run(main())
