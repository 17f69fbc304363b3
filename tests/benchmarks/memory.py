"""Owns what a process's memory is, as the system counts it."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

# Only Linux has it.
_STATUS: Final = Path("/proc/self/status")


def peak_memory() -> int:
    """Return the most that this process has had, in bytes."""
    if _STATUS.exists():
        # Unlike ru_maxrss, it does not begin with the peak of the process that started this one.
        return int(_STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
