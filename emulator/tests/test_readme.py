"""The README: its programs run, its commands start, and it shows what they print."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from sagemaker_emulator.__main__ import make_parser

README = (Path(__file__).parents[1] / "README.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = re.findall(r"^sagemaker-emulator (.*)$", README, re.MULTILINE)


def run(program: str) -> list[str]:
    """
    Run a program in a process of its own, and return the lines that it has printed.
    """
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return result.stdout.splitlines()


def test_program_with_a_virtual_clock_prints_what_the_page_says() -> None:
    """The first program runs a pipeline to its end."""
    assert run(PROGRAMS[0]) == re.findall(r"^This prints `(\w+)`", README, re.MULTILINE)


def test_program_with_a_scenario_and_a_fault_prints_both() -> None:
    """
    The second program sets a scenario, adds a fault, and prints the scenario and the
    calls.
    """
    scenarios, calls = run(PROGRAMS[1])

    assert "'abalone': {'steps': {'AbaloneTrain'" in scenarios
    assert calls == "[]"


def test_program_for_the_sdk_runs() -> None:
    """The last program prints nothing; what it does has tests of its own."""
    assert [run(program) for program in PROGRAMS[2:]] == [[]]


@pytest.mark.parametrize("options", COMMANDS)
def test_commands_are_valid(options: str) -> None:
    """
    The command has these options; how it starts, and what it prints, has tests of its
    own.
    """
    assert make_parser().parse_args(shlex.split(options)).speed == 30
