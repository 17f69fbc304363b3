"""Peak memory of a process, as the operating system counts it."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Final

# Exists on Linux only.
_STATUS: Final = Path("/proc/self/status")


def peak_memory() -> int:
    """Return the peak resident set size of this process, in bytes."""
    if _STATUS.exists():
        # Not ru_maxrss: it starts with the peak of the parent process.
        return int(_STATUS.read_text().partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
