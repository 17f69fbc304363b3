"""
A try resumes an execution that has failed, or sends the resume of an earlier try again.

Rules 4, 6 and 12 of ``machine.py`` apply, which has the transitions. Everything here is
pure.
"""

from __future__ import annotations

import uuid

from polysync_airflow.exceptions import RESOURCE_LIMIT, has_code
from polysync_airflow.execution.lifecycle.decisions import after_quota_refusal
from polysync_airflow.execution.lifecycle.instruction_kinds import (
    Identified,
    Instruction,
)
from polysync_airflow.execution.lifecycle.instructions import (
    Accepted,
    Command,
    Described,
    Refused,
    info,
    warning,
)
from polysync_airflow.execution.waiter import LAG_SECONDS, LogLine
from polysync_airflow.states import PolysyncState, state_of


def resume(instruction: Identified) -> Instruction:
    """Resume the execution of the record."""
    record = instruction.record
    task_try = instruction.task_try
    if record.resume_is_pending:
        return _repeat(instruction)
    number = record.resumes + 1
    # The token follows from the record, as this module is pure. If a record was lost,
    # nobody knows how many resumes there were: then the number of the try tells them
    # apart.
    token = record.request.client_request_token
    name = f"{token} resume {number} of try {task_try.number}"
    changes = {
        "epoch": task_try.epoch,
        "resumes": number,
        "resume_token": f"polysync-{uuid.uuid5(uuid.NAMESPACE_OID, name)}",
        "resumed_at": None,
        "stop_requested_by": None,
        "clear_choice": None,
        "capacity": record.capacity_at_request,
    }
    return instruction.write(Command.RESUME, changes=changes, is_repeated=False)


def _repeat(instruction: Identified) -> Instruction:
    """Send the resume of an earlier try again."""
    epoch = instruction.task_try.epoch
    changes = {"epoch": epoch, "clear_choice": None}
    if instruction.record.epoch == epoch:
        return instruction.write(Command.RESUME, changes=changes, is_repeated=True)
    return instruction.write(Command.RESEND_RESUME, changes=changes)


def resumed(instruction: Identified, event: Accepted) -> Instruction:
    """Wait for the end of the execution that AWS has resumed."""
    line = _line_about(instruction)
    changes = {"resumed_at": event.at}
    return instruction.write(Command.WATCH, line, changes=changes, description=None)


def _line_about(instruction: Identified) -> LogLine:
    record = instruction.record
    return info(f"Resumed (resume {record.resumes}): execution {instruction.arn}")


def resume_resent(instruction: Identified, event: Accepted) -> Instruction:
    """Look at the execution whose resume was sent again."""
    changes = {"resumed_at": event.at}
    if instruction.record.epoch == instruction.task_try.epoch:
        return instruction.write(Command.DESCRIBE_RESUMED, changes=changes)
    # This epoch does not want the resume: the status decides what becomes of the
    # execution.
    return instruction.write(Command.DESCRIBE, changes=changes)


def described_resumed(instruction: Identified, event: Described) -> Instruction:
    """Resume once more what has failed since the resume of an earlier try."""
    if state_of(event.description.status) is PolysyncState.FAILED:
        # AWS had accepted the resume before the clear, and it has failed since. AWS
        # does nothing for a token that it knows, but the user wants the failed steps to
        # run now.
        return resume(instruction)
    line = _line_about(instruction)
    return instruction.next(Command.WATCH, line, description=event.description)


def resume_refused(instruction: Identified, event: Refused) -> Instruction:
    """Wait for capacity, fail, or look why AWS does not resume the execution."""
    is_certain = instruction.command is Command.RESUME and not instruction.is_repeated
    waiting = after_quota_refusal(
        instruction, event, nothing_runs=is_certain and not event.was_repeated
    )
    if waiting:
        return waiting
    if event.error.transient or has_code(event.error, RESOURCE_LIMIT):
        return instruction.fail(event.error)
    line = warning(
        f"The execution cannot be resumed: {event.error} Execution: {instruction.arn}"
    )
    # AWS may refuse it because of an earlier resume whose effect it does not show yet.
    return instruction.next(Command.DESCRIBE_REFUSED, line, delay=LAG_SECONDS)
