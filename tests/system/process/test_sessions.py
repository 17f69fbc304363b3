"""
Tests of ending processes. They run in the default suite, because they do not start an
Airflow.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.system.process.sessions import (
    ProcessError,
    ProcessSession,
    end_all,
    wait_until,
)

# Starts a child that ignores TERM in a process group of its own, as Airflow does for
# each task.
IGNORES_TERM = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"], process_group=0)
print("ready", flush=True)
time.sleep(60)
"""


def start(tmp_path: Path, program: str) -> ProcessSession:
    """Run a Python program."""
    script = tmp_path / "program.py"
    script.write_text(program)
    return ProcessSession(
        "the program",
        [sys.executable, str(script)],
        env=os.environ,
        log=tmp_path / "program.log",
    )


def test_end_all_ends_every_descendant(tmp_path: Path) -> None:
    """
    Descendants that ignore TERM, or that are in another process group, are ended too.
    """
    process = start(tmp_path, IGNORES_TERM)
    assert wait_until(lambda: process.log.read_text().count("ready") == 2, timeout=20)
    members = process.members()
    assert len(members) == 2
    assert len({os.getpgid(pid) for pid in members}) == 2

    end_all([process], grace=0.5)

    assert process.members() == []


def test_unexpected_end_is_reported_with_the_log(tmp_path: Path) -> None:
    """
    The error about a process that ended by itself has the exit status and the process's
    last output.
    """
    process = start(tmp_path, "import sys; print('no database'); sys.exit(3)")

    with pytest.raises(
        ProcessError, match=r"(?s)the program exited with status 3.*no database"
    ):
        process.wait(timeout=20)
    with pytest.raises(ProcessError, match="status 3"):
        process.check_alive()


def test_timeout_is_reported(tmp_path: Path) -> None:
    """A process that does not end in time is reported, and can still be killed."""
    process = start(tmp_path, "import time; time.sleep(60)")

    with pytest.raises(ProcessError, match="did not end in 0 s"):
        process.wait(timeout=0.1)
    process.kill()

    assert process.members() == []
