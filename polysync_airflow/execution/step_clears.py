"""
What a clear of some steps of a group means: the execution task decides by the tasks of
the steps that were cleared with it.

Rules:

1. All of them: a new execution, after the stop of one that runs. It must be certain:
   each task has begun again, or has no state, and one of them has left a note. A note
   from before the execution is that of an earlier clear.
2. Some of them: an execution that runs goes on to its end. The next try stores which
   steps were cleared, and which had succeeded when it first listed them: a step that
   has succeeded since is repeated only if its task waits for that of one that is. Then:
3. If AWS can resume the execution, and no step is to be repeated that has succeeded in
   it, AWS resumes it, once. It repeats all steps that have not succeeded.
4. If such a step is to be repeated, a selective execution runs the cleared steps, with
   this execution as its source, and what they need and has not succeeded in it. AWS
   accepts only a source that has succeeded or failed.
5. None of them: an execution that has failed is resumed.
6. If the execution has succeeded since, and there is nothing to repeat, its outcome is
   that of the task.
7. Otherwise the task fails with a sentence that says what to clear in place of it.
8. If no try has got the response to a start, and not all steps were cleared, the task
   goes on with what it has started: no task can have shown a step of it.

A retry of the execution task resumes the execution.

Everything here is pure. The drivers are ``operators/step_tasks.py``, and
``triggers/stopping.py`` before the next try begins.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple

from pydantic import Field

from polysync_airflow import states
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import models, outcome, pipelines
from polysync_airflow.execution.lifecycle.decisions import Nothing, after_clear_of
from polysync_airflow.execution.lifecycle.instructions import Command, ExecutionRecord
from polysync_airflow.execution.lifecycle.options import RecoveryOptions
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.states import PolysyncState, has_ended

# States of a task that was cleared, and whose next try has not begun.
_BEFORE_TRY: Final = (None, "scheduled", "queued")
# An XCom of the execution task, and of the group's first task: the first listing after
# a clear. Of the task of a step: its note, which is the time.
CLEAR_KEY: Final = "polysync_clear"
# How long the execution task looks for the notes of the steps' tasks. In a triggerer
# that is not full, a task begins within a few seconds.
NOTES_SECONDS: Final = 20.0


def is_left_to_next_try(state: str | None) -> bool:
    """
    Return whether an execution task was cleared, and its next try decides what becomes
    of its execution.

    Before that, nobody knows which steps were cleared with it.
    """
    return state in _BEFORE_TRY


# States of the task of a step which say that it was not cleared.
_NOT_CLEARED: Final = (
    "success",
    "skipped",
    "failed",
    "upstream_failed",
    "removed",
    "up_for_retry",
    "up_for_reschedule",
)

ClearAction = Literal["new", "wait", "resume", "select"]


class Clear(NamedTuple):
    """
    What the execution task does after a clear.

    :param action: ``new``: a new execution, after the stop of one that runs; ``wait``:
        wait for its end, then decide again; ``resume``: go on with it; ``select``: a
        selective execution of ``steps``.
    """

    action: ClearAction
    steps: Sequence[str] = ()

    @property
    def options(self) -> dict[str, Any]:
        """What the lifecycle gets as the options of the DAG's author."""
        match self.action:
            case "new" | "select":
                return {"on_clear": "new", "stop_on_clear": True}
            case "wait":
                return {"on_clear": "new", "stop_on_clear": False}
            case "resume":
                return {"on_clear": "resume", "stop_on_clear": False}


class FirstListing(models.StrictModel):
    """
    The steps as the execution task listed them for the first time after a clear, while
    the execution ran.

    :param epoch: the epoch that the clear has begun.
    :param succeeded: the steps that had succeeded.
    :param resumes: how often the execution was resumed before.
    """

    execution_arn: models.ExecutionArn
    epoch: Annotated[int, Field(ge=0, le=models.MAX_INTEGER)]
    succeeded: Annotated[list[models.StepName], Field(max_length=models.MAX_STEPS)]
    cleared: Annotated[list[models.StepName], Field(max_length=models.MAX_STEPS)]
    resumes: Annotated[int, Field(ge=0, le=models.MAX_INTEGER)]

    def is_repeated(
        self, name: str, state: PolysyncState, run: outcome.RunSummary
    ) -> bool:
        """
        Return whether the execution task repeats a step once the execution has ended.

        :param state: the state of the step in AWS.
        """
        if not run.is_of(self.execution_arn, self.resumes):
            return False
        if name not in self.cleared:
            return False
        # What has succeeded since is not repeated (rule 2).
        return state is not PolysyncState.SUCCESS or name in self.succeeded


def listing_of_clear(
    stored: Any, execution_arn: str, epoch: int
) -> FirstListing | None:
    """
    Return the first listing after a clear; None if none was stored since.

    :param stored: the first listing, if an earlier one was stored; or anything else.
    """
    first = FirstListing.or_none(stored)
    if first and first.execution_arn == execution_arn and first.epoch == epoch:
        return first
    return None


def first_listing(
    execution_arn: str,
    epoch: int,
    steps: Sequence[StepDescription],
    cleared: ClearedSteps,
    resumes: int,
) -> FirstListing:
    """
    Return this listing as the first one after a clear.

    :param steps: AWS's list of the steps.
    :param resumes: how often the execution was resumed before.
    """
    # What a loop runs has no task.
    succeeded = _succeeded(step for step in steps if step.loop is None)
    return FirstListing(
        execution_arn=execution_arn,
        epoch=epoch,
        succeeded=succeeded[: models.MAX_STEPS],
        cleared=list(cleared.steps),
        resumes=resumes,
    )


def _succeeded(steps: Iterable[StepDescription]) -> list[str]:
    return [step.name for step in steps if step.state is PolysyncState.SUCCESS]


def waiting_steps(stored: Any, execution_arn: str, resumes: int) -> Sequence[str]:
    """
    Return the steps that an earlier clear lets the execution task repeat after the end
    of an execution.

    :param stored: the first listing after it, if one was stored; or anything else.
    """
    earlier = FirstListing.or_none(stored)
    if earlier is None:
        return ()
    if (earlier.execution_arn, earlier.resumes) != (execution_arn, resumes):
        return ()
    return earlier.cleared


def is_note_since(note: Any, began_at: datetime | None) -> bool:
    """
    Return whether the task of a step has begun again since an execution began. It keeps
    the note of an earlier clear until it sees the execution of that clear.

    :param note: the XCom of this task, where users can edit it.
    :param began_at: when the execution began, or was resumed last; None if AWS does not
        say.
    """
    if not isinstance(note, int | float):
        return False
    return began_at is None or note >= began_at.timestamp()


class ClearedSteps(NamedTuple):
    """
    The steps whose tasks were cleared.

    :param steps: in the order of the definition.
    :param are_all: whether the tasks of all steps were cleared.
    :param is_certain: whether a task that has begun again could not tell more.
    """

    steps: Sequence[str]
    are_all: bool = False
    is_certain: bool = True


def cleared_steps(
    task_states: Mapping[str, str | None],
    noted: Collection[str],
    status: str,
    waiting: Collection[str] = (),
) -> ClearedSteps:
    """
    Return the steps whose tasks were cleared with the execution task.

    Airflow says it of few tasks. One that has no state was cleared, or has not begun:
    then its step has to run anyway. One that waits, or is on its way to a worker, was
    cleared only if it has left a note (rule 8 in ``step_tasks.py``).

    :param task_states: the states of their tasks in Airflow by step, in the order of
        the definition.
    :param noted: the steps whose tasks have left a note.
    :param status: AWS's status of the execution.
    :param waiting: the steps that an earlier clear lets the execution task repeat.
    """
    kept = False
    unknown = False
    proven = False
    cleared = []
    for step, state in task_states.items():
        if state in _NOT_CLEARED:
            kept = True
        elif state == "restarting" or step in noted:
            proven = True
            cleared.append(step)
        elif state is None:
            cleared.append(step)
        elif step in waiting:
            kept = True
            cleared.append(step)
        else:
            unknown = True
    if unknown:
        return ClearedSteps(cleared, is_certain=False)
    if kept or proven or has_ended(status):
        return ClearedSteps(cleared, are_all=not kept)
    # No task has begun. If this were a clear of all, the first ones would begin.
    return ClearedSteps(cleared, is_certain=False)


def still_cleared(
    first: FirstListing, task_states: Mapping[str, str | None]
) -> ClearedSteps:
    """
    Return the steps that were cleared when the execution task first listed them, and
    whose tasks wait since.
    """
    waiting = [step for step, state in task_states.items() if state not in _NOT_CLEARED]
    return ClearedSteps([step for step in waiting if step in first.cleared])


def after_clear(
    cleared: ClearedSteps,
    status: str,
    steps: Sequence[StepDescription],
    first: FirstListing | None = None,
) -> Clear:
    """
    Return what the execution task does after a clear. The rules are those at the top.

    :param cleared: the steps whose tasks were cleared.
    :param status: AWS's status of the execution.
    :param steps: AWS's list of its steps; it counts only if the execution has ended.
    :param first: the first listing after the clear; None if this one is the first.
    :raises ParametersError: AWS has nothing that does what was cleared. The text says
        what to clear.
    """
    if cleared.are_all:
        return Clear("new")
    if not has_ended(status):
        return Clear("wait")

    succeeded = set(_succeeded(steps))
    if first:
        # What has succeeded since need not be repeated (rule 2).
        succeeded.intersection_update(first.succeeded)
    if succeeded.isdisjoint(cleared.steps):
        state = states.state_of(status)
        if state is PolysyncState.FAILED:
            return Clear("resume")
        if state is PolysyncState.SUCCESS and first:
            # The outcome of the execution is that of the task (rule 6).
            return Clear("resume")

    if not cleared.steps:
        raise ParametersError(
            f"The execution has ended (AWS status {status}), and the task of no step"
            f" was cleared, so there is nothing to repeat. {_CLEAR_ALL}"
        )
    if status not in pipelines.SOURCE_STATUSES:
        raise ParametersError(
            "AWS can repeat single steps of an execution that has succeeded or failed"
            f" only, and this one has the status {status}. {_CLEAR_ALL}"
        )
    return _selection(cleared.steps)


def after_unanswered_start(cleared: ClearedSteps) -> Clear:
    """
    Return what the execution task does after a clear about an execution whose ARN no
    try has learned (rule 8).
    """
    return Clear("new" if cleared.are_all else "resume")


def with_needed(
    clear: Clear,
    declared: Sequence[pipelines.DeclaredStep],
    steps: Sequence[StepDescription],
) -> Clear:
    """
    Return a selective execution that also runs what its steps need: AWS refuses one if
    that has not succeeded in the source (rule 4).

    :param declared: the steps that the definition of the source declares.
    :param steps: AWS's list of the steps of the source.
    :raises ParametersError: these are too many.
    """
    succeeded = _succeeded(steps)
    reused = pipelines.reused_steps(clear.steps, declared)
    needed = [name for name in reused if name not in succeeded]
    return _selection([*needed, *clear.steps])


def _selection(steps: Sequence[str]) -> Clear:
    if len(steps) > models.MAX_SELECTED_STEPS:
        raise ParametersError(
            f"{len(steps)} steps are to be repeated. AWS repeats at most"
            f" {models.MAX_SELECTED_STEPS} selected steps. {_CLEAR_ALL}"
        )
    return Clear("select", tuple(steps))


def what_to_clear(
    record: ExecutionRecord | Nothing | None,
    status: str | None,
    options: RecoveryOptions,
    *,
    button: str,
) -> str | None:
    """
    Return what comes next after a failure, as the last sentences of its message, if a
    clear of the failed steps lets AWS resume the execution; None if it does not.

    :param record: what the next try finds; None if that is not known.
    :param status: AWS's status of the execution.
    :param button: what else resumes it, such as ``or this button ``; empty for nothing.
    """
    if record is None or record is Nothing.FOUND:
        return None
    if states.state_of(status) is not PolysyncState.FAILED:
        return None
    clear = after_clear(ClearedSteps(["the failed one"]), str(status), ())
    options = options.model_copy(update=clear.options)
    if after_clear_of(record, str(status), options) is not Command.RESUME:
        return None
    return _CLEAR_FAILED.format(button=button)


_CLEAR_FAILED: Final = (
    "Next: mend the cause, then clear the task of the failed step with the tasks that"
    " follow (Downstream).\n  That {button}repeats only the steps that had not"
    " succeeded."
)
_CLEAR_ALL: Final = (
    "For a new execution, clear the first task of the group with all tasks that follow"
    " (Downstream)."
)
