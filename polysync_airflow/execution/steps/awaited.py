"""
A step for which a sensor waits: whether it has ended, and the trigger's event.

Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError, TriggerEventError
from polysync_airflow.execution.models import STATUS_PATTERN, STRICT, ExecutionArn
from polysync_airflow.execution.pipelines.definition import DeclaredStep
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.texts import clean_line, describe_validation_error, nearest_name, shorten
from polysync_airflow.states import PolysyncState, state_of_step

StepName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_STEP_NAME: Final[TypeAdapter[str]] = TypeAdapter(StepName, config=ConfigDict(defer_build=True))


class StepEndedEvent(BaseModel):
    """
    The awaited step has ended. The execution may still be running.

    :param status: AWS's status of the step.
    """

    model_config = STRICT

    outcome: Literal["step_ended"] = "step_ended"
    execution_arn: ExecutionArn
    step_name: StepName
    status: Annotated[str, Field(pattern=STATUS_PATTERN)]


def has_step_ended(status: str | None) -> bool:
    """
    Return whether a step with this status has ended.

    :param status: AWS's ``StepStatus``; None if it is not known.
    """
    return state_of_step(status) not in (PolysyncState.RUNNING, PolysyncState.UNKNOWN)


def ended_step(
    steps: Iterable[StepDescription] | None, step_name: str, execution_arn: str
) -> StepEndedEvent | None:
    """
    Return the event if the awaited step is one of those that have ended.

    :param steps: AWS's list; None if the steps were not listed.
    """
    for step in steps or ():
        if step.name == step_name and step.status and has_step_ended(step.status):
            return StepEndedEvent(execution_arn=execution_arn, step_name=step_name, status=step.status)
    return None


def parse_step_event(event: Mapping[str, Any] | None) -> StepEndedEvent | None:
    """
    Validate the payload of the event with which Airflow resumes a task that waits for a step.

    :return: None if it says of itself that it is another event.
    :raises TriggerEventError: it says that the step has ended, but is no such event.
    """
    if not isinstance(event, Mapping) or event.get("outcome") != "step_ended":
        return None
    try:
        return StepEndedEvent.model_validate(event)
    except ValidationError as error:
        raise TriggerEventError(
            "Airflow resumed the task with an event that is not this provider's event "
            f"({describe_validation_error(error)}). Clear the task."
        ) from None


def check_step_name(step_name: object) -> None:
    """
    Validate the name of the step for which a task waits.

    :raises ParametersError: it is not the name of a step.
    """
    try:
        _STEP_NAME.validate_python(step_name)
    except ValidationError:
        raise ParametersError(
            f"step_name = {shorten(step_name)} is not the name of a step: give 1 to 256 characters without "
            "control characters, or leave it out to wait for the end of the execution."
        ) from None


def check_step_declared(step_name: str, declared: Sequence[DeclaredStep], pipeline_name: str) -> None:
    """
    Check that the definition of an execution has a step, so that nobody waits for one that cannot come.

    :param declared: the steps of the definition; none if it is not known.
    :raises ParametersError: the definition has no such step.
    """
    # The iterations of a ForEach step have names such as ``Train[3]``.
    names = [step.name for step in declared]
    if not names or step_name in names or step_name.partition("[")[0] in names:
        return
    nearest = nearest_name(step_name, names)
    hint = f"do you mean {clean_line(nearest, 256)!r}?" if nearest else "give the name of one of its steps."
    raise ParametersError(
        f"step_name = {shorten(step_name)}: the execution of pipeline {pipeline_name} has no such step: "
        f"{hint}"
    )
