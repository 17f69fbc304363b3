"""
A step for which a task waits: its name, the arguments of its stored trigger, whether it has ended, its end.

Everything here is pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError

from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution.models import STATUS_PATTERN, STRICT, ExecutionArn, ExecutionEvent
from polysync_airflow.execution.pipelines.definition import DeclaredStep
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.steps.rows import StepRow
from polysync_airflow.execution.texts import clean_line, nearest_name, shorten
from polysync_airflow.execution.waiter import TriggerArguments, check_event
from polysync_airflow.states import PolysyncState, state_of_step

StepName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
_STEP_NAME: Final[TypeAdapter[str]] = TypeAdapter(StepName, config=ConfigDict(defer_build=True))
# AWS's listing adds the number of an iteration to the names of a loop's steps.
_ITERATION: Final = re.compile(r"(-\d+)?\[\d+\]$|-\d+$")


class StepTriggerArguments(TriggerArguments):
    """The arguments of a stored trigger that waits for a step."""

    step_name: StepName


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


def ended_row(rows: Iterable[StepRow], step_name: str) -> StepRow | None:
    """
    Return the row of the awaited step; None if the step has not ended.

    :param rows: AWS's list of the steps at the end of the wait.
    """
    for row in rows:
        if row.name == step_name and has_step_ended(row.status):
            return row
    return None


def row_of(end: StepEndedEvent, rows: Iterable[StepRow]) -> StepRow:
    """Return the row of the awaited step, which has ended."""
    # The list may be refused now, or show that the execution was resumed meanwhile.
    return ended_row(rows, end.step_name) or StepRow(
        name=end.step_name, status=end.status, state=state_of_step(end.status).value
    )


def end_of_step(execution_arn: str, pipeline_name: str, row: StepRow) -> ExecutionEvent:
    """Return the end of a step in the form of that of an execution: the same rules apply to it."""
    return ExecutionEvent(
        outcome="ended",
        execution_arn=execution_arn,
        pipeline_name=pipeline_name,
        status=row.status,
        message=None,
        started_at=None,
        ended_at=None,
    )


def parse_step_ended(event: Mapping[str, Any] | None) -> StepEndedEvent | None:
    """
    Validate the payload of the event with which Airflow resumes a task that waits for a step.

    :return: None if it says of itself that it is another event.
    :raises TriggerEventError: it says that the step has ended, but is no such event.
    """
    if not isinstance(event, Mapping) or event.get("outcome") != "step_ended":
        return None
    return check_event(StepEndedEvent, event)


def check_step_name(step_name: object) -> None:
    """
    Validate the name of the step for which a task waits.

    :raises ParametersError: it is not the name of a step.
    """
    try:
        _STEP_NAME.validate_python(step_name)
    except ValidationError:
        raise ParametersError(
            f"step_name = {shorten(step_name)} is not the name of a step: give the name of a step of the "
            "pipeline, of 1 to 256 characters without control characters."
        ) from None


def check_step_declared(step_name: str, declared: Sequence[DeclaredStep], kind: str | None = None) -> None:
    """
    Check that a pipeline has a step, so that nobody waits for one that cannot come.

    :param declared: the steps of its definition; empty if they are not known.
    :param kind: the type that the step must have, such as ``Callback``; None for any.
    :raises ParametersError: it has no such step, or the step is of another type.
    """
    types = {step.name: step.type for step in declared}
    known = step_name if step_name in types else _ITERATION.sub("", step_name)
    if known in types:
        if kind not in (None, types[known]):
            raise ParametersError(
                f"step_name = {shorten(step_name)} is a step of type {types[known]}: give the name of a step "
                f"of type {kind}."
            )
        return
    if not types or "ForEach" in types.values():
        # The declared steps are without the bodies of loops.
        return
    names = [name for name in types if kind in (None, types[name])]
    similar = nearest_name(step_name, names)
    cure = f"do you mean {similar!r}?" if similar else f"it has {clean_line(', '.join(names)) or 'none'}."
    what = f"step of type {kind}" if kind else "step"
    raise ParametersError(f"step_name = {shorten(step_name)} is not a {what} of the pipeline: {cure}")
