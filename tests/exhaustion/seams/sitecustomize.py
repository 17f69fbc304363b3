"""
Lets a name fail to resolve in all processes of Airflow while a file exists: as if a DNS
server did not answer.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

FAILS_FOR = os.environ.get("POLYSYNC_DNS_FAILS_FOR", "")
FAILS_WHILE = Path(os.environ.get("POLYSYNC_DNS_FAILS_WHILE", os.devnull))

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
    """Resolve a name, or fail as glibc does if no server answers."""
    if f"{host}:{port}" == FAILS_FOR and FAILS_WHILE.exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _getaddrinfo(host, port, *args, **kwargs)


socket.getaddrinfo = getaddrinfo
