"""Tests of the command line, the server and the clocks."""

from __future__ import annotations

import json
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import sagemaker_emulator
from sagemaker_emulator import (
    ControlClient,
    ControlRefused,
    EmulatorServer,
    RealClock,
    VirtualClock,
)
from sagemaker_emulator.__main__ import main
from sagemaker_emulator.server.server import pipeline_name

COMMAND = [sys.executable, "-m", "sagemaker_emulator"]


@contextmanager
def program(
    *arguments: str, count: int = 5
) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """
    Run the emulator as a program. Yield its process and the first lines of its output.
    """
    process = subprocess.Popen(
        [*COMMAND, "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert process.stdout is not None
    try:
        yield process, [process.stdout.readline().strip() for _ in range(count)]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def url_in(lines: list[str]) -> str:
    """Return the URL in the first line of the output."""
    match = re.search(r"on (http://127\.0\.0\.1:\d+) ", lines[0])
    assert match is not None
    return match[1]


def test_program_creates_pipelines_from_a_folder(shared_definitions: Path) -> None:
    """
    Each definition becomes a pipeline, time runs at the given speed, and SIGTERM ends
    the program.
    """
    with program("--definitions", str(shared_definitions), "--speed", "500") as (
        process,
        lines,
    ):
        names = (
            "abalone, callback-lambda, churn-tuning, fanout, scoring-required-params"
        )
        assert lines[2] == f"Pipelines in us-east-1: {names}"
        control = ControlClient(url_in(lines))
        assert control.health()["pipelines"] == {"us-east-1": names.split(", ")}
        real_start = time.monotonic()
        before = control.clock()["now"]
        time.sleep(0.2)
        elapsed = control.clock()["now"] - before
        assert 100 <= elapsed <= 500 * (time.monotonic() - real_start)
        with pytest.raises(
            ControlRefused, match="only a virtual clock can be advanced"
        ):
            control.advance(1)
        control.reset()
        assert control.health()["pipelines"] == {"us-east-1": names.split(", ")}
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


def test_program_has_the_examples_and_prints_a_connection() -> None:
    """
    Without a folder, the example pipelines exist; the connection for Airflow names the
    address twice.
    """
    with program() as (_, lines):
        names = (
            "abalone, callback-lambda, churn-tuning, fanout, scoring-required-params"
        )
        assert lines[2] == f"Pipelines in us-east-1: {names}"
        name, _, value = lines[4].removeprefix("export ").partition("=")
        assert name == "AIRFLOW_CONN_POLYSYNC_DEFAULT"
        extra = json.loads(*shlex.split(value))["extra"]
        assert [extra["endpoint_url"], extra["sts_endpoint_url"]] == [url_in(lines)] * 2


def test_program_prints_json() -> None:
    """Scripts read where it is, and the connection, from the first line."""
    with program("--output", "json", "--allow-host", "emulator", count=1) as (_, lines):
        document = json.loads(lines[0])

    url = document["endpoint_url"]
    assert document["connection"]["extra"]["endpoint_url"] == url
    assert "fanout" in document["pipelines"]["us-east-1"]
    assert document["other_urls"] == [f"http://emulator:{url.rpartition(':')[2]}"]


WITHOUT_PACKAGE = """
import runpy, sys
sys.modules[{missing!r}] = None
from sagemaker_emulator import ControlClient, VirtualClock  # the client needs nothing
"""
CURE = "not installed ({missing}). Install them with: pip install sagemaker-pipelines-emulator"


@pytest.mark.parametrize("missing", ["moto", "jwt"])
def test_program_without_its_packages_says_what_to_install(missing: str) -> None:
    """The program prints one line and ends with status 2."""
    run = "sys.argv = ['x', '--port', '0']; runpy.run_module('sagemaker_emulator', run_name='__main__')"
    program = WITHOUT_PACKAGE.format(missing=missing) + run

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: The emulator needs packages")
    assert line.endswith(CURE.format(missing=missing))


def test_import_without_its_packages_says_what_to_install() -> None:
    """The import of the server is an ImportError with the cure."""
    program = (
        WITHOUT_PACKAGE.format(missing="moto")
        + "from sagemaker_emulator import EmulatorServer"
    )

    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    last_line = result.stderr.splitlines()[-1]
    assert last_line.startswith("ImportError: The emulator needs packages")
    assert last_line.endswith(CURE.format(missing="moto"))


def test_unknown_name_in_the_package() -> None:
    """Any other name is an AttributeError, as in each module."""
    with pytest.raises(AttributeError, match="has no attribute 'Server'"):
        _ = sagemaker_emulator.Server


def test_program_listens_on_loopback_only_and_ends_by_interrupt() -> None:
    """
    The port is closed on other addresses of the host, and SIGINT ends the program with
    status 0.
    """
    with program() as (process, lines):
        port = int(url_in(lines).rpartition(":")[2])
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.2", port), timeout=2).close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"a.json": "{"},
            "a.json: not a pipeline definition: Model Validation failed: the text is not JSON",
        ),
        (
            {"a.json": '{"Version": "1"}'},
            "a.json: not a pipeline definition: Model Validation failed: 'Steps' is missing",
        ),
        (
            {"___.json": None},
            "___.json: the pipeline name '' made from the file name is empty or not unique",
        ),
        (
            {"a_b.json": None, "a-b.json": None},
            "a_b.json: the pipeline name 'a-b' made from the file name is empty or not unique",
        ),
        (
            {"property_files/a.json": '{"Evaluate": 5}'},
            "a.json: not the contents of property files: scenario.steps.Evaluate.property_files",
        ),
    ],
)
def test_error_names_an_invalid_definition_file(
    tmp_path: Path,
    shared_definitions: Path,
    capsys: pytest.CaptureFixture[str],
    files: dict[str, str | None],
    message: str,
) -> None:
    """
    The program does not start with an invalid definition, and its error names the file.
    """
    (tmp_path / "property_files").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(
            text or (shared_definitions / "fanout.json").read_text()
        )
    assert main(["--port", "0", "--definitions", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["--speed", "0"],
        ["--speed", "nan"],
        ["--port", "70000"],
        ["--max-steps", "0"],
        ["--max-executions", "many"],
    ],
)
def test_invalid_arguments_are_rejected(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The program exits with status 2 if an argument is invalid."""
    with pytest.raises(SystemExit) as exit_info:
        main(arguments)
    assert exit_info.value.code == 2
    assert f"argument {arguments[0]}: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--bind", "0.0.0.0"],
            "bind = '0.0.0.0' can be reached from other hosts: allow the name",
        ),
        (
            ["--bind", "10.0.0.1"],
            "bind = '10.0.0.1' can be reached from other hosts: allow the name",
        ),
        (["--bind", "sagemaker"], "bind = 'sagemaker' is not an IPv4 address"),
        (
            ["--allow-host", "http://sagemaker:1"],
            "'http://sagemaker:1' is not a host name. Give a name",
        ),
        (["--allow-host", "*.example"], "'*.example' is not a host name"),
        (["--allow-host", ""], "'' is not a host name"),
    ],
)
def test_addresses_that_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    An address that others can reach is refused unless a name is allowed, before
    anything listens.
    """
    assert main(["--port", "0", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "address"),
    [
        (["--allow-host", "sagemaker"], "127.0.0.1"),
        (["--allow-host", "sagemaker", "--bind", "0.0.0.0"], "0.0.0.0"),
        (["--bind", "127.0.0.2"], "127.0.0.2"),
    ],
)
def test_address(
    arguments: list[str],
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A name alone opens no other address; only --bind does."""
    opened: list[Any] = []

    def create_server(where: Any, **_: Any) -> None:
        opened.append(where)
        raise OSError("not in a test")

    monkeypatch.setattr(socket, "create_server", create_server)
    assert main(["--port", "4599", *arguments]) == 2
    assert opened == [(address, 4599)]
    assert capsys.readouterr().err == "error: not in a test\n"


def test_allowed_hosts_as_one_text() -> None:
    """A text would allow its letters."""
    with pytest.raises(ValueError, match="'sagemaker' is a text: give a list of names"):
        EmulatorServer(allowed_hosts="sagemaker")


def test_program_with_an_allowed_host() -> None:
    """The program says where it can be reached, and that it has no authentication."""
    with program("--allow-host", "sagemaker", "--allow-host", "other") as (
        process,
        lines,
    ):
        port = url_in(lines).rpartition(":")[2]
        assert process.stdout is not None
        assert process.stdout.readline().strip() == (
            "It listens on 127.0.0.1, without authentication, also as "
            f"http://sagemaker:{port}, http://other:{port}"
        )


def test_error_names_a_missing_folder(capsys: pytest.CaptureFixture[str]) -> None:
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
def test_pipeline_name_of_a_file_name(stem: str, name: str) -> None:
    """A file name is converted to a pipeline name that AWS accepts."""
    assert pipeline_name(stem) == name


@pytest.mark.parametrize("speed", [0, -1])
def test_clock_speed_must_be_positive(speed: float) -> None:
    """A RealClock requires a positive speed."""
    with pytest.raises(ValueError, match="greater than 0"):
        RealClock(speed)


def test_real_clock_starts_at_the_current_time() -> None:
    """Without a speed, the emulated time is the real time."""
    assert abs(RealClock().now() - time.time()) < 1


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan")])
def test_virtual_clock_rejects_negative_and_infinite_steps(seconds: float) -> None:
    """A virtual clock cannot go backwards or to infinity."""
    clock = VirtualClock(5)
    with pytest.raises(ValueError, match="finite"):
        clock.advance(seconds)
    assert clock.now() == 5


def test_port_in_use_is_an_error(
    server: EmulatorServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    If its port is in use, the program prints an error, and EmulatorServer raises an
    exception.
    """
    with pytest.raises(OSError, match="in use"):
        EmulatorServer(server.port)
    assert main(["--port", str(server.port)]) == 2
    assert "in use" in capsys.readouterr().err


def test_enforce_iam_option_survives_a_reset(issuer_files: tuple[Path, Path]) -> None:
    """
    A reset restores the value of --enforce-iam after the control API has changed it.
    """
    with program("--enforce-iam", "--issuer-ca", str(issuer_files[0])) as (
        process,
        lines,
    ):
        control = ControlClient(url_in(lines))
        assert control.sign_in()["enforce_iam"] is True
        control.set_sign_in(enforce_iam=False)
        control.reset()
        assert control.sign_in()["enforce_iam"] is True
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_error_names_an_invalid_ca_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None
) -> None:
    """
    The program does not start with an invalid CA file, and its error names the file.
    """
    file = tmp_path / "ca.pem"
    if text:
        file.write_text(text)
    assert main(["--port", "0", "--issuer-ca", str(file)]) == 2
    assert f"error: {file}: not a PEM file of certificates" in capsys.readouterr().err
