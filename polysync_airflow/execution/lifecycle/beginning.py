"""
How a try begins: with the record of the earlier tries, or with what AWS says if there is none.

Rules for what AWS says if the record is missing or cannot be believed:

1. The name of an execution says which start has made it. It is the task instance's own if it has the mark of
   this incarnation, or of the one that the record names: a record that cannot be believed only says for which
   incarnation of the same task instance to look, too.
2. Of the own executions, one that has not ended counts first, then the latest. An execution of an earlier
   epoch that has ended counts only if there is a record: where there is none, the task has succeeded in that
   epoch, or its start was refused.
3. If there is none, one that has not ended counts which another incarnation of the task instance has started,
   in the same deployment. It is neither continued nor resumed, but stopped.
4. If there is none either, and the record names an execution that has not ended, nothing is started beside
   it. Only if the record's token is that of a start of this epoch, the start itself asks AWS.
5. A record with a request, but without an ARN, is that of the execution with the name in the request.

Everything here is pure.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.decisions import is_of_other_incarnation
from polysync_airflow.execution.lifecycle.instructions import (
    Do,
    Instruction,
    LookedUp,
    TaskIdentity,
    Try,
    info,
    read_name,
    warning,
)
from polysync_airflow.execution.models import ExecutionDescription, StartRequest, region_from_arn
from polysync_airflow.execution.record import NO_EPOCH, Incarnation, StoredExecution
from polysync_airflow.execution.waiter import LogLine
from polysync_airflow.states import has_ended

# How many executions of a pipeline are looked at, the newest first.
MAX_LOOKED_AT: Final = 300


def find(task_try: Try, seen: LookedUp) -> StoredExecution | None:
    """Return the record of the earlier tries' execution, made from what AWS says; None if there is none."""
    task, claims = task_try.task, _claims(task_try)
    executions = [*([seen.claimed] if seen.claimed else []), *seen.listed]
    found = [own_record_of(each, task, claims, seen.pipeline_name) for each in executions]
    others = [_record_of_other_incarnation(each, task, seen.pipeline_name) for each in executions]
    running = {each.execution_arn for each in executions if not has_ended(each.status)}
    is_lost = task_try.lost is not None
    in_order = (
        *(record for record in found if record and record.execution_arn in running),
        *(record for record in found if record and (is_lost or record.epoch == task_try.epoch)),
        *(record for record in others if record and record.execution_arn in running),
    )
    # The newest are listed first.
    return in_order[0] if in_order else None


def arn_of(record: StoredExecution, seen: LookedUp) -> str | None:
    """Return the ARN of the execution that the request of a record has started; None if none is listed."""
    request = record.request
    name = read_name(request.execution_display_name, request.execution_description)
    found = (each for each in seen.listed if read_name(each.display_name, each.description) == name)
    return next((each.execution_arn for each in found if name), None)


def is_blocked(task_try: Try, seen: LookedUp) -> bool:
    """Return whether nothing may be started, because of an execution that a record names and nobody knows."""
    if seen.claimed is None or has_ended(seen.claimed.status):
        return False
    return task_try.task.next_number(_claims(task_try), task_try.epoch) == 0


def own_record_of(
    execution: ExecutionDescription, task: TaskIdentity, claims: StoredExecution | None, pipeline_name: str
) -> StoredExecution | None:
    """
    Return the record of an execution that a task instance has started; None if its name does not say so.

    :param claims: a record that cannot be believed, which may name another incarnation of the task instance.
    :param pipeline_name: the name or ARN of its pipeline.
    """
    name = read_name(execution.display_name, execution.description)
    for incarnation in (task.incarnation, claims.incarnation if claims else None):
        own = replace(task, incarnation=incarnation) if incarnation else None
        if name and own and name.incarnation_mark == own.incarnation_mark:
            token = own.token(name.epoch, name.number)
            return _record(execution, token, pipeline_name, epoch=name.epoch, incarnation=incarnation)
    return None


def _record_of_other_incarnation(
    execution: ExecutionDescription, task: TaskIdentity, pipeline_name: str
) -> StoredExecution | None:
    name = read_name(execution.display_name, execution.description)
    if name is None or name.task_mark not in task.task_marks:
        return None
    # Nobody knows its token, and nobody needs it: an execution with an ARN is not started again.
    token = f"polysync-{name.task_mark}-{name.incarnation_mark}-{name.epoch}-{name.number}"
    return _record(execution, token, pipeline_name, epoch=NO_EPOCH, incarnation=None)


def _record(
    execution: ExecutionDescription,
    token: str,
    pipeline_name: str,
    *,
    epoch: int,
    incarnation: Incarnation | None,
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


def _claims(task_try: Try) -> StoredExecution | None:
    record: StoredExecution | None = task_try.lost.record if task_try.lost else None
    return record


def begin(task_try: Try, record: StoredExecution | None) -> Instruction:
    """Return the first instruction of a try, which has read the record of the earlier tries."""
    if record is not None:
        return _take_over(task_try, record)
    # Before the first try of a task instance, nothing was started for it.
    is_first = task_try.number == 1 and task_try.lost is None
    return Instruction(Do.PREPARE if is_first else Do.LOOK_UP, task_try)


def looked_up(now: Instruction, event: LookedUp) -> Instruction:
    """Return the instruction of a try that has no record, or one without an ARN, and has looked in AWS."""
    task_try = now.task_try
    if now.record:
        return _looked_up_sent(now, now.record, event)
    record = find(task_try, event)
    if record:
        return _take_over(task_try, record, _found_line(record))
    if task_try.lost and is_blocked(task_try, event):
        return now.next(Do.FAIL, error=task_try.lost)
    return now.next(Do.PREPARE)


def looked_up_started(now: Instruction, event: LookedUp) -> Instruction:
    """Return the instruction of a try whose token AWS knows from a request with other parameters."""
    record = find(now.task_try, event)
    if record:
        return _take_over(now.task_try, record, _found_line(record))
    error = PolysyncError(
        "An earlier try of this task has started an execution with other arguments: AWS knows its client "
        f"token. None of the newest {MAX_LOOKED_AT} executions of pipeline {event.pipeline_name} has the "
        "name of this task, so nothing was started. Look for the execution in the SageMaker console, stop it "
        "there if it runs, and clear the task."
    )
    return now.next(Do.FAIL, error=error).without_record()


def _take_over(task_try: Try, record: StoredExecution, *lines: LogLine) -> Instruction:
    """Return the first instruction of a try that goes on with a record."""
    if record.execution_arn:
        now = Instruction(Do.DESCRIBE, task_try, record, lines=lines)
    else:
        line = warning(
            f"Pipeline {record.request.pipeline_name}: an earlier try sent a start request and did not "
            "receive the ARN."
        )
        now = Instruction(Do.LOOK_UP, task_try, record, lines=(line,))
    if is_of_other_incarnation(record, task_try.incarnation, task_try.number):
        line = warning(
            "The record is that of an earlier task instance with the same key, for example of a DAG run that "
            "was deleted and created again. Its execution is not continued."
        )
        changes = {"epoch": NO_EPOCH, "replaced_by_epoch": task_try.epoch, "clear_choice": None}
        return now.write(now.do, line, *now.lines, changes=changes)
    if record.try_number == task_try.number:
        return now
    return now.write(now.do, *now.lines, changes=_of_this_clear(record, task_try.epoch))


def _of_this_clear(record: StoredExecution, epoch: int) -> dict[str, Any]:
    """Return what changes in the record when a try takes it over: a choice counts for one clear only."""
    choice = record.choice_in(epoch)
    is_first = choice is not None and choice != record.clear_choice
    # If the author has lowered ``retries`` meanwhile, the clear may not have changed ``max_tries``.
    old_epoch = NO_EPOCH if is_first and record.epoch == epoch else record.epoch
    return {"clear_choice": choice, "epoch": old_epoch}


def _looked_up_sent(now: Instruction, record: StoredExecution, event: LookedUp) -> Instruction:
    arn = arn_of(record, event)
    if arn:
        line = info(f"Found by the name of the earlier start request: execution {arn}")
        return now.write(Do.DESCRIBE, line, changes={"execution_arn": arn})
    line = info(
        "AWS lists no execution of that request. Sending it again with the same client token, so that AWS "
        "starts no second execution."
    )
    return now.next(Do.RESEND_START, line)


def _found_line(record: StoredExecution) -> LogLine:
    return warning(
        "No record of the earlier tries can be used, but AWS has an execution with the name of this task: "
        f"execution {record.arn}"
    )
