"""
Whether the watch stops an execution whose task has no process: in a triggerer that was
told of the task's end, or in a sweep.

A task may end, or be deleted, while none of its processes runs, for example between two
tries.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import Enum, auto
from typing import Final, NamedTuple

from polysync_airflow.execution.lifecycle.ending import Owner
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord
from polysync_airflow.states import is_stoppable

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
