"""
The execution of the earlier tries, as AWS tells of it where the record is missing or
cannot be believed.

Rules:

1. The name of an execution says which start has made it. It is the task instance's own
   if it has the mark of this incarnation, or of the one that an unproven record names.
   An unproven record says nothing else.
2. Of the own executions, one that has not ended counts first, then the latest. An
   execution of an earlier epoch that has ended counts only if there is a record: where
   there is none, the task has succeeded in that epoch, or its start was refused.
3. If there is none, an execution counts that another incarnation of the task instance
   has started in the same deployment, and that has not ended. It is neither continued
   nor resumed, but stopped.
4. If there is none either, and an unproven record names an execution that has not
   ended, nothing is started beside it, unless both say that it is that of another
   deployment. Only if the token in the record is that of a start of this epoch, the
   start itself asks AWS.
5. A record that has a request but no ARN belongs to the execution that has the name in
   the request.

Everything here is pure. The list and the descriptions come from the driver, as the
event ``ExecutionsListed``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from polysync_airflow.execution import models
from polysync_airflow.execution.lifecycle.instructions import (
    NO_EPOCH,
    ExecutionRecord,
    ExecutionsListed,
    StartName,
    TaskIdentity,
    TaskTry,
    read_name,
)
from polysync_airflow.states import has_ended

# How many executions of a pipeline are listed, the newest first.
MAX_LISTED: Final = 300


def find(task_try: TaskTry, listing: ExecutionsListed) -> ExecutionRecord | None:
    """
    Return the record of the earlier tries' execution, made from what AWS says; None if
    there is none.
    """
    # AWS lists the newest first.
    executions = list(listing.listed)
    if listing.claimed:
        executions = [listing.claimed, *executions]
    running = {
        execution.execution_arn
        for execution in executions
        if not has_ended(execution.status)
    }

    unproven_record = task_try.unproven_record
    own_records = []
    for execution in executions:
        own_record = record_if_own(
            execution, task_try.task, unproven_record, listing.pipeline_name
        )
        if own_record:
            own_records.append(own_record)
    for record in own_records:
        if record.execution_arn in running:
            return record
    for record in own_records:
        if task_try.unproven or record.epoch == task_try.epoch:
            return record
    for record in _records_of_others(task_try, executions, listing.pipeline_name):
        if record.execution_arn in running:
            return record
    return None


def arn_of(record: ExecutionRecord, listing: ExecutionsListed) -> str | None:
    """
    Return the ARN of the execution that the request of a record has started; None if
    none is listed.
    """
    request = record.request
    name = read_name(request.execution_display_name, request.execution_description)
    if name is None:
        return None
    for execution in listing.listed:
        if name_of(execution) == name:
            return execution.execution_arn
    return None


def is_blocked(task_try: TaskTry, listing: ExecutionsListed) -> bool:
    """
    Return whether nothing may be started, because an unproven record names an execution
    that has not ended (rule 4).
    """
    if listing.claimed is None or has_ended(listing.claimed.status):
        return False
    unproven_record = task_try.unproven_record
    if unproven_record and unproven_record.deployment != task_try.task.deployment:
        name = name_of(listing.claimed)
        if name and name.task_mark != task_try.task.task_mark:
            return False
    return task_try.task.next_number(unproven_record, task_try.epoch) == 0


def record_if_own(
    execution: models.ExecutionDescription,
    task: TaskIdentity,
    unproven_record: ExecutionRecord | None,
    pipeline_name: str,
) -> ExecutionRecord | None:
    """
    Return the record of an execution, if its name says that a task instance has started
    it; otherwise None.

    :param unproven_record: it may name another incarnation of the task instance; None
        if there is none.
    :param pipeline_name: the name or ARN of its pipeline.
    """
    name = name_of(execution)
    if name is None:
        return None
    incarnations = [task.incarnation]
    if unproven_record:
        incarnations.append(unproven_record.incarnation)
    for incarnation in incarnations:
        starter = replace(task, incarnation=incarnation)
        if name.incarnation_mark == starter.incarnation_mark:
            token = starter.token(name.epoch, name.number)
            record = _record_of(execution.execution_arn, starter, token, pipeline_name)
            return record.model_copy(update={"epoch": name.epoch})
    return None


def record_of_wait(
    execution_arn: str, attempt: int, task: TaskIdentity, pipeline_name: str
) -> ExecutionRecord:
    """
    Return the record of the execution that a task instance has waited for, where
    somebody has deleted its record meanwhile: the task knows the ARN.

    :param attempt: how often the execution was resumed.
    """
    # Nobody needs the tokens: an execution with an ARN is not started again.
    token = f"polysync-{task.task_mark}-{task.incarnation_mark}-deleted"
    record = _record_of(execution_arn, task, token, pipeline_name)
    if attempt == 0:
        return record
    return record.model_copy(update={"resumes": attempt, "resume_token": token})


def _records_of_others(
    task_try: TaskTry, executions: list[models.ExecutionDescription], pipeline_name: str
) -> list[ExecutionRecord]:
    """
    Return the records of executions that other incarnations of the task instance have
    started.
    """
    records = []
    for execution in executions:
        name = name_of(execution)
        if name is None or name.task_mark != task_try.task.task_mark:
            continue
        # Nobody knows the token of the start, and nobody needs it: an execution with an
        # ARN is not started again.
        token = (
            f"polysync-{name.task_mark}-{name.incarnation_mark}"
            f"-{name.epoch}-{name.number}"
        )
        record = _record_of(
            execution.execution_arn, task_try.task, token, pipeline_name
        )
        replaced = {"replaced_by_epoch": task_try.epoch}
        records.append(record.model_copy(update=replaced))
    return records


def _record_of(
    execution_arn: str, task: TaskIdentity, token: str, pipeline_name: str
) -> ExecutionRecord:
    """Return the record of an execution, without the epoch that has started it."""
    request = models.StartRequest(
        pipeline_name=pipeline_name,
        pipeline_parameters={},
        execution_display_name="unknown",
        client_request_token=token,
    )
    return ExecutionRecord(
        deployment=task.deployment,
        epoch=NO_EPOCH,
        incarnation=task.incarnation,
        region_name=models.region_from_arn(execution_arn),
        request=request,
        execution_arn=execution_arn,
        try_number=0,
    )


def name_of(execution: models.ExecutionDescription) -> StartName | None:
    """Return what an execution says of its start; None if it says nothing."""
    return read_name(execution.display_name, execution.description)
