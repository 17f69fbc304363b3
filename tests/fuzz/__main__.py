"""
Runs many random cases in one process, and measures what they cost: ``python -m
tests.fuzz 20000``.

The exit code is 1 if a test fails, or a measure is above its limit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.fuzz.measures import REPORT

TESTS = "tests/fuzz"
# With those that are marked.
PYTEST = (
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-m",
    "",
    "-p",
    "no:xdist",
    "-p",
    "no:cacheprovider",
    TESTS,
)
LIMITS = {"stall": 0.2, "peak_mib": 1024, "exit_seconds": 10}


def run(cases: int) -> tuple[int, dict[str, Any]]:
    """Run as many cases; return the exit code of pytest, and the measures."""
    collected = subprocess.run(
        [*PYTEST, "--collect-only"], capture_output=True, text=True, check=True
    )
    tests = sum("::" in line for line in collected.stdout.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        examples = {
            "POLYSYNC_FUZZ_EXAMPLES": str(-(-cases // tests)),
            REPORT: str(report),
        }
        code = subprocess.run(
            [*PYTEST, "-o", "timeout=0", "-o", "faulthandler_timeout=0"],
            env={**os.environ, **examples},
            check=False,
        ).returncode
        measures = json.loads(report.read_text())
    return code, {**measures, "exit_seconds": time.time() - measures.pop("ended_at")}


def main() -> int:
    """Run the cases that the command line names, and print the measures."""
    code, measures = run(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
    print(
        "{cases:,} cases; longest stall of an event loop: {stall:.3f} s; peak memory: {peak_mib} MiB; "
        "exit after {exit_seconds:.1f} s".format(**measures)
    )
    return code or int(any(measures[name] > limit for name, limit in LIMITS.items()))


if __name__ == "__main__":
    sys.exit(main())
