"""What a process of the command line writes, to a file, a pipe and a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from sagemaker_emulator import EmulatorServer
from tests.unit.cli.conftest import Polysync
from tests.unit.cli.test_command_line import COMMAND

pytestmark = pytest.mark.nightly


def test_stdout_of_a_process_has_the_result_only(
    polysync: Polysync, emulator: EmulatorServer, tmp_path: Path
) -> None:
    """
    Airflow's loggers, which write to stdout, do not get into the YAML and the JSON.

    On a terminal, stderr counts the pipelines of a command that takes more than two
    seconds; in a pipe, it does not.
    """
    emulator.control.add_fault("throttle", "DescribePipeline", count=6)
    path = tmp_path / "jobs.yaml"

    code, imported, shown = run_on_terminal("jobs", "import")
    path.write_text(imported)
    diff = subprocess.run(
        [*COMMAND, "jobs", "diff", str(path), "--output", "json"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert code == 0
    assert len(yaml.safe_load(imported)["jobs"]) == 5
    assert imported.startswith("# SageMaker pipelines as jobs")
    assert "ThrottlingException" in shown
    assert "Pipelines described: 5" in shown
    assert json.loads(diff.stdout)["drift"] is False
    assert "Pipelines described" not in diff.stderr


def run_on_terminal(*arguments: str) -> tuple[int, str, str]:
    """
    Run a command whose stderr is a terminal; return its exit code, its stdout, and what
    the terminal shows.
    """
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    with subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment,
        text=True,
    ) as process:
        os.close(slave)
        try:
            shown = read_terminal(master)
            result, _ = process.communicate()
        finally:
            # Otherwise, the end of this block waits for a command that hangs.
            process.kill()
    os.close(master)
    return process.returncode, result, shown


def read_terminal(master: int) -> str:
    """
    Return what is written to a terminal until its end, which Linux reports as an error.
    """
    shown = b""
    with suppress(OSError):
        while True:
            shown += os.read(master, 4096)
    return shown.decode()


@pytest.mark.parametrize(
    ("is_full", "text"),
    [
        (False, ""),
        (True, "error: the result cannot be written: No space left on device\n"),
    ],
)
def test_closed_pipe_or_full_disk_is_no_traceback(is_full: bool, text: str) -> None:
    """A reader that ends early, such as ``head``, is no error; a full disk is one."""
    policy = ["iam", "policy", "--account=123456789012", "--region=eu-central-1"]
    reading, writing = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    process = subprocess.run(
        [*COMMAND, *policy, "--pipeline", "churn"],
        stdout=full if is_full else writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    os.close(full)

    assert process.returncode == 2
    assert process.stderr == text
