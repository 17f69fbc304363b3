"""That the demo leaves nothing behind when a person does not wait for its end; CI runs it to its end."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.system.processes import OwnedProcess, ProcessError, wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def processes_of(folder: Path) -> list[int]:
    """All processes whose temporary files go to a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                found.append(process.pid)
        except psutil.Error:
            continue  # ended meanwhile, or another user's
    return found


@pytest.mark.parametrize("moment", ["Starting a private Airflow", "Airflow is ready"])
def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, moment: str) -> None:
    """Ctrl-C ends the demo with status 130, all its processes, and its temporary folder."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    demo = OwnedProcess(
        "the demo",
        [sys.executable, "-m", "tests.system.demo"],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        log=tmp_path / "demo.log",
    )
    try:
        assert wait_until(lambda: moment in demo.log.read_text(), timeout=120)
        assert len(processes_of(folder)) > 1
        assert list(folder.iterdir())

        os.kill(demo.pid, signal.SIGINT)

        with pytest.raises(ProcessError, match=r"status 130(?s:.*)Interrupted\. Nothing is left running\."):
            demo.wait(timeout=60)
        assert processes_of(folder) == []
        assert list(folder.iterdir()) == []
    finally:
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)
