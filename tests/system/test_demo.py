"""Tests that Ctrl-C ends the demo cleanly. CI also runs the complete demo."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import psutil
import pytest

from tests.system.process.sessions import ProcessError, ProcessSession, wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]


def processes_of(folder: Path) -> list[int]:
    """Return the ids of all processes that use a folder as ``TMPDIR``."""
    pids = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR") == str(folder):
                pids.append(process.pid)
        except psutil.Error:
            continue  # the process ended meanwhile, or belongs to another user
    return pids


@pytest.mark.parametrize(
    "progress",
    [
        "waiting for the tables of the database",
        *(
            pytest.param(f"waiting for {process}", marks=pytest.mark.nightly)
            for process in ("api-server", "the DAG processor")
        ),
    ],
)
def test_ctrl_c_removes_processes_and_files(tmp_path: Path, progress: str) -> None:
    """After Ctrl-C the demo exits with status 130, and its processes and its temporary folder are gone."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    demo = ProcessSession(
        "the demo",
        [sys.executable, "-m", "tests.system.demo"],
        env={**os.environ, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        log=tmp_path / "demo.log",
    )
    try:
        assert wait_until(lambda: progress in demo.log.read_text(), timeout=120)
        assert len(processes_of(folder)) > 1
        assert list(folder.iterdir())

        os.kill(demo.pid, signal.SIGINT)

        with pytest.raises(
            ProcessError, match=r"status 130(?s:.*)Interrupted\. All processes were stopped\."
        ):
            demo.wait(timeout=60)
        assert processes_of(folder) == []
        assert list(folder.iterdir()) == []
    finally:
        for pid in processes_of(folder):
            os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder)
