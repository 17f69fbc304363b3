"""
The states of an execution, the table that maps AWS's statuses to them, and a state of
task instances that Airflow lacks.

AWS has *statuses* (``Executing``, ``CompletedWithFailures``); Polysync has *states*
(``Running``, ``Failed``). ``execution/waiter.py`` decides what a wait does after each
status.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class PolysyncState(StrEnum):
    """The state of an execution."""

    RUNNING = "Running"
    SUCCESS = "Success"
    FAILED = "Failed"
    CANCELLED = "Cancelled"
    UNKNOWN = "Unknown"


# https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribePipelineExecution.html
STATE_OF_STATUS: Final[dict[str, PolysyncState]] = {
    "Executing": PolysyncState.RUNNING,
    "Stopping": PolysyncState.RUNNING,
    "Succeeded": PolysyncState.SUCCESS,
    "Failed": PolysyncState.FAILED,
    "CompletedWithFailures": PolysyncState.FAILED,
    "Stopped": PolysyncState.CANCELLED,
}

STATUS_STARTING: Final = "Starting"  # of steps only
STATUS_EXECUTING: Final = "Executing"
STATUS_STOPPING: Final = "Stopping"
STATUS_FAILED: Final = "Failed"
STATUS_COMPLETED_WITH_FAILURES: Final = "CompletedWithFailures"
STATUS_STOPPED: Final = "Stopped"

# What an execution or a step that has ended has done, for sentences.
VERBS: Final = {
    PolysyncState.SUCCESS: "succeeded",
    PolysyncState.FAILED: "failed",
    PolysyncState.CANCELLED: "was stopped",
}

# In place of Airflow's state of a task instance that does not exist any longer.
DELETED: Final = "deleted"


def state_of(status: str | None) -> PolysyncState:
    """
    Return the Polysync state for an AWS status.

    :param status: AWS's ``PipelineExecutionStatus``; None if it is not known.
    """
    return STATE_OF_STATUS.get(status or "", PolysyncState.UNKNOWN)


def state_of_step(status: str | None) -> PolysyncState:
    """
    Return the Polysync state for the status of a step.

    :param status: AWS's ``StepStatus``; None if it is not known.
    """
    if status == STATUS_STARTING:
        return PolysyncState.RUNNING
    # Otherwise, steps have the statuses of executions:
    # https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_PipelineExecutionStep.html
    return state_of(status)


def has_ended(status: str | None) -> bool:
    """
    Return whether an execution with this status has ended, so that its status changes
    only by a resume.

    :param status: AWS's ``PipelineExecutionStatus``; None if it is not known.
    """
    return state_of(status) not in (PolysyncState.RUNNING, PolysyncState.UNKNOWN)


def is_stoppable(status: str) -> bool:
    """
    Return whether a stop can be requested: the execution has not ended and is not
    stopping yet.

    :param status: AWS's ``PipelineExecutionStatus``.
    """
    return status != STATUS_STOPPING and not has_ended(status)
