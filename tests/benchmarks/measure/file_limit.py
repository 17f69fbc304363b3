"""
The limit of open files, which also limits the number of connections that a process can
have.
"""

from __future__ import annotations

import resource


def raise_file_limit() -> None:
    """
    Raise the soft limit of open files to the hard limit, for this process and its child
    processes.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
