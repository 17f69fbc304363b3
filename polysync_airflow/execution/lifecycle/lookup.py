"""
Finds the execution of the earlier tries in what AWS says, if their record is missing or cannot be believed.

Rules:

1. The name of an execution says which start has made it (``identity.py``). It is the task instance's own
   if it has the mark of this incarnation, or of the one that the record names: a record that cannot be
   believed only says for which incarnation of the same task instance to look, too.
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
from typing import Final

from polysync_airflow.execution.lifecycle.identity import TaskIdentity, read_name
from polysync_airflow.execution.lifecycle.instructions import LookedUp, Try
from polysync_airflow.execution.models import ExecutionDescription, StartRequest, region_from_arn
from polysync_airflow.execution.record import NO_EPOCH, Incarnation, StoredExecution
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
