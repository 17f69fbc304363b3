"""Owns the judgement: what is seen of a run once everything has settled, and whether that is as expected."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.rows import Row
from tests.chaos.run import Execution, Run, Steps, overlap

# The stop may come a good while after the task's end: the first task that a triggerer asks Airflow about has to
# wait until that has built its own API server inside the triggerer, and the machine may be busy.
SETTLING: Final = 60.0
# AWS, as emulated, takes 20 seconds over it.
STOPPING: Final = 90.0


@dataclass(frozen=True)
class Outcome:
    """
    What came of one run.

    :param executions: how many were started.
    :param left: how many still run.
    :param states: the tasks' final states.
    :param tries: the tasks' numbers of tries.
    :param stops: how many stops were asked for and accepted.
    :param overlap: seconds for which two executions ran at once.
    :param remarks: what else there is to tell.
    :param problems: what is not as expected.
    :param seconds: how long the run took.
    """

    executions: int
    left: int
    states: tuple[str, ...]
    tries: tuple[int, ...]
    stops: int
    overlap: float
    remarks: tuple[str, ...]
    problems: tuple[str, ...]
    seconds: float


def settle(run: Run) -> Steps:
    """Wait until no execution runs, for a while at most."""
    begin = time.monotonic()
    while unfinished := run.unfinished():
        limit = STOPPING if "Stopping" in unfinished else SETTLING
        if time.monotonic() - begin > limit:
            return
        yield


def judge(row: Row, run: Run, seconds: float) -> Outcome:
    """
    Look at a run that has settled.

    :param row: with what is expected of it.
    :param run: the run.
    :param seconds: how long it took.
    """
    executions, tasks = run.executions(), run.tasks()
    run.deployment.calls.refresh()
    accepted = [call["request"] for call in run.calls("StopPipelineExecution") if call["status"] == 200]
    # To AWS, a request that is repeated with its token is one.
    stops = {request.get("ClientRequestToken") for request in accepted}
    states = tuple(sorted(task["state"] or "none" for task in tasks))
    tries = tuple(sorted(task["try_number"] for task in tasks))
    left = sum(execution.running for execution in executions)
    shared = overlap(executions) if len(tasks) == 1 else 0.0
    return Outcome(
        executions=len(executions),
        left=left,
        states=states,
        tries=tries,
        stops=len(stops),
        overlap=shared,
        remarks=tuple(run.remarks),
        problems=(
            *run.problems,
            *_about_executions(row, executions, shared),
            *_about_tasks(row, states, tries, len(stops)),
        ),
        seconds=seconds,
    )


def _about_executions(row: Row, executions: Sequence[Execution], shared: float) -> list[str]:
    seen, expected = tuple(execution.status for execution in executions), row.expected.statuses
    problems = []
    if seen != expected:
        problems.append(f"executions {', '.join(seen) or 'none'}, expected {', '.join(expected)}")
    if shared > 0:
        problems.append(f"two executions ran at once for {shared:.1f} s")
    return problems


def _about_tasks(row: Row, states: Sequence[str], tries: Sequence[int], stops: int) -> list[str]:
    expected = row.expected
    problems = []
    if len(states) == 0 or set(states) != {expected.state}:
        problems.append(f"tasks {', '.join(states) or 'none'}, expected {expected.state}")
    if expected.tries is not None and set(tries) != {expected.tries}:
        problems.append(f"tries {tries}, expected {expected.tries} of each")
    if expected.stops != (stops > 0):
        problems.append(f"{stops} stops accepted, expected {'some' if expected.stops else 'none'}")
    return problems
