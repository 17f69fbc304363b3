"""
The arguments of triggers, each declared once: a field of a class here, or beside the
wait that it is for, has the name, the type, the default, the rule and the meaning.

A trigger inherits from its class of arguments. An operator passes on a value of it,
from which the trigger is made.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Annotated, Any, Final, Self, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, prices, texts
from polysync_airflow.execution.parameters import Flag
from polysync_airflow.execution.waiter import AnyWaiter, ExecutionWaiter

# A region has some hundred types of instances.
MAX_LIMIT_LENGTH: Final = 65_536

Arguments = TypeVar("Arguments", bound="StoredArguments")


def _seconds_from(minimum: float) -> Any:
    return Field(
        strict=True, ge=minimum, le=models.MAX_POLL_INTERVAL, allow_inf_nan=False
    )


Interval = Annotated[float, _seconds_from(models.MIN_POLL_INTERVAL)]
ProgressInterval = Annotated[float, _seconds_from(models.MIN_PROGRESS_INTERVAL)]
Count = Annotated[int, Field(strict=True, ge=0, le=models.MAX_INTEGER)]
Label = Annotated[str, StringConstraints(max_length=texts.MAX_ARN_LENGTH)]
TaskIds = Annotated[tuple[str, ...], Field(max_length=models.MAX_STEPS)]
UnendedOutcomes = Annotated[tuple[models.UnendedOutcome, ...], Field(max_length=3)]


def _check_cost_limit(text: str) -> str:
    prices.CostLimit.parse(text)
    return text


CostLimitText = Annotated[
    str,
    StringConstraints(max_length=MAX_LIMIT_LENGTH),
    AfterValidator(_check_cost_limit),
]


@cache
def _validator(kind: type[Any]) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def check_trigger_arguments(
    kind: type[Arguments], arguments: Mapping[str, Any]
) -> Arguments:
    """
    Validate the arguments of a stored trigger, which others can edit in Airflow's
    database.

    :param kind: their class.
    :raises ParametersError: an argument is not valid.
    """
    # mypy does not know that a class is hashable.
    validator = _validator(kind)  # type: ignore[arg-type]
    try:
        checked: Arguments = validator.validate_python(arguments)
    except ValidationError as error:
        raise ParametersError(
            "The trigger that is stored for this task has arguments that are not valid"
            f" ({texts.describe_validation_error(error)}). Clear the task. The"
            " execution may still be running."
        ) from None
    return checked


# Mutable, since Airflow renders templates in a trigger that it starts; without ``eq``,
# so that a trigger has a hash; without ``repr``, since Airflow's own names the class
# path. The constructor checks nothing: Airflow expects a TypeError only of a trigger's,
# and any other error there ends the triggerer.
@dataclass(kw_only=True, eq=False, repr=False)
class StoredArguments:
    """Base of the arguments of a trigger."""

    def __post_init__(self) -> None:
        """
        Do what else a trigger does in its constructor: a dataclass calls this only if
        it is there.
        """

    def kwargs(self) -> dict[str, Any]:
        """Return the arguments by name, as Airflow stores them: with lists."""
        arguments = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in arguments.items():
            if isinstance(value, tuple):
                arguments[name] = list(value)
        return arguments

    def checked(self) -> Self:
        """
        Return a copy of which each argument is valid.

        :raises ParametersError: one is not.
        """
        return check_trigger_arguments(type(self), self.kwargs())


@dataclass(kw_only=True, eq=False, repr=False)
class WaitArguments(StoredArguments):
    """
    The arguments of each trigger with a deadline.

    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param poll_interval: seconds, or a timedelta, between two polls.
    :param deadline: when the wait ends at the latest, as Unix time, which stays the
        same when the trigger moves to another triggerer.
    """

    polysync_conn_id: models.ConnectionId
    region_name: models.RegionName | None
    poll_interval: Interval
    deadline: models.Timestamp

    def wait_of(self, kind: type[AnyWaiter]) -> AnyWaiter:
        """
        Return the wait, which shares its polls with others.

        :param kind: its class, whose fields have the names of the arguments.
        """
        values = {
            field.name: getattr(self, field.name)
            for field in fields(kind)
            if hasattr(self, field.name)
        }
        return kind(**values, rate_limited=True)


@dataclass(kw_only=True, eq=False, repr=False)
class TriggerArguments(WaitArguments):
    """
    The arguments of a trigger that waits for an execution.

    :param execution_arn: the execution.
    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param since: when the wait began, as Unix time.
    :param attempt: the attempt of the execution: 0 for its start, n for its n-th
        resume.
    :param stop_on_kill: stop the execution when a user, or the DAG run, ends the
        deferred task.
    :param stop_at: how the wait ends if the trigger stops the execution before it fires
        its event: ``timed_out``, ``refused`` (AWS refuses the polls for good), and
        ``too_expensive``.
    :param progress_interval: seconds, or a timedelta, between two lists of the steps;
        None for none.
    :param declared_steps: the steps that the definition declares, as ``order_text``
        returns them; None to read them from the XCom ``steps``.
    :param step_task_ids: the tasks of the steps, if the task is that of a group of
        them; None if it is not.
    :param cost_limit: what the task may spend, a ``CostLimit`` as JSON; None for no
        limit. It has a default for triggers that were stored without it.
    :param job_logs: write the new lines of running jobs with each list of the steps. It
        has a default for triggers that were stored without it.
    """

    execution_arn: models.ExecutionArn
    pipeline_name: Label | None
    since: models.Timestamp
    attempt: Count = 0
    stop_on_kill: Flag = False
    stop_at: UnendedOutcomes = ()
    progress_interval: ProgressInterval | None = None
    declared_steps: str | None = None
    step_task_ids: TaskIds | None = None
    cost_limit: CostLimitText | None = None
    job_logs: Flag = False

    def listing(
        self, interval: float | None, declared_steps: str | None = None
    ) -> Self:
        """
        Return the arguments of a trigger that lists the steps.

        :param interval: seconds between two lists; None to list no steps.
        """
        if interval is None:
            return self
        return replace(self, progress_interval=interval, declared_steps=declared_steps)


def arguments_of(waiter: ExecutionWaiter, polysync_conn_id: str) -> TriggerArguments:
    """Return the arguments of the trigger that goes on with a wait."""
    return TriggerArguments(
        polysync_conn_id=polysync_conn_id,
        region_name=models.region_from_arn(waiter.execution_arn),
        poll_interval=waiter.poll_interval,
        deadline=waiter.deadline,
        execution_arn=waiter.execution_arn,
        pipeline_name=waiter.pipeline_name,
        since=waiter.since,
        attempt=waiter.attempt,
        cost_limit=waiter.cost_limit,
    )
