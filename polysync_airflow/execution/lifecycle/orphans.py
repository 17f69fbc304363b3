"""
Whether the watch stops an execution whose task has no process: in a triggerer that was
told of the task's end, or in a sweep.

A task may end, or be deleted, while none of its processes runs, for example between two
tries.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import Enum, auto
from typing import Final, NamedTuple

from polysync_airflow.execution.lifecycle.ending import Owner
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord
from polysync_airflow.states import PolysyncState, has_ended, is_stoppable, state_of

# In all other states, a try of the task runs or is on its way.
ENDED_STATES: Final = frozenset(
    {"success", "failed", "skipped", "upstream_failed", "removed"}
)


class TaskSnapshot(NamedTuple):
    """
    What Airflow says of the task instance of a record.

    :param exists: False if it was deleted.
    :param state: the state of the task instance, if that exists.
    :param try_number: the number of the newest try; None if Airflow does not say.
    """

    exists: bool
    state: str | None = None
    try_number: int | None = None


class Finding(Enum):
    """What is done with an execution."""

    # Its task, or the choice of the DAG author, keeps it.
    KEEP = auto()
    # It does not run any more, or is stopping.
    OVER = auto()
    STOP = auto()


class Verdict(NamedTuple):
    """
    What is done with an execution, and why.

    :param text: the reason, as a sentence.
    """

    finding: Finding
    text: str


def judge_task(record: ExecutionRecord, task: TaskSnapshot) -> Verdict:
    """Return what is done with the execution of a record, by what Airflow says."""
    stop = record.unattended_stop
    if stop is None:
        return Verdict(
            Finding.KEEP, "The execution keeps running because stop_on_kill=False."
        )
    if record.waits_for_capacity:
        return Verdict(Finding.OVER, "Nothing runs: the task waits for capacity.")
    if not task.exists:
        return Verdict(Finding.STOP, "The task was deleted.")
    # A clear and a retry never take back the number of a try: only a task instance that
    # was created anew counts from the beginning.
    if task.try_number is not None and task.try_number < record.try_number:
        return Verdict(
            Finding.STOP, "The DAG run was deleted, and created again with the same id."
        )
    if task.state not in ENDED_STATES:
        return Verdict(
            Finding.KEEP,
            f"The task has not ended (state {task.state}): its own tries decide.",
        )
    if task.state == "success" and not stop.after_success:
        return Verdict(
            Finding.KEEP,
            "The task has succeeded with wait_for_completion=False: the execution goes"
            " on.",
        )
    return Verdict(Finding.STOP, f"The task has ended (state {task.state}).")


def with_status(verdict: Verdict, status: str | None) -> Verdict:
    """
    Return what is done with an execution, now that AWS was asked.

    :param status: AWS's status of the execution; None if AWS does not say.
    """
    if verdict.finding is not Finding.STOP:
        return verdict
    if status is None or is_stoppable(status):
        return verdict
    return Verdict(
        Finding.OVER,
        f"{verdict.text} No stop is needed: the execution has ended or is stopping (AWS"
        f" status {status}).",
    )


def owner_of_orphan(
    stored: ExecutionRecord | None, examined: ExecutionRecord, task: TaskSnapshot
) -> Owner:
    """
    Return who decides about an execution that was examined, now that Airflow was asked
    again.

    :param stored: the record now; None without a proven record.
    :param examined: the record that the watch has examined, with the ARN of the
        execution.
    """
    if stored is None or not _is_of_same_try(stored, examined):
        return Owner.LATER_TRY
    if judge_task(stored, task).finding is not Finding.STOP:
        return Owner.LATER_TRY
    return Owner.NOBODY


def _is_of_same_try(stored: ExecutionRecord, examined: ExecutionRecord) -> bool:
    """
    Return whether a record is still about the same attempt of the same execution, and
    no other try has written it.
    """
    return (
        stored.execution_arn in (None, examined.execution_arn)
        and stored.request.client_request_token == examined.request.client_request_token
        and stored.resumes == examined.resumes
        and stored.try_number == examined.try_number
    )


def queue_of_watch(
    task_queue: str | None, served: Collection[str | None]
) -> str | None:
    """
    Return the queue of the trigger that looks after an execution, where triggerers run
    only those of their queues.

    The triggerer of the task comes first: its network and its role may be the only ones
    that reach AWS.

    :param task_queue: the queue of the task.
    :param served: the queues of the triggers that run now; None among them: a triggerer
        without queues. Empty if none runs: it is not known then which queues triggerers
        serve, but deferred tasks of a queue need one of it.
    :return: None for the triggerers without queues.
    """
    if not served or task_queue in served:
        return task_queue
    if None in served:
        return None
    return min(queue for queue in served if queue is not None)


# ---- what a person may do with the execution of a task


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
