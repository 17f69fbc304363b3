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
9. If AWS knows the token from a request with other parameters, the execution is looked
   up.
10. The record is deleted if AWS has not started an execution for it, and by a task that
    succeeds.

Rules for what AWS says if the record is missing or cannot be believed:

1. The name of an execution says which start has made it. It is the task instance's own
   if it has the mark of this incarnation, or of the one that the record names: a record
   that cannot be believed only says for which incarnation of the same task instance to
   look, too.
2. Of the own executions, one that has not ended counts first, then the latest. An
   execution of an earlier epoch that has ended counts only if there is a record: where
   there is none, the task has succeeded in that epoch, or its start was refused.
3. If there is none, one that has not ended counts which another incarnation of the task
   instance has started, in the same deployment. It is neither continued nor resumed,
   but stopped.
4. If there is none either, and the record names an execution that has not ended,
   nothing is started beside it. Only if the record's token is that of a start of this
   epoch, the start itself asks AWS.
5. A record with a request, but without an ARN, is that of the execution with the name
   in the request.

All transitions are in the table at the end. ``decisions.py`` decides by the status of
an execution, and about one that its task no longer needs, ``../waiter.py`` about polls.
Everything here is pure: it calls neither Airflow nor AWS. The driver is
``operators/task_try.py``.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any, Final

from polysync_airflow.exceptions import (
    CONFLICT,
    RESOURCE_NOT_FOUND,
    VALIDATION,
    PolysyncError,
    has_code,
)
from polysync_airflow.execution.lifecycle import instructions
from polysync_airflow.execution.lifecycle.decisions import (
    Action,
    is_of_other_incarnation,
    next_action,
)
from polysync_airflow.execution.lifecycle.instructions import (
    Do,
    Instruction,
    StoredExecution,
    info,
    warning,
)
from polysync_airflow.execution.models import (
    ExecutionDescription,
    StartRequest,
    region_from_arn,
)
from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.states import PolysyncState, has_ended, state_of

# How many executions of a pipeline are looked at, the newest first.
MAX_LOOKED_AT: Final = 300
# AWS's clock, which its response and the execution's creation time have in common, has
# seconds.
_NEWLY_CREATED: Final = timedelta(minutes=1)


def after(now: Instruction, event: instructions.Event) -> Instruction:
    """Return the instruction that follows, now that something has happened."""
    handle = _TRANSITIONS.get((now.do, type(event))) or _TRANSITIONS[None, type(event)]
    return handle(now, event)


def killed_error(*, is_shutdown: bool) -> PolysyncError:
    """
    Return the error of a try whose process was killed.

    :param is_shutdown: whether its worker shuts down.
    """
    text = (
        "The worker is shutting down, so this try ends."
        if is_shutdown
        else "The task was killed."
    )
    return PolysyncError(text, permanent=False)


# ---- how a try begins: with the record of the earlier tries, or with what AWS says


def find(
    task_try: instructions.Try, seen: instructions.LookedUp
) -> StoredExecution | None:
    """
    Return the record of the earlier tries' execution, made from what AWS says; None if
    there is none.
    """
    task, claims = task_try.task, _claims(task_try)
    executions = [*([seen.claimed] if seen.claimed else []), *seen.listed]
    found = [
        own_record_of(each, task, claims, seen.pipeline_name) for each in executions
    ]
    others = [
        _record_of_other_incarnation(each, task, seen.pipeline_name)
        for each in executions
    ]
    running = {each.execution_arn for each in executions if not has_ended(each.status)}
    is_lost = task_try.lost is not None
    in_order = (
        *(record for record in found if record and record.execution_arn in running),
        *(
            record
            for record in found
            if record and (is_lost or record.epoch == task_try.epoch)
        ),
        *(record for record in others if record and record.execution_arn in running),
    )
    # The newest are listed first.
    return next(iter(in_order), None)


def arn_of(record: StoredExecution, seen: instructions.LookedUp) -> str | None:
    """
    Return the ARN of the execution that the request of a record has started; None if
    none is listed.
    """
    request = record.request
    name = instructions.read_name(
        request.execution_display_name, request.execution_description
    )
    found = (
        each
        for each in seen.listed
        if instructions.read_name(each.display_name, each.description) == name
    )
    return next((each.execution_arn for each in found if name), None)


def is_blocked(task_try: instructions.Try, seen: instructions.LookedUp) -> bool:
    """
    Return whether nothing may be started, because of an execution that a record names
    and nobody knows.
    """
    if seen.claimed is None or has_ended(seen.claimed.status):
        return False
    return task_try.task.next_number(_claims(task_try), task_try.epoch) == 0


def own_record_of(
    execution: ExecutionDescription,
    task: instructions.TaskIdentity,
    claims: StoredExecution | None,
    pipeline_name: str,
) -> StoredExecution | None:
    """
    Return the record of an execution that a task instance has started; None if its name
    does not say so.

    :param claims: a record that cannot be believed, which may name another incarnation
        of the task instance.
    :param pipeline_name: the name or ARN of its pipeline.
    """
    name = instructions.read_name(execution.display_name, execution.description)
    for incarnation in (task.incarnation, claims.incarnation if claims else None):
        own = replace(task, incarnation=incarnation) if incarnation else None
        if name and own and name.incarnation_mark == own.incarnation_mark:
            token = own.token(name.epoch, name.number)
            return _record(
                execution,
                token,
                pipeline_name,
                epoch=name.epoch,
                incarnation=incarnation,
            )
    return None


def _record_of_other_incarnation(
    execution: ExecutionDescription, task: instructions.TaskIdentity, pipeline_name: str
) -> StoredExecution | None:
    name = instructions.read_name(execution.display_name, execution.description)
    if name is None or name.task_mark not in task.task_marks:
        return None
    # Nobody knows its token, and nobody needs it: an execution with an ARN is not
    # started again.
    token = (
        f"polysync-{name.task_mark}-{name.incarnation_mark}-{name.epoch}-{name.number}"
    )
    return _record(
        execution, token, pipeline_name, epoch=instructions.NO_EPOCH, incarnation=None
    )


def _record(
    execution: ExecutionDescription,
    token: str,
    pipeline_name: str,
    *,
    epoch: int,
    incarnation: instructions.Incarnation | None,
) -> StoredExecution:
    request = StartRequest(
        pipeline_name=pipeline_name,
        pipeline_parameters={},
        execution_display_name="unknown",
        client_request_token=token,
    )
    return StoredExecution(
        epoch=epoch,
        incarnation=incarnation,
        region_name=region_from_arn(execution.execution_arn),
        request=request,
        execution_arn=execution.execution_arn,
    )


def _claims(task_try: instructions.Try) -> StoredExecution | None:
    record: StoredExecution | None = task_try.lost.record if task_try.lost else None
    return record


def begin(task_try: instructions.Try, record: StoredExecution | None) -> Instruction:
    """
    Return the first instruction of a try, which has read the record of the earlier
    tries.
    """
    if record is not None:
        return _take_over(task_try, record)
    # Before the first try of a task instance, nothing was started for it.
    is_first = task_try.number == 1 and task_try.lost is None
    return Instruction(Do.PREPARE if is_first else Do.LOOK_UP, task_try)


def looked_up(now: Instruction, event: instructions.LookedUp) -> Instruction:
    """
    Return the instruction of a try that has no record, or one without an ARN, and has
    looked in AWS.
    """
    task_try = now.task_try
    if now.record:
        return _looked_up_sent(now, now.record, event)
    record = find(task_try, event)
    if record:
        return _take_over(task_try, record, _found_line(record))
    if task_try.lost and is_blocked(task_try, event):
        return now.next(Do.FAIL, error=task_try.lost)
    return now.next(Do.PREPARE)


def looked_up_started(now: Instruction, event: instructions.LookedUp) -> Instruction:
    """
    Return the instruction of a try whose token AWS knows from a request with other
    parameters.
    """
    record = find(now.task_try, event)
    if record:
        return _take_over(now.task_try, record, _found_line(record))
    error = PolysyncError(
        "An earlier try of this task has started an execution with other arguments:"
        f" AWS knows its client token. None of the newest {MAX_LOOKED_AT} executions of"
        f" pipeline {event.pipeline_name} has the name of this task, so nothing was"
        " started. Look for the execution in the SageMaker console, stop it there if"
        " it runs, and clear the task."
    )
    return now.next(Do.FAIL, error=error).without_record()


def _take_over(
    task_try: instructions.Try, record: StoredExecution, *lines: LogLine
) -> Instruction:
    """Return the first instruction of a try that goes on with a record."""
    if record.execution_arn:
        now = Instruction(Do.DESCRIBE, task_try, record, lines=lines)
    else:
        line = warning(
            f"Pipeline {record.request.pipeline_name}: an earlier try sent a start"
            " request and did not receive the ARN."
        )
        now = Instruction(Do.LOOK_UP, task_try, record, lines=(line,))
    if is_of_other_incarnation(record, task_try.task.incarnation, task_try.number):
        line = warning(
            "The record is that of an earlier task instance with the same key, for"
            " example of a DAG run that was deleted and created again. Its execution is"
            " not continued."
        )
        changes = {
            "epoch": instructions.NO_EPOCH,
            "replaced_by_epoch": task_try.epoch,
            "clear_choice": None,
        }
        return now.write(now.do, line, *now.lines, changes=changes)
    if record.try_number == task_try.number:
        return now
    return now.write(now.do, *now.lines, changes=_of_this_clear(record, task_try.epoch))


def _of_this_clear(record: StoredExecution, epoch: int) -> dict[str, Any]:
    """
    Return what changes in the record when a try takes it over: a choice counts for one
    clear only.
    """
    choice = record.choice_in(epoch)
    is_first = choice is not None and choice != record.clear_choice
    # If the author has lowered ``retries`` meanwhile, the clear may not have changed
    # ``max_tries``.
    old_epoch = (
        instructions.NO_EPOCH if is_first and record.epoch == epoch else record.epoch
    )
    return {"clear_choice": choice, "epoch": old_epoch}


def _looked_up_sent(
    now: Instruction, record: StoredExecution, event: instructions.LookedUp
) -> Instruction:
    arn = arn_of(record, event)
    if arn:
        line = info(f"Found by the name of the earlier start request: execution {arn}")
        return now.write(Do.DESCRIBE, line, changes={"execution_arn": arn})
    line = info(
        "AWS lists no execution of that request. Sending it again with the same client"
        " token, so that AWS starts no second execution."
    )
    return now.next(Do.RESEND_START, line)


def _found_line(record: StoredExecution) -> LogLine:
    return warning(
        "No record of the earlier tries can be used, but AWS has an execution with the"
        f" name of this task: execution {record.arn}"
    )


# ---- a new execution


def _prepared(now: Instruction, event: instructions.Prepared) -> Instruction:
    record = StoredExecution(
        epoch=now.task_try.epoch,
        incarnation=now.task_try.task.incarnation,
        region_name=event.region_name,
        request=event.request,
        try_number=now.task_try.number,
    )
    return now.next(
        Do.START, record=record, description=None, store=instructions.Store.WRITE
    )


def _killed_before_start(now: Instruction, event: instructions.Killed) -> Instruction:
    # The request was not sent, so the next try must not resend it.
    return _killed(now, event).without_record()


def _started(now: Instruction, event: instructions.Accepted) -> Instruction:
    line = info(
        f"Started: execution {event.arn} (pipeline {now.known.request.pipeline_name})"
    )
    # A first try is the first to send the token, unless Airflow's database was
    # restored.
    do = Do.WATCH if now.task_try.number == 1 else Do.DESCRIBE_STARTED
    return now.write(
        do, line, changes={"execution_arn": event.arn}, started_at=event.at
    )


def _described_started(now: Instruction, event: instructions.Described) -> Instruction:
    created_at, responded_at = event.description.created_at, now.started_at
    if created_at and responded_at and created_at < responded_at - _NEWLY_CREATED:
        # The token was that of an earlier start, of which no record tells.
        return _described(now, event)
    return now.next(Do.WATCH)


def _described_started_refused(
    now: Instruction, _: instructions.Refused
) -> Instruction:
    # The execution exists, and the wait deals with errors.
    return now.next(Do.WATCH)


def _start_refused(now: Instruction, event: instructions.Refused) -> Instruction:
    if has_code(event.error, CONFLICT):
        return now.next(Do.LOOK_UP_STARTED, warning(str(event.error)))
    failed = now.next(Do.FAIL, error=event.error)
    # AWS refused the only request, so there is no execution, and the next try must not
    # resend it.
    return (
        failed
        if event.error.transient or event.was_repeated
        else failed.without_record()
    )


def _resent(now: Instruction, event: instructions.Accepted) -> Instruction:
    line = info(f"Found by the earlier start request: execution {event.arn}")
    return now.write(Do.DESCRIBE, line, changes={"execution_arn": event.arn})


def _resend_refused(now: Instruction, event: instructions.Refused) -> Instruction:
    error = event.error
    if has_code(error, CONFLICT):
        return now.next(Do.LOOK_UP_STARTED, warning(str(error)))
    # If AWS knows the client token, it returns the token's execution and does not check
    # the request. So an error about the request itself proves that AWS has never
    # accepted it. AccessDenied or a used-up quota prove nothing.
    if not has_code(error, VALIDATION, RESOURCE_NOT_FOUND):
        return now.next(Do.FAIL, error=error)
    if now.known.epoch == now.task_try.epoch:
        return now.next(Do.FAIL, error=error).without_record()
    pipeline = now.known.request.pipeline_name
    line = warning(
        f"Pipeline {pipeline}: the earlier request did not start an execution: {error}"
    )
    return _prepare_again(now, line).without_record()


# ---- the execution of an earlier try


def _described(now: Instruction, event: instructions.Described) -> Instruction:
    """Decide by the status."""
    record, task_try = now.known, now.task_try
    action = next_action(
        record, task_try.epoch, event.description.status, task_try.choices
    )
    started_at = event.description.created_at
    described = replace(now, description=event.description, started_at=started_at)
    return _AFTER_DESCRIPTION[action](described, event)


def _describe_refused(now: Instruction, event: instructions.Refused) -> Instruction:
    if not has_code(event.error, RESOURCE_NOT_FOUND):
        return now.next(Do.FAIL, error=event.error)
    line = warning(
        f"The execution of an earlier try no longer exists: {event.error} Execution:"
        f" {now.known.arn}"
    )
    return _prepare_again(now, line)


def _replace(now: Instruction, _: instructions.Described) -> Instruction:
    # The record stays until that of the new execution takes its place.
    return _prepare_again(now)


def _reattach(now: Instruction, event: instructions.Described) -> Instruction:
    line = info(
        "Reattached to the execution of an earlier try (AWS status"
        f" {event.description.status}); no new one is started: execution"
        f" {now.known.arn}"
    )
    changes: dict[str, Any] = {}
    if now.known.epoch != now.task_try.epoch:
        changes = {"epoch": now.task_try.epoch, "clear_choice": None}
    if now.known.resume_is_pending:
        # AWS has accepted the resume of an earlier try, although that try did not
        # receive the response.
        changes["resumed_at"] = event.at
    return (
        now.write(Do.WATCH, line, changes=changes)
        if changes
        else now.next(Do.WATCH, line)
    )


def _wait_for_end(
    now: Instruction, event: instructions.Described, do: Do = Do.WAIT_FOR_END
) -> Instruction:
    task_try = now.task_try
    choices = task_try.choices
    stops = choices.stops_cleared
    follows = (
        "The task goes on with it" if not choices.stop_on_clear else "A new one starts"
    )
    kept = "" if choices.stop_on_kill else "; stop_on_kill=False keeps it running"
    line = warning(
        "The execution of an earlier try has not ended (AWS status"
        f" {event.description.status}). {follows} after its end{kept}: execution"
        f" {now.known.arn}"
    )
    if not stops or now.known.epoch == task_try.epoch:
        return now.next(do, line)
    return now.write(do, line, changes={"replaced_by_epoch": task_try.epoch})


def _stop_requested(now: Instruction, _: instructions.Accepted) -> Instruction:
    return now.next(Do.WAIT_FOR_END)


# ---- a resume


def _resume(now: Instruction, _: instructions.Described) -> Instruction:
    record, epoch = now.known, now.task_try.epoch
    if record.resume_is_pending:
        do = Do.RESUME if record.epoch == epoch else Do.RESEND_RESUME
        return now.write(do, changes={"epoch": epoch, "clear_choice": None})
    number = record.resumes + 1
    changes = {
        "epoch": epoch,
        "resumes": number,
        "resume_token": _resume_token(record, number, now.task_try.number),
        "resumed_at": None,
        "stop_requested_by": None,
        "clear_choice": None,
    }
    return now.write(Do.RESUME, changes=changes)


def _resumed(now: Instruction, event: instructions.Accepted) -> Instruction:
    return now.write(
        Do.WATCH, _resume_line(now), changes={"resumed_at": event.at}, description=None
    )


def _resume_line(now: Instruction) -> LogLine:
    return info(f"Resumed (resume {now.known.resumes}): execution {now.known.arn}")


def _settle_resume(now: Instruction, _: instructions.Described) -> Instruction:
    # Written although nothing changes: Airflow refuses the write of a try that it has
    # replaced.
    return now.write(Do.RESEND_RESUME, changes={})


def _resume_resent(now: Instruction, event: instructions.Accepted) -> Instruction:
    is_wanted = now.known.epoch == now.task_try.epoch
    do = Do.DESCRIBE_RESUMED if is_wanted else Do.DESCRIBE
    return now.write(do, changes={"resumed_at": event.at})


def _described_resumed(now: Instruction, event: instructions.Described) -> Instruction:
    # AWS had accepted the resume before the clear, and it has failed since. AWS does
    # nothing for a token that it knows, but the user wants the failed steps to run now.
    if state_of(event.description.status) is PolysyncState.FAILED:
        return _resume(now, event)
    return now.next(Do.WATCH, _resume_line(now), description=event.description)


def _resume_refused(now: Instruction, event: instructions.Refused) -> Instruction:
    if event.error.transient:
        return now.next(Do.FAIL, error=event.error)
    line = warning(
        f"The execution cannot be resumed: {event.error} Execution: {now.known.arn}"
    )
    return now.next(Do.DESCRIBE_REFUSED, line)


def _described_refused(now: Instruction, event: instructions.Described) -> Instruction:
    # AWS may refuse because it has already accepted an earlier request for the same
    # resume. Then the execution runs, and no new one may be started beside it.
    if not has_ended(event.description.status):
        return _described(now, event)
    line = warning(
        "A new execution, which repeats every step, is started in place of execution"
        f" {now.known.arn}"
    )
    return _prepare_again(now, line)


# ---- what several transitions share


def _prepare_again(now: Instruction, *lines: LogLine) -> Instruction:
    task_try = now.task_try
    number = task_try.task.next_number(now.record, task_try.epoch)
    return now.next(
        Do.PREPARE, *lines, record=None, description=None, start_number=number
    )


def _failed(now: Instruction, event: instructions.Refused) -> Instruction:
    return now.next(Do.FAIL, error=event.error)


def _killed(now: Instruction, event: instructions.Killed) -> Instruction:
    return now.next(Do.FAIL, error=killed_error(is_shutdown=event.is_shutdown))


def _resume_token(record: StoredExecution, number: int, try_number: int) -> str:
    # It follows from the record, as this module is pure. If a record was lost, nobody
    # knows how many resumes there were: then the number of the try tells them apart.
    name = f"{record.request.client_request_token} resume {number} of try {try_number}"
    return f"polysync-{uuid.uuid5(uuid.NAMESPACE_OID, name)}"


_AFTER_DESCRIPTION: Final[
    dict[Action, Callable[[Instruction, instructions.Described], Instruction]]
] = {
    Action.START: _replace,
    Action.REATTACH: _reattach,
    Action.RESUME: _resume,
    Action.SETTLE_RESUME: _settle_resume,
    Action.STOP: partial(_wait_for_end, do=Do.STOP),
    Action.WAIT_FOR_END: _wait_for_end,
}
# None: whatever was to be done.
_TRANSITIONS: Final[
    dict[tuple[Do | None, type], Callable[[Instruction, Any], Instruction]]
] = {
    (None, instructions.Refused): _failed,
    (None, instructions.Killed): _killed,
    (Do.LOOK_UP, instructions.LookedUp): looked_up,
    (Do.LOOK_UP_STARTED, instructions.LookedUp): looked_up_started,
    (Do.PREPARE, instructions.Prepared): _prepared,
    (Do.START, instructions.Accepted): _started,
    (Do.DESCRIBE_STARTED, instructions.Described): _described_started,
    (Do.DESCRIBE_STARTED, instructions.Refused): _described_started_refused,
    (Do.START, instructions.Refused): _start_refused,
    (Do.START, instructions.Killed): _killed_before_start,
    (Do.RESEND_START, instructions.Accepted): _resent,
    (Do.RESEND_START, instructions.Refused): _resend_refused,
    (Do.DESCRIBE, instructions.Described): _described,
    (Do.DESCRIBE, instructions.Refused): _describe_refused,
    (Do.STOP, instructions.Accepted): _stop_requested,
    (Do.RESUME, instructions.Accepted): _resumed,
    (Do.RESUME, instructions.Refused): _resume_refused,
    (Do.RESEND_RESUME, instructions.Accepted): _resume_resent,
    (Do.RESEND_RESUME, instructions.Refused): _resume_refused,
    (Do.DESCRIBE_REFUSED, instructions.Described): _described_refused,
    (Do.DESCRIBE_REFUSED, instructions.Refused): _describe_refused,
    (Do.DESCRIBE_RESUMED, instructions.Described): _described_resumed,
    (Do.DESCRIBE_RESUMED, instructions.Refused): _describe_refused,
}
