"""
What scenarios have in common: the names of AWS's operations, and the steps that many of
them take.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psutil

from tests.chaos.deployment.airflow_deployment import FIRST, SECOND
from tests.chaos.run import Run, Steps, UnexpectedStateError
from tests.system.airflow.versions import INSTALLED

Scenario = Callable[[Run], Steps]
START: Final = "StartPipelineExecution"
DESCRIBE: Final = "DescribePipelineExecution"
ENDED: Final = ("success", "failed", "skipped", "upstream_failed", "removed")
# Seconds in which fifty tasks must start, or resume, on a busy machine.
MANY_TASKS_TIMEOUT: Final = 600.0
# Step duration of the execution that a cleared task starts. The steps of the previous
# execution are long.
SHORT_STEP: Final = 3.0


def wait_for_kill(run: Run) -> Steps:
    yield from run.until(
        "the process of the first try was killed",
        lambda: run.marker("killed") is not None,
    )
    pid = (run.marker("killed") or {})["pid"]
    yield from run.until(
        "the killed process is gone", lambda: not psutil.pid_exists(pid)
    )


def wait_for_failure(run: Run) -> Steps:
    yield from run.until("the task has failed", lambda: run.all_in("failed"))
    # Airflow ignores a clear that arrives while it is still setting the DAG run to
    # failed.
    yield from run.until(
        "the DAG run has failed", lambda: run.dag_run_state() == "failed"
    )
    yield from sleep(INSTALLED.fails_runs_again)


def wait_for_end(run: Run, timeout: float | None = None) -> Steps:
    arguments = {} if timeout is None else {"timeout": timeout}
    yield from run.until("the task has ended", lambda: run.all_in(*ENDED), **arguments)


def start_and_defer(run: Run) -> Steps:
    run.start()
    yield from run.until(
        "the task is deferred and its execution was polled",
        lambda: (
            bool(run.calls(DESCRIBE))
            and run.all_in("deferred")
            and run.triggerer() is not None
        ),
    )


def start_and_poll(run: Run) -> Steps:
    run.start()
    yield from run.until(
        "the task polls in its worker",
        lambda: bool(run.calls(DESCRIBE)) and run.all_in("running"),
    )


def running_triggerer(run: Run) -> str:
    name = run.triggerer()
    if name is None:
        raise UnexpectedStateError("no triggerer runs the task's trigger")
    return name


def wait_for_takeover(run: Run, name: str) -> Steps:
    other = SECOND if name == FIRST else FIRST
    start = time.monotonic()
    yield from run.until(f"{other} runs the trigger", lambda: run.triggerer() == other)
    run.remarks.append(f"taken over after {time.monotonic() - start:.0f} s")


def end_in_second_try(run: Run) -> Steps:
    """Let the execution end when the second try waits for it."""
    yield from wait_for_second_try(run)
    yield from release(run)


def wait_for_second_try(run: Run) -> Steps:
    """Wait until the second try polls the execution."""
    start = time.monotonic()
    yield from run.until(
        "the second try runs",
        lambda: run.task()["try_number"] == 2 and run.all_in("running", "deferred"),
    )
    polls = len(run.calls(DESCRIBE))
    yield from run.until(
        "the second try polls", lambda: len(run.calls(DESCRIBE)) > polls
    )
    run.remarks.append(f"second try polls after {time.monotonic() - start:.0f} s")


def release(run: Run) -> Steps:
    """Let the executions end."""
    yield from run.wait_for_hold()
    run.release()
    yield from wait_for_end(run)


def clear(run: Run) -> Steps:
    """Clear the task, and wait until it ends with a new, short execution."""
    run.seconds = SHORT_STEP
    run.set_steps()
    start = time.monotonic()
    run.clear()
    yield from run.until("a second execution exists", lambda: len(run.executions()) > 1)
    run.remarks.append(
        f"new execution {time.monotonic() - start:.0f} s after the clear"
    )
    yield from wait_for_end(run)


def sleep(seconds: float) -> Steps:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
