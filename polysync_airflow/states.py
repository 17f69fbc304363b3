"""
The states of an execution, and the one table that maps AWS's statuses to them.

AWS has *statuses* (``Executing``, ``CompletedWithFailures``); Polysync has *states* (``Running``, ``Failed``).
How a wait reacts to a status is decided in ``execution/waiter.py``.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class PolysyncState(StrEnum):
    """What Polysync calls the condition of an execution."""

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

STATUS_STOPPING: Final = "Stopping"
STATUS_COMPLETED_WITH_FAILURES: Final = "CompletedWithFailures"


def state_of(status: str | None) -> PolysyncState:
    """
    Map an AWS status to a Polysync state.

    :param status: AWS's ``PipelineExecutionStatus``; None if it was never seen.
    """
    return STATE_OF_STATUS.get(status or "", PolysyncState.UNKNOWN)


def has_ended(status: str | None) -> bool:
    """
    Tell whether an execution with this status will not change any more by itself.

    :param status: AWS's ``PipelineExecutionStatus``.
    """
    return state_of(status) not in (PolysyncState.RUNNING, PolysyncState.UNKNOWN)


def is_stoppable(status: str) -> bool:
    """
    Tell whether asking for a stop makes sense: the execution has not ended and is not stopping yet.

    :param status: AWS's ``PipelineExecutionStatus``.
    """
    return status != STATUS_STOPPING and not has_ended(status)
