"""``polysync verify`` as a user runs it: in a process of its own, in real time, ended by signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagemaker_emulator import EmulatorServer

pytestmark = pytest.mark.system

COMMAND = [
    sys.executable,
    "-c",
    "import sys; from polysync_airflow.cli import main; sys.exit(main())",
    "verify",
]
ROLE = ["--role-arn", "arn:aws:iam::123456789012:role/Pipelines"]


def process(server: EmulatorServer, *arguments: str) -> subprocess.Popen[str]:
    """Run the command."""
    environment = {**os.environ, "AIRFLOW_CONN_POLYSYNC_DEFAULT": server.connection()}
    return subprocess.Popen(
        [*COMMAND, *arguments], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(server: EmulatorServer, operation: str) -> None:
    """Wait until the command has called an operation."""
    until = time.monotonic() + 60
    while not server.control.calls(operation):
        assert time.monotonic() < until
        time.sleep(0.05)


def names(server: EmulatorServer) -> list[str]:
    """Return the names of all pipelines."""
    return [name for region in server.pipelines.values() for name in region]


def test_all_checks_side_by_side(tmp_path: Path) -> None:
    """In real time, where the checks run side by side, a whole run sees what is believed."""
    report = tmp_path / "report.json"

    with EmulatorServer() as server, process(server, *ROLE, "--report", str(report)) as running:
        _, errors = running.communicate(timeout=180)
        assert (running.returncode, names(server)) == (0, []), errors

    verdicts = json.loads(report.read_text())["verdicts"]
    assert (verdicts["differs"], verdicts["error"]) == (0, 0)
    assert verdicts["as believed"] > 80


@pytest.mark.parametrize(
    ("number", "operation"),
    [
        (signal.SIGTERM, "StopPipelineExecution"),
        (signal.SIGKILL, "CreatePipeline"),
        (signal.SIGKILL, "StopPipelineExecution"),
    ],
)
def test_ended(number: signal.Signals, operation: str, tmp_path: Path) -> None:
    """A signal lets the command delete what it has made, and write a report; after a kill, ``--clean`` deletes."""
    report = tmp_path / "report.json"
    with EmulatorServer(speed=5) as server:
        with process(server, *ROLE, "--report", str(report)) as running:
            wait_for(server, operation)
            running.send_signal(number)
            running.communicate(timeout=120)
        if number == signal.SIGKILL:
            assert names(server) != []
            assert list(tmp_path.iterdir()) == []
            with process(server, "--clean") as cleaning:
                _, errors = cleaning.communicate(timeout=120)
            assert (cleaning.returncode, "deleted in region" in errors) == (0, True)
        else:
            assert running.returncode == 130
            assert json.loads(report.read_text())["complete"] is False
        assert names(server) == []
