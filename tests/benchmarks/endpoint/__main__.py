"""Owns the endpoint's process: two ports of the loopback interface, told in its first line of output."""

from __future__ import annotations

import asyncio
import gc
import json
import sys

from tests.benchmarks.endpoint.http import Connections, HttpProtocol
from tests.benchmarks.endpoint.server import Endpoint
from tests.benchmarks.files import raise_file_limit

HOST = "127.0.0.1"
# Thousands of clients may connect in the same moment.
BACKLOG = 8192


async def main() -> None:
    """Serve until the standard input is closed."""
    loop, endpoint, unseen = asyncio.get_running_loop(), Endpoint(), Connections()
    served = await loop.create_server(
        lambda: HttpProtocol(endpoint.serve, endpoint.connections), HOST, 0, backlog=BACKLOG
    )
    ordered = await loop.create_server(lambda: HttpProtocol(endpoint.obey, unseen), HOST, 0)
    ports = [server.sockets[0].getsockname()[1] for server in (served, ordered)]
    print(json.dumps([f"http://{HOST}:{port}" for port in ports]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    raise_file_limit()
    # Everything here lives as long as the process, and a collection would be taken for latency.
    gc.disable()
    asyncio.run(main())
