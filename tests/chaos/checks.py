"""
Checks a run after its end: executions, task states, tries and stops are compared with
the test case.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.cases.case import Case
from tests.chaos.run import Execution, Run, Steps, overlap

# The stop may come long after the end of the task: before a triggerer asks Airflow for
# a task's state for the first time, Airflow builds its API inside the triggerer
# process, and the machine may be busy.
STOP_REQUEST_TIMEOUT: Final = 60.0
# A stop takes 20 seconds in the emulator.
STOPPING_TIMEOUT: Final = 90.0


@dataclass(frozen=True)
class Outcome:
    """
    The outcome of a run.

    :param executions: number of executions that were started.
    :param running: number of executions that still run.
    :param states: the final states of the tasks.
    :param tries: the try numbers of the tasks.
    :param stops: number of stop requests that AWS accepted.
    :param overlap: seconds for which two executions ran at the same time.
    :param remarks: further observations, for the report.
    :param problems: what differs from the expected outcome.
    :param seconds: how long the run took.
    """

    executions: int
    running: int
    states: tuple[str, ...]
    tries: tuple[int, ...]
    stops: int
    overlap: float
    remarks: tuple[str, ...]
    problems: tuple[str, ...]
    seconds: float


def wait_for_executions(run: Run) -> Steps:
    """Wait until all executions end, or until a timeout."""
    start = time.monotonic()
    while running := run.running_statuses():
        timeout = STOPPING_TIMEOUT if "Stopping" in running else STOP_REQUEST_TIMEOUT
        if time.monotonic() - start > timeout:
            return
        yield


def check(case: Case, run: Run, seconds: float) -> Outcome:
    """
    Compare a run with the expected outcome of its test case.

    :param case: the test case.
    :param run: the run, whose executions have ended or timed out.
    :param seconds: how long the run took.
    """
    executions, tasks = run.executions(), run.tasks()
    run.deployment.calls.refresh()
    accepted = [
        call["request"]
        for call in run.calls("StopPipelineExecution")
        if call["status"] == 200
    ]
    # AWS treats requests with the same token as one.
    stops = {request.get("ClientRequestToken") for request in accepted}
    states = tuple(sorted(task["state"] or "none" for task in tasks))
    tries = tuple(sorted(task["try_number"] for task in tasks))
    running = sum(execution.running for execution in executions)
    seconds_together = overlap(executions) if case.group or len(tasks) == 1 else 0.0
    return Outcome(
        executions=len(executions),
        running=running,
        states=states,
        tries=tries,
        stops=len(stops),
        overlap=seconds_together,
        problems=(
            *run.problems,
            *_execution_problems(case, executions, seconds_together),
            *_task_problems(case, states, _counted(tries, run), len(stops)),
            *_record_problems(case, run),
        ),
        remarks=tuple(run.remarks),
        seconds=seconds,
    )


def _counted(tries: Sequence[int], run: Run) -> Sequence[int]:
    if not run.was_taken_for_ended():
        return tries
    run.remarks.append("the scheduler took a deferral for the end of a try")
    return [number - 1 for number in tries]


def _execution_problems(
    case: Case, executions: Sequence[Execution], seconds_together: float
) -> list[str]:
    statuses, expected = (
        tuple(execution.status for execution in executions),
        case.expected.statuses,
    )
    problems = []
    if statuses != expected:
        problems.append(
            f"executions: {', '.join(statuses) or 'none'}; expected: {', '.join(expected)}"
        )
    if seconds_together > 0:
        problems.append(
            f"two executions ran at the same time for {seconds_together:.1f} s"
        )
    return problems


def _task_problems(
    case: Case, states: Sequence[str], tries: Sequence[int], stops: int
) -> list[str]:
    expected = case.expected
    problems = []
    if expected.state is not None and set(states) != {expected.state}:
        problems.append(
            f"task states: {', '.join(states) or 'none'}; expected: {expected.state}"
        )
    if expected.tries is not None and set(tries) != {expected.tries}:
        problems.append(f"tries: {tries}; expected: {expected.tries} for each task")
    if expected.stops != (stops > 0):
        problems.append(
            f"accepted stops: {stops}; expected: {'at least 1' if expected.stops else 'none'}"
        )
    return problems


def _record_problems(case: Case, run: Run) -> list[str]:
    if case.expected.state != "success" or not case.expected.forgotten:
        return []
    return [
        f"record of a task that has succeeded: {name}" for name in sorted(run.records())
    ]
