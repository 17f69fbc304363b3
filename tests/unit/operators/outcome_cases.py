"""
The cases of the outcome tests: how a test case sets up the emulator, and how it runs in
both modes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from polysync_airflow.records import RECORD_KEY
from sagemaker_emulator import EmulatorServer
from tests.tasks import EmulatedTime, Run

Stage = Callable[[EmulatorServer, EmulatedTime], None]
MINUTES = 60.0
FAILED_STEP = {
    "steps": {"Shard3": {"fail": {"reason": "AlgorithmError: no data in shard 3"}}}
}


@dataclass
class Case:
    """
    One test case.

    :param name: the test id.
    :param state: the Polysync state of the execution at the end.
    :param stages: set up the emulator.
    :param arguments: arguments of the operator.
    :param error: the type of the error that ends the task; None if it succeeds.
    :param texts: texts that the error contains.
    :param stops: the number of StopPipelineExecution calls.
    """

    name: str
    state: str
    stages: tuple[Stage, ...] = ()
    arguments: dict[str, Any] = field(default_factory=dict)
    error: type[BaseException] | None = None
    texts: tuple[str, ...] = ()
    stops: int = 0


def scenario(**members: Any) -> Stage:
    """Set the emulator's scenario for executions."""
    return lambda emulator, _: emulator.control.put_scenario(members)


def fault(
    kind: str, operation: str = "DescribePipelineExecution", **members: Any
) -> Stage:
    """Add a fault for an operation to the emulator."""

    def stage(emulator: EmulatorServer, _: EmulatedTime) -> None:
        emulator.control.add_fault(kind, operation, **members)

    return stage


def run_in_both_modes(run: Callable[[bool], tuple[Run, Any]]) -> Run:
    """
    Run a test case on the worker and deferred, assert that both give the same, and
    return the deferred run.

    :param run: runs the case with ``deferrable`` and returns the run and what else must
        be the same.
    """
    (sync, sync_details), (deferred, deferred_details) = run(False), run(True)
    assert sync.trigger is None
    assert deferred.trigger is not None
    assert _comparable(sync) == _comparable(deferred)
    assert sync_details == deferred_details
    return deferred


def _comparable(run: Run) -> Any:
    # The record has a random client token and a signature.
    xcoms = {key: value for key, value in run.xcoms.items() if key != RECORD_KEY}
    result = repr((type(run.error), str(run.error), run.result, xcoms))
    text = re.sub(r"execution/[a-z0-9]{12}", "execution/ID", result)
    text = re.sub(r"\d{4}-\d\d-\d\dT[^']*", "TIME", text)
    # At the end of a wait, the triggerer stops the execution before the worker can.
    text = re.sub(r"'process': '\w+'", "PROCESS", text)
    text = re.sub(
        r"( by| when) the triggerer( asked for it)?, at [-0-9: ]* UTC", "", text
    )
    return (
        re.sub(r"after \d+ s|'seconds': [\d.]+", "SECONDS", text)
        if run.error is None
        else text
    )


def comparable_log(logs: list[Any]) -> list[str]:
    """Return the log lines that are the same in both modes."""
    lines = [f"{entry['log_level']}: {entry['event']}" for entry in logs]
    lines = [re.sub(r"execution/[a-z0-9]{12}", "execution/ID", line) for line in lines]
    # Which changes of the status are seen depends on the times of the polls, and a
    # triggerer says for all waits that polls fail. What it says of its stop is in the
    # error of the task.
    other = (
        r"info: \w+( -> \w+)?: Pipeline |\w+: (Polls? (failed|succeed|fail|have)|Poller"
        r" of )|warning: The wait has ended before the execution"
    )
    return [line for line in lines if not re.match(other, line)]
