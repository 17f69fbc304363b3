"""
AWS, Airflow and the processes of one task, as values: what the core of an execution's
life is played against.

A process is a generator that yields where it may die, be frozen or be killed: before
and after each write to the store, and before and after each call to AWS. AWS knows
client tokens, refuses, loses responses, and lets executions end. Airflow replaces task
instances, begins tries, and runs the failure callback. Nothing here takes time.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator
from datetime import timedelta
from random import Random
from typing import Any

from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    PipelineExecutionTooExpensiveError,
    PolysyncError,
    SageMakerApiError,
    StoredRecordError,
)
from polysync_airflow.execution.lifecycle.decisions import wait_for_capacity
from polysync_airflow.execution.lifecycle.ending import (
    EndAction,
    Owner,
    TryEnd,
    after_wait,
    leave,
    owner_by_record,
)
from polysync_airflow.execution.lifecycle.instructions import (
    COSTS_MONEY,
    ENDS_THE_START,
    NOT_WHEN_KILLED,
    Accepted,
    AddedUp,
    ClearChoice,
    Command,
    Described,
    Event,
    ExecutionRecord,
    ExecutionsListed,
    Incarnation,
    Instruction,
    Killed,
    Prepared,
    Refused,
    Store,
    TaskIdentity,
    TaskKey,
    TaskTry,
    UnattendedStop,
)
from polysync_airflow.execution.lifecycle.machine import after, begin
from polysync_airflow.execution.lifecycle.options import OnClear, RecoveryOptions
from polysync_airflow.execution.models import StartRequest
from polysync_airflow.states import DELETED, has_ended
from tests.unit.execution.lifecycle.aws import NOW, Aws, Execution, api_error
from tests.unit.execution.lifecycle.builders import LIMITS, end_of_wait
from tests.unit.execution.lifecycle.checks import check_is_not_paid_twice
from tests.unit.execution.lifecycle.money import Money
from tests.unit.execution.lifecycle.sessions import make_request, stop

# A command, what happened, and the command that followed.
Row = tuple[Command, type[Event], Command]


class ReplacedError(Exception):
    """Airflow refuses the write of a try whose task instance it has replaced."""


# A step of a process that waits for capacity.
PAUSING = "pausing"
# The step between the confirmation that a try is the current one, and its write.
ALLOWED = "before the write that was allowed"


class Airflow:
    """
    One task instance: its tries, record store and XComs.

    :param aws: where it starts its executions, beside those of others.
    :param has_own_names: whether the author has given the display name and the
        description, so that no name says which start has made an execution.
    """

    def __init__(
        self,
        random: Random,
        options: RecoveryOptions,
        retries: int,
        aws: Aws,
        *,
        run_id: str = "today",
        deployment: str = "prod",
        has_own_names: bool = False,
    ) -> None:
        self.random = random
        self.options = options
        self.retries = retries
        # Half of the authors have chosen wait_for_capacity.
        self.capacity = random.choice([None, LIMITS])
        self.key = TaskKey("retraining", run_id, "train", -1)
        self.deployment = deployment
        self.has_own_names = has_own_names
        self.aws = aws
        self.max_tries = retries
        self.try_number = 0
        # The try whose task instance Airflow knows; None right after a clear of the
        # running task.
        self.current: int | None = None
        self.state: str | None = "scheduled"
        self.incarnation = Incarnation(dag_run_started_at=NOW)
        self.stored: ExecutionRecord | None = None
        # Why the record cannot be believed: its key was rotated, or it was damaged.
        self.unproven: StoredRecordError | None = None
        self.parameter = "1"
        # What a user chose in place of ``on_clear``, by the epoch that its clear began;
        # None if that may be lost.
        self.chosen: dict[int, OnClear | None] = {}
        self.history: list[str] = []
        # The incarnations that have sent each client token.
        self.tokens: dict[str, Incarnation] = {}
        # The latest start that AWS has accepted, while the record should tell of it,
        # and the epoch in which a try has last gone on with it.
        self.latest: Execution | None = None
        self.latest_epoch = 0
        # Those that had ended, and those that had failed, before the last clear.
        self.ended_before: set[str] = set()
        self.failed_before: set[str] = set()
        # Those with which a try has gone on, and those that one has stopped, by the
        # epoch.
        self.taken: dict[int, set[str]] = defaultdict(set)
        self.to_be_replaced: dict[int, set[str]] = defaultdict(set)
        # Those whose resume AWS has refused, or which it did not know any more.
        self.not_resumable: set[str] = set()
        # The tokens of requests that waited for capacity when their task was cleared.
        self.dropped: set[str | None] = set()
        self.money = Money(random, aws)
        # The executions that were stopped for their cost, whatever ``stop_on_kill`` is.
        self.too_expensive: set[str] = set()
        # How often each row of the table of transitions was reached.
        self.rows: Counter[Row] = Counter()

    @property
    def task(self) -> TaskIdentity:
        """The identity of the task instance."""
        return TaskIdentity(self.key, self.deployment, self.incarnation)

    @property
    def running(self) -> list[Execution]:
        """The executions of this task instance that have not ended."""
        return [each for each in self.aws.running if self.owns(each)]

    def owns(self, execution: Execution) -> bool:
        """Return whether this task instance has sent the start of an execution."""
        request = execution.request
        return request is not None and request.client_request_token in self.tokens

    def progress(self) -> None:
        """Let an execution of this task instance go on."""
        if self.running:
            self.aws.progress(self.random.choice(self.running))

    def fail_executions(self) -> None:
        """Let all executions of this task instance fail."""
        for each in self.running:
            each.status = "Failed"

    def lose_record(self) -> None:
        """
        Lose the record, or what proves it: it was deleted, it is damaged or that of
        another deployment, the key was rotated, or somebody has edited it.
        """
        ways = ["deleted", "damaged", "rotated", "edited"]
        if self.has_own_names and not self.task.next_number(
            self.stored, self.max_tries
        ):
            # Known limit: if only a token of another epoch tells the execution, nobody
            # finds it without what the record says.
            ways = ["rotated"]
        how = self.random.choice(ways)
        self.history.append(f"record {how}")
        self.unproven = None
        if self.stored and how != "deleted":
            records = {
                "damaged": None,
                "rotated": self.stored,
                "edited": self._edited(self.stored),
            }
            self.unproven = StoredRecordError("", record=records[how])
        self.stored = None
        self.forget_history()
        # With the record, the choice for this clear is lost.
        self.chosen.pop(self.max_tries, None)

    def _edited(self, record: ExecutionRecord) -> ExecutionRecord:
        """Return a record with the execution of somebody else, or of an old start."""
        others = [each.arn for each in self.aws.executions]
        arn = self.random.choice([*others, record.execution_arn])
        return record.model_copy(update={"execution_arn": arn, "replaces": None})

    def begin_try(self) -> TryProcess:
        """Begin the next try."""
        self.aws.pass_time()
        self.try_number += 1
        self.current = self.try_number
        self.state = "running"
        self.history.append(f"try {self.try_number} of epoch {self.max_tries}")
        return self.process_of_try()

    def process_of_try(self) -> TryProcess:
        """Return the process of the try that begins."""
        return TryProcess(self)

    def forget_record(self) -> None:
        """Delete the record of a task that succeeds."""
        self.stored = None
        self.unproven = None
        self.latest = None

    def end_try(self, state: str) -> None:
        """
        Record how a try has ended. Before a retry, Airflow 2 has the try as the current
        one for some time.
        """
        self.state = state
        if state == "up_for_retry" and self.random.random() < 0.8:
            self.current = None
        self.history.append(f"-> {state}")

    @property
    def state_after_failure(self) -> str:
        """The state in which a try fails: a retry follows if one is left."""
        return "up_for_retry" if self.try_number <= self.max_tries else "failed"

    def forget_history(self) -> None:
        """Forget what the record should tell."""
        self.money.is_known = False
        self.latest = None
        self.taken.clear()
        self.to_be_replaced.clear()
        self.dropped.clear()

    def note_epoch(self, arn: str, epoch: int) -> None:
        """
        Note the epoch of a try that goes on with an execution. A process of an earlier
        epoch that was frozen changes nothing.
        """
        if self.latest and self.latest.arn == arn:
            self.latest_epoch = max(self.latest_epoch, epoch)

    def choose(self, on_clear: OnClear | None) -> None:
        """Store, or withdraw, what the next clear does."""
        if self.stored:
            choice = ClearChoice(on_clear=on_clear) if on_clear else None
            self.stored = self.stored.model_copy(update={"clear_choice": choice})
            self.history.append(f"chosen: {on_clear}")

    def clear(self) -> None:
        """Clear the task, as a user does when it has ended, or waits for a retry."""
        executions = self.aws.executions
        self.ended_before = {each.arn for each in executions if has_ended(each.status)}
        self.failed_before = {each.arn for each in executions if each.has_failed}
        self.max_tries = self.try_number + self.retries
        stored = self.stored
        if stored and stored.waits_for_capacity:
            self.dropped |= {stored.request.client_request_token, stored.resume_token}
        choice = self.stored.clear_choice if self.stored else None
        if choice and choice.epoch is None:
            self.chosen[self.max_tries] = choice.on_clear
        self.current = None
        self.state = None
        self.history.append("cleared")

    def create_again(self) -> None:
        """Delete the DAG run, and create one with the same run id. The record stays."""
        self.incarnation = Incarnation(
            dag_run_started_at=NOW + timedelta(days=len(self.history))
        )
        self.current = None
        self.state = "scheduled"
        self.try_number = 0
        self.max_tries = self.retries
        self.chosen.clear()
        self.forget_history()
        self.history.append("created again")


class TryProcess:
    """
    The process of one try. ``steps`` goes on by one point at which it may be disturbed.
    """

    def __init__(self, airflow: Airflow) -> None:
        self.airflow = airflow
        self.aws = airflow.aws
        self.number = airflow.try_number
        self.epoch = airflow.max_tries
        self.task = airflow.task
        self.killed = False
        self.instruction: Instruction | None = None
        self.wrote = False
        # The last of ``steps``.
        self.at = ""
        # Whether Airflow has said a moment ago that this try is the current one.
        self.is_confirmed = False
        # Whether it stops its execution, and so writes nothing more.
        self.has_announced = False
        self.steps = self._run()

    def _run(self) -> Iterator[str]:
        try:
            yield from self._execute()
        except (PolysyncError, ReplacedError) as error:
            state = self.airflow.state_after_failure
            if isinstance(error, PipelineExecutionTooExpensiveError):
                # It uses no retry.
                state = "failed"
            yield from self._leave(retry_follows=state == "up_for_retry")
            if self.airflow.current == self.number and self.airflow.state == "running":
                self.airflow.end_try(state)

    def _execute(self) -> Iterator[str]:
        airflow = self.airflow
        while True:
            instruction = yield from self._get_execution()
            if instruction.command is Command.WAIT_FOR_CAPACITY:
                yield from self._pause()
                continue
            self._take(instruction)
            end = yield from self._wait(instruction)
            is_earlier = instruction.command is Command.WAIT_FOR_END
            if is_earlier and end.outcome == "ended":
                continue
            record = self.instruction.existing_record if self.instruction else None
            try_end = after_wait(
                end, record, self.number, stop_on_kill=airflow.options.stop_on_kill
            )
            if try_end.begins_again:
                continue
            if record and end.outcome == "too_expensive":
                airflow.too_expensive.add(end.execution_arn)
                airflow.rows[instruction.command, AddedUp, Command.STOP] += 1
                self.instruction = None
                yield from self._carry_out(try_end, record)
                yield from self._end("failed")
                return
            waiting = self._after_failure(instruction, end)
            if waiting:
                yield from self._enter(waiting)
                yield from self._pause()
                continue
            self.instruction = None
            if end.status == "Succeeded":
                yield from self._end("success")
            else:
                yield from self._end(airflow.state_after_failure)
            return

    def _get_execution(self) -> Generator[str, None, Instruction]:
        instruction = yield from self._begin()
        while True:
            yield from self._enter(instruction)
            if self.killed and instruction.command in NOT_WHEN_KILLED:
                instruction = self._after(instruction, Killed())
                continue
            if instruction.error:
                raise instruction.error
            self.instruction = instruction
            if instruction.command in ENDS_THE_START:
                return instruction
            yield f"before {instruction.command.name}"
            if instruction.command in COSTS_MONEY:
                self._confirm()
                yield f"sending {instruction.command.name}"
            event = self._call(instruction)
            yield f"after {instruction.command.name}"
            before = instruction
            instruction = self._after(before, event)
            if instruction.command is Command.ADD_UP:
                continue
            if before.command is Command.DESCRIBE and isinstance(event, Described):
                self._check_choice(before, event.description.status, instruction)
            elif isinstance(event, AddedUp):
                status = before.existing_description.status
                self._check_choice(before, status, instruction)

    def _after_failure(self, instruction: Instruction, end: Any) -> Instruction | None:
        """Return what follows if an execution has failed for want of capacity."""
        chance = self.airflow.random.random()
        if end.status != "Failed" or chance >= self.aws.weather.capacity:
            return None
        waiting = wait_for_capacity(instruction, "full", NOW, nothing_runs=True)
        if waiting:
            self.airflow.rows[Command.WATCH, Described, waiting.command] += 1
        return waiting

    def _pause(self) -> Iterator[str]:
        """Wait for capacity on the worker."""
        for _ in range(self.airflow.random.randint(1, 3)):
            yield PAUSING
            if self.killed:
                raise PolysyncError("killed", permanent=False)

    def _after(self, instruction: Instruction, event: Event) -> Instruction:
        following = after(instruction, event)
        row = (instruction.command, type(event), following.command)
        self.airflow.rows[row] += 1
        if isinstance(event, Described) and instruction.command is Command.DESCRIBE:
            self._check_decision(event.description.status, following)
        elif instruction.command is Command.ADD_UP and following.record:
            status = instruction.existing_description.status
            self._check_decision(status, following)
        return following

    def _check_decision(self, status: str, following: Instruction) -> None:
        """Check what a try does by the status of the execution of the earlier tries."""
        airflow = self.airflow
        if status == "Stopping":
            assert following.command is Command.WAIT_FOR_END, "it ends as if cancelled"
        if not self._may_write:
            # It writes before a stop and before a resume, and Airflow refuses that.
            return
        if following.command is Command.STOP:
            arn = following.existing_record.arn
            assert arn not in airflow.taken[self.epoch], "a retry stops its execution"
        if following.command is Command.RESUME:
            arn = following.existing_record.arn
            assert arn not in airflow.to_be_replaced[self.epoch], (
                "an execution is resumed that was stopped to be replaced"
            )

    def _begin(self) -> Generator[str, None, Instruction]:
        airflow = self.airflow
        options = yield from self._chosen()
        yield "before the record is read"
        stored = airflow.stored
        unproven = airflow.unproven
        yield "when the record is read"
        unattended_stop = None
        if options.stop_on_kill:
            unattended_stop = UnattendedStop(polysync_conn_id="aws")
        task_try = TaskTry(
            self.number,
            self.epoch,
            self.task,
            options,
            unproven,
            unattended_stop,
            airflow.capacity,
            has_cost_limit=airflow.money.max_cost is not None,
        )
        return begin(task_try, stored)

    def _chosen(self) -> Generator[str, None, RecoveryOptions]:
        """Return what the author, or the operator, has chosen about earlier tries."""
        yield from ()
        return self.airflow.options

    def _end(self, state: str) -> Iterator[str]:
        """
        End the try. A task that succeeds deletes its record before Airflow knows that
        it has succeeded.
        """
        airflow = self.airflow
        if state == "success" and self._may_write:
            yield "before the record is forgotten"
            airflow.forget_record()
            yield "before Airflow knows of the success"
        if airflow.current == self.number and airflow.state == "running":
            airflow.end_try(state)

    def _take(self, instruction: Instruction) -> None:
        """Check that the execution is one with which the try may go on."""
        airflow = self.airflow
        arn = instruction.existing_record.arn
        execution = self.aws.find(arn)
        assert airflow.owns(execution), "the execution is that of another task instance"
        if instruction.command is not Command.WATCH:
            return
        assert execution.request is not None
        token = execution.request.client_request_token
        self._adopt(arn)
        assert airflow.tokens[token] == self.task.incarnation, (
            "the execution is that of an earlier task instance with the same key"
        )
        self._check_is_wanted(arn)
        airflow.taken[self.epoch].add(arn)
        airflow.note_epoch(arn, self.epoch)

    def _adopt(self, arn: str) -> None:
        """Make an execution this task instance's, if the user chose to resume it."""
        request = self.aws.find(arn).request
        if request and self.airflow.chosen.get(self.epoch, "new") != "new":
            token = request.client_request_token
            self.airflow.tokens[token] = self.task.incarnation

    def _check_is_wanted(self, arn: str) -> None:
        """Check that a clear does not take an old result, unless that is wanted."""
        airflow = self.airflow
        wanted = airflow.chosen.get(self.epoch, airflow.options.on_clear)
        if self.epoch == airflow.max_tries and wanted == "new":
            assert arn not in airflow.ended_before, "the clear takes an old result"

    def _check_choice(
        self, before: Instruction, status: str, instruction: Instruction
    ) -> None:
        """
        Check that a clear does what the user chose, or else what ``on_clear`` says.
        """
        epoch = before.task_try.epoch
        options = self.airflow.options
        is_of_the_clear = epoch == self.airflow.max_tries
        if status != "Failed" or not is_of_the_clear:
            return
        if self._is_decided(before.existing_record, epoch):
            return
        wanted = self.airflow.chosen.get(epoch, options.on_clear)
        if wanted is None:
            return
        does = (Command.PREPARE, Command.RESEND_RESUME)
        if wanted == "resume":
            does = (Command.RESUME, Command.RESEND_RESUME)
        assert instruction.command in does, (
            f"the clear wants {wanted}, but the try does {instruction.command.name}"
        )

    def _is_decided(self, record: ExecutionRecord, epoch: int) -> bool:
        """
        Return whether a clear chooses nothing: a try of its epoch has already done so,
        or the execution is that of an earlier task instance with the same key.
        """
        if epoch in (record.epoch, record.replaced_by_epoch):
            return True
        request = self.aws.find(record.arn).request
        assert request is not None
        started_by = self.airflow.tokens[request.client_request_token]
        return started_by != self.task.incarnation

    def _enter(self, instruction: Instruction) -> Iterator[str]:
        if instruction.command is not Command.START:
            self.instruction = instruction
        if instruction.store is not Store.KEEP:
            yield f"before the write for {instruction.command.name}"
            self._confirm()
            yield ALLOWED
        if instruction.store is Store.WRITE:
            self._put(instruction.existing_record)
            self.wrote = True
            is_resumed = instruction.command in (Command.RESUME, Command.RESEND_RESUME)
            if is_resumed and self._may_write:
                self._adopt(instruction.existing_record.arn)
            # Known limit: a process that was frozen right before this write marks what a
            # later try may already go on with.
            is_replaced = instruction.command in (Command.STOP, Command.WAIT_FOR_END)
            if is_replaced and self._may_write:
                self.airflow.to_be_replaced[self.epoch].add(
                    instruction.existing_record.arn
                )
        elif instruction.store is Store.RESTORE:
            self._put(instruction.restored)
        elif instruction.store is Store.DELETE:
            self.airflow.stored = None
        yield f"stored for {instruction.command.name}"

    def _call(self, instruction: Instruction) -> Event:
        """Do what an instruction says, against AWS."""
        weather = self.aws.weather
        chance = self.airflow.random.random()
        is_lost = chance < weather.failed + weather.lost and not self.is_overwritten
        if instruction.command is Command.PREPARE:
            if chance < weather.failed / 3:
                return Refused(PolysyncError("not valid", permanent=True), NOW)
            return Prepared(make_request(instruction, self.airflow), "us-east-1")
        if instruction.command in (Command.LOOK_UP, Command.LOOK_UP_STARTED):
            if chance < weather.failed:
                return Refused(api_error("ThrottlingException", transient=True), NOW)
            return self._look_up(instruction)
        self._check_is_written(instruction)
        if chance < weather.failed:
            # Before AWS has processed it; then it is not known whether it has.
            return Refused(
                api_error("InternalFailure", transient=True), NOW, was_repeated=True
            )
        try:
            event = self._processed(instruction, instruction.existing_record)
        except SageMakerApiError as error:
            is_resume = instruction.command in (Command.RESUME, Command.RESEND_RESUME)
            if is_resume or error.error_code == RESOURCE_NOT_FOUND:
                self.airflow.not_resumable.add(instruction.existing_record.arn)
            return Refused(error, NOW)
        if is_lost:
            lost = api_error("ConnectionClosedError", transient=True)
            return Refused(lost, NOW, was_repeated=True)
        return event

    @property
    def is_overwritten(self) -> bool:
        """
        Whether a process that was frozen right before its write has written over the
        record of this one.

        Known limit: if this one does not write again, nobody knows its execution.
        """
        stored = self.airflow.stored
        return bool(self.wrote and stored and stored.try_number < self.number)

    def _check_is_written(self, instruction: Instruction) -> None:
        """
        Check that the record has what a request that costs money needs, unless another
        process has written meanwhile.
        """
        stored = self.airflow.stored
        if instruction.command not in COSTS_MONEY or not self._is_current:
            return
        if stored is None or stored.try_number != self.number:
            return
        record = instruction.existing_record
        token = record.resume_token
        if instruction.command in (Command.START, Command.RESEND_START):
            token = record.request.client_request_token
        dropped = self.airflow.dropped
        assert token not in dropped, "a request that the clear has dropped is sent"
        sent = (record.request.client_request_token, record.resume_token)
        written = (stored.request.client_request_token, stored.resume_token)
        assert written == sent, f"{instruction.command.name} before its token is stored"

    def _look_up(self, instruction: Instruction) -> ExecutionsListed:
        unproven = instruction.task_try.unproven
        claimed = None
        if unproven and unproven.record and unproven.record.execution_arn:
            claimed = self.aws.entry(self.aws.find(unproven.record.execution_arn))
        return ExecutionsListed("fanout", self.aws.list(), claimed)

    def _processed(self, instruction: Instruction, record: ExecutionRecord) -> Event:
        aws = self.aws
        if instruction.command in (Command.START, Command.RESEND_START):
            return Accepted(aws.now, self._start(instruction, record.request))
        if instruction.command in (Command.RESUME, Command.RESEND_RESUME):
            token = record.resume_token or ""
            is_new = token not in aws.find(record.arn).tokens
            aws.resume(record.arn, token)
            if is_new:
                self.airflow.money.begin(record, record.arn)
            self.airflow.note_epoch(record.arn, record.epoch)
        elif instruction.command is Command.ADD_UP:
            return self.airflow.money.add_up(record, self.epoch)
        elif instruction.command is Command.STOP:
            if not aws.stop(record.arn, record.resumes):
                raise api_error("InternalFailure", transient=True)
        else:
            try:
                return Described(aws.now, aws.describe(record.arn))
            finally:
                if record.epoch != instruction.task_try.epoch:
                    aws.end_gone()
        return Accepted(aws.now)

    def _start(self, instruction: Instruction, request: StartRequest) -> str:
        airflow = self.airflow
        aws = self.aws
        token = request.client_request_token
        known = aws.started_with(token)
        chance = airflow.random.random()
        # Known limit: a conflict that lasts says nothing of a start that AWS has
        # accepted, if no name does.
        is_hidden = airflow.has_own_names and known
        if not is_hidden and chance < aws.weather.conflict / 2:
            aws.conflicts.add(token)
            raise api_error(CONFLICT, transient=True)
        if (
            instruction.command is Command.RESEND_START
            and chance > 1 - aws.weather.quota
        ):
            # Before AWS looks at the token.
            raise api_error("ResourceLimitExceeded")
        arn = aws.start(request)
        if known is None:
            airflow.money.begin(instruction.existing_record, arn)
            if instruction.command is Command.START:
                check_is_not_paid_twice(airflow, instruction.task_try.epoch)
            is_of_this_run = airflow.tokens[token] == airflow.incarnation
            airflow.latest = aws.find(arn) if is_of_this_run else None
            airflow.latest_epoch = instruction.existing_record.epoch
        if not airflow.has_own_names and chance < aws.weather.conflict:
            raise api_error(CONFLICT, transient=True)
        return arn

    def _wait(self, instruction: Instruction) -> Any:
        """
        Wait on the worker; a killed task goes on with its wait until its process ends.
        """
        record = instruction.existing_record
        execution = self.aws.find(record.arn)
        while not has_ended(execution.status):
            yield "waiting"
            if self.killed:
                raise PolysyncError("killed", permanent=False)
            is_stopping = execution.status == "Stopping"
            if not is_stopping and self.airflow.money.is_too_much(record):
                return end_of_wait("too_expensive", execution.status, arn=execution.arn)
        return end_of_wait("ended", execution.status, arn=execution.arn)

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
        record = self.instruction.record if self.instruction else None
        if record is None:
            return
        try_end = leave(
            record,
            self.number,
            stop_on_kill=self.airflow.options.stop_on_kill,
            retry_follows=retry_follows,
            is_signalled=is_signalled,
        )
        yield from self._carry_out(try_end, record)

    def _carry_out(self, try_end: TryEnd, record: ExecutionRecord) -> Iterator[str]:
        """Do what the core says about an execution for which the try does not wait."""
        if try_end.action is EndAction.ASK_OWNER:
            try_end = try_end.owned_by(self._owner(record))
        if try_end.action is EndAction.ANNOUNCE_STOP:
            try_end = try_end.owned_by(self._announce(try_end, record))
        yield "before the stop"
        if try_end.action is EndAction.STOP:
            stop(self.airflow, record)

    def _announce(self, try_end: TryEnd, record: ExecutionRecord) -> Owner:
        owner = self._owner(record)
        if owner in (Owner.THIS_TRY, Owner.NOBODY):
            self._put(try_end.announced(record).with_choice_of(self.airflow.stored))
            self.has_announced = True
        return owner

    def _owner(self, record: ExecutionRecord) -> Owner:
        airflow = self.airflow
        is_current = self._is_current
        return owner_by_record(
            record, self.number, airflow.state, airflow.stored, is_current=is_current
        )

    def _confirm(self) -> None:
        """Ask Airflow whether this try is the current one, unless it has just said so."""
        if not self._may_write or self.has_announced:
            raise ReplacedError
        self.is_confirmed = True

    @property
    def _may_write(self) -> bool:
        """Whether Airflow says, or has just said, that this try is the current one."""
        return self.is_confirmed or self._is_current

    @property
    def _is_current(self) -> bool:
        airflow = self.airflow
        return (
            airflow.current == self.number
            and airflow.task == self.task
            and airflow.state != DELETED
        )

    def _put(self, record: ExecutionRecord) -> None:
        # Known limit: a process that was frozen right before its write writes over the
        # record of a later try, and over the choice of a clear, when it goes on.
        if not self._is_current:
            self.airflow.forget_history()
        if (
            self.epoch != self.airflow.max_tries
            and self.airflow.max_tries in self.airflow.chosen
        ):
            self.airflow.chosen[self.airflow.max_tries] = None
        self.airflow.stored = record.without_values()
        self.airflow.unproven = None
