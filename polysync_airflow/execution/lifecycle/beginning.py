"""How a try begins: with the record of the earlier tries, or with what AWS says if there is none."""

from __future__ import annotations

from typing import Any

from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution.lifecycle.instructions import Do, Instruction, LookedUp, Try, info, warning
from polysync_airflow.execution.lifecycle.lookup import MAX_LOOKED_AT, arn_of, find, is_blocked
from polysync_airflow.execution.lifecycle.recovery import is_of_other_incarnation
from polysync_airflow.execution.record import NO_EPOCH, StoredExecution
from polysync_airflow.execution.waiter import LogLine


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
