"""
The poller that all tasks of one group share, and the trigger of a step's task.

For each group, one poll lists the steps of the execution. Before there is an execution,
and after its end, it asks Airflow only. What the tasks wait for is decided in
``execution/step_tasks.py``.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

from airflow.triggers.base import TriggerEvent

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import (
    delete_xcom,
    read_state,
    read_xcom,
    write_xcom,
)
from polysync_airflow.auth.iam_policies import JOB_OPERATIONS
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, models, outcome
from polysync_airflow.execution.lifecycle.instructions import TaskKey, TryOfTask
from polysync_airflow.execution.step_clears import CLEAR_KEY, FirstListing
from polysync_airflow.execution.step_tasks import (
    StepsSnapshot,
    StepTaskArguments,
    StepTaskEvent,
    StepTaskWaiter,
    is_current,
    steps_snapshot,
)
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.states import PolysyncState, has_ended
from polysync_airflow.triggers import poller, shared_client, wait_triggers

# The executions of so many groups are kept.
MAX_GROUPS: Final = 1000
# The event of a trigger that no triggerer runs.
WITHOUT_TRIGGERER: Final = "without a triggerer"


@dataclass
class GroupExecution:
    """
    The execution of a group, as the last poll has read it.

    :param order: the steps of its definition; empty if they are not known.
    :param due: when its steps are listed next, as Unix time.
    :param listing: which steps are repeated after the end of the execution; None if no
        step is repeated.
    """

    run: outcome.RunSummary
    order: Sequence[descriptions.StepRow]
    steps: Sequence[descriptions.StepDescription] = ()
    status: str | None = None
    due: float = 0.0
    listing: FirstListing | None = None

    @property
    def has_ended(self) -> bool:
        """Whether AWS has said that the execution has ended."""
        return has_ended(self.status)

    def snapshot(self, state: str | None) -> StepsSnapshot:
        """Return what the last poll has read, with a state of the execution task."""
        due = None
        if not self.has_ended:
            due = self.due
        return steps_snapshot(
            state, self.run, self.order, self.steps, self.status, due, self.listing
        )


# The tasks that end here describe the jobs of their steps with the same client.
CLIENT_OPERATIONS: Final = (
    "DescribePipelineExecution",
    "ListPipelineExecutionSteps",
    *JOB_OPERATIONS,
)


class StepTaskPoller(poller.Poller[StepTaskWaiter, StepsSnapshot]):
    """Lists the steps of executions for the tasks of their steps."""

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        client = shared_client.SharedClient(
            connection_id, region_name, polls="step_tasks", operations=CLIENT_OPERATIONS
        )
        super().__init__(client)
        # By execution task. Each group is polled by one thread at a time.
        self._executions: dict[TaskKey, GroupExecution] = {}

    def poll(
        self, waiters: Sequence[StepTaskWaiter], is_wanted: Callable[[], bool]
    ) -> list[StepsSnapshot | PolysyncError]:
        """Poll the execution of a group once, for all of its tasks."""
        result: StepsSnapshot | PolysyncError
        try:
            result = self._snapshot(waiters, is_wanted)
        except PolysyncError as error:
            result = error
        except Exception as error:
            text = (
                "Airflow does not return the state and the XComs of the execution's"
                f" task: {error!r:.500}"
            )
            result = PolysyncError(text, permanent=False)
        return len(waiters) * [result]

    def _handle_responses(
        self,
        subscriptions: Sequence[poller.Subscription[StepTaskWaiter]],
        result: Sequence[StepsSnapshot | PolysyncError] | BaseException,
    ) -> None:
        if not isinstance(result, BaseException):
            self._share_steps(result[0])
        super()._handle_responses(subscriptions, result)

    def _share_steps(self, response: StepsSnapshot | PolysyncError) -> None:
        """Give the steps to the wait of the execution task, which shows them, too."""
        if isinstance(response, PolysyncError) or response.run is None:
            return
        arn = response.run.execution_arn
        # With the region of the execution, as its task waits for it.
        executions = poller.existing_poller(
            poller.ExecutionPoller, self.client.key[0], models.region_from_arn(arn)
        )
        if executions:
            executions.share_steps(arn, response.steps)

    def _snapshot(
        self, waiters: Sequence[StepTaskWaiter], is_wanted: Callable[[], bool]
    ) -> StepsSnapshot:
        task = waiters[0].execution_task
        has_cleared = any(waiter.is_repeated for waiter in waiters)
        state = None
        execution = self._executions.get(task)
        unsettled = [waiter for waiter in waiters if waiter.task]
        if execution is None or execution.has_ended or unsettled:
            state, execution = self._ask_airflow(task, has_cleared=has_cleared)
        self._update_notes(unsettled, state, execution)
        if execution is None:
            return StepsSnapshot(state)
        if not execution.has_ended and execution.due <= clock.monotonic():
            self._ask_aws(execution, is_wanted)
            execution.due = clock.monotonic() + waiters[0].poll_interval
        snapshot = execution.snapshot(state)
        if state is not None:
            return snapshot
        if not any(waiter.verdict(snapshot) for waiter in waiters):
            return snapshot
        # Before a task ends: the execution task may have been cleared, or have begun
        # its next try.
        state, current = self._ask_airflow(task, has_cleared=has_cleared)
        if current is execution:
            return execution.snapshot(state)
        return StepsSnapshot(state)

    def _update_notes(
        self,
        waiters: Sequence[StepTaskWaiter],
        state: str | None,
        execution: GroupExecution | None,
    ) -> None:
        """Let the tasks that have begun again leave their notes, or take them back."""
        snapshot = StepsSnapshot(state)
        if execution:
            snapshot = execution.snapshot(state)
        for waiter in waiters:
            if waiter.task and waiter.leaves_note(snapshot):
                call_airflow(partial(write_xcom, waiter.task, CLEAR_KEY, clock.time()))
            elif waiter.task and execution:
                call_airflow(partial(_delete_note, waiter.task))

    def _ask_airflow(
        self, task: TaskKey, *, has_cleared: bool
    ) -> tuple[str | None, GroupExecution | None]:
        """
        Return the state of the execution task, and its execution.

        :param has_cleared: whether the task of a step has had an earlier try.
        :return: None in place of the execution if the task has none in its current try.
        """
        state, value = call_airflow(lambda: (read_state(task), read_xcom(task, "run")))
        run = outcome.parse_run_summary(value, poller.log.warning)
        execution = self._executions.pop(task, None)
        if run is None or not is_current(state, run):
            return state, None
        if execution is None or not run.is_of(
            execution.run.execution_arn, execution.run.resumes
        ):
            rows = call_airflow(partial(read_xcom, task, descriptions.STEPS_KEY))
            execution = GroupExecution(run, descriptions.parse_rows(rows))
        # The XCom ``run`` may say by now why the execution is stopped.
        execution.run = run
        if has_cleared:
            listing = call_airflow(partial(read_xcom, task, CLEAR_KEY))
            execution.listing = FirstListing.or_none(listing)
        while len(self._executions) >= MAX_GROUPS:
            self._executions.pop(next(iter(self._executions)))
        self._executions[task] = execution
        return state, execution

    def _ask_aws(
        self, execution: GroupExecution, is_wanted: Callable[[], bool]
    ) -> None:
        execution.steps = self._list(execution, is_wanted)
        for step in execution.steps:
            if step.state is PolysyncState.RUNNING:
                return
        # AWS's list of the steps does not say whether more of them follow.
        self.client.limiter.acquire()
        description = self.client.describe(execution.run.execution_arn)
        if isinstance(description, PolysyncError):
            raise description
        if has_ended(description.status):
            # Steps may have run since they were listed.
            self.client.limiter.acquire()
            execution.steps = self._list(execution, is_wanted)
        execution.status = description.status

    def _list(
        self, execution: GroupExecution, is_wanted: Callable[[], bool]
    ) -> Sequence[descriptions.StepDescription]:
        arn = execution.run.execution_arn
        steps = self.client.list_steps(arn, is_wanted=is_wanted)
        if isinstance(steps, PolysyncError):
            raise steps
        return steps


def _delete_note(task: TaskKey) -> None:
    if read_xcom(task, CLEAR_KEY) is not None:
        delete_xcom(task, CLEAR_KEY)


class PolysyncStepTaskTrigger(
    StepTaskArguments, wait_triggers.WaitTrigger[StepTaskWaiter]
):
    """
    Wait for the end of one step of the execution that another task of the same DAG run
    starts.
    """

    __module__ = "polysync_airflow.triggers"

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """Wait for the end of the step, and yield the event."""
        if self.task_instance is None:
            # In ``dag.test()``, which runs one task after the other, the trigger of
            # each as well: it would wait for the execution task for ever.
            yield TriggerEvent(WITHOUT_TRIGGERER)  # type: ignore[no-untyped-call]
            return
        async with aclosing(super().run()) as events:
            async for event in events:
                yield event

    async def poll_once(self, ti: TryOfTask) -> StepTaskEvent | None:
        """
        Poll the execution once, without a triggerer; return the event if the step is at
        its end.
        """
        waiter = self.checked().waiter_of(ti, clock.time())
        (response,) = self._find_poller().poll((waiter,), lambda: True)
        event = self._handle(waiter.decide(response, clock.time()))
        return cast("StepTaskEvent | None", event)

    def _waiter(self) -> StepTaskWaiter:
        # ``run`` has returned before if there is none.
        ti = cast("TryOfTask", self.task_instance)
        return self.checked().waiter_of(ti, clock.time())

    def _find_poller(self) -> StepTaskPoller:
        return poller.poller_for(
            StepTaskPoller, self.polysync_conn_id, self.region_name
        )
