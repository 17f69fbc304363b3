"""
AWS, Airflow and the processes of one task, as values: what the core of an execution's
life is played against.

A process is a generator that yields where it may die, be frozen or be killed: before
and after each write to the store, and before and after each call to AWS. AWS knows
client tokens, refuses, loses responses, and lets executions end. Airflow replaces task
instances, begins tries, and runs the failure callback. Nothing here takes time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from polysync_airflow.exceptions import (
    PolysyncError,
    SageMakerApiError,
    StoredRecordError,
)
from polysync_airflow.execution.lifecycle.decisions import (
    Exit,
    Leaving,
    Owner,
    after_wait,
    leave,
    owner_by_record,
    owner_of_dead_process,
    owner_of_deferred,
)
from polysync_airflow.execution.lifecycle.instructions import (
    COSTS_MONEY,
    ENDS_THE_START,
    NOT_WHEN_KILLED,
    Accepted,
    ClearChoice,
    Command,
    Described,
    Event,
    Incarnation,
    Instruction,
    Killed,
    LookedUp,
    OnClear,
    Prepared,
    RecoveryChoices,
    Refused,
    Store,
    StoredExecution,
    TaskIdentity,
    TaskKey,
    Try,
)
from polysync_airflow.execution.lifecycle.lookup import arn_of
from polysync_airflow.execution.lifecycle.machine import after, begin
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.states import DELETED, has_ended
from tests.execution.lifecycle.aws import Aws, Execution, api_error, event_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class LostResponseError(Exception):
    """
    AWS has processed the request, and the process has died before it received the
    response.
    """


class ReplacedError(Exception):
    """Airflow refuses the write of a try whose task instance it has replaced."""


# The step between the confirmation that a try is the current one, and its write.
ALLOWED = "before the write that was allowed"


class Airflow:
    """
    One task instance: its tries, record store and XComs.

    :param aws: where it starts its executions, beside those of other DAG runs.
    """

    def __init__(
        self,
        random: Random,
        choices: RecoveryChoices,
        retries: int,
        run_id: str = "today",
        aws: Aws | None = None,
    ) -> None:
        self.random = random
        self.choices = choices
        self.retries = retries
        self.key = TaskKey("retraining", run_id, "train", -1)
        self.aws = aws or Aws(random)
        self.max_tries = retries
        self.try_number = 0
        # The try whose task instance Airflow knows; None right after a clear of the
        # running task.
        self.current: int | None = None
        self.state: str | None = "scheduled"
        self.incarnation = Incarnation(dag_run_started_at=NOW)
        self.stored: StoredExecution | None = None
        # Why the record cannot be believed: its key was rotated, or it was damaged.
        self.lost: StoredRecordError | None = None
        self.parameter = "1"
        # What a user chose in place of ``on_clear``, by the epoch that its clear began;
        # None if that may be lost.
        self.chosen: dict[int, OnClear | None] = {}
        self.history: list[str] = []

    @property
    def task(self) -> TaskIdentity:
        """The identity of the task instance."""
        return TaskIdentity(self.key, "prod", self.incarnation)

    @property
    def running(self) -> list[Execution]:
        """The executions of this task instance that have not ended."""
        own = f"-{self.key.run_id}-"
        return [
            each
            for each in self.aws.running
            if each.request and own in each.request.execution_display_name
        ]

    def lose_record(self) -> None:
        """Lose the record, or what proves it."""
        how = self.random.choice(["deleted", "damaged", "rotated"])
        self.history.append(f"record {how}")
        record = self.stored if how == "rotated" else None
        self.lost = (
            StoredRecordError("", record=record)
            if self.stored and how != "deleted"
            else None
        )
        self.stored = None
        # With the record, the choice for this clear is lost.
        self.chosen.pop(self.max_tries, None)

    def begin_try(self) -> TryProcess:
        """Begin the next try."""
        self.try_number += 1
        self.current, self.state = self.try_number, "running"
        self.history.append(f"try {self.try_number} of epoch {self.max_tries}")
        return self.process_of_try()

    def process_of_try(self) -> TryProcess:
        """Return the process of the try that begins."""
        return TryProcess(self)

    def forget_record(self) -> None:
        """Delete the record of a task that succeeds."""
        self.stored, self.lost = None, None

    def end_try(self, state: str) -> None:
        """
        Record how a try has ended. Before a retry, Airflow 2 has the try as the current
        one for some time.
        """
        self.state = state
        if state == "up_for_retry" and self.random.random() < 0.8:
            self.current = None
        self.history.append(f"-> {state}")

    def fail_or_retry(self) -> None:
        """Fail the try; a retry follows if one is left."""
        self.end_try("up_for_retry" if self.try_number <= self.max_tries else "failed")

    def choose(self, on_clear: OnClear | None) -> None:
        """Store, or withdraw, what the next clear does."""
        if self.stored:
            choice = ClearChoice(on_clear=on_clear) if on_clear else None
            self.stored = self.stored.model_copy(update={"clear_choice": choice})
            self.history.append(f"chosen: {on_clear}")

    def clear(self) -> None:
        """Clear the task, as a user does when it has ended."""
        self.max_tries = self.try_number + self.retries
        choice = self.stored.clear_choice if self.stored else None
        if choice and choice.epoch is None:
            self.chosen[self.max_tries] = choice.on_clear
        self.current, self.state = None, None
        self.history.append("cleared")

    def create_again(self) -> None:
        """Delete the DAG run, and create one with the same run id. The record stays."""
        self.incarnation = Incarnation(
            dag_run_started_at=NOW + timedelta(days=len(self.history))
        )
        self.current, self.state = None, "scheduled"
        self.try_number, self.max_tries = 0, self.retries
        self.chosen.clear()
        self.history.append("created again")

    def run_failure_callback(self) -> None:
        """Run what the DAG processor runs when the process of the last try has died."""
        record = self.stored
        owner = owner_of_dead_process(record, self.try_number, retry_follows=False)
        leaving = leave(
            record, self.try_number, stop_on_kill=self.choices.stop_on_kill
        ).owned_by(owner)
        if record and leaving.exit is Exit.STOP:
            stop_recorded(self.aws, record)


class TryProcess:
    """
    The process of one try. ``steps`` goes on by one point at which it may be disturbed.
    """

    def __init__(self, airflow: Airflow) -> None:
        self.airflow, self.aws, self.number = airflow, airflow.aws, airflow.try_number
        self.epoch, self.task = airflow.max_tries, airflow.task
        self.killed = False
        self.now: Instruction | None = None
        self.wrote = False
        # The last of ``steps``.
        self.at = ""
        # Whether Airflow has said a moment ago that this try is the current one.
        self.is_confirmed = False
        self.steps = self._run()

    def _run(self) -> Iterator[str]:
        try:
            yield from self._execute()
        except (PolysyncError, ReplacedError):
            yield from self._leave(retry_follows=self.number <= self.airflow.max_tries)
            if self.airflow.current == self.number and self.airflow.state == "running":
                self.airflow.fail_or_retry()

    def _execute(self) -> Iterator[str]:
        airflow = self.airflow
        while True:
            now = yield from self._begin()
            while True:
                yield from self._enter(now)
                if self.killed and now.command in NOT_WHEN_KILLED:
                    now = after(now, Killed())
                    continue
                if now.error:
                    raise now.error
                self.now = now
                if now.command in ENDS_THE_START:
                    break
                yield f"before {now.command.name}"
                if now.command in COSTS_MONEY:
                    self._confirm()
                    yield f"sending {now.command.name}"
                event = self._call(now)
                yield f"after {now.command.name}"
                before, now = now, after(now, event)
                if before.command is Command.DESCRIBE and isinstance(event, Described):
                    self._check_choice(before, event.description.status, now)
            end = yield from self._wait(now)
            if now.command is Command.WAIT_FOR_END:
                continue
            record = self.now.known if self.now else None
            if after_wait(
                end, record, self.number, stop_on_kill=airflow.choices.stop_on_kill
            ).begins_again:
                continue
            self.now = None
            yield from self._end(failed=end.status != "Succeeded")
            return

    def _begin(self) -> Generator[str, None, Instruction]:
        airflow = self.airflow
        choices = yield from self._chosen()
        yield "before the record is read"
        stored, lost = airflow.stored, airflow.lost
        yield "when the record is read"
        return begin(Try(self.number, self.epoch, self.task, choices, lost), stored)

    def _chosen(self) -> Generator[str, None, RecoveryChoices]:
        """
        Return what the author, or the operator, has chosen about the execution of the
        earlier tries.
        """
        yield from ()
        return self.airflow.choices

    def _end(self, *, failed: bool) -> Iterator[str]:
        """
        End the try. A task that succeeds deletes its record before Airflow knows that
        it has succeeded.
        """
        airflow = self.airflow
        if not failed and (self.is_confirmed or self._is_current):
            yield "before the record is forgotten"
            airflow.forget_record()
            yield "before Airflow knows of the success"
        if airflow.current == self.number and airflow.state == "running":
            airflow.fail_or_retry() if failed else airflow.end_try("success")

    def _check_choice(self, before: Instruction, status: str, now: Instruction) -> None:
        """
        Check that a clear does what the user chose, or else what ``on_clear`` says.
        """
        epoch, record, choices = (
            before.task_try.epoch,
            before.known,
            self.airflow.choices,
        )
        is_of_the_clear = epoch == self.airflow.max_tries
        if (
            status != "Failed"
            or not is_of_the_clear
            or epoch in (record.epoch, record.replaced_by_epoch)
        ):
            return
        wanted = self.airflow.chosen.get(epoch, choices.on_clear)
        if wanted is None:
            return
        does = (
            (Command.RESUME, Command.RESEND_RESUME)
            if wanted == "resume"
            else (Command.PREPARE, Command.RESEND_RESUME)
        )
        assert now.command in does, (
            f"the clear wants {wanted}, but the try does {now.command.name}"
        )

    def _enter(self, now: Instruction) -> Iterator[str]:
        if now.command is not Command.START:
            self.now = now
        if now.store is not Store.KEEP:
            yield f"before the write for {now.command.name}"
            self._confirm()
            yield ALLOWED
        if now.store is Store.WRITE:
            self._put(now.known)
            self.wrote = True
        elif now.store is Store.RESTORE:
            self._put(now.restored)
        elif now.store is Store.DELETE:
            self.airflow.stored = None
        yield f"stored for {now.command.name}"

    def _call(self, now: Instruction) -> Event:
        """Do what an instruction says, against AWS."""
        chance = self.airflow.random.random()
        if now.command is Command.PREPARE:
            return Prepared(make_request(now, self.airflow.parameter), "us-east-1")
        if now.command in (Command.LOOK_UP, Command.LOOK_UP_STARTED):
            if chance < 0.03:
                return Refused(api_error("ThrottlingException", transient=True))
            return self._look_up(now)
        record = now.known
        if chance < 0.03:
            # Before AWS has processed it; then it is not known whether it has.
            return Refused(
                api_error("InternalFailure", transient=True), was_repeated=True
            )
        lost = 0.03 <= chance < 0.06
        try:
            event = self._processed(now, record)
        except SageMakerApiError as error:
            return Refused(error)
        return (
            Refused(
                api_error("ConnectionClosedError", transient=True), was_repeated=True
            )
            if lost
            else event
        )

    def _look_up(self, now: Instruction) -> LookedUp:
        lost = now.task_try.lost
        claimed = lost.record.execution_arn if lost and lost.record else None
        described = self.aws.describe(self.aws.find(claimed)) if claimed else None
        return LookedUp("fanout", self.aws.list(), described)

    def _processed(self, now: Instruction, record: StoredExecution) -> Event:
        aws = self.aws
        if now.command in (Command.START, Command.RESEND_START):
            return Accepted(NOW, aws.start(record.request))
        if now.command in (Command.RESUME, Command.RESEND_RESUME):
            aws.resume(record.arn, record.resume_token or "")
        elif now.command is Command.STOP:
            if not aws.stop(record.arn, record.resumes):
                raise api_error("InternalFailure", transient=True)
        else:
            return Described(NOW, aws.describe(aws.find(record.arn)))
        return Accepted(NOW)

    def _wait(self, now: Instruction) -> Any:
        """
        Wait on the worker; a killed task goes on with its wait until its process ends.
        """
        execution = self.aws.find(now.known.arn)
        while not has_ended(execution.status):
            yield "waiting"
            if self.killed:
                raise PolysyncError("killed", permanent=False)
        return event_of(execution)

    def kill(self, *, timed_out: bool = False) -> None:
        """
        Kill the process, as ``on_kill`` does: the main thread goes on when this has
        decided about the execution.
        """
        self.killed = True
        for _ in self._leave(is_signalled=not timed_out):
            pass

    def _leave(
        self, *, retry_follows: bool = False, is_signalled: bool = False
    ) -> Iterator[str]:
        record = self.now.record if self.now else None
        if record is None:
            return
        leaving = leave(
            record,
            self.number,
            stop_on_kill=self.airflow.choices.stop_on_kill,
            retry_follows=retry_follows,
            is_signalled=is_signalled,
        )
        if leaving.exit is Exit.ASK_OWNER:
            leaving = leaving.owned_by(self._owner(record))
        if leaving.exit is Exit.ANNOUNCE_STOP:
            leaving = leaving.owned_by(self._announce(leaving, record))
        yield "before the stop"
        if leaving.exit is Exit.STOP:
            stop_recorded(self.aws, record)

    def _announce(self, leaving: Leaving, record: StoredExecution) -> Owner:
        owner = self._owner(record)
        if owner in (Owner.THIS_TRY, Owner.NOBODY):
            self._put(leaving.announced(record).with_choice_of(self.airflow.stored))
        return owner

    def _owner(self, record: StoredExecution) -> Owner:
        airflow = self.airflow
        is_current = self._is_current
        return owner_by_record(
            record, self.number, airflow.state, airflow.stored, is_current=is_current
        )

    def _confirm(self) -> None:
        """
        Ask Airflow whether this try is the current one, unless it has said so a moment
        ago.
        """
        if not self.is_confirmed and not self._is_current:
            raise ReplacedError
        self.is_confirmed = True

    @property
    def _is_current(self) -> bool:
        airflow = self.airflow
        return (
            airflow.current == self.number
            and airflow.task == self.task
            and airflow.state != DELETED
        )

    def _put(self, record: StoredExecution) -> None:
        # Known limit: a process of before the clear, which was frozen right before its
        # write, writes over the choice when it goes on.
        if (
            self.epoch != self.airflow.max_tries
            and self.airflow.max_tries in self.airflow.chosen
        ):
            self.airflow.chosen[self.airflow.max_tries] = None
        self.airflow.stored = record.without_values()
        self.airflow.lost = None


def stop_recorded(aws: Aws, record: StoredExecution) -> None:
    """Stop the execution of a record."""
    with suppress(SageMakerApiError):
        seen = LookedUp("fanout", aws.list())
        arn = record.execution_arn or arn_of(record, seen) or aws.start(record.request)
        while not aws.stop(arn, record.resumes):
            pass


def make_request(now: Instruction, parameter: str) -> StartRequest:
    """Return the start request of a try."""
    start = (now.task_try.epoch, now.start_number)
    return StartRequest(
        pipeline_name="fanout",
        pipeline_parameters={"Day": parameter},
        execution_display_name=now.task_try.task.display_name(*start),
        client_request_token=now.task_try.task.token(*start),
    )


def end_deferred(airflow: Airflow, record: StoredExecution, number: int) -> None:
    """Run ``on_kill`` of the trigger of a try."""
    owner = owner_of_deferred(airflow.state, airflow.stored, record.arn, number)
    leaving = leave(
        airflow.stored, number, stop_on_kill=airflow.choices.stop_on_kill
    ).owned_by(owner)
    if leaving.exit is Exit.STOP:
        stop_recorded(airflow.aws, record)
