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
   again, or it resumes. An execution that another task instance with the same key has
   started is replaced, unless the user chose to resume it.
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
6. A trigger whose wait has reached its deadline stops the execution before it fires its
   event: nobody may go on with the task for days, for example because its DAG is
   paused. If the stop fails, the worker requests it again. If it succeeds, the event
   says so, and the worker requests none. After a refusal that lasts, or in the wait for
   the execution of an earlier try, the trigger stops it only if no retry may go on with
   it. A trigger cannot know that, so the worker says it at the deferral.
7. Where Airflow does not say, the execution is left to the next try or to the failure
   callback in the DAG processor, which know: a process that was frozen or cut off must
   not stop what a later try has gone on with.

Everything here is pure. The drivers are ``operators/task_try.py`` on a worker, the
trigger, and the failure callback.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from polysync_airflow import states
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    RecoveryChoices,
    StoredExecution,
)
from polysync_airflow.execution.models import (
    CONNECTION_NOT_FOUND,
    LATEST,
    StartRequest,
    UnendedOutcome,
)
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.states import DELETED, PolysyncState, has_ended, state_of


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


def next_action(
    record: StoredExecution, epoch: int, status: str, choices: RecoveryChoices
) -> Action:
    """
    Return the next action of a try.

    :param record: the record of the earlier tries.
    :param epoch: the epoch of this try, which is Airflow's ``max_tries``.
    :param status: AWS status of the stored execution.
    """
    if record.epoch == epoch:
        return _after_retry(record, status, choices)
    return _after_clear(record, epoch, status, choices)


def _after_retry(
    record: StoredExecution, status: str, choices: RecoveryChoices
) -> Action:
    """Rule 2: a try of the same epoch continues with the stored execution."""
    if record.resume_is_pending:
        return _continue(status, after_failure=Action.RESUME)
    if _counts_as_success(status, choices):
        return Action.REATTACH
    if choices.retry_mode == "resume":
        return _continue(status, after_failure=Action.RESUME)
    return _continue(status, after_failure=Action.START)


def _after_clear(
    record: StoredExecution, epoch: int, status: str, choices: RecoveryChoices
) -> Action:
    """
    Rule 3: the user who has cleared the task wants a new execution, or the rest of this
    one.
    """
    if record.replaced_by_epoch == epoch:
        # An earlier try of this epoch has decided so. The status may have changed
        # since.
        return _replace(record, status, choices)

    choice = record.choice_in(epoch)
    if choice and choice.on_clear == "resume":
        # Somebody may have resumed it outside of Airflow meanwhile: the user wants its
        # end.
        return _continue(status, after_failure=Action.RESUME)
    if choice:
        return _replace(record, status, choices)

    if record.epoch == NO_EPOCH and record.replaced_by_epoch is not None:
        # Another task instance with the same key has started it. Its first try was to
        # replace it, and has not come to that.
        return _replace(record, status, choices)
    if not choices.stop_on_clear:
        return _go_on_with_group(status, choices)
    if choices.on_clear == "resume" and not _counts_as_success(status, choices):
        return _resume_what_failed(status, choices)
    return _replace(record, status, choices)


def _continue(status: str, *, after_failure: Action) -> Action:
    """
    Return the action of a try that wants the end of the execution, whatever it is.
    """
    if status == states.STATUS_STOPPING:
        return Action.WAIT_FOR_END
    if not has_ended(status):
        return Action.REATTACH
    if state_of(status) is PolysyncState.SUCCESS:
        return Action.REATTACH
    if state_of(status) is PolysyncState.CANCELLED:
        return Action.START
    return after_failure


def _replace(record: StoredExecution, status: str, choices: RecoveryChoices) -> Action:
    """
    Return the action of a try that wants a new execution in place of the stored one.
    """
    if not has_ended(status):
        return _bring_to_its_end(status, choices)
    if record.resume_is_pending and _has_failed(status):
        # Rule 4: a process that was frozen may still resume it.
        return Action.SETTLE_RESUME
    return Action.START


def _resume_what_failed(status: str, choices: RecoveryChoices) -> Action:
    """
    Return the action of a try that repeats what has failed, and replaces any other
    execution.
    """
    if not has_ended(status):
        return _bring_to_its_end(status, choices)
    if _has_failed(status):
        return Action.RESUME
    return Action.START


def _go_on_with_group(status: str, choices: RecoveryChoices) -> Action:
    """
    Return the action of a group of steps, which chooses by the status.

    The status may be another one than that by which it has chosen.
    """
    if choices.on_clear == "resume":
        return _continue(status, after_failure=Action.RESUME)
    return Action.WAIT_FOR_END


def _bring_to_its_end(status: str, choices: RecoveryChoices) -> Action:
    """
    Return the action of a try that begins only after the end of an execution that runs.
    """
    if status == states.STATUS_STOPPING:
        return Action.WAIT_FOR_END
    if not choices.stops_cleared:
        return Action.WAIT_FOR_END
    return Action.STOP


def _has_failed(status: str | None) -> bool:
    return state_of(status) is PolysyncState.FAILED


def _counts_as_success(status: str, choices: RecoveryChoices) -> bool:
    """Return whether the author takes an execution with failed steps for a success."""
    if choices.on_completed_with_failures != "succeed":
        return False
    return status == states.STATUS_COMPLETED_WITH_FAILURES


# What the message of a failure says about the retry,
_RETRY_STARTS: Final = "The retry starts a new execution."
_RETRY_REPEATS_ALL: Final = (
    'The retry starts a new execution and\n  repeats every step; retry_mode="resume"'
    " would repeat only those that had not succeeded."
)
_RETRY_RESUMES: Final = (
    "The retry resumes the execution:\n"
    "  it repeats only the steps that had not succeeded."
)
# or about what a user can do. After a Fail step, AWS does not resume:
# https://docs.aws.amazon.com/sagemaker/latest/dg/build-and-manage-steps-types.html
_RETRY_AFTER_FAIL_STEP: Final = (
    "The retry starts a new execution and\n"
    "  repeats every step, since AWS does not resume after a Fail step."
)
_CLEAR_AFTER_FAIL_STEP: Final = (
    "Next: mend the cause, then clear the task. "
    "That starts a new execution and repeats every step,\n"
    "  since AWS does not resume after a Fail step."
)
_CLEAR_STARTS: Final = (
    "Next: mend the cause, then clear the task. "
    "That starts a new execution and repeats every step;\n"
    '  on_clear="resume" {button}repeats only what had not succeeded.'
)
_CLEAR_RESUMES: Final = (
    "Next: mend the cause, then clear the task.\n"
    "  That {button}repeats only the steps that had not succeeded."
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
    if retry is None:
        return _what_to_clear(status, choices, by_fail_step=by_fail_step, button=button)
    next_try = f"Next: Airflow retries the task {retry}."
    if status is None:
        return next_try
    effect = _what_the_retry_does(status, choices, by_fail_step=by_fail_step)
    return f"{next_try} {effect}"


def _what_the_retry_does(
    status: str, choices: RecoveryChoices, *, by_fail_step: bool
) -> str:
    if not _has_failed(status):
        return _RETRY_STARTS
    if by_fail_step:
        return _RETRY_AFTER_FAIL_STEP
    if choices.retry_mode == "resume":
        return _RETRY_RESUMES
    return _RETRY_REPEATS_ALL


def _what_to_clear(
    status: str | None, choices: RecoveryChoices, *, by_fail_step: bool, button: str
) -> str | None:
    if not _has_failed(status):
        return None
    if by_fail_step:
        return _CLEAR_AFTER_FAIL_STEP
    if choices.on_clear == "resume":
        return _CLEAR_RESUMES.format(button=button)
    return _CLEAR_STARTS.format(button=button)


def is_of_other_incarnation(
    record: StoredExecution, incarnation: instructions.Incarnation, try_number: int
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
    recorded = record.incarnation
    if recorded.region != incarnation.region:
        return True
    if recorded.dag_run_started_at == incarnation.dag_run_started_at:
        return False
    run_was_cleared = incarnation.clear_number > recorded.clear_number
    return not (run_was_cleared and try_number > record.try_number)


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
    compared = StartRequest.model_fields.keys() - _NOT_COMPARED
    if sent.source_execution and current.source_execution == LATEST:
        # The record has the ARN of what was the latest execution at the start.
        compared = compared - {"source_execution"}
    arguments = [
        name
        for name in sorted(compared)
        if getattr(sent, name) != getattr(current, name)
    ]
    if not parameters:
        return arguments
    return arguments + [
        f"pipeline_parameters[{name!r}]"
        for name, value in sorted(current.pipeline_parameters.items())
        if parameters.get(name) != value
    ]


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

# Airflow does not tell the start of every DAG run.
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
    # The worker to which Airflow returns the deferred task.
    WORKER = auto()
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


def may_store(owner: Owner, state: str | None) -> bool:
    """
    Return whether a process that has no context of the task may write the record and
    the XComs: no other process writes them meanwhile.
    """
    if owner is Owner.THIS_TRY:
        return True
    return owner is Owner.NOBODY and keeps_xcoms(state)


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
    if stored and _is_of_later_try(stored, record, try_number):
        if is_over(state) and _is_unanswered(stored, record):
            return Owner.NOBODY
        return Owner.LATER_TRY
    if state == _RUNNING and is_current:
        return Owner.THIS_TRY
    if not is_over(state):
        return Owner.LATER_TRY
    if is_current or stored or state == DELETED:
        return Owner.NOBODY
    # Without a record, a later try may have succeeded and deleted it.
    return Owner.LATER_TRY


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
    if state == _RUNNING:
        return Owner.LATER_TRY
    # A triggerer that was suspended may learn only after the next try that its trigger
    # has moved.
    if _has_later_try(stored, arn, try_number):
        return Owner.LATER_TRY
    return Owner.NOBODY


def owner_at_end_of_wait(
    state: str | None, stored: StoredExecution | None, arn: str, try_number: int
) -> Owner:
    """
    Return who decides about the execution of a deferred task whose trigger has waited
    to the end.

    While triggers move between triggerers, the same one may run twice, and both may
    come here: they send the same stop. After the first event, the worker decides.

    :param arn: the execution.
    """
    if _has_later_try(stored, arn, try_number):
        return Owner.LATER_TRY
    if state == DEFERRED:
        return Owner.THIS_TRY
    if is_over(state):
        return Owner.NOBODY
    return Owner.WORKER


def _has_later_try(stored: StoredExecution | None, arn: str, try_number: int) -> bool:
    """Return whether the record says that a later try has gone on from a trigger's."""
    if stored is None:
        return False
    return stored.execution_arn != arn or stored.try_number > try_number


def owner_of_dead_process(
    stored: StoredExecution | None, try_number: int, *, retry_follows: bool
) -> Owner:
    """
    Return who decides about the execution of a try whose process has died, as the DAG
    processor sees it.
    """
    if retry_follows:
        return Owner.LATER_TRY
    if stored is None or stored.try_number > try_number:
        return Owner.LATER_TRY
    return Owner.NOBODY


def _is_of_later_try(
    stored: StoredExecution, record: StoredExecution, try_number: int
) -> bool:
    """
    Return whether a later try has written the stored record, or its execution is
    another one.
    """
    if not _is_of_same_execution(stored, record):
        return True
    # The record that a process reads after a deferral may already be that of a later
    # try, so its own number counts. A DAG run that was created again counts its tries
    # from 1 again.
    written_by = (_dag_run_started_at(stored), stored.try_number)
    this_try = (_dag_run_started_at(record), try_number)
    return written_by > this_try


def _dag_run_started_at(record: StoredExecution) -> datetime:
    return record.incarnation.dag_run_started_at or _UNKNOWN_START


def _is_of_same_execution(stored: StoredExecution, record: StoredExecution) -> bool:
    return stored.request.client_request_token == record.request.client_request_token


def _is_unanswered(stored: StoredExecution, record: StoredExecution) -> bool:
    """
    Return whether the try that wrote the stored record does not know what AWS has
    responded to the same request.
    """
    if not _is_of_same_execution(stored, record):
        return False
    if stored.execution_arn is None:
        return True
    if stored.resumes < record.resumes:
        return True
    return stored.resume_is_pending and stored.resume_token == record.resume_token


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
    # Store that the epoch of the execution has ended, which keeps running: a user has
    # cleared or ended the task, and the next try must not take itself for a retry.
    END_EPOCH = auto()


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
        "The task is still deferred: another triggerer has its "
        "trigger, or a later try has taken its place. Nothing is stopped."
    ),
    Owner.WORKER: (
        "Airflow has gone on with the task meanwhile: the trigger stops nothing."
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
        """Return the record to store before the stop, or in place of it."""
        if self.exit is Exit.END_EPOCH:
            return record.model_copy(update={"epoch": instructions.NO_EPOCH})
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
            return self._kept(owner)
        if self.exit is Exit.ASK_OWNER:
            return replace(self, exit=Exit.ANNOUNCE_STOP)
        return replace(self, exit=Exit.STOP)

    def stop_requested(self, text: str, *, failed: bool) -> Leaving:
        """
        Return the next action, now that AWS has responded to the stop.

        :param text: what AWS has responded, as a sentence.
        """
        if failed:
            return replace(self, exit=Exit.WITHDRAW_STOP, text=text)
        return replace(self, exit=Exit.DONE, text=text)

    def _kept(self, owner: Owner) -> Leaving:
        # A clear of a running task does not raise ``max_tries``.
        if self.exit is Exit.ASK_OWNER and owner is Owner.NOBODY:
            return replace(self, exit=Exit.END_EPOCH, text=KEPT)
        return self._done(KEPT)

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
    leaving = Leaving(Exit.DONE, try_number, stop_on_kill, retry_follows, is_signalled)
    if record is None:
        return leaving
    if retry_follows or is_signalled:
        return replace(leaving, exit=Exit.ASK_OWNER)
    if not stop_on_kill:
        return leaving._done(KEPT)
    return replace(leaving, exit=Exit.ANNOUNCE_STOP)


# ---- a trigger


def leave_in_triggerer(try_number: int) -> Leaving:
    """
    Return the first action of a trigger with ``stop_on_kill`` that no longer waits.
    """
    return Leaving(Exit.ANNOUNCE_STOP, try_number, stop_on_kill=True)


def outcomes_to_stop_at(
    *, stop_on_kill: bool, may_retry_refusal: bool
) -> list[UnendedOutcome]:
    """
    Return the outcomes of a wait at which the trigger stops the execution before it
    fires its event (rule 6).

    :param may_retry_refusal: whether a retry may follow if AWS refuses the polls for
        good.
    """
    if not stop_on_kill:
        return []
    if may_retry_refusal:
        return ["timed_out"]
    return ["timed_out", "refused"]


def outcomes_to_stop_earlier_at(
    *, stop_on_kill: bool, is_last_try: bool, may_retry_refusal: bool
) -> list[UnendedOutcome]:
    """
    Return the same for a wait for the execution of an earlier try, which each retry
    waits for anew.
    """
    outcomes = outcomes_to_stop_at(
        stop_on_kill=stop_on_kill, may_retry_refusal=may_retry_refusal
    )
    if is_last_try:
        return outcomes
    return [outcome for outcome in outcomes if outcome != "timed_out"]


def stops_before_event(
    end: ExecutionEvent, outcomes: Collection[UnendedOutcome]
) -> bool:
    """
    Return whether a trigger stops the execution before it fires its event.

    :param outcomes: those at which it does.
    """
    # Whoever has deleted the connection does not want it to be used, and a retry may
    # follow: the connection may come back.
    return end.outcome in outcomes and end.error_code != CONNECTION_NOT_FOUND


# ---- the end of a wait


def needs_record(end: ExecutionEvent, *, stop_on_kill: bool) -> bool:
    """Return whether ``after_wait`` depends on the record."""
    if end.stop:
        return False
    if end.outcome == "ended":
        return _is_cancelled(end)
    return stop_on_kill


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
    if end.outcome == "ended":
        return _after_own_end(end, record, try_number, stop_on_kill=stop_on_kill)
    leaving = Leaving(Exit.DONE, try_number, stop_on_kill)
    if end.stop:
        return leaving._done(end.stop.text)
    if not stop_on_kill:
        return leaving._done(KEPT)
    if problem:
        return leaving._done(f"The execution was not stopped: {problem}", handled=False)
    if record is None or record.execution_arn != end.execution_arn:
        return leaving._done(_OTHER_RECORD, handled=False)
    is_left_to_retry = retry_follows and end.outcome == "refused"
    return leave(record, try_number, stop_on_kill=True, retry_follows=is_left_to_retry)


def _after_own_end(
    end: ExecutionEvent,
    record: StoredExecution | None,
    try_number: int,
    *,
    stop_on_kill: bool,
) -> Leaving:
    """
    Rule 1 of a process that no longer waits: was it a user who has stopped the
    execution?
    """
    leaving = Leaving(Exit.DONE, try_number, stop_on_kill)
    if record is None or not _is_cancelled(end):
        # Without a proven record, the cancellation is somebody's.
        return leaving
    stopped_by = record.stop_requested_by
    if stopped_by and stopped_by < try_number:
        # The earlier try may have been cut off from Airflow between its decision and
        # its request, while this one went on with the execution.
        return replace(leaving, exit=Exit.BEGIN_AGAIN)
    return replace(leaving, is_own_stop=stopped_by == try_number)


def _is_cancelled(end: ExecutionEvent) -> bool:
    return state_of(end.status) is PolysyncState.CANCELLED
