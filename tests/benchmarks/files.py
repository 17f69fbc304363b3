"""Owns how many files, and so connections, a process may have open."""

from __future__ import annotations

import resource


def raise_file_limit() -> None:
    """Let this process, and those that it starts, open as many as the machine allows."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
