"""
Whether a person may resume an execution, by the tab or by a command.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    return f"The task has not ended. Its state is {', '.join(map(str, states))}."


def why_not_resumed(
    status: str, *, by_fail_step: bool, task_states: Sequence[str | None] | None
) -> str | None:
    """
    Return why an execution cannot be resumed, and what to do instead; None if it can.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryPipelineExecution.html

    :param status: AWS status of the execution.
    :param by_fail_step: whether a Fail step has ended it.
    :param task_states: the states of the task that has it; None if no task has.
    """
    if task_states is not None:
        problem = why_task_keeps_its_choice(task_states)
        if problem:
            return f"{problem} It goes on by itself, or mark it as failed first."
    if not has_ended(status):
        return f"It has not ended (AWS status {status})."
    state = state_of(status)
    if state is PolysyncState.SUCCESS:
        return f"Nothing is left to run (AWS status {status})."
    instead = "start a new one in its place"
    if task_states is not None:
        instead = "clear its task, which starts a new one"
    if by_fail_step:
        return f"AWS resumes no execution that a Fail step has ended: {instead}."
    if state is not PolysyncState.FAILED:
        return f"AWS resumes only what has failed (AWS status {status}): {instead}."
    return None
