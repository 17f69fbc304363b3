"""
Whether a person may resume an execution, by the tab or by a command.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from polysync_airflow.execution.lifecycle.orphans import ENDED_STATES
from polysync_airflow.states import PolysyncState, has_ended, state_of


def why_task_keeps_its_choice(states: Sequence[str | None]) -> str | None:
    """
    Return why nobody can choose now what the next clear of a task does; None if
    somebody can. A try that runs or is on its way may write the record at any moment.

    :param states: the states of the task instance; empty if it was deleted.
    """
    if states and ENDED_STATES.issuperset(states):
        return None
    # None is that of a task that was cleared.
    named = ", ".join(state or "not set" for state in states)
    return f"The task has not ended. Its state is {named}."


def why_not_resumed(
    status: str,
    *,
    by_fail_step: bool,
    task_states: Sequence[str | None] | None,
    asks_at: datetime | None = None,
) -> str | None:
    """
    Return why an execution cannot be resumed, and what to do instead; None if it can.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html

    :param status: AWS status of the execution.
    :param by_fail_step: whether a Fail step has ended it.
    :param task_states: the states of the task that has it; None if no task has.
    :param asks_at: when that task, which waits for capacity, asks AWS again; None if it
        does not wait.
    """
    if not has_ended(status):
        return f"It has not ended (AWS status {status})."
    state = state_of(status)
    if state is PolysyncState.SUCCESS:
        return f"Nothing is left to run (AWS status {status})."
    if task_states is not None:
        problem = why_task_keeps_its_choice(task_states)
        if problem:
            goes_on = "It goes on by itself"
            if asks_at:
                goes_on = (
                    "It waits for capacity, and asks AWS again at"
                    f" {asks_at:%Y-%m-%d %H:%M:%S} UTC"
                )
            return f"{problem} {goes_on}. To decide now, mark it as failed first."
    instead = "start a new one in its place"
    if task_states is not None:
        instead = "clear its task, which starts a new one"
    if by_fail_step:
        return f"AWS resumes no execution that a Fail step has ended: {instead}."
    if state is not PolysyncState.FAILED:
        return f"AWS resumes only what has failed (AWS status {status}): {instead}."
    return None
