"""
What the sessions of a try send, and what others do with its execution: its trigger, the
DAG processor, and what watches tasks without a process.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.lifecycle.ending import (
    EndAction,
    Owner,
    end_in_triggerer,
    leave,
    owner_at_end_of_wait,
    owner_of_dead_process,
    owner_of_deferred,
)
from polysync_airflow.execution.lifecycle.instructions import (
    ExecutionRecord,
    ExecutionsListed,
    Instruction,
)
from polysync_airflow.execution.lifecycle.lookup import arn_of
from polysync_airflow.execution.lifecycle.orphans import TaskSnapshot, owner_of_orphan
from polysync_airflow.execution.models import StartRequest

if TYPE_CHECKING:
    from tests.unit.execution.lifecycle.world import Airflow


def make_request(instruction: Instruction, airflow: Airflow) -> StartRequest:
    """Return the start request of a try."""
    start = (instruction.task_try.epoch, instruction.start_number)
    task = instruction.task_try.task
    token = task.token(*start)
    airflow.tokens[token] = task.incarnation
    name = task.display_name(*start)
    if airflow.has_own_names:
        name = "training"
    return StartRequest(
        pipeline_name="fanout",
        pipeline_parameters={"Day": airflow.parameter},
        execution_display_name=name,
        client_request_token=token,
    )


def end_deferred(airflow: Airflow, record: ExecutionRecord, number: int) -> None:
    """Run ``on_kill`` of the trigger of a try."""
    owner = owner_of_deferred(airflow.state, airflow.stored, record.arn, number)
    try_end = leave(
        airflow.stored, number, stop_on_kill=airflow.options.stop_on_kill
    ).owned_by(owner)
    if try_end.action is EndAction.STOP:
        stop(airflow, record)


def time_out_in_triggerer(
    airflow: Airflow, record: ExecutionRecord, number: int
) -> None:
    """Run what the trigger of a try does when its wait has reached the deadline."""
    if not airflow.options.stop_on_kill:
        return
    owner = owner_at_end_of_wait(airflow.state, airflow.stored, record.arn, number)
    try_end = end_in_triggerer(number).owned_by(owner)
    if try_end.action is not EndAction.STOP:
        return
    if airflow.stored:
        airflow.stored = try_end.announced(airflow.stored)
    stop(airflow, record)


def stop_left(airflow: Airflow) -> None:
    """Do what the DAG processor does when the process of the last try has died."""
    record = airflow.stored
    number = airflow.try_number
    owner = owner_of_dead_process(record, number, retry_follows=False)
    try_end = leave(record, number, stop_on_kill=airflow.options.stop_on_kill).owned_by(
        owner
    )
    if record and try_end.action is EndAction.STOP:
        stop(airflow, record)


def watch(airflow: Airflow) -> None:
    """
    Do what a triggerer, or a sweep, does when the task has ended while no process of it
    ran.
    """
    record = airflow.stored
    task = TaskSnapshot(exists=True, state=airflow.state, try_number=airflow.try_number)
    if record and owner_of_orphan(record, record, task) is Owner.NOBODY:
        stop(airflow, record)


def stop(airflow: Airflow, record: ExecutionRecord) -> None:
    """Stop the execution of a record; without its ARN, it may begin only now."""
    aws = airflow.aws
    if record.execution_arn is None:
        airflow.latest = None
    with suppress(SageMakerApiError):
        seen = ExecutionsListed("fanout", aws.list())
        arn = record.execution_arn or arn_of(record, seen)
        if arn is None:
            arn = aws.start(record.request)
        while not aws.stop(arn, record.resumes):
            pass
