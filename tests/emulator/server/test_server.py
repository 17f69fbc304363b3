"""The emulator as a program, and the clock it runs by."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from polysync_airflow.emulator import ControlClient, ControlRefused, EmulatorServer, RealClock, VirtualClock
from polysync_airflow.emulator.__main__ import main
from polysync_airflow.emulator.server.server import pipeline_name

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "polysync_airflow.emulator"]


@contextmanager
def program(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """Run the emulator as a program; give its process and the lines it printed first."""
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdout is not None
    try:
        count = 3 if "--definitions" in arguments else 2
        yield process, [process.stdout.readline().strip() for _ in range(count)]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def url_in(lines: list[str]) -> str:
    """Return the address in the program's first line."""
    match = re.search(r"on (http://127\.0\.0\.1:\d+) ", lines[0])
    assert match is not None
    return match[1]


def test_the_program_serves_a_folder_of_definitions(shared_definitions: Path) -> None:
    """Each definition is a pipeline; time runs at the given speed; SIGTERM ends it cleanly."""
    with program("--definitions", str(shared_definitions), "--speed", "500") as (process, lines):
        names = "abalone, callback-lambda, churn-tuning, fanout, scoring-required-params"
        assert lines[2] == f"Pipelines in us-east-1: {names}"
        control = ControlClient(url_in(lines))
        assert control.health()["pipelines"] == {"us-east-1": names.split(", ")}
        real = time.monotonic()
        before = control.clock()["now"]
        time.sleep(0.2)
        passed = control.clock()["now"] - before
        assert 100 <= passed <= 500 * (time.monotonic() - real)
        with pytest.raises(ControlRefused, match="only a virtual clock can be advanced"):
            control.advance(1)
        control.reset()
        assert control.health()["pipelines"] == {"us-east-1": names.split(", ")}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_the_program_listens_on_loopback_only_and_ends_by_interrupt() -> None:
    """The port cannot be reached by any other address of the host, and Ctrl-C ends the program cleanly."""
    with program() as (process, lines):
        port = int(url_in(lines).rpartition(":")[2])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=2).close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.json": "{"}, "a.json: not a pipeline definition: it is not JSON"),
        ({"a.json": '{"Version": "1"}'}, "a.json: not a pipeline definition: 'Steps' is missing"),
        ({"___.json": None}, "___.json: its name makes no unique pipeline name"),
        ({"a_b.json": None, "a-b.json": None}, "a_b.json: its name makes no unique pipeline name"),
    ],
)
def test_a_wrong_file_is_named(
    tmp_path: Path,
    shared_definitions: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str | None],
    message: str,
) -> None:
    """A definition that is not valid keeps the program from starting, and its error names the file."""
    for name, text in files.items():
        (tmp_path / name).write_text(text or (shared_definitions / "fanout.json").read_text())
    assert main(["--port", "0", "--definitions", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--speed", "0"], ["--speed", "nan"], ["--port", "70000"]])
def test_wrong_arguments_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Arguments that make no sense end the program at once with status 2."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert f"argument {arguments[0]}: invalid" in capsys.readouterr().err


def test_a_missing_folder_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """A folder of definitions that does not exist is an error."""
    assert main(["--port", "0", "--definitions", "nowhere"]) == 2
    assert capsys.readouterr().err == "error: nowhere is not a folder\n"


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("churn_tuning", "churn-tuning"),
        ("_a__b_", "a-b"),
        ("Ünï x", "n-x"),
        ("a" * 300, "a" * 256),
        ("_", ""),
    ],
)
def test_pipeline_names_are_legal(stem: str, name: str) -> None:
    """A file name becomes the nearest name that AWS accepts."""
    assert pipeline_name(stem) == name


@pytest.mark.parametrize("speed", [0, -1])
def test_time_only_runs_forward(speed: float) -> None:
    """A clock has a positive speed."""
    with pytest.raises(ValueError, match="greater than 0"):
        RealClock(speed)


def test_a_real_clock_begins_now() -> None:
    """Without a speed, emulated time is real time."""
    assert abs(RealClock().now() - time.time()) < 1


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_a_virtual_clock_is_only_advanced_by_real_numbers(seconds: float) -> None:
    """A virtual clock goes neither back nor to infinity."""
    clock = VirtualClock(5)
    with pytest.raises(ValueError, match="finite"):
        clock.advance(seconds)
    assert clock.now() == 5


def test_a_taken_port_is_an_error(server: EmulatorServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The program says that its port is taken, and a script gets an exception."""
    with pytest.raises(OSError, match="in use"):
        EmulatorServer(server.port)
    assert main(["--port", str(server.port)]) == 2
    assert "in use" in capsys.readouterr().err


def test_the_program_enforces_from_the_start(issuer_files: tuple[Path, Path]) -> None:
    """What the command line asked for holds after a reset, too, until the control API is told otherwise."""
    with program("--enforce-iam", "--issuer-ca", str(issuer_files[0])) as (process, lines):
        control = ControlClient(url_in(lines))
        assert control.sign_in()["enforce_iam"] is True
        control.set_sign_in(enforce_iam=False)
        control.reset()
        assert control.sign_in()["enforce_iam"] is True
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_wrong_authority_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    """A file that holds no certificate authority keeps the program from starting, and its error names it."""
    file = tmp_path / "ca.pem"
    if text:
        file.write_text(text)
    assert main(["--port", "0", "--issuer-ca", str(file)]) == 2
    assert f"error: {file}: not a PEM file of certificates" in capsys.readouterr().err
