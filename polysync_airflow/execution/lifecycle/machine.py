"""
The life of an execution, as one try of its task sees it: from the record of earlier
tries to the execution that the try waits for.

Rules:

1. An instruction says what to do, and what must be stored before. The driver writes its
   log lines, stores the record, does it, and passes what happened (an event) to
   ``after``, which returns the next instruction.
2. *Write ahead*: the record has the request and its token before a request is sent that
   costs money, and the ARN before anything else is done with the execution. So a try
   that dies at any point leaves a record by which the next one finds, or gets, the same
   execution.
3. Before anything else, a try writes its number into the record: an earlier try that is
   still alive must not stop the execution from now on. Before each write, and before
   each request that costs money, the driver makes sure that its try is still the
   current one of the task instance. A record of another incarnation of the task
   instance loses its epoch, so that its execution is neither continued nor resumed, but
   stopped.
4. A resume belongs to the epoch of the try that requests it. Its token and its epoch
   are stored together.
5. An execution that a new epoch replaces is marked before it is stopped: a retry must
   not resume it if it fails while it stops.
6. What a user chose for a clear in place of ``on_clear`` is bound to the epoch of the
   clear by its first try, and is removed with the resume or the new execution that
   follows from it.
7. A try that finds a stored request without an ARN looks for its execution. If AWS
   lists none, it sends the same request again, byte for byte: if AWS knows the token,
   it returns the execution that it has started.
8. The token of a start follows from the task (``instructions.py``). A try that finds no
   record, or one that cannot be believed, looks in AWS for the execution of the earlier
   tries. If it finds none, it sends the token that they would have sent. So a lost
   record starts nothing a second time.
9. If AWS answers a start with a conflict, the execution is looked up: AWS may know the
   token from a request with other parameters.
10. A record keeps the record that it replaces until AWS has accepted the new start. If
    AWS has certainly not started an execution, the replaced record is stored again; if
    there was none, the record is deleted. A task that succeeds deletes its record.
11. An execution whose ARN AWS has returned is not replaced because AWS does not know
    it. It is described again for as long as AWS may lag; then the try fails, and
    nothing is started beside it. A clear starts a new one.
12. A try that waits for capacity has stored whether it is certain that nothing of its
    request runs. Then the same request is sent again, as if for the first time; a clear
    drops it, and nobody has anything to stop. Before the request is sent, the record
    says the opposite again. If it is not certain, rule 7 holds.
13. With ``max_cost``, a try adds up what its epoch has spent before it resumes or
    replaces an execution. If that is too much, it fails, and nothing begins. The record
    has what was spent, and until when, so that nothing is counted twice. While a try
    waits for the end of an execution that an earlier epoch has begun, the limit of that
    epoch goes on.

All transitions are in the table at the end: for each command and each event, what may
follow. ``lookup.py`` has what AWS says if the record is missing, ``resuming.py`` the
resumes. ``decisions.py`` decides by the status of an execution, ``ending.py`` about one
that its task no longer needs, ``../waiter.py`` about polls. Everything here is pure: it
calls neither Airflow nor AWS. The driver is ``operators/try_runner.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal

from polysync_airflow import states
from polysync_airflow.exceptions import (
    CONFLICT,
    CONFLICT_SECONDS,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PipelineExecutionTooExpensiveError,
    PolysyncError,
    has_code,
)
from polysync_airflow.execution.lifecycle import decisions, resuming
from polysync_airflow.execution.lifecycle.instruction_kinds import (
    Allowed,
    Beginning,
    Begun,
    Ended,
    ExecutionCommand,
    Failure,
    Identified,
    Instruction,
    Recorded,
)
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    Accepted,
    AddedUp,
    Command,
    Described,
    Event,
    ExecutionRecord,
    ExecutionsListed,
    Killed,
    Prepared,
    Refused,
    Spent,
    Started,
    Store,
    TaskTry,
    info,
    warning,
)
from polysync_airflow.execution.lifecycle.lookup import (
    MAX_LISTED,
    arn_of,
    find,
    is_blocked,
)
from polysync_airflow.execution.prices import NEXT_STEP
from polysync_airflow.execution.waiter import LAG_SECONDS, LogLine

# The time of AWS's response and the creation time of the execution come from one clock,
# which has seconds.
_NEWLY_CREATED: Final = timedelta(minutes=1)
# An execution that AWS does not know is described again after so many seconds, and so
# often.
ASK_AGAIN_SECONDS: Final = 5.0
MAX_TIMES_UNKNOWN: Final = int(LAG_SECONDS / ASK_AGAIN_SECONDS)


def after(instruction: Instruction, event: Event) -> Instruction:
    """Return the instruction that follows from what has happened."""
    return transition_of(instruction.command, type(event)).handle(instruction, event)


def killed_error() -> PolysyncError:
    """Return the error of a try whose process was killed."""
    return PolysyncError("The task was killed.", permanent=False)


def shutdown_error() -> PolysyncError:
    """Return the error of a try whose worker shuts down."""
    text = "The worker is shutting down, so this try ends."
    return PolysyncError(text, permanent=False)


# ---- how a try begins: with the record of the earlier tries, or with what AWS lists


def begin(task_try: TaskTry, record: ExecutionRecord | None) -> Instruction:
    """
    Return the first instruction of a try.

    :param record: the record of the earlier tries; None if there is none, or if it
        cannot be believed.
    """
    if record is not None:
        return _take_over(task_try, record)
    if _is_first(task_try) and task_try.unproven is None:
        # Before the first try of a task instance, nothing was started for it.
        return Beginning(Command.PREPARE, task_try)
    return Beginning(Command.LOOK_UP, task_try)


def _is_first(task_try: TaskTry) -> bool:
    """Return whether nothing of the task instance has run before."""
    return task_try.number == 1 and not task_try.is_rescheduled


def _take_over(
    task_try: TaskTry, record: ExecutionRecord, *lines: LogLine
) -> Instruction:
    """Return the first instruction of a try that goes on with a record."""
    if record.execution_arn:
        arn = record.execution_arn
        found = Identified(Command.DESCRIBE, task_try, record, arn, lines=lines)
        return _taken_over(found)
    if record.waits_for_capacity:
        return _take_over_refused_start(task_try, record)
    line = warning(
        f"Pipeline {record.request.pipeline_name}: an earlier try sent a start"
        " request and did not receive the ARN."
    )
    return _taken_over(Begun(Command.LOOK_UP, task_try, record, lines=(line,)))


def _taken_over(first: Recorded[Allowed]) -> Recorded[Allowed]:
    """Return the first instruction, before which the record becomes that of its try."""
    record = first.record
    task_try = first.task_try
    changes: dict[str, Any]
    if decisions.is_of_other_incarnation(
        record, task_try.task.incarnation, task_try.number
    ):
        line = warning(
            "The record is that of an earlier task instance with the same key, for"
            " example of a DAG run that was deleted and created again. Its execution is"
            " not continued."
        )
        epoch = task_try.epoch
        changes = {"epoch": NO_EPOCH, "replaced_by_epoch": epoch, "clear_choice": None}
        return first.write(first.command, line, *first.lines, changes=changes)
    if record.try_number == task_try.number:
        return first
    changes = _changes_by_later_try(record, task_try.epoch)
    return first.write(first.command, *first.lines, changes=changes)


def _take_over_refused_start(task_try: TaskTry, record: ExecutionRecord) -> Instruction:
    """Return the first instruction of a try that finds a start that lacks capacity."""
    first = Begun(Command.START, task_try, record)
    incarnation = task_try.task.incarnation
    is_other = decisions.is_of_other_incarnation(record, incarnation, task_try.number)
    changes = _changes_by_later_try(record, task_try.epoch)
    is_cleared = record.epoch != task_try.epoch or "epoch" in changes
    if is_other or is_cleared:
        line = info("The start that waited for capacity is not sent, after a clear.")
        return _prepare_after_refusal(first, line)
    changes["capacity"] = record.capacity_at_request
    return first.write(Command.START, changes=changes)


def _changes_by_later_try(record: ExecutionRecord, epoch: int) -> dict[str, Any]:
    """
    Return what a later try changes in the record: what a user has chosen for a clear
    counts for that clear only.
    """
    choice = record.choice_in(epoch)
    changes: dict[str, Any] = {"clear_choice": choice}
    is_first_after_choice = choice is not None and choice != record.clear_choice
    if is_first_after_choice and record.epoch == epoch:
        # The author has lowered ``retries`` meanwhile, so the clear has not changed
        # ``max_tries``.
        changes["epoch"] = NO_EPOCH
    return changes


def _looked_up(instruction: Beginning | Begun, event: ExecutionsListed) -> Instruction:
    """Go on with the execution that AWS lists, or prepare a new one."""
    task_try = instruction.task_try
    if isinstance(instruction, Begun):
        return _looked_up_request(instruction, event)
    record = find(task_try, event)
    if record:
        return _take_over(task_try, record, _take_over_line(record))
    if task_try.unproven and is_blocked(task_try, event):
        return instruction.fail(task_try.unproven)
    return Beginning(Command.PREPARE, task_try)


def _looked_up_request(instruction: Begun, event: ExecutionsListed) -> Instruction:
    """Find the execution of a request of which no try has received the response."""
    arn = arn_of(instruction.record, event)
    if arn is None:
        line = info(
            "AWS lists no execution of that request. Sending it again with the same"
            " client token, so that AWS starts no second execution."
        )
        return instruction.next(Command.RESEND_START, line)
    line = info(f"Found by the name of the earlier start request: execution {arn}")
    return instruction.found(Command.DESCRIBE, arn, line)


def _looked_up_started(instruction: Begun, event: ExecutionsListed) -> Instruction:
    """Find the execution of a start that AWS has answered with a conflict."""
    task_try = instruction.task_try
    record = find(task_try, event)
    if record:
        # The record of the start may have a choice of the user, and what was spent.
        start = instruction.record
        kept = {"clear_choice": start.clear_choice, "spent": start.spent}
        record = record.model_copy(update=kept)
        return _take_over(task_try, record, _take_over_line(record))
    if arn_of(instruction.record, event):
        # The execution is of an earlier epoch and has ended. It counts, because its
        # record exists.
        return _looked_up_request(instruction, event)
    problem = (
        "AWS has answered the start with ConflictException, also when it was repeated"
        f" for up to {CONFLICT_SECONDS:g} s: another change of pipeline"
        f" {event.pipeline_name} is in progress, or an earlier try of this task has"
        " started an execution with other arguments, of which AWS knows the client"
        f" token. None of the newest {MAX_LISTED} executions of the pipeline has the"
        " name of this task."
    )
    if instruction.record.epoch != task_try.epoch:
        return _prepare_after_refusal(instruction, warning(problem))
    # The record stays: AWS may have accepted the request although it says otherwise.
    error = PolysyncError(
        f"{problem} The next try sends the same request again. If that ends in the same"
        " way, look for the execution in the SageMaker console, stop it there if it"
        " runs, and clear the task.",
        permanent=False,
    )
    return instruction.fail(error)


def _take_over_line(record: ExecutionRecord) -> LogLine:
    return warning(
        "No record of the earlier tries can be used, but AWS has an execution with the"
        f" name of this task: execution {record.execution_arn}"
    )


# ---- a new execution


def _prepared(instruction: Beginning, event: Prepared) -> Instruction:
    task_try = instruction.task_try
    replaced = instruction.replaced
    spent: Spent | None = None
    if replaced:
        spent = replaced.spent
    record = ExecutionRecord(
        deployment=task_try.task.deployment,
        epoch=task_try.epoch,
        incarnation=task_try.task.incarnation,
        region_name=event.region_name,
        request=event.request,
        try_number=task_try.number,
        replaces=replaced,
        unattended_stop=task_try.unattended_stop,
        spent=spent,
    )
    return Begun(Command.START, task_try, record, store=record)


def _prepare_again(instruction: Identified, *lines: LogLine) -> Instruction:
    """Begin a new execution in place of that of the record."""
    task_try = instruction.task_try
    record = instruction.record
    return Beginning(
        Command.PREPARE,
        task_try,
        replaced=record,
        start_number=task_try.task.next_number(record, task_try.epoch),
        lines=lines,
    )


def _killed_before_start(instruction: Begun, event: Killed) -> Instruction:
    # The request was not sent, so the next try must not resend it.
    return instruction.fail_without_start(_killed(instruction, event).error)


def _started(instruction: Begun, event: Started) -> Instruction:
    command: ExecutionCommand = Command.DESCRIBE_STARTED
    if _is_first(instruction.task_try):
        # A first try is the first to send the token, unless Airflow's database was
        # restored.
        command = Command.WATCH
    pipeline_name = instruction.record.request.pipeline_name
    line = info(f"Started: execution {event.arn} (pipeline {pipeline_name})")
    found = instruction.found(command, event.arn, line)
    return replace(found, started_at=event.at)


def _described_started(instruction: Identified, event: Described) -> Instruction:
    created_at = event.description.created_at
    responded_at = instruction.started_at
    if created_at and responded_at and created_at < responded_at - _NEWLY_CREATED:
        # The token was that of an earlier start, of which no record tells. Its values
        # may be others: AWS does not document that it refuses those of this request.
        record = instruction.record.without_values()
        return _described(replace(instruction, record=record), event)
    return instruction.next(Command.WATCH)


def _described_started_refused(instruction: Identified, _: Refused) -> Instruction:
    # The execution exists, and the wait deals with errors.
    return instruction.next(Command.WATCH)


def _start_refused(instruction: Begun, event: Refused) -> Instruction:
    error = event.error
    if has_code(error, CONFLICT):
        return instruction.next(Command.LOOK_UP_STARTED, warning(str(error)))
    waiting = decisions.after_quota_refusal(
        instruction, event, nothing_runs=not event.was_repeated
    )
    if waiting:
        return waiting
    if error.transient or event.was_repeated:
        return instruction.fail(error)
    # AWS refused the only request: there is no execution, and the next try must not
    # resend it.
    return instruction.fail_without_start(error)


def _resent(instruction: Begun, event: Started) -> Instruction:
    line = info(f"Found by the earlier start request: execution {event.arn}")
    return instruction.found(Command.DESCRIBE, event.arn, line)


def _resend_refused(instruction: Begun, event: Refused) -> Instruction:
    error = event.error
    if has_code(error, CONFLICT):
        return instruction.next(Command.LOOK_UP_STARTED, warning(str(error)))
    waiting = decisions.after_quota_refusal(instruction, event, nothing_runs=False)
    if waiting:
        return waiting
    # If AWS knows the client token, it returns the token's execution and does not check
    # the request. So an error about the request itself proves that AWS has never
    # accepted it. AccessDenied or a used-up quota prove nothing.
    if not has_code(error, VALIDATION, RESOURCE_NOT_FOUND):
        return instruction.fail(error)
    record = instruction.record
    if record.epoch == instruction.task_try.epoch:
        return instruction.fail_without_start(error)
    line = warning(
        f"Pipeline {record.request.pipeline_name}: the earlier request did not start an"
        f" execution: {error}"
    )
    return _prepare_after_refusal(instruction, line)


def _prepare_after_refusal(instruction: Begun, line: LogLine) -> Instruction:
    """
    Go on after a clear, where AWS does not accept the request of an earlier epoch: with
    the execution that it was to replace, or with a new one.
    """
    start = instruction.record
    if start.replaces is None:
        task_try = instruction.task_try
        return Beginning(Command.PREPARE, task_try, lines=(line,), store=Store.DELETE)
    replaced = start.replaces.restored_after(start)
    return _take_over(instruction.task_try, replaced, line)


# ---- the execution of an earlier try


def _described(instruction: Identified, event: Described) -> Instruction:
    """Decide by the status."""
    task_try = instruction.task_try
    record = instruction.record
    description = event.description
    status = description.status
    command = decisions.next_command(record, task_try.epoch, status, task_try.options)
    is_cleared = record.epoch != task_try.epoch
    waits_for_end = command in (Command.STOP, Command.WAIT_FOR_END)
    if task_try.has_cost_limit and is_cleared and not waits_for_end:
        # What was spent before does not count. An execution that runs on counts until
        # its end where it has begun.
        spent = Spent(epoch=task_try.epoch, amount=0, until=event.at)
        record = record.with_spent(spent)
    instruction = replace(
        instruction,
        record=record,
        description=description,
        started_at=description.created_at,
        times_unknown=0,
    )
    match command:
        case Command.PREPARE | Command.RESUME:
            # A resume needs it also after a clear: for a limit that is not valid,
            # nothing begins. A new execution is prepared, which finds that out.
            is_next = not is_cleared or command is Command.RESUME
            if task_try.has_cost_limit and is_next:
                return Ended(Command.ADD_UP, task_try, record, instruction, status)
            return _begin_again(instruction, command)
        case Command.WATCH:
            return _reattach(instruction, event)
        case Command.RESEND_RESUME:
            # Written although nothing changes: Airflow refuses the write of a replaced
            # try.
            return instruction.write(Command.RESEND_RESUME, changes={})
        case Command.STOP | Command.WAIT_FOR_END:
            return _let_it_end(instruction, command, event)


def _begin_again(instruction: Identified, command: Command) -> Instruction:
    """Resume an execution that has ended, or replace it."""
    if command is Command.RESUME:
        return resuming.resume(instruction)
    return _prepare_again(instruction)


def _added_up(instruction: Ended, event: AddedUp) -> Instruction:
    task_try = instruction.task_try
    spending = event.spending
    record = instruction.record
    status = instruction.status
    if spending.is_over:
        text = f"Nothing was started: {spending.text}\n{NEXT_STEP}"
        error = PipelineExecutionTooExpensiveError(
            f"{text}\nExecution: {instruction.execution.arn}",
            execution_arn=instruction.execution.arn,
            status=status,
            permanent=True,
        )
        error.spending = spending
        # The execution has ended, so this try leaves nothing to stop.
        return Failure(Command.FAIL, task_try, error=error)
    command = decisions.next_command(record, task_try.epoch, status, task_try.options)
    spent = Spent(epoch=task_try.epoch, amount=spending.amount, until=spending.at)
    record = record.with_spent(spent)
    return _begin_again(replace(instruction.execution, record=record), command)


def _add_up_refused(instruction: Ended, event: Refused) -> Instruction:
    # The execution has ended, so this try leaves nothing to stop.
    return Failure(Command.FAIL, instruction.task_try, error=event.error)


def _describe_refused(instruction: Identified, event: Refused) -> Instruction:
    error = event.error
    record = instruction.record
    if not has_code(error, RESOURCE_NOT_FOUND):
        return instruction.fail(error)
    if instruction.times_unknown < MAX_TIMES_UNKNOWN:
        return _ask_again(instruction, error)
    if record.epoch == instruction.task_try.epoch:
        # AWS has returned its ARN, so it exists, or has existed.
        text = (
            f"{error} The execution may run: nothing was started beside it. To start a"
            f" new execution, clear the task. Execution: {instruction.arn}"
        )
        return instruction.fail(PolysyncError(text))
    line = warning(
        f"AWS does not know the execution of an earlier try: {error} A new one is"
        f" started in its place. Execution: {instruction.arn}"
    )
    return _prepare_again(instruction, line)


def _ask_again(instruction: Identified, error: PolysyncError) -> Instruction:
    """Describe an execution again that AWS does not know yet."""
    lines: list[LogLine] = []
    if instruction.times_unknown == 0:
        text = (
            "AWS does not know the execution, perhaps not yet. Asking again for"
            f" {LAG_SECONDS:g} s: {error} Execution: {instruction.arn}"
        )
        lines.append(warning(text))
    return instruction.next(
        instruction.command,
        *lines,
        times_unknown=instruction.times_unknown + 1,
        delay=ASK_AGAIN_SECONDS,
    )


def _reattach(instruction: Identified, event: Described) -> Instruction:
    record = instruction.record
    epoch = instruction.task_try.epoch
    line = info(
        "Reattached to the execution of an earlier try (AWS status "
        f"{event.description.status}); no new one is started: execution"
        f" {instruction.arn}"
    )
    changes: dict[str, Any] = {}
    if record.epoch != epoch:
        changes = {"epoch": epoch, "clear_choice": None}
    if record.resume_is_pending:
        # AWS has accepted the resume of an earlier try, which did not receive the
        # response.
        changes["resumed_at"] = event.at
    if record.waits_for_capacity:
        changes |= _changes_after_foreign_resume(event)
    if changes:
        return instruction.write(Command.WATCH, line, changes=changes)
    return instruction.next(Command.WATCH, line)


def _changes_after_foreign_resume(event: Described) -> dict[str, Any]:
    """
    Return what changes in the record of an execution that waited for capacity and runs:
    somebody has resumed it outside of Airflow.
    """
    return {"capacity": None, "resumed_at": event.at}


def _let_it_end(
    instruction: Identified,
    command: Literal[Command.STOP, Command.WAIT_FOR_END],
    event: Described,
) -> Instruction:
    """
    Stop an execution, or only wait for its end: the try must not continue with it.
    """
    options = instruction.task_try.options
    epoch = instruction.task_try.epoch
    record = instruction.record
    follows = "A new one starts"
    if not options.stop_on_clear:
        follows = "The task goes on with it"
    reason = ""
    if not options.stop_on_kill:
        reason = "; stop_on_kill=False keeps it running"
    line = warning(
        "The execution of an earlier try has not ended (AWS status"
        f" {event.description.status})."
        f" {follows} after its end{reason}: execution {instruction.arn}"
    )
    if options.stops_cleared and record.epoch != epoch:
        changes: dict[str, Any] = {"replaced_by_epoch": epoch}
        if record.waits_for_capacity:
            changes |= _changes_after_foreign_resume(event)
        return instruction.write(command, line, changes=changes)
    return instruction.next(command, line)


def _stop_requested(instruction: Identified, _: Accepted) -> Instruction:
    return instruction.next(Command.WAIT_FOR_END)


def _described_refused(instruction: Identified, event: Described) -> Instruction:
    if not states.has_ended(event.description.status):
        # AWS may refuse because it has already accepted an earlier request for the same
        # resume. Then the execution runs, and no new one may be started beside it.
        return _described(instruction, event)
    line = warning(
        "A new execution, which repeats every step, is started in place of execution "
        f"{instruction.arn}"
    )
    return _prepare_again(instruction, line)


# ---- the end of a try, whatever it was about to do


def _failed(instruction: Instruction, event: Refused) -> Instruction:
    return instruction.fail(event.error)


def _killed(instruction: Instruction, event: Killed) -> Failure:
    if event.is_shutdown:
        return instruction.fail(shutdown_error())
    return instruction.fail(killed_error())


# ---- the table


@dataclass(frozen=True, slots=True)
class Transition:
    """
    What a try does after an event.

    :param handle: returns the next instruction.
    :param follows: the commands that this instruction may have.
    """

    handle: Callable[[Any, Any], Instruction]
    follows: Set[Command]


TRANSITIONS: Final[Mapping[Command, Mapping[type[Event], Transition]]] = {
    # The execution of the earlier tries is not known.
    Command.LOOK_UP: {
        ExecutionsListed: Transition(
            _looked_up,
            {Command.DESCRIBE, Command.RESEND_START, Command.PREPARE, Command.FAIL},
        ),
    },
    Command.RESEND_START: {
        Started: Transition(_resent, {Command.DESCRIBE}),
        Refused: Transition(
            _resend_refused,
            {
                Command.LOOK_UP_STARTED,
                Command.WAIT_FOR_CAPACITY,
                Command.DESCRIBE,
                Command.PREPARE,
                Command.FAIL,
            },
        ),
    },
    # It is known: its status decides.
    Command.DESCRIBE: {
        Described: Transition(
            _described,
            {
                Command.WATCH,
                Command.STOP,
                Command.WAIT_FOR_END,
                Command.ADD_UP,
                Command.RESUME,
                Command.RESEND_RESUME,
                Command.PREPARE,
            },
        ),
        Refused: Transition(
            _describe_refused, {Command.DESCRIBE, Command.PREPARE, Command.FAIL}
        ),
    },
    Command.ADD_UP: {
        AddedUp: Transition(_added_up, {Command.RESUME, Command.PREPARE, Command.FAIL}),
        Refused: Transition(_add_up_refused, {Command.FAIL}),
    },
    Command.STOP: {
        Accepted: Transition(_stop_requested, {Command.WAIT_FOR_END}),
    },
    # A new execution.
    Command.PREPARE: {
        Prepared: Transition(_prepared, {Command.START}),
    },
    Command.START: {
        Started: Transition(_started, {Command.WATCH, Command.DESCRIBE_STARTED}),
        Refused: Transition(
            _start_refused,
            {Command.LOOK_UP_STARTED, Command.WAIT_FOR_CAPACITY, Command.FAIL},
        ),
        Killed: Transition(_killed_before_start, {Command.FAIL}),
    },
    Command.DESCRIBE_STARTED: {
        Described: Transition(
            _described_started,
            {
                Command.WATCH,
                Command.WAIT_FOR_END,
                Command.ADD_UP,
                Command.RESUME,
                Command.PREPARE,
            },
        ),
        Refused: Transition(_described_started_refused, {Command.WATCH}),
    },
    Command.LOOK_UP_STARTED: {
        ExecutionsListed: Transition(
            _looked_up_started, {Command.DESCRIBE, Command.PREPARE, Command.FAIL}
        ),
    },
    # A resume.
    Command.RESUME: {
        Accepted: Transition(resuming.resumed, {Command.WATCH}),
        Refused: Transition(
            resuming.resume_refused,
            {Command.DESCRIBE_REFUSED, Command.WAIT_FOR_CAPACITY, Command.FAIL},
        ),
    },
    Command.RESEND_RESUME: {
        Accepted: Transition(
            resuming.resume_resent, {Command.DESCRIBE, Command.DESCRIBE_RESUMED}
        ),
        Refused: Transition(
            resuming.resume_refused,
            {Command.DESCRIBE_REFUSED, Command.WAIT_FOR_CAPACITY, Command.FAIL},
        ),
    },
    Command.DESCRIBE_RESUMED: {
        Described: Transition(
            resuming.described_resumed, {Command.WATCH, Command.RESUME}
        ),
        Refused: Transition(
            _describe_refused, {Command.DESCRIBE_RESUMED, Command.FAIL}
        ),
    },
    Command.DESCRIBE_REFUSED: {
        Described: Transition(
            _described_refused,
            {Command.WATCH, Command.STOP, Command.WAIT_FOR_END, Command.PREPARE},
        ),
        Refused: Transition(
            _describe_refused,
            {Command.DESCRIBE_REFUSED, Command.PREPARE, Command.FAIL},
        ),
    },
    # The start has ended: only a kill may follow.
    Command.WATCH: {},
    Command.WAIT_FOR_END: {},
    Command.WAIT_FOR_CAPACITY: {},
    Command.FAIL: {},
}
# After every command for which the table says nothing else.
_AFTER_ANY_COMMAND: Final[Mapping[type[Event], Transition]] = {
    Refused: Transition(_failed, {Command.FAIL}),
    Killed: Transition(_killed, {Command.FAIL}),
}


def transition_of(command: Command, event: type[Event]) -> Transition:
    """Return what a try does after a command has led to an event."""
    transition = TRANSITIONS[command].get(event)
    if transition is None:
        transition = _AFTER_ANY_COMMAND[event]
    return transition
