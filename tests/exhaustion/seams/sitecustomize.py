"""
Lets the names of the suite resolve to this machine in all processes of Airflow, or fail
while a file exists: as if a DNS server did not answer.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

DOMAIN = ".exhaustion.test"
FAILS_WHILE = os.environ.get("POLYSYNC_DNS_FAILS_WHILE", "")

_getaddrinfo = socket.getaddrinfo


def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
    """Resolve a name of the suite, or any other."""
    if not isinstance(host, str) or not host.endswith(DOMAIN):
        return _getaddrinfo(host, *args, **kwargs)
    if FAILS_WHILE and Path(FAILS_WHILE).exists():
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return _getaddrinfo("127.0.0.1", *args, **kwargs)


socket.getaddrinfo = getaddrinfo
