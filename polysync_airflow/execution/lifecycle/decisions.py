"""
What a try does with the execution of the earlier tries, and what becomes of one that
nobody waits for.

Rules of a try that knows the status of that execution:

1. An *epoch* lasts until a user clears the task. A clear raises Airflow's
   ``max_tries``; a retry does not.
2. In the same epoch, a try continues with the stored execution. If the execution runs,
   the try waits for its end. If it succeeded, the try takes its result. If it failed,
   the try resumes or replaces it. If it was stopped, the try replaces it.
3. In a new epoch, ``on_clear`` decides, or what the user chose for this clear: the user
   wants a new execution, or the rest of one that has failed. If the stored execution
   still runs, the user wants a new one in its place, and the try stops it first. Who
   chose to resume it wants its end, in the same way as a retry. A group of steps
   chooses by the status (``stop_on_clear=False``): it waits for the end, to choose
   again, or it resumes.
4. While AWS has not responded to a resume, the next try sends the same request again,
   whatever ``retry_mode``, ``on_clear`` and ``on_completed_with_failures`` say: a
   process that was frozen may still send it, so nothing may be started beside it.
5. Two executions of a task never run at the same time: a try starts a new one only
   after the end of the stored one.

Rules of a process that no longer waits: on a worker, in a triggerer, or in the DAG
processor. ``state`` is the state of the task instance now; None if it has been cleared.
``stored`` is the proven record in the store now; None if there is none. Only a worker
can ask whether its try is still the current one of the task instance: not after a
clear, or once a retry is due.

1. An execution whose wait has ended with its own end is reported. If an earlier try of
   the task had asked for its stop, that is no decision of a user: the task begins
   again.
2. Any other execution is stopped, unless ``stop_on_kill=False``, or somebody else goes
   on with it.
3. A failed try leaves its execution to the retry, if one follows, also if it failed
   because it could not poll any longer. If a user has cleared the task meanwhile, none
   does. After a timeout, the execution is stopped.
4. A signal says nothing about its sender. If Airflow still has the task instance as
   running in this try, nobody has ended the task: its worker is shutting down, for
   example because a node is drained. Then the execution goes on, the try ends with an
   error, and rule 3 decides.
5. Before each stop, Airflow is asked who decides about the execution. The stop is
   announced in the record first, so that a later try tells it from a cancellation by a
   user.
6. Where Airflow does not say, the execution is left to the next try or to the failure
   callback in the DAG processor, which know: a process that was frozen or cut off must
   not stop what a later try has gone on with.

Everything here is pure. The drivers are ``operators/task_try.py`` on a worker, the
trigger, and the failure callback.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from polysync_airflow import states
from polysync_airflow.airflow_compat.task_instances import DELETED
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.instructions import (
    RecoveryChoices,
    StoredExecution,
)
from polysync_airflow.execution.models import LATEST, StartRequest
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.states import PolysyncState, has_ended, state_of


class Action(Enum):
    """The next action of a try."""

    # Start a new execution.
    START = auto()
    # Continue with the stored execution: wait for its end, or take its result.
    REATTACH = auto()
    # Resume the stored execution from its failed steps (RetryPipelineExecution).
    RESUME = auto()
    # Send a resume again that a user does not want any more, to know whether AWS begins
    # it.
    SETTLE_RESUME = auto()
    # Request a stop of the stored execution, then wait for its end.
    STOP = auto()
    # Wait for the end of the stored execution, then decide again.
    WAIT_FOR_END = auto()


# What the message of a failure says about the next try.
_RETRY: Final = {
    Action.START: "The retry starts a new execution.",
    Action.RESUME: (
        "The retry resumes the execution:\n  it repeats only the steps that had not"
        " succeeded."
    ),
}
_RETRY_AFTER_FAILURE: Final = {
    **_RETRY,
    Action.START: (
        "The retry starts a new execution and\n  repeats every step;"
        ' retry_mode="resume" would repeat only those that had not succeeded.'
    ),
}
# By whether Airflow retries the task, after a failure that AWS does not resume:
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
_AFTER_FAIL_STEP: Final = {
    True: (
        "The retry starts a new execution and\n"
        "  repeats every step, since AWS does not resume after a Fail step."
    ),
    False: (
        "Next: mend the cause, then clear the task. That starts a new execution and"
        " repeats every step,\n  since AWS does not resume after a Fail step."
    ),
}
_CLEAR_AFTER_FAILURE: Final = {
    Action.START: (
        "Next: mend the cause, then clear the task. That starts a new execution and"
        ' repeats every step;\n  on_clear="resume" {}repeats only what had not'
        " succeeded."
    ),
    Action.RESUME: (
        "Next: mend the cause, then clear the task.\n"
        "  That {}repeats only the steps that had not succeeded."
    ),
}


def next_action(
    stored: StoredExecution, epoch: int, status: str, choices: RecoveryChoices
) -> Action:
    """
    Return the next action of a try.

    :param stored: the record of the earlier tries.
    :param epoch: the epoch of this try, which is Airflow's ``max_tries``.
    :param status: AWS status of the stored execution.
    """
    failures_succeed = choices.on_completed_with_failures == "succeed"
    if stored.epoch != epoch:
        is_replaced = stored.replaced_by_epoch == epoch
        choice = stored.choice_in(epoch)
        if choice and choice.on_clear == "resume" and not is_replaced:
            # Somebody may have resumed it outside of Airflow meanwhile: the user wants
            # its end all the same.
            return _in_same_epoch(status, resumes=True)
        is_success = (
            status == states.STATUS_COMPLETED_WITH_FAILURES and failures_succeed
        )
        if not (choice or is_replaced or choices.stop_on_clear):
            # The status may be another one than that by which this was chosen.
            is_resumed = choices.on_clear == "resume"
            return (
                _in_same_epoch(status, resumes=True)
                if is_resumed
                else Action.WAIT_FOR_END
            )
        resumes = (
            choice is None
            and choices.on_clear == "resume"
            and not is_success
            and not is_replaced
        )
        if (
            stored.resume_is_pending
            and not resumes
            and state_of(status) is PolysyncState.FAILED
        ):
            return Action.SETTLE_RESUME
        return _in_new_epoch(status, resumes=resumes, may_stop=choices.stops_cleared)
    if stored.resume_is_pending:
        return _in_same_epoch(status, resumes=True)
    return _in_same_epoch(
        status,
        resumes=choices.retry_mode == "resume",
        failures_succeed=failures_succeed,
    )


def next_step(
    status: str | None,
    choices: RecoveryChoices,
    retry: str | None,
    *,
    by_fail_step: bool = False,
    button: str = "",
) -> str | None:
    """
    Return what comes next, as the last sentences of a failure's message; None if a
    person has to know.

    :param status: AWS status with which the execution has ended; None if it may still
        be running.
    :param retry: when Airflow starts another try, such as ``in 5 min``; None if none
        follows.
    :param by_fail_step: whether a Fail step has ended the execution.
    :param button: what else resumes it, such as ``or this button ``; empty for nothing.
    """
    failed = state_of(status) is PolysyncState.FAILED
    if retry is None:
        if status is None or not failed:
            return None
        if by_fail_step:
            return _AFTER_FAIL_STEP[False]
        action = _after_end(status, resumes=choices.on_clear == "resume")
        return _CLEAR_AFTER_FAILURE[action].format(button)
    next_try = f"Next: Airflow retries the task {retry}."
    if status is None:
        return next_try
    if failed and by_fail_step:
        return f"{next_try} {_AFTER_FAIL_STEP[True]}"
    action = _in_same_epoch(status, resumes=choices.retry_mode == "resume")
    return f"{next_try} {(_RETRY_AFTER_FAILURE if failed else _RETRY)[action]}"


def is_of_other_incarnation(
    stored: StoredExecution, incarnation: instructions.Incarnation, try_number: int
) -> bool:
    """
    Return whether another task instance with the same key wrote a record, as its first
    try begins.

    A DAG run that is cleared after its end starts anew as well, but then its
    ``clear_number`` grows, and so does the number of the try. If a user queues a
    running DAG run again, it cannot be told from a new one.

    :param incarnation: that of this try.
    :param try_number: the number of this try.
    """
    was = stored.incarnation
    if was is None:
        return False
    if was.region != incarnation.region:
        return True
    was_cleared = (
        incarnation.clear_number > was.clear_number and try_number > stored.try_number
    )
    return was.dag_run_started_at != incarnation.dag_run_started_at and not was_cleared


# The texts for people follow from the number of the start, unless the author gives
# them.
_NOT_COMPARED: Final = frozenset(
    {
        "pipeline_parameters",
        "execution_display_name",
        "execution_description",
        "client_request_token",
    }
)


def unused_arguments(
    sent: StartRequest, parameters: Mapping[str, str], current: StartRequest
) -> list[str]:
    """
    Return the arguments whose current values a resume does not use, since AWS keeps
    those of the start.

    :param parameters: the execution's parameters, also those that have their default.
    :param current: the request that would start an execution now.
    """
    names = StartRequest.model_fields.keys() - _NOT_COMPARED
    if sent.source_execution and current.source_execution == LATEST:
        # The record has the ARN of what was the latest execution at the start.
        names = names - {"source_execution"}
    changed = sorted(
        name for name in names if getattr(sent, name) != getattr(current, name)
    )
    now = current.pipeline_parameters
    differing = sorted(
        name for name in now if parameters and parameters.get(name) != now[name]
    )
    return changed + [f"pipeline_parameters[{name!r}]" for name in differing]


def _in_same_epoch(
    status: str, *, resumes: bool, failures_succeed: bool = False
) -> Action:
    if status == states.STATUS_STOPPING:
        return Action.WAIT_FOR_END
    if not has_ended(status) or state_of(status) is PolysyncState.SUCCESS:
        return Action.REATTACH
    if state_of(status) is PolysyncState.CANCELLED:
        return Action.START
    if status == states.STATUS_COMPLETED_WITH_FAILURES and failures_succeed:
        return Action.REATTACH
    return Action.RESUME if resumes else Action.START


def _after_end(status: str, *, resumes: bool) -> Action:
    return (
        Action.RESUME
        if resumes and state_of(status) is PolysyncState.FAILED
        else Action.START
    )


def _in_new_epoch(status: str, *, resumes: bool, may_stop: bool) -> Action:
    if has_ended(status):
        return _after_end(status, resumes=resumes)
    if status == states.STATUS_STOPPING or not may_stop:
        return Action.WAIT_FOR_END
    return Action.STOP


# States of a task instance that has a later try, or gets one. In all other states, a
# user has cleared or ended the task.
_RUNNING: Final = "running"
DEFERRED: Final = "deferred"
_WITH_LATER_TRY: Final = (
    "scheduled",
    "queued",
    _RUNNING,
    DEFERRED,
    "up_for_retry",
    "up_for_reschedule",
)

# In records of earlier versions.
_UNKNOWN_START: Final = datetime.min.replace(tzinfo=UTC)


class Owner(Enum):
    """Who decides about the execution of a try."""

    # The task instance is still that of this try.
    THIS_TRY = auto()
    # A user has cleared, ended or deleted the task, and no later try has begun. Only
    # this try can stop it.
    NOBODY = auto()
    # A later try decides.
    LATER_TRY = auto()
    # The trigger of the same try in another triggerer, or that of a later try.
    OTHER_TRIGGER = auto()
    # Airflow does not say, for example because the process was away for longer than its
    # token is valid.
    UNKNOWN = auto()


def is_over(state: str | None) -> bool:
    """
    Return whether a task has ended, or was cleared or deleted, so that no try runs or
    is on its way.
    """
    return state not in _WITH_LATER_TRY


def keeps_xcoms(state: str | None) -> bool:
    """
    Return whether a task that its try has left keeps the XComs of this try: no later
    try deletes them.
    """
    return is_over(state) and state != DELETED


def owner_by_record(
    record: StoredExecution,
    try_number: int,
    state: str | None,
    stored: StoredExecution | None,
    *,
    is_current: bool,
) -> Owner:
    """
    Return who decides about the execution of a try, as its own process sees it.

    A try that has gone on with the execution has written its number into the stored
    record. If the task has ended since, and the later try has no response to a request
    that this one has sent late, only this one knows what AWS has begun.

    :param is_current: whether this try is still the current one of the task instance.
    """
    # The record that a process reads after a deferral may already be that of a later
    # try.
    own = _started_at(record), try_number
    if stored and not (_is_of_same_execution(stored, record) and _order(stored) <= own):
        return (
            Owner.NOBODY
            if is_over(state) and _is_unanswered(stored, record)
            else Owner.LATER_TRY
        )
    if state == _RUNNING and is_current:
        return Owner.THIS_TRY
    if state in _WITH_LATER_TRY:
        return Owner.LATER_TRY
    # Without a record, a later try may have succeeded and deleted it.
    return Owner.NOBODY if is_current or stored or state == DELETED else Owner.LATER_TRY


def owner_of_deferred(
    state: str | None, stored: StoredExecution | None, arn: str, try_number: int
) -> Owner:
    """
    Return who decides about the execution of a deferred task whose trigger Airflow has
    ended.

    If the task is still deferred, its trigger has only moved to another triggerer
    (Airflow 3.4 no longer reports that), or the task was cleared: then its new try has
    stopped this execution, or waits for it. A try that is at work reads the record
    itself.

    :param arn: the execution.
    """
    if state == DEFERRED:
        return Owner.OTHER_TRIGGER
    # A triggerer that was suspended may learn only after the next try that its trigger
    # has moved.
    is_replaced = stored is not None and (
        stored.execution_arn != arn or stored.try_number > try_number
    )
    return Owner.LATER_TRY if state == _RUNNING or is_replaced else Owner.NOBODY


def owner_of_dead_process(
    stored: StoredExecution | None, try_number: int, *, retry_follows: bool
) -> Owner:
    """
    Return who decides about the execution of a try whose process has died, as the DAG
    processor sees it.
    """
    if retry_follows or stored is None or stored.try_number > try_number:
        return Owner.LATER_TRY
    return Owner.NOBODY


def _order(record: StoredExecution) -> tuple[datetime, int]:
    """
    Return a value that is greater for a later try, also after the DAG run was created
    again.
    """
    return _started_at(record), record.try_number


def _started_at(record: StoredExecution) -> datetime:
    incarnation = record.incarnation
    return (incarnation and incarnation.dag_run_started_at) or _UNKNOWN_START


def _is_of_same_execution(other: StoredExecution, record: StoredExecution) -> bool:
    return other.request.client_request_token == record.request.client_request_token


def _is_unanswered(other: StoredExecution, record: StoredExecution) -> bool:
    """
    Return whether the try that wrote a record does not know what AWS has responded to
    the same request.
    """
    if not _is_of_same_execution(other, record):
        return False
    if other.execution_arn is None or other.resumes < record.resumes:
        return True
    return other.resume_is_pending and other.resume_token == record.resume_token


class Exit(Enum):
    """What a process does with the execution that it no longer waits for."""

    # Nothing is left to do: ``text`` says what became of the execution; it is empty if
    # there is none.
    DONE = auto()
    # Begin the task again: an earlier try of it has stopped the execution.
    BEGIN_AGAIN = auto()
    # Ask Airflow who decides about the execution.
    ASK_OWNER = auto()
    # The same, and store that a stop is going to be requested.
    ANNOUNCE_STOP = auto()
    # Stop the execution.
    STOP = auto()
    # Store the record as it was: the stop that was announced has failed.
    WITHDRAW_STOP = auto()


SHUTTING_DOWN: Final = (
    "Nobody has ended the task, so its worker is shutting down: the execution goes on."
)
KEPT: Final = "The execution keeps running because stop_on_kill=False."
LEFT_TO_RETRY: Final = "The next try continues with the execution."
_OTHER_RECORD: Final = (
    "The execution was not stopped, because the record of this task is missing or names"
    " another."
)
_LEFT: Final = {
    Owner.LATER_TRY: "A later try continues with the execution, so it is not stopped.",
    Owner.OTHER_TRIGGER: (
        "The task is still deferred: another triggerer has its trigger, or a later try"
        " has taken its place. Nothing is stopped."
    ),
    Owner.UNKNOWN: (
        "It is not stopped, because Airflow does not say whether a later try has it."
        " The next try, or the failure callback in the DAG processor, decides."
    ),
}


@dataclass(frozen=True, slots=True)
class Leaving:
    """
    The next action of a process that no longer waits for an execution.

    :param retry_follows: whether Airflow starts another try.
    :param is_signalled: whether the process has received a signal that ends it.
    :param text: what became of the execution, as a sentence.
    :param handled: whether nobody else has to decide about the execution.
    :param is_shutdown: whether the process ends because its worker shuts down.
    :param is_own_stop: whether the execution ended because this try stopped it, and not
        because of a user.
    """

    exit: Exit
    try_number: int
    stop_on_kill: bool
    retry_follows: bool = False
    is_signalled: bool = False
    text: str = ""
    handled: bool = True
    is_shutdown: bool = False
    is_own_stop: bool = False

    @property
    def begins_again(self) -> bool:
        """Whether the task begins again."""
        return self.exit is Exit.BEGIN_AGAIN

    def announced(self, record: StoredExecution) -> StoredExecution:
        """Return the record to store before the stop."""
        return record.model_copy(update={"stop_requested_by": self.try_number})

    def owned_by(self, owner: Owner) -> Leaving:
        """
        Return the next action, now that it is known who decides about the execution.
        """
        if self.is_signalled and owner is Owner.THIS_TRY:
            return replace(self._done(SHUTTING_DOWN), is_shutdown=True)
        if self.retry_follows and owner is not Owner.NOBODY:
            # If Airflow does not say, the retry will know.
            return self._done(LEFT_TO_RETRY)
        if owner in _LEFT:
            return self._done(_LEFT[owner], handled=owner is not Owner.UNKNOWN)
        if not self.stop_on_kill:
            return self._done(KEPT)
        return replace(
            self, exit=Exit.ANNOUNCE_STOP if self.exit is Exit.ASK_OWNER else Exit.STOP
        )

    def stop_requested(self, text: str, *, failed: bool) -> Leaving:
        """
        Return the next action, now that AWS has responded to the stop.

        :param text: what AWS has responded, as a sentence.
        """
        return replace(
            self, exit=Exit.WITHDRAW_STOP if failed else Exit.DONE, text=text
        )

    def _done(self, text: str, *, handled: bool = True) -> Leaving:
        return replace(self, exit=Exit.DONE, text=text, handled=handled)


def leave(
    record: StoredExecution | None,
    try_number: int,
    *,
    stop_on_kill: bool,
    retry_follows: bool = False,
    is_signalled: bool = False,
) -> Leaving:
    """
    Return the first action of a try on a worker that ends before its execution.

    :param is_signalled: whether the process has received a signal that ends it.
    """
    now = Leaving(Exit.DONE, try_number, stop_on_kill, retry_follows, is_signalled)
    if record is None:
        return now
    if retry_follows or is_signalled:
        return replace(now, exit=Exit.ASK_OWNER)
    if not stop_on_kill:
        return now._done(KEPT)
    return replace(now, exit=Exit.ANNOUNCE_STOP)


def needs_record(end: ExecutionEvent, *, stop_on_kill: bool) -> bool:
    """Return whether ``after_wait`` depends on the record."""
    return _is_cancelled(end) if end.outcome == "ended" else stop_on_kill


def after_wait(
    end: ExecutionEvent,
    record: StoredExecution | None,
    try_number: int,
    *,
    stop_on_kill: bool,
    retry_follows: bool = False,
    problem: str | None = None,
) -> Leaving:
    """
    Return the first action after the end of a wait.

    :param record: the record, if ``needs_record``; None if there is none, or if it
        cannot be believed.
    :param retry_follows: whether Airflow starts another try if the polls are refused.
    :param problem: why it cannot be believed.
    """
    done = Leaving(Exit.DONE, try_number, stop_on_kill)
    if end.outcome == "ended":
        # The earlier try may have been cut off from Airflow between its decision and
        # its request, while this one went on with the execution. Without a proven
        # record, the cancellation is somebody's.
        stopped_by = record.stop_requested_by if record and _is_cancelled(end) else None
        if stopped_by and stopped_by < try_number:
            return replace(done, exit=Exit.BEGIN_AGAIN)
        return replace(done, is_own_stop=stopped_by == try_number)
    if not stop_on_kill:
        return done._done(KEPT)
    if problem:
        return done._done(f"The execution was not stopped: {problem}", handled=False)
    if record is None or record.execution_arn != end.execution_arn:
        return done._done(_OTHER_RECORD, handled=False)
    is_left = retry_follows and end.outcome == "refused"
    return leave(record, try_number, stop_on_kill=stop_on_kill, retry_follows=is_left)


def _is_cancelled(end: ExecutionEvent) -> bool:
    return state_of(end.status) is PolysyncState.CANCELLED
