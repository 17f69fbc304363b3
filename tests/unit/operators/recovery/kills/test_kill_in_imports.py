"""
A user ends a task whose process imports what only a running task needs: a real signal
in a real process, which has not imported it before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from tests.world import CHANGES, START, STOP, World

if not CAPABILITIES.task_sdk:
    pytest.skip("the process of a task has a database", allow_module_level=True)

RunTry = Callable[..., dict[str, Any]]
# Before and in the imports of what runs the task, and with an execution.
MODULES = (
    "polysync_airflow.execution.lifecycle.instructions",
    "polysync_airflow.operators.worker_stop",
    "polysync_airflow.triggers.stopping",
)


@pytest.fixture
def run_try(world: World) -> Iterator[RunTry]:
    """Run a try in a process of its own, which gets the signal at a module."""
    command = [sys.executable, "-m", "tests.fakes.killed_process"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdin
        assert process.stdout
        requests, lines = process.stdin, process.stdout

        def run(
            number: int, variables: dict[str, str], at: str | None = None
        ) -> dict[str, Any]:
            job = {"try_number": number, "variables": variables, "at": at}
            print(json.dumps(job), file=requests, flush=True)
            # Airflow logs warnings there, such as ours about a pre-release.
            line = next(line for line in lines if line.startswith("{"))
            answer: dict[str, Any] = json.loads(line)
            return answer

        yield run
        requests.close()


def check(run_try: RunTry, world: World, modules: list[str]) -> None:
    """End a first and a second try at each module. The first one starts."""
    started = run_try(1, {})
    assert (started["error"], world.calls(*CHANGES)) == ("deferred", [START])
    for module in modules:
        tries: list[dict[str, str]] = [{}, started["variables"]]
        for variables in tries:
            # The log of the emulator has a limit.
            world.control.clear_calls()
            ended = run_try(1 + bool(variables), variables, module)
            calls = world.calls(*CHANGES)
            expected = [START, STOP]
            if variables:
                expected = [STOP]
            elif "killed" in ended["error"]:
                expected = []
            assert (module, calls) == (module, expected)
            assert ended["error"] in ("deferred", "PolysyncError: The task was killed.")
            assert ended["imports_of_on_kill"] == []


def test_kill_in_an_import_ends_the_task(run_try: RunTry, world: World) -> None:
    """
    It starts nothing, and the execution of the try before is stopped. What on_kill
    imports may be half there, or locked.
    """
    check(run_try, world, list(MODULES))
