"""
What becomes of an execution that a process no longer waits for: on a worker, in a
triggerer, or in the DAG processor.

``state`` is the state of the task instance now; None if it has been cleared. ``stored``
is the proven record in the store now; None if there is none. Only a worker can ask
whether its try is still the current one of the task instance: not after a clear, or
once a retry is due.

Rules:

1. An execution whose wait has ended with its own end is reported. If an earlier try of
   the task had asked for its stop, that is no decision of a user: the task begins
   again.
2. Any other execution is stopped, unless ``stop_on_kill=False``, or somebody else goes
   on with it. One that is too expensive is stopped also with ``stop_on_kill=False``.
3. A failed try leaves its execution to the retry, if one follows, or to its own next
   session, if Airflow reschedules the task, also if it failed because it could not poll
   any longer. If a user has cleared the task meanwhile, none does. After a timeout, the
   execution is stopped.
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
8. A wait that no trigger has ended long after its deadline, because no triggerer has a
   free slot, is ended by a worker, to which Airflow's scheduler returns the task.
9. An execution of another deployment is stopped by nobody here, also if the task ends
   that waits for it: the database is a copy. Without a proven record, the execution
   itself says which deployment has started it (``provenance.py``).
10. A trigger cannot tell whether a task that waits for a worker was cleared, or goes
    on: after the event of the same trigger in another triggerer, or because of
    ``airflow tasks test``. The process that begins can tell, and stops the execution of
    a cleared task itself. So the trigger looks again. It stops the execution of a task
    that is to be scheduled for a minute, for example because a pool is full: one that
    goes on waits so only after the end of its execution, or after its deadline. Where
    tasks may be queued for long, Airflow limits that (``[scheduler]
    task_queued_timeout``).

Everything here is pure. The drivers are ``operators/try_runner.py`` on a worker, the
trigger, and the failure callback.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Final

from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, StartName
from polysync_airflow.execution.lifecycle.provenance import Provenance
from polysync_airflow.execution.models import CONNECTION_NOT_FOUND, UnendedOutcome
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.states import DELETED, PolysyncState, state_of

# States of a task instance that has a later try, or gets one. In all other states, a
# user has cleared or ended the task.
_RUNNING: Final = "running"
DEFERRED: Final = "deferred"
SCHEDULED: Final = "scheduled"
_QUEUED: Final = "queued"
_FOR_RETRY: Final = ("up_for_retry", "up_for_reschedule")
_WITH_LATER_TRY: Final = (SCHEDULED, _QUEUED, _RUNNING, DEFERRED, *_FOR_RETRY)

# How long a trigger leaves the execution of a task that is to be scheduled to the
# process that will begin.
SCHEDULED_SECONDS: Final = 60.0

# How long after its deadline a deferred wait is left to its trigger, in seconds. A
# trigger may take ten minutes for its stop, and a triggerer that is restarted stops
# also where no worker goes on, for example because the DAG is paused.
TRIGGER_GRACE_SECONDS: Final = 900.0
# A task that was cleared while it ran, and whose next try has not begun.
_CLEARED: Final = ("restarting", None)

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
    # A user has cleared the task of a group of steps. Its next try decides, by the
    # steps that were cleared with it.
    NEXT_TRY = auto()
    # The trigger of the same try in another triggerer, or that of a later try.
    OTHER_TRIGGER = auto()
    # The worker to which Airflow returns the deferred task.
    WORKER = auto()
    # A task of another deployment of Airflow, for example of the one whose database was
    # copied. Nobody here may stop the execution.
    OTHER_DEPLOYMENT = auto()
    # Airflow does not say, for example because the process was away for longer than its
    # token is valid.
    UNKNOWN = auto()


def is_over(state: str | None) -> bool:
    """
    Return whether a task has ended, or was cleared or deleted, so that no try runs or
    is on its way.
    """
    return state not in _WITH_LATER_TRY


def has_ended_before_wait(state: str | None, *, waits: bool) -> bool:
    """
    Return whether somebody has ended a task, so that its try does not wait for the
    execution that it has just started.

    :param waits: whether the task waits for its execution. If not, its success leaves
        the execution alone.
    """
    if state == "success" and not waits:
        return False
    return is_over(state)


def keeps_xcoms(state: str | None) -> bool:
    """
    Return whether a task keeps the XComs of its last try, because no later try deletes
    them.
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
    record: ExecutionRecord,
    try_number: int,
    state: str | None,
    stored: ExecutionRecord | None,
    *,
    is_current: bool,
    is_of_group: bool = False,
) -> Owner:
    """
    Return who decides about the execution of a try, as its own process sees it.

    A later try that has gone on with the execution has written its number into the
    stored record. If the task has ended since, and the later try has no response to a
    request that this one has sent late, only this one knows what AWS has begun.

    :param is_current: whether this try is still the current one of the task instance.
    :param is_of_group: whether the task is that of a group of steps.
    """
    if stored and _is_of_later_try(stored, record, try_number):
        if is_over(state) and _is_unanswered(stored, record):
            return Owner.NOBODY
        return Owner.LATER_TRY
    if state == _RUNNING and is_current:
        return Owner.THIS_TRY
    if not is_over(state):
        return Owner.LATER_TRY
    if is_of_group and state in _CLEARED and stored:
        return Owner.NEXT_TRY
    if is_current or stored or state == DELETED:
        return Owner.NOBODY
    # Without a record, a later try may have succeeded and deleted it.
    return Owner.LATER_TRY


def owner_of_deferred(
    state: str | None, stored: ExecutionRecord | None, arn: str, try_number: int
) -> Owner:
    """
    Return who decides about the execution of a deferred task whose trigger Airflow has
    ended.

    If the task is still deferred, its trigger has only moved to another triggerer
    (Airflow 3.4 no longer reports that), or the task was cleared: then its new try has
    stopped this execution, or waits for it. A try that is at work, or that a retry
    follows, reads the record itself.
    """
    if state == DEFERRED:
        return Owner.OTHER_TRIGGER
    if state == _RUNNING or state in _FOR_RETRY:
        return Owner.LATER_TRY
    # A triggerer that was suspended may learn only after the next try that its trigger
    # has moved.
    if _has_later_try(stored, arn, try_number):
        return Owner.LATER_TRY
    return Owner.NOBODY


def awaits_process(state: str | None, scheduled_seconds: float) -> bool:
    """
    Return whether a trigger that Airflow has ended leaves the execution to the process
    that will begin, and looks again (rule 10).

    :param scheduled_seconds: for how long the trigger has seen the task ``scheduled``.
    """
    if state == SCHEDULED:
        return scheduled_seconds < SCHEDULED_SECONDS
    return state == _QUEUED


def owner_at_end_of_wait(
    state: str | None, stored: ExecutionRecord | None, arn: str, try_number: int
) -> Owner:
    """
    Return who decides about the execution of a deferred task whose trigger has waited
    to the end.

    While triggers move between triggerers, the same one may run twice, and both may
    come here: they send the same stop. After the first event, the worker decides.
    """
    if _has_later_try(stored, arn, try_number):
        return Owner.LATER_TRY
    if state == DEFERRED:
        return Owner.THIS_TRY
    if is_over(state):
        return Owner.NOBODY
    return Owner.WORKER


def _has_later_try(stored: ExecutionRecord | None, arn: str, try_number: int) -> bool:
    """Return whether a later try than that of a trigger has written the record."""
    if stored is None:
        return False
    return stored.execution_arn != arn or stored.try_number > try_number


def needs_provenance(owner: Owner, stored: ExecutionRecord | None) -> bool:
    """
    Return whether a process must find out which deployment has started the execution,
    before it stops it (rule 9).

    :param stored: the proven record of this deployment; None if there is none.
    """
    return stored is None and owner in (Owner.THIS_TRY, Owner.NOBODY)


def owner_by_provenance(
    owner: Owner, provenance: Provenance, name: StartName | None
) -> Owner:
    """
    Return who decides about an execution without a proven record, now that AWS was
    asked for its name.

    :param owner: who does, if this deployment has started it.
    :param name: as for ``Provenance.is_of_other_deployment``.
    """
    if provenance.is_of_other_deployment(name):
        return Owner.OTHER_DEPLOYMENT
    return owner


def owner_of_dead_process(
    stored: ExecutionRecord | None, try_number: int, *, retry_follows: bool
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
    stored: ExecutionRecord, record: ExecutionRecord, try_number: int
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
    stored_try = (_dag_run_started_at(stored), stored.try_number)
    own_try = (_dag_run_started_at(record), try_number)
    return stored_try > own_try


def _dag_run_started_at(record: ExecutionRecord) -> datetime:
    return record.incarnation.dag_run_started_at or _UNKNOWN_START


def _is_of_same_execution(stored: ExecutionRecord, record: ExecutionRecord) -> bool:
    return stored.request.client_request_token == record.request.client_request_token


def _is_unanswered(stored: ExecutionRecord, record: ExecutionRecord) -> bool:
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


class EndAction(Enum):
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
    # Store the record from before the announcement, because the stop has failed.
    WITHDRAW_STOP = auto()
    # Store that the execution, which keeps running, belongs to an epoch that has ended:
    # a user has cleared or ended the task, and the next try must not take itself for a
    # retry.
    END_EPOCH = auto()


SHUTTING_DOWN: Final = (
    "Nobody has ended the task, so its worker is shutting down: the execution goes on."
)
NOTHING_RUNS: Final = "Nothing runs, because the task waits for capacity."
KEEPS_RUNNING: Final = "The execution keeps running because stop_on_kill=False."
LEFT_TO_CLEAR: Final = (
    "The task was cleared. Its next try decides what becomes of the execution."
)
LEFT_TO_RETRY: Final = (
    "Airflow runs the task again, which continues with the execution."
)
OF_OTHER_DEPLOYMENT: Final = (
    "Another deployment of Airflow has started the execution, for example the one whose"
    " database was copied. So it is left alone. If it is that of this deployment, whose"
    " address or Variable polysync_deployment has changed, set [polysync_sagemaker]"
    " deployment to the identity before."
)
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
    Owner.OTHER_DEPLOYMENT: OF_OTHER_DEPLOYMENT,
    Owner.UNKNOWN: (
        "It is not stopped, because Airflow does not say whether a later try has it."
        " The next try, or the failure callback in the DAG processor, decides."
    ),
}


@dataclass(frozen=True, slots=True)
class TryEnd:
    """
    The next action of a process that no longer waits for an execution.

    :param retry_follows: whether Airflow runs the task again: another try, or the same
        one.
    :param is_signalled: whether the process has received a signal that ends it.
    :param text: what became of the execution, as a sentence.
    :param handled: whether nobody else has to decide about the execution.
    :param is_shutdown: whether the process ends because its worker shuts down.
    :param is_own_stop: whether the execution ended because this try stopped it, and not
        because of a user.
    :param kept: what is said of an execution that is not to be stopped.
    """

    action: EndAction
    try_number: int
    stop_on_kill: bool
    retry_follows: bool = False
    is_signalled: bool = False
    text: str = ""
    handled: bool = True
    is_shutdown: bool = False
    is_own_stop: bool = False
    kept: str = KEEPS_RUNNING

    @property
    def begins_again(self) -> bool:
        """Whether the task begins again."""
        return self.action is EndAction.BEGIN_AGAIN

    def announced(self, record: ExecutionRecord) -> ExecutionRecord:
        """Return the record to store before the stop, or in place of it."""
        if self.action is EndAction.END_EPOCH:
            return record.model_copy(update={"epoch": instructions.NO_EPOCH})
        return record.model_copy(update={"stop_requested_by": self.try_number})

    def owned_by(self, owner: Owner) -> TryEnd:
        """
        Return the next action, now that it is known who decides about the execution.
        """
        if self.is_signalled and owner is Owner.THIS_TRY:
            return replace(self._done(SHUTTING_DOWN), is_shutdown=True)
        if owner is Owner.NEXT_TRY:
            # As below, a clear of a running task does not raise ``max_tries``.
            return replace(self, action=EndAction.END_EPOCH, text=LEFT_TO_CLEAR)
        is_retried = self.retry_follows and owner is not Owner.OTHER_DEPLOYMENT
        if is_retried and owner is not Owner.NOBODY:
            # If Airflow does not say, the retry will know.
            return self._done(LEFT_TO_RETRY)
        if owner in _LEFT:
            return self._done(_LEFT[owner], handled=owner is not Owner.UNKNOWN)
        if self.action is EndAction.ASK_OWNER and self.stop_on_kill:
            return replace(self, action=EndAction.ANNOUNCE_STOP)
        if self.stop_on_kill:
            return replace(self, action=EndAction.STOP)
        if self.action is EndAction.ASK_OWNER and owner is Owner.NOBODY:
            # A clear of a running task does not raise ``max_tries``.
            return replace(self, action=EndAction.END_EPOCH, text=self.kept)
        return self._done(self.kept)

    def stop_accepted(self, text: str) -> TryEnd:
        """
        Return the next action, now that AWS has accepted the stop.

        :param text: what AWS has responded, as a sentence.
        """
        return replace(self, action=EndAction.DONE, text=text)

    def stop_failed(self, text: str) -> TryEnd:
        """
        Return the next action, now that the stop has failed.

        :param text: why it has failed, as a sentence.
        """
        return replace(self, action=EndAction.WITHDRAW_STOP, text=text)

    def _done(self, text: str, *, handled: bool = True) -> TryEnd:
        return replace(self, action=EndAction.DONE, text=text, handled=handled)


def leave(
    record: ExecutionRecord | None,
    try_number: int,
    *,
    stop_on_kill: bool,
    retry_follows: bool = False,
    is_signalled: bool = False,
) -> TryEnd:
    """
    Return the first action of a try on a worker that ends before its execution.

    :param is_signalled: whether the process has received a signal that ends it.
    """
    try_end = TryEnd(
        EndAction.DONE, try_number, stop_on_kill, retry_follows, is_signalled
    )
    if record is None:
        return try_end
    if record.waits_for_capacity:
        # A clear must still end the epoch, as ``stop_on_kill=False`` does.
        try_end = replace(try_end, stop_on_kill=False, kept=NOTHING_RUNS)
    if retry_follows or is_signalled:
        return replace(try_end, action=EndAction.ASK_OWNER)
    if not try_end.stop_on_kill:
        return try_end._done(try_end.kept)
    return replace(try_end, action=EndAction.ANNOUNCE_STOP)


# ---- a trigger


def end_in_triggerer(try_number: int) -> TryEnd:
    """
    Return the first action of a trigger with ``stop_on_kill`` that no longer waits.
    """
    return TryEnd(EndAction.ANNOUNCE_STOP, try_number, stop_on_kill=True)


def outcomes_to_stop_at(
    *, stop_on_kill: bool, may_retry_refusal: bool
) -> tuple[UnendedOutcome, ...]:
    """
    Return the outcomes of a wait at which the trigger stops the execution before it
    fires its event (rule 6). What costs too much, it stops in any case.

    :param may_retry_refusal: whether a retry may follow if AWS refuses the polls for
        good.
    """
    if not stop_on_kill:
        return ()
    if may_retry_refusal:
        return ("timed_out",)
    return ("timed_out", "refused")


def outcomes_to_stop_earlier_at(
    *, stop_on_kill: bool, is_last_try: bool, may_retry_refusal: bool
) -> tuple[UnendedOutcome, ...]:
    """
    Return the outcomes of a wait for the end of an earlier try's execution at which the
    trigger stops it. Each retry waits for that end anew.
    """
    outcomes = outcomes_to_stop_at(
        stop_on_kill=stop_on_kill, may_retry_refusal=may_retry_refusal
    )
    if is_last_try:
        return outcomes
    return tuple(outcome for outcome in outcomes if outcome != "timed_out")


def stops_before_event(
    end: ExecutionEvent, outcomes: Collection[UnendedOutcome]
) -> bool:
    """
    Return whether a trigger stops the execution before it fires its event.

    :param outcomes: the outcomes of a wait at which the trigger stops the execution.
    """
    if end.error_code == CONNECTION_NOT_FOUND:
        # Whoever has deleted the connection does not want it to be used, and a retry
        # may follow: the connection may come back.
        return False
    if end.outcome == "too_expensive":
        # Nobody wants it to go on, whatever ``stop_on_kill`` says.
        return True
    return end.outcome in outcomes


# ---- the end of a wait


class AwaitedEnd(Enum):
    """What a deferred task waits for."""

    OWN_EXECUTION = auto()
    # The end of an execution of an earlier epoch, beside which no new one may run.
    EARLIER_EXECUTION = auto()
    # The end of a pause for want of capacity.
    PAUSE = auto()


def awaited_end(record: ExecutionRecord, epoch: int) -> AwaitedEnd:
    """
    Return what a deferred task has waited for. Airflow forgets it if it ends the wait
    (rule 8).

    :param record: the record of the task instance.
    :param epoch: the epoch of the try that has waited.
    """
    if record.waits_for_capacity:
        return AwaitedEnd.PAUSE
    if record.epoch == epoch:
        return AwaitedEnd.OWN_EXECUTION
    return AwaitedEnd.EARLIER_EXECUTION


def needs_record(end: ExecutionEvent, *, stop_on_kill: bool) -> bool:
    """Return whether ``after_wait`` depends on the record."""
    if end.stop:
        return False
    if end.outcome == "ended":
        return _is_cancelled(end)
    return _stops_after_wait(end, stop_on_kill=stop_on_kill)


def _stops_after_wait(end: ExecutionEvent, *, stop_on_kill: bool) -> bool:
    return stop_on_kill or end.outcome == "too_expensive"


def after_wait(
    end: ExecutionEvent,
    record: ExecutionRecord | None,
    try_number: int,
    *,
    stop_on_kill: bool,
    retry_follows: bool = False,
    problem: str | None = None,
) -> TryEnd:
    """
    Return the first action after the end of a wait.

    :param record: the record, if ``needs_record``; None if there is none, or if it
        cannot be believed.
    :param retry_follows: whether Airflow runs the task again if the polls are refused.
    :param problem: why the record cannot be believed; None if it can.
    """
    try_end = TryEnd(EndAction.DONE, try_number, stop_on_kill)
    if end.outcome == "ended":
        if record is None or not _is_cancelled(end):
            # Without a proven record, a cancellation counts as a user's.
            return try_end
        stopped_by = record.stop_requested_by
        if stopped_by and stopped_by < try_number:
            # The stop of an earlier try is no decision of a user (rule 1). That try may
            # have been cut off from Airflow between its decision and its request, while
            # this one went on with the execution.
            return replace(try_end, action=EndAction.BEGIN_AGAIN)
        return replace(try_end, is_own_stop=stopped_by == try_number)

    if end.stop:
        return try_end._done(end.stop.text)
    if not _stops_after_wait(end, stop_on_kill=stop_on_kill):
        return try_end._done(KEEPS_RUNNING)
    if problem:
        return try_end._done(f"The execution was not stopped: {problem}", handled=False)
    if record is None or record.execution_arn != end.execution_arn:
        return try_end._done(_OTHER_RECORD, handled=False)
    is_left_to_retry = retry_follows and end.outcome == "refused"
    return leave(record, try_number, stop_on_kill=True, retry_follows=is_left_to_retry)


def _is_cancelled(end: ExecutionEvent) -> bool:
    return state_of(end.status) is PolysyncState.CANCELLED
