"""What the tests of an execution's life are made of."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any, Literal, TypeVar

from pydantic import BaseModel

from polysync_airflow.exceptions import SageMakerApiError
from polysync_airflow.execution.lifecycle import machine
from polysync_airflow.execution.lifecycle.capacity import CapacityLimits, CapacityWait
from polysync_airflow.execution.lifecycle.instruction_kinds import (
    Beginning,
    Begun,
    Ended,
    Failure,
    Identified,
    Instruction,
)
from polysync_airflow.execution.lifecycle.instructions import (
    Command,
    Described,
    Event,
    ExecutionRecord,
    Incarnation,
    Refused,
    TaskIdentity,
    TaskKey,
    TaskTry,
)
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.execution.models import (
    ExecutionDescription,
    StartRequest,
    UnendedOutcome,
)
from polysync_airflow.execution.prices import Spending
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.waiter import ExecutionEvent

Model = TypeVar("Model", bound=BaseModel)

# The record of an instruction is stored before it.
WRITTEN = "written"
ARN = "arn:aws:sagemaker:us-east-1:123456789012:pipeline/fanout/execution/abcdefghijkl"
NOW = datetime(2026, 1, 2, tzinfo=UTC)
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)
INCARNATION = Incarnation(dag_run_started_at=EARLIER)
KEY = TaskKey("retraining", "scheduled__2026-01-01T00:00:00+00:00", "train", -1)
TASK = TaskIdentity(KEY, "prod", INCARNATION)
START_TOKEN = TASK.token(2, 0)
RESUME_TOKEN = "polysync-".ljust(40, "1")
REQUEST = StartRequest(
    pipeline_name="fanout",
    pipeline_parameters={},
    execution_display_name=TASK.display_name(2, 0),
    client_request_token=START_TOKEN,
)


def choose(**options: Any) -> RecoveryOptions:
    """Return the operator's defaults, except for some options."""
    defaults = {
        "retry_mode": "new",
        "on_clear": "new",
        "on_completed_with_failures": "fail",
        "stop_on_kill": True,
    }
    return RecoveryOptions.model_validate({**defaults, **options})


def make_try(
    number: int,
    epoch: int,
    incarnation: Incarnation = INCARNATION,
    *,
    capacity: CapacityLimits | None = None,
    **options: Any,
) -> TaskTry:
    """
    Return a try of the task with the operator's defaults, except for some options.
    """
    task = TaskIdentity(KEY, "prod", incarnation)
    return TaskTry(number, epoch, task, choose(**options), capacity=capacity)


def stored(**changes: Any) -> ExecutionRecord:
    """
    Return the record of try 2 in epoch 2, whose execution has an ARN, except for some
    changes.
    """
    record = ExecutionRecord(
        deployment="prod",
        epoch=2,
        incarnation=INCARNATION,
        region_name="us-east-1",
        request=REQUEST,
        execution_arn=ARN,
        try_number=2,
    )
    return record.model_copy(update=changes)


def edited(model: Model, **changes: Any) -> Model:
    """Return a copy of a model, except for some changes."""
    return model.model_copy(update=changes)


def resumed(**changes: Any) -> ExecutionRecord:
    """
    Return a record whose first resume has no response yet, except for some changes.
    """
    return stored(**{"resumes": 1, "resume_token": RESUME_TOKEN, **changes})


def spending(amount: float) -> Spending:
    """Return what a task has spent that may spend 2 USD."""
    return Spending(
        at=NOW,
        amount=amount,
        max_cost=2,
        currency="USD",
        prices_date=date(2026, 1, 1),
    )


def describe(status: str) -> ExecutionDescription:
    """Return AWS's description of the execution."""
    return ExecutionDescription.model_validate(
        {
            "PipelineExecutionArn": ARN,
            "PipelineExecutionStatus": status,
            "CreationTime": EARLIER,
        }
    )


def listed(
    epoch: int,
    number: int,
    end: str = "",
    *,
    status: str = "Succeeded",
    task: TaskIdentity = TASK,
) -> ExecutionDescription:
    """
    Return an entry of AWS's list, with the default display name of a start.

    :param end: the end of its ARN.
    """
    return named(task.display_name(epoch, number), end, status=status)


def named(
    name: str, end: str = "", *, status: str = "Succeeded", description: str = ""
) -> ExecutionDescription:
    """Return an entry of AWS's list."""
    return ExecutionDescription.model_validate(
        {
            "PipelineExecutionArn": ARN + end,
            "PipelineExecutionStatus": status,
            "PipelineExecutionDisplayName": name,
            "PipelineExecutionDescription": description,
        }
    )


def api_error(
    code: str = "InternalFailure",
    message: str = "AWS said no",
    *,
    permanent: bool = False,
    transient: bool = False,
) -> SageMakerApiError:
    """Return an error of AWS."""
    return SageMakerApiError(
        message,
        error_code=code,
        operation="x",
        permanent=permanent,
        transient=transient,
    )


def listed_step(name: str, status: str | None, **members: Any) -> StepDescription:
    """Return a step as AWS lists it."""
    response = {"StepName": name, "StepStatus": status, **members}
    return StepDescription.model_validate(response)


def refused(
    code: str = "InternalFailure", *, transient: bool = False, repeated: bool = False
) -> Refused:
    """Return the event of a request that AWS has refused."""
    error = api_error(code, permanent=not transient, transient=transient)
    return Refused(error, NOW, was_repeated=repeated)


def instruct(
    command: Command, task_try: TaskTry, record: ExecutionRecord | None, **known: Any
) -> Any:
    """Return an instruction of the class that the core gives it."""
    given: Any = command
    if command is Command.FAIL:
        return Failure(given, task_try, record, error=api_error(), **known)
    if record is None:
        return Beginning(given, task_try, **known)
    if record.execution_arn is None:
        return Begun(given, task_try, record, **known)
    if command is Command.ADD_UP:
        execution = instruct(Command.DESCRIBE, task_try, record)
        return Ended(given, task_try, record, execution, "Failed", **known)
    return Identified(given, task_try, record, record.execution_arn, **known)


def at(
    command: Command,
    record: ExecutionRecord | None,
    *,
    number: int = 3,
    epoch: int = 2,
    **options: Any,
) -> Any:
    """
    Return what a try is about to do. By default it is try 3, a retry of the try that
    stored the record.
    """
    return instruct(command, make_try(number, epoch, **options), record)


def after(instruction: Any, event: Event) -> Any:
    """Return what the core says, which has the class that a test expects."""
    return machine.after(instruction, event)


def follows(
    command: Command, record: ExecutionRecord | None, event: Event, **options: Any
) -> Any:
    """Return what follows from an event, when a try was about to do something."""
    return after(at(command, record, **options), event)


def lines_of(instruction: Instruction) -> list[tuple[int, str]]:
    """Return the level and the text of each line of the log."""
    return [(line.level, line.text) for line in instruction.lines]


def does(instruction: Instruction) -> tuple[Command, object, ExecutionRecord | None]:
    """Return what an instruction does, what becomes of the record, and the record."""
    store: object = instruction.store
    if store == instruction.record:
        store = WRITTEN
    return instruction.command, store, instruction.record


def end_of_wait(
    outcome: Literal["ended", UnendedOutcome], status: str | None, **known: Any
) -> ExecutionEvent:
    """Return how a wait for an execution has ended, and what else is known of it."""
    unknown = dict.fromkeys(("message", "started_at", "ended_at"))
    fields: Any = {"execution_arn": ARN, "pipeline_name": "fanout", **unknown, **known}
    return ExecutionEvent(outcome=outcome, status=status, **fields)


def described(status: str) -> Described:
    """Return the event of a description."""
    return Described(NOW, describe(status))


# The wait of a try that has asked for the first time a minute ago.
LIMITS = CapacityLimits(first_pause=30, timeout=3600)
WAIT = CapacityWait(
    try_number=2,
    since=NOW - timedelta(minutes=1),
    pauses=1,
    reason="no capacity",
    asks_at=NOW,
    nothing_runs=True,
)
UNKNOWN_ARN = stored(execution_arn=None)
REFUSED_START = stored(execution_arn=None, capacity=WAIT)
REPLACED = stored(epoch=1, execution_arn=f"{ARN}1", try_number=1)
START_IN_PLACE = stored(execution_arn=None, replaces=REPLACED)
