"""
The run of the task that starts the execution whose steps are tasks of their own.

``execution/step_clears.py`` decides what a clear means.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.airflow_compat.task_instances import (
    read_states,
    read_xcom,
    write_xcom,
)
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, models, step_clears
from polysync_airflow.execution.lifecycle.decisions import is_of_other_incarnation
from polysync_airflow.execution.lifecycle.instruction_kinds import Identified
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord, TaskKey
from polysync_airflow.execution.lifecycle.plans import NextSession
from polysync_airflow.execution.step_clears import Clear, ClearedSteps, FirstListing
from polysync_airflow.execution.steps.descriptions import StepDescription
from polysync_airflow.execution.trigger_arguments import TriggerArguments
from polysync_airflow.execution.waiter import ExecutionEvent, ExecutionWaiter
from polysync_airflow.hooks import PolysyncSageMakerHook
from polysync_airflow.operators import reporting, start_run
from polysync_airflow.records.keys import RECORD_KEY
from polysync_airflow.records.serialization import to_stored
from polysync_airflow.records.store import RecordStore, incarnation_of
from polysync_airflow.states import STATUS_EXECUTING, PolysyncState, has_ended, state_of

if TYPE_CHECKING:
    from polysync_airflow.operators import base
    from polysync_airflow.operators.step_tasks import PolysyncStepsExecutionOperator

# Between two looks for the notes of the steps' tasks.
_SECONDS_BETWEEN_LOOKS: Final = 1.0


class StepsExecutionRun(start_run.StartRun):
    """One session of the execution task."""

    task: PolysyncStepsExecutionOperator
    is_of_group = True
    # What the last clear of some of the steps asks for; None without one.
    _clear: Clear | None = None
    # The arguments for a new execution that follow from it.
    _selection: Mapping[str, Any] = {}
    # What the execution had done by that clear, if this try waits for its end.
    _listing: FirstListing | None = None

    def execute(self) -> str:
        """
        Start or continue with an execution, as the clear of some of the steps' tasks
        asks for.
        """
        self._listing = None
        record = self._read_cleared_execution()
        if record:
            self._clear = self._decide_after_clear(record)
            if self._clear.action == "select":
                steps = ", ".join(self._clear.steps)
                self.log.info(
                    "Repeated, as their tasks were cleared, or as those need them: %s",
                    steps,
                )
                self._selection = {
                    "selected_steps": list(self._clear.steps),
                    "source_execution": record.arn,
                }
        return super().execute()

    def request_arguments(self) -> Mapping[str, Any]:
        """Return the arguments for a new execution, with the steps to repeat."""
        return {**super().request_arguments(), **self._selection}

    def try_options(self) -> base.TryOptions:
        """Return the options of the task, with those that follow from a clear."""
        if self._clear is None:
            return self.options
        return self.options.model_copy(update=self._clear.options)

    def _read_cleared_execution(self) -> ExecutionRecord | None:
        """
        Return the record of the earlier tries' execution, if some of its steps were
        cleared.

        :return: None if this is the first try, or a retry, or if there is no execution
            that can be continued. Without an ARN, no try has got the response to its
            start.
        """
        ti = self.ti
        if ti.try_number == 1:
            return None
        record = self._read_record()
        if record is None:
            record = self.try_runner.look_up(self.request_arguments())
        if record is None or record.epoch == ti.max_tries:
            return None
        if record.execution_arn is None:
            # An earlier clear has sent a start, and its response is not known. What is
            # repeated now follows from the execution that it was to replace.
            record = record.replaces or record
        incarnation = incarnation_of(self.context)
        if is_of_other_incarnation(record, incarnation, ti.try_number):
            return None
        if record.choice_in(ti.max_tries):
            # Somebody has chosen in the tab what becomes of it.
            return None
        return record

    def _decide_after_clear(self, record: ExecutionRecord) -> Clear:
        """
        Return what is done now that steps of an execution were cleared.

        :raises ParametersError: AWS has nothing that does what was cleared.
        """
        if record.execution_arn is None:
            return self._decide_after_unanswered_start()
        arn = record.arn
        hook = self.hook_for_region(models.region_from_arn(arn))
        status = None
        try:
            execution = self.call_with_retry(
                partial(hook.describe_pipeline_execution, arn)
            )
            status = execution.status
            steps = self.call_with_retry(
                partial(hook.list_pipeline_execution_steps, arn)
            )
            clear = self._decide(record, execution, steps)
            return self._with_needed(clear, execution, steps, hook)
        except Exception as error:
            if status and has_ended(status):
                self.try_runner.release()
                reporting.push_status(self.context, arn, status)
                raise
            # Nobody else is responsible for the execution. If this try cannot go on
            # with it, it stops it.
            self.log.warning(
                "What was cleared is not known yet: %s: %s", type(error).__name__, error
            )
            return Clear("wait")

    def _decide_after_unanswered_start(self) -> Clear:
        try:
            cleared = self._find_cleared(STATUS_EXECUTING, None, ())
        except Exception as error:
            self.log.warning("What was cleared is not known: %s", error)
            cleared = ClearedSteps(())
        return step_clears.after_unanswered_start(cleared)

    def _decide(
        self,
        record: ExecutionRecord,
        execution: models.ExecutionDescription,
        steps: Sequence[StepDescription],
    ) -> Clear:
        arn = record.arn
        status = execution.status
        first_task = self._first_task
        stored = read_xcom(first_task, step_clears.CLEAR_KEY)
        first = step_clears.listing_of_clear(stored, arn, self.ti.max_tries)
        if first:
            cleared = step_clears.still_cleared(first, self._read_step_states())
            clear = step_clears.after_clear(cleared, status, steps, first)
            if clear.action == "wait":
                self._listing = first
            return clear

        waiting = step_clears.waiting_steps(stored, arn, record.resumes)
        began_at = record.resumed_at or execution.created_at
        cleared = self._find_cleared(status, began_at, waiting)
        clear = step_clears.after_clear(cleared, status, steps)
        if clear.action == "wait":
            self._listing = step_clears.first_listing(
                arn, self.ti.max_tries, steps, cleared, record.resumes
            )
            value = self._listing.model_dump(mode="json")
            write_xcom(first_task, step_clears.CLEAR_KEY, value)
        return clear

    def _with_needed(
        self,
        clear: Clear,
        source: models.ExecutionDescription,
        steps: Sequence[StepDescription],
        hook: PolysyncSageMakerHook,
    ) -> Clear:
        if clear.action != "select" or state_of(source.status) is PolysyncState.SUCCESS:
            return clear
        describe = hook.describe_pipeline_definition_for_execution
        try:
            declared = self.call_with_retry(partial(describe, source.execution_arn))
        except PolysyncError as error:
            self.log.info("What the cleared steps need is not known: %s", error)
            return clear
        return step_clears.with_needed(clear, declared, steps)

    def _find_cleared(
        self, status: str, began_at: datetime | None, waiting: Sequence[str]
    ) -> ClearedSteps:
        """
        Return which steps were cleared. The tasks that begin again get some time for
        their notes.
        """
        until = clock.time() + step_clears.NOTES_SECONDS
        while True:
            states = self._read_step_states()
            noted = [step for step in states if self._has_note(step, began_at)]
            cleared = step_clears.cleared_steps(states, noted, status, waiting)
            if cleared.is_certain or clock.time() >= until:
                return cleared
            clock.sleep(_SECONDS_BETWEEN_LOOKS)

    def _read_step_states(self) -> dict[str, str | None]:
        """Return the states of the tasks of the steps, by step."""
        states = read_states(self.ti, list(self.task.step_task_ids.values()))
        # A task that a newer version of the DAG has added was not cleared.
        return {
            step: states.get(task_id, "removed")
            for step, task_id in self.task.step_task_ids.items()
        }

    def _has_note(self, step: str, began_at: datetime | None) -> bool:
        task = self._sibling(self.task.step_task_ids[step])
        note = read_xcom(task, step_clears.CLEAR_KEY)
        return step_clears.is_note_since(note, began_at)

    def wait_for_earlier_execution(self, instruction: Identified) -> ExecutionEvent:
        """Wait for its end. Meanwhile, the tasks of the other steps follow it."""
        record = instruction.record
        if self._listing:
            reporter = self.step_reporter(instruction.arn, record.resumed_at)
            reporter.push_declared(record.request.selected_steps)
            value = self._listing.model_dump(mode="json")
            self.ti.xcom_push(step_clears.CLEAR_KEY, value)
            self.push_started(instruction)
        return super().wait_for_earlier_execution(instruction)

    def _read_record(self) -> ExecutionRecord | None:
        """
        Return the record of the earlier tries, also after a success; None if there is
        none.
        """
        store = RecordStore.on_worker(self.context)
        record = store.read()
        if record or store.unproven:
            return record
        stored = read_xcom(self._first_task, RECORD_KEY)
        record = store.proven_record(stored)
        if record:
            # From now on, the try continues with it as with that of a try that has
            # failed.
            store.write(record)
        return record

    def forget(self) -> None:
        """
        Keep the record, which a clear needs, as an XCom, which goes with the DAG run.
        """
        record = self.try_runner.own_record()
        if record:
            value = to_stored(record, TaskKey.of(self.ti))
            write_xcom(self._first_task, RECORD_KEY, value)
        super().forget()

    @property
    def _first_task(self) -> TaskKey:
        return self._sibling(self.task.first_task_id)

    def _sibling(self, task_id: str) -> TaskKey:
        """Return the key of another task of the group."""
        return replace(TaskKey.of(self.ti), task_id=task_id)

    def trigger_arguments(self, waiter: ExecutionWaiter) -> TriggerArguments:
        """Return the arguments of the trigger, which shows the tasks their steps."""
        task_ids = tuple(self.task.step_task_ids.values())
        return replace(super().trigger_arguments(waiter), step_task_ids=task_ids)

    def following(
        self, end: ExecutionEvent, retry: NextSession | None, *, by_fail_step: bool
    ) -> reporting.Following:
        """Return what comes next: a clear of the failed steps, or what Start says."""
        following = super().following(end, retry, by_fail_step=by_fail_step)
        # What a clear does follows from the steps that are cleared.
        plan = following.plan.model_copy(update={"clear": None})
        following = following._replace(plan=plan)
        if retry is None and not by_fail_step:
            record, status = self.try_runner.seen_by_next_try(end)
            button = reporting.RESUME_BUTTON
            options = self.try_options()
            text = step_clears.what_to_clear(record, status, options, button=button)
            if text:
                return following._replace(text=text)
        return following
