"""Processes of Airflow: forks, and what is imported once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.unit.operators.recovery.kills.test_kill_in_imports import (
    MODULES,
    RunTry,
    check,
)
from tests.unit.watch.test_plugin import NEEDS_CALLBACKS
from tests.world import World

pytestmark = pytest.mark.nightly
# A scheduler whose LocalExecutor forks a process for a task.
FORK = """
import os, sys, types
sys.modules["airflow.jobs.scheduler_job_runner"] = types.ModuleType("scheduler")
from airflow.listeners.listener import get_listener_manager
def ours():
    plugins = get_listener_manager().pm.get_plugins()
    return [each for each in plugins if type(each).__name__ == "EndListener"]
assert len(ours()) == 1
child = os.fork()
if not child:
    os._exit(len(ours()))
assert os.waitpid(child, 0)[1] == 0
assert len(ours()) == 1
"""
_IMPORT_ON_A_NEWER_VERSION = """
import airflow

airflow.__version__ = "3.11.0"
import polysync_airflow.operators
import polysync_airflow.triggers
"""
# A supervisor that forks the process of a task, as Airflow 2 does. The task says each
# time that it goes on.
SUPERVISOR = """
import os, sys, time
from polysync_airflow.airflow_compat import supervisor
supervisor.CAPABILITIES = supervisor.CAPABILITIES._replace(task_sdk=False)
if os.fork():
    time.sleep(60)
parent = os.getppid()
end = time.monotonic() + 20
while time.monotonic() < end:
    supervisor.exit_if_orphaned(parent, lambda text: print("warning", flush=True))
    print("goes on", flush=True)
    time.sleep(0.1)
"""


@NEEDS_CALLBACKS
def test_tasks_of_local_executor_have_no_listener() -> None:
    """Their processes are forks of the scheduler, and parse DAG files."""
    subprocess.run([sys.executable, "-c", FORK], check=True)


def test_a_process_warns_once() -> None:
    """
    However many modules of the package it imports. Airflow writes the warning to stdout
    or stderr.
    """
    command = [sys.executable, "-W", "always", "-c", _IMPORT_ON_A_NEWER_VERSION]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (run.stdout + run.stderr).count(
        "polysync-airflow is not tested on Airflow 3.11.0"
    ) == 1


def test_process_without_a_supervisor_ends_after_a_warning() -> None:
    """On Airflow 2, the process ends after a warning."""
    supervisor = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SUPERVISOR],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert supervisor.stdout
    while "goes on" not in supervisor.stdout.readline():
        pass

    supervisor.kill()
    supervisor.wait()
    lines = supervisor.stdout.read().splitlines()

    assert lines[-1] == "warning"
    assert lines.count("warning") == 1


@pytest.mark.timeout(1200)
def test_kill_in_any_import_ends_the_task(run_try: RunTry, world: World) -> None:
    """In each module of ours that a running task imports, and in some of boto3."""
    begun = run_try(1, {})["begun"]
    world.control.reset()
    theirs = [name for name in begun if name.startswith("boto")]
    modules = [name for name in begun if name.startswith("polysync_airflow")]
    assert set(MODULES) <= set(modules)

    check(run_try, world, modules + theirs[::20])
