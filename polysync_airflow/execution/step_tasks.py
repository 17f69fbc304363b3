"""
The steps of an execution as tasks of their own: how each of them ends.

One task of the group, the *execution task*, starts the execution and is responsible for
it, as every Start task is. The task of a step only watches.

Rules of the task of a step:

1. It waits until the execution task has an execution in its current try. While that
   task waits for a slot, or was cleared, what it has pushed belongs to an earlier try,
   and nothing is read from AWS.
2. AWS's status of the step decides: Succeeded is a success, also with a result from the
   cache or from the source of a selective execution. Failed and Stopped are failures.
3. A step in the branch of a condition that has the other outcome is skipped. So is a
   step that a selective execution leaves out, a step that the definition of the
   execution does not have, and a step that an execution has not begun which has
   succeeded.
4. A step that has not begun fails if its execution has ended otherwise, once the
   execution task is over.
5. A retry waits while the step has failed and the execution task is not over: that task
   resumes the execution. So does the first try if all that has failed lacks capacity.
   While the execution runs, a failure from before the last
   resume does not count.
6. If the execution task is over and has no execution, the step fails.
7. While the execution runs that is to repeat a cleared step after its end, the task of
   the step waits, whatever the status of the step is.
8. A task that begins again leaves a note, until it sees the execution of the current
   try of the execution task. So that task can tell it from one that waits since before
   the clear: Airflow says the same of both.

``step_clears.py`` has the rules of the execution task after a clear.

Everything here is pure. The driver is ``triggers/step_tasks.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, StringConstraints

from polysync_airflow import states
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import models, pipelines, step_clears, texts, waiter
from polysync_airflow.execution import waiter as waiting
from polysync_airflow.execution.lifecycle import capacity, ending
from polysync_airflow.execution.lifecycle.instructions import TaskKey, TryOfTask
from polysync_airflow.execution.outcome import RunSummary
from polysync_airflow.execution.steps import descriptions, progress
from polysync_airflow.execution.steps.descriptions import StepDescription, StepRow
from polysync_airflow.execution.trigger_arguments import (
    Count,
    Interval,
    StoredArguments,
)
from polysync_airflow.states import PolysyncState, has_ended, state_of_step

# States of the execution task in which its XComs are those of its current try. In the
# state running, they are not: as a try begins, a worker has yet to delete those of the
# earlier one.
_WITH_OWN_XCOMS: Final = (ending.DEFERRED, "up_for_retry", "up_for_reschedule")


def is_current(state: str | None, run: RunSummary | None) -> bool:
    """
    Return whether the XCom ``run`` is that of the current try of the execution task.

    :param state: the state of that task in Airflow; None if it was cleared or was not
        scheduled yet.
    """
    if run is None:
        return False
    return state in _WITH_OWN_XCOMS or is_finished(state)


def is_finished(state: str | None) -> bool:
    """Return whether a task has ended or was deleted, and was not cleared since."""
    return state not in (None, "restarting") and ending.is_over(state)


@dataclass(frozen=True, slots=True)
class StepsSnapshot:
    """
    The steps of an execution, as one poll for all tasks of a group has read them.

    :param state: the state of the execution task in Airflow.
    :param run: the XCom ``run``; None while it is not that of the current try.
    :param status: AWS's status of the execution; None if nobody has asked.
    :param is_declared: whether the rows have all steps of the execution's definition.
    :param rows: the steps by name, as the XCom ``steps`` has them.
    :param steps: AWS's list of the steps.
    :param due: when they are listed again, as Unix time; None if they were not listed.
    :param listing: which steps the execution task repeats after the end of the
        execution; None if it repeats none, or if nobody has asked.
    """

    state: str | None
    run: RunSummary | None = None
    status: str | None = None
    is_declared: bool = False
    rows: Mapping[str, StepRow] = field(default_factory=dict)
    steps: Sequence[StepDescription] = ()
    due: float | None = None
    listing: step_clears.FirstListing | None = None

    @property
    def is_over(self) -> bool:
        """Whether the execution task is over, so that nobody resumes the execution."""
        return is_finished(self.state)

    @property
    def lacks_capacity(self) -> bool:
        """Whether all steps that have failed have done so for want of capacity."""
        failed = [
            row.reason
            for row in self.rows.values()
            if state_of_step(row.status) is PolysyncState.FAILED
        ]
        return capacity.lacked_by(failed) is not None

    def is_repeated(self, name: str) -> bool:
        """Return whether a cleared step is repeated after the end of the execution."""
        if self.listing is None or self.run is None or self.is_over:
            return False
        row = self.rows.get(name)
        status = None
        if row:
            status = row.status
        return self.listing.is_repeated(name, state_of_step(status), self.run)

    def description(self, name: str) -> StepDescription | None:
        """Return AWS's description of a step; None if it has not begun."""
        for step in self.steps:
            if step.name == name:
                return step
        return None


def steps_snapshot(
    state: str | None,
    run: RunSummary,
    order: Sequence[pipelines.DeclaredStep | StepRow],
    steps: Sequence[StepDescription],
    status: str | None,
    due: float | None = None,
    listing: step_clears.FirstListing | None = None,
) -> StepsSnapshot:
    """
    Return the snapshot that a poll has made of an execution.

    :param order: the steps of its definition; empty if they are not known.
    """
    rows = {
        row.name: row for row in descriptions.rows_of(steps, order, run.execution_arn)
    }
    if _is_too_expensive(run):
        for name, row in rows.items():
            if state_of_step(row.status) is PolysyncState.CANCELLED:
                rows[name] = row.model_copy(update={"reason": _TOO_EXPENSIVE})
    return StepsSnapshot(state, run, status, bool(order), rows, steps, due, listing)


_TOO_EXPENSIVE: Final = (
    "The execution was stopped, because its task has spent max_cost."
)


def _is_too_expensive(run: RunSummary | None) -> bool:
    return run is not None and run.stop is not None and run.stop.reason == "cost"


MAX_TEXT_LENGTH: Final = 4096
Verdict = Literal["success", "skipped", "unknown", "failed", "refused", "timed_out"]


class StepTaskEvent(waiter.EndOfWait):
    """
    How the wait of a step's task ended.

    :param outcome: that of the task; ``unknown`` if the execution has no such step, so
        that the task is skipped with a warning; ``refused`` if AWS refuses to list the
        steps.
    :param text: why, in one or two sentences.
    :param row: the step, as the XCom ``steps`` has it; None if it is not known.
    :param description: AWS's description of the step, in the process that has read it
        only.
    :param job_facts: what the step's job cost, used and, if it has failed, made, in the
        process that has read it only.
    """

    outcome: Verdict
    step_name: models.StepName
    text: Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH)]
    execution_arn: models.ExecutionArn | None = None
    pipeline_name: texts.ArnText | None = None
    row: StepRow | None = None
    description: StepDescription | None = Field(None, exclude=True)
    job_facts: Mapping[str, Any] = Field({}, exclude=True)


def verdict_of(
    name: str, snapshot: StepsSnapshot, *, is_retry: bool
) -> tuple[Verdict, str] | None:
    """
    Return how the task of a step ends, and why; None if it waits on. The rules are
    those at the top.

    :param is_retry: whether an earlier try of the same clear has failed.
    """
    if snapshot.run is None:
        if not snapshot.is_over:
            return None
        text = (
            f"The task of the execution has ended (state {snapshot.state}) without an"
            " execution."
        )
        return "failed", text
    if snapshot.is_repeated(name):
        return None
    row = snapshot.rows.get(name)
    if row is None or row.status is None:
        return _of_unbegun(name, row, snapshot)
    match state_of_step(row.status):
        case PolysyncState.SUCCESS:
            return "success", _success_text(row)
        case PolysyncState.FAILED | PolysyncState.CANCELLED:
            return _of_failed(row, snapshot, snapshot.run, is_retry=is_retry)
        case _:
            return _of_unended(name, snapshot)


def _of_failed(
    row: StepRow, snapshot: StepsSnapshot, run: RunSummary, *, is_retry: bool
) -> tuple[Verdict, str] | None:
    if (is_retry or snapshot.lacks_capacity) and not snapshot.is_over:
        # The execution task is going to resume the execution.
        return None
    resumed_at = run.attempt_started_at
    ended_before_resume = resumed_at and row.ended_at and row.ended_at < resumed_at
    if ended_before_resume and not has_ended(snapshot.status):
        # AWS repeats the step.
        return None
    verb = states.VERBS[state_of_step(row.status)]
    return "failed", f"Step {row.name} {verb} (AWS status {row.status})."


def _of_unbegun(
    name: str, row: StepRow | None, snapshot: StepsSnapshot
) -> tuple[Verdict, str] | None:
    if row is None and snapshot.is_declared:
        text = (
            f"The execution has no step {name}: the pipeline has changed since the file"
            " of this group was written. Write it again: polysync jobs import"
        )
        return "unknown", text
    if row and row.not_taken:
        text = (
            f"Step {name} was not run: condition {row.condition} had the other outcome."
        )
        return "skipped", text
    if row and row.not_selected:
        text = f"Step {name} was not selected, and no selected step needs it."
        return "skipped", text
    return _of_unended(name, snapshot)


def _of_unended(name: str, snapshot: StepsSnapshot) -> tuple[Verdict, str] | None:
    """Return the verdict about a step that has not ended, or not even begun."""
    if not has_ended(snapshot.status):
        return None
    not_run = f"AWS has not run step {name}"
    if states.state_of(snapshot.status) is PolysyncState.SUCCESS:
        return "skipped", f"{not_run}: the execution has succeeded without it."
    if not snapshot.is_over:
        return None
    text = f"{not_run}: the execution has ended before (status {snapshot.status})."
    if _is_too_expensive(snapshot.run):
        text = f"{text} {_TOO_EXPENSIVE}"
    return "failed", text


def _success_text(row: StepRow) -> str:
    if row.cache_hit:
        return f"Step {row.name} succeeded: its result was in the cache."
    if row.reused_from:
        source = row.reused_from.rsplit("/")[-1]
        return (
            f"Step {row.name} succeeded: its result is that of the earlier execution"
            f" {source}."
        )
    if row.seconds is None:
        return f"Step {row.name} succeeded."
    return f"Step {row.name} succeeded after {texts.format_seconds(row.seconds)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaskWaiter(waiter.Waiter[StepsSnapshot, StepTaskEvent]):
    """
    The state of the wait of a step's task.

    :param is_retry: whether an earlier try of the same clear has failed.
    :param task: the task of the step, if it may leave a note.
    :param is_repeated: whether the task had an earlier try.
    :param is_noted: whether it has left a note.
    :param ends_task: whether the task ends in the triggerer.
    :param logged_statuses: the statuses that the log has, of the step and of those that
        it runs, in JSON.
    :param execution_arn: the execution; None while the execution task has none.
    """

    execution_task: TaskKey
    step_name: str
    is_retry: bool = False
    task: TaskKey | None = None
    is_repeated: bool = False
    is_noted: bool = False
    ends_task: bool = False
    logged_statuses: str = "{}"
    execution_arn: str | None = None
    pipeline_name: str | None = None

    @property
    def name(self) -> str:
        """The execution task and the step, for the log of the triggerer."""
        return f"{self.group} step {self.step_name}"

    @property
    def group(self) -> str:
        """The execution task: one poll serves all steps of its execution."""
        task = self.execution_task
        return f"{task.dag_id}.{task.task_id} {task.run_id} {task.map_index}"

    @property
    def first_delay(self) -> float:
        """The seconds until the first poll: 0 for a task that no worker has begun."""
        if self.ends_task:
            # What others have listed just now may decide at once.
            return 0.0
        return waiting.FIRST_POLL_DELAY_SECONDS

    def decide(
        self, response: StepsSnapshot | PolysyncError, now: float
    ) -> waiter.Wait[StepTaskWaiter] | waiter.Finish[StepTaskEvent]:
        """
        Return the instruction after a poll. The next poll is due when the steps are
        listed next, whichever task of the group has listed them last.
        """
        result: waiter.Wait[StepTaskWaiter] | waiter.Finish[StepTaskEvent]
        result = waiter.Waiter.decide(self, response, now)
        if isinstance(response, PolysyncError) or isinstance(result, waiter.Finish):
            return result
        if result.waiter.task:
            return replace(result, seconds=min(result.seconds, _NOTED_SECONDS))
        if response.due is None:
            return result
        return replace(result, seconds=max(0.0, response.due - now))

    def leaves_note(self, snapshot: StepsSnapshot) -> bool:
        """Return whether the task of the step notes now that it has begun again."""
        if self.task is None or self.is_noted:
            return False
        return snapshot.run is None and not snapshot.is_over

    def verdict(self, snapshot: StepsSnapshot) -> tuple[Verdict, str] | None:
        """Return how the task ends with what was seen; None if it waits on."""
        return verdict_of(self.step_name, snapshot, is_retry=self.is_retry)

    def updated(self, response: StepsSnapshot) -> Self:
        """Return the state after a poll."""
        run = response.run
        if run is None:
            return replace(self, is_noted=self.task is not None)
        task = self.task
        if response.state is not None:
            # Airflow was asked just now.
            task = None
        logged_statuses, _ = self._changes(response, run)
        return replace(
            self,
            task=task,
            logged_statuses=logged_statuses,
            execution_arn=run.execution_arn,
            pipeline_name=run.pipeline_name,
        )

    def lines_about(
        self, response: StepsSnapshot, now: float
    ) -> tuple[waiter.LogLine, ...]:
        """
        Return lines about the execution, once, and about changes of the step and of
        those that it runs.
        """
        run = response.run
        if run is None:
            return ()
        lines: list[waiter.LogLine] = []
        if run.execution_arn != self.execution_arn:
            lines.append(
                waiter.LogLine(logging.INFO, f"Execution: {run.execution_arn}")
            )
        _, changes = self._changes(response, run)
        return (*lines, *changes)

    def _changes(
        self, snapshot: StepsSnapshot, run: RunSummary
    ) -> tuple[str, Sequence[waiter.LogLine]]:
        """Return the statuses that the log has then, and the lines about them."""
        own_steps = [
            step for step in snapshot.steps if self.step_name in (step.name, step.loop)
        ]
        return progress.changes_of(
            self.logged_statuses, own_steps, run.attempt_started_at
        )

    def end_of(self, response: StepsSnapshot, now: float) -> StepTaskEvent | None:
        """Return the event if the step is at its end."""
        verdict = self.verdict(response)
        if verdict is None:
            return None
        outcome, text = verdict
        details = {
            "row": response.rows.get(self.step_name),
            "description": response.description(self.step_name),
        }
        return self.event(outcome, text).model_copy(update=details)

    def event(
        self, outcome: Any, message: str | None, error: PolysyncError | None = None
    ) -> StepTaskEvent:
        """Return the event of a wait that has ended."""
        return StepTaskEvent(
            outcome=outcome,
            step_name=self.step_name,
            text=texts.clean_text(message or "", MAX_TEXT_LENGTH),
            execution_arn=self.execution_arn,
            pipeline_name=self.pipeline_name,
            **waiter.error_fields(error),
        )


# Between two polls of a task with a note, which counts until the next one.
_NOTED_SECONDS: Final = 5.0
# The execution task has a timeout, so this only bounds the wait.
MAX_SECONDS: Final = 400 * 24 * 3600.0


@dataclass(kw_only=True, eq=False, repr=False)
class StepTaskArguments(StoredArguments):
    """
    The arguments of the trigger of a step's task. Its task instance says the rest.

    :param execution_task_id: the task of the same DAG run and map index that starts the
        execution.
    :param step_name: the step for whose end the task waits.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param poll_interval: seconds between two lists of the steps. All tasks of an
        execution share them.
    :param retries: how many retries the task has.
    """

    execution_task_id: Annotated[str, StringConstraints(min_length=1, max_length=250)]
    step_name: models.StepName
    polysync_conn_id: models.ConnectionId
    region_name: models.RegionName | None = None
    poll_interval: Interval
    retries: Count = 0

    def waiter_of(self, ti: TryOfTask, now: float) -> StepTaskWaiter:
        """
        Return the wait of a task instance.

        :param now: as Unix time.
        """
        key = TaskKey.of(ti)
        is_repeated = ti.try_number > 1
        task = None
        if is_repeated:
            task = key
        return StepTaskWaiter(
            execution_task=replace(key, task_id=self.execution_task_id),
            task=task,
            is_repeated=is_repeated,
            step_name=self.step_name,
            # The first try after a clear waits in the same way: a triggerer does not
            # know whether it is one.
            is_retry=self.retries > 0 and is_repeated,
            poll_interval=self.poll_interval,
            since=now,
            deadline=now + MAX_SECONDS,
            rate_limited=True,
        )


@dataclass(kw_only=True, eq=False, repr=False)
class StepTaskEndArguments(StepTaskArguments):
    """
    The arguments of the trigger that runs the whole task of a step, without a worker:
    those of ``PolysyncStepTaskTrigger``, and one more.

    :param property_files: which property files of the step the task reads at its end.
    """

    property_files: bool | tuple[str, ...] = False

    def waiter_of(self, ti: TryOfTask, now: float) -> StepTaskWaiter:
        """
        Return the wait of a task instance.

        :param now: as Unix time.
        """
        return replace(super().waiter_of(ti, now), ends_task=True)
