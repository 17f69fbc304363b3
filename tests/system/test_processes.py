"""How processes of ours are ended; in the default suite, since it takes no Airflow."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.system.processes import OwnedProcess, ProcessError, end_all, wait_until

# A child that ignores TERM in a process group of its own, as each of Airflow's tasks has.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if len(sys.argv) == 1:
    subprocess.Popen([sys.executable, __file__, "child"], process_group=0)
print("ready", flush=True)
time.sleep(60)
"""


def start(tmp_path: Path, program: str) -> OwnedProcess:
    """Run a Python program."""
    script = tmp_path / "program.py"
    script.write_text(program)
    return OwnedProcess(
        "the program", [sys.executable, str(script)], env=os.environ, log=tmp_path / "program.log"
    )


def test_the_end_reaches_every_descendant(tmp_path: Path) -> None:
    """A process's end takes its children along, also those that ignore TERM or left its process group."""
    process = start(tmp_path, STUBBORN)
    assert wait_until(lambda: process.log.read_text().count("ready") == 2, timeout=20)
    members = process.members()
    assert len(members) == 2
    assert len({os.getpgid(pid) for pid in members}) == 2

    end_all([process], grace=0.5)

    assert process.members() == []


def test_an_early_end_is_told_with_the_log(tmp_path: Path) -> None:
    """A process that ended by itself is reported with its status and what it printed last."""
    process = start(tmp_path, "import sys; print('no database'); sys.exit(3)")

    with pytest.raises(ProcessError, match=r"(?s)the program ended with status 3.*no database"):
        process.wait(timeout=20)
    with pytest.raises(ProcessError, match="status 3"):
        process.check_alive()


def test_a_late_end_is_told(tmp_path: Path) -> None:
    """A process that takes too long is reported, and can still be ended."""
    process = start(tmp_path, "import time; time.sleep(60)")

    with pytest.raises(ProcessError, match="took over 0 s"):
        process.wait(timeout=0.1)
    process.kill()

    assert process.members() == []
