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
from typing import Any, ClassVar, Final

from airflow.triggers.base import TriggerEvent

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import read_state, read_xcom
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, step_tasks
from polysync_airflow.execution.lifecycle.instructions import TaskKey
from polysync_airflow.execution.models import region_from_arn
from polysync_airflow.execution.outcome import RunSummary, parse_run_summary
from polysync_airflow.execution.parameters import check_trigger_arguments
from polysync_airflow.execution.results import JOB_KINDS
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.execution.waiter import Finish
from polysync_airflow.states import PolysyncState, has_ended, state_of_step
from polysync_airflow.triggers import poller
from polysync_airflow.triggers.schedule import Step, Subscription
from polysync_airflow.triggers.wait_triggers import WaitTrigger

# The executions of so many groups are kept.
MAX_KNOWN: Final = 1000
# The event of a trigger that no triggerer runs.
WITHOUT_TRIGGERER: Final = "without a triggerer"


@dataclass
class KnownExecution:
    """
    The execution of a group, as it was seen last.

    :param order: the steps of its definition; empty if they are not known.
    :param due: when its steps are listed next, in seconds since the epoch.
    """

    run: RunSummary
    order: Sequence[descriptions.StepRow]
    steps: Sequence[descriptions.StepDescription] = ()
    status: str | None = None
    due: float = 0.0

    def is_of(self, run: RunSummary) -> bool:
        """
        Return whether this is the execution, in the same attempt, that an XCom ``run``
        names.
        """
        return _attempt_of(run) == _attempt_of(self.run)

    def seen(self, state: str | None) -> step_tasks.StepsSnapshot:
        """Return what was seen last, now that the execution task has a state."""
        due = None if has_ended(self.status) else self.due
        return step_tasks.seen_of(
            state, self.run, self.order, self.steps, self.status, due
        )


def _attempt_of(run: RunSummary) -> tuple[str, int]:
    return run.execution_arn, run.resumes


class StepTaskPoller(poller.Poller):
    """Lists the steps of executions for the tasks of their steps."""

    def __init__(self, connection_id: str, region_name: str | None) -> None:
        # The tasks that end here describe the jobs of their steps with the same client.
        of_jobs = (kind.operation for kind in JOB_KINDS.values())
        operations = (
            "DescribePipelineExecution",
            "ListPipelineExecutionSteps",
            *sorted({*of_jobs}),
        )
        client = poller.SharedClient(
            connection_id, region_name, polls="step_tasks", operations=operations
        )
        super().__init__(client)
        # By execution task. Each group is polled by one thread at a time.
        self._known: dict[TaskKey, KnownExecution] = {}

    def poll(
        self,
        waiters: Sequence[step_tasks.StepTaskWaiter],
        is_wanted: Callable[[], bool],
    ) -> list[step_tasks.StepsSnapshot | PolysyncError]:
        """Look at the execution of a group once, for all of its tasks."""
        try:
            result: step_tasks.StepsSnapshot | PolysyncError = self._look(
                waiters, is_wanted
            )
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
        self, subscriptions: Sequence[Subscription], result: Any
    ) -> None:
        seen = result[0] if isinstance(result, list) else None
        if isinstance(seen, step_tasks.StepsSnapshot) and seen.run:
            arn = seen.run.execution_arn
            # With the region of the execution, as its task waits for it.
            key = self.client.key[0], region_from_arn(arn)
            executions = poller.existing_poller(poller.ExecutionPoller, *key)
            if executions:
                executions.share_steps(arn, seen.steps)
        super()._handle_responses(subscriptions, result)

    def _look(
        self,
        waiters: Sequence[step_tasks.StepTaskWaiter],
        is_wanted: Callable[[], bool],
    ) -> step_tasks.StepsSnapshot:
        task = waiters[0].execution_task
        known, state = self._known.get(task), None
        if known is None or has_ended(known.status):
            state, known = self._ask_airflow(task)
        if known is None:
            return step_tasks.StepsSnapshot(state)
        if not has_ended(known.status) and known.due <= clock.time():
            self._ask_aws(known, is_wanted)
            known.due = clock.time() + waiters[0].poll_interval
        seen = known.seen(state)
        if state is None and any(waiter.verdict(seen) for waiter in waiters):
            # Before a task ends: the execution task may have been cleared, or have
            # begun its next try.
            state, current = self._ask_airflow(task)
            return (
                current.seen(state)
                if current is known
                else step_tasks.StepsSnapshot(state)
            )
        return seen

    def _ask_airflow(self, task: TaskKey) -> tuple[str | None, KnownExecution | None]:
        """
        Return the state of the execution task, and its execution.

        :return: None in place of the execution if the task has none in its current try.
        """
        state, value = call_airflow(lambda: (read_state(task), read_xcom(task, "run")))
        run = parse_run_summary(value, poller.log.warning)
        known = self._known.pop(task, None)
        if run is None or not step_tasks.is_current(state, run):
            return state, None
        if known is None or not known.is_of(run):
            rows = call_airflow(partial(read_xcom, task, descriptions.STEPS_KEY))
            known = KnownExecution(run, descriptions.parse_rows(rows))
        while len(self._known) >= MAX_KNOWN:
            self._known.pop(next(iter(self._known)))
        self._known[task] = known
        return state, known

    def _ask_aws(self, known: KnownExecution, is_wanted: Callable[[], bool]) -> None:
        known.steps = self._list(known, is_wanted)
        if any(
            state_of_step(step.status) is PolysyncState.RUNNING for step in known.steps
        ):
            return
        # AWS's list of the steps does not say whether more of them follow.
        self.client.limiter.acquire()
        execution = self.client.describe(known.run.execution_arn)
        if isinstance(execution, PolysyncError):
            raise execution
        if has_ended(execution.status):
            # Steps may have run since they were listed.
            self.client.limiter.acquire()
            known.steps = self._list(known, is_wanted)
        known.status = execution.status

    def _list(
        self, known: KnownExecution, is_wanted: Callable[[], bool]
    ) -> Sequence[descriptions.StepDescription]:
        steps = self.client.list_steps(known.run.execution_arn, is_wanted=is_wanted)
        if isinstance(steps, PolysyncError):
            raise steps
        return steps


class PolysyncStepTaskTrigger(WaitTrigger):
    """
    Wait for the end of one step of the execution that another task of the same DAG run
    starts.

    :param execution_task_id: the task that starts the execution.
    :param step_name: the step.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param poll_interval: seconds between two lists of the steps. All tasks of an
        execution share them.
    :param retries: how many retries the task has.
    """

    arguments_model: ClassVar[type[step_tasks.StepTaskArguments]] = (
        step_tasks.StepTaskArguments
    )
    __module__ = "polysync_airflow.triggers"

    def __init__(
        self,
        *,
        execution_task_id: str,
        step_name: str,
        polysync_conn_id: str,
        region_name: str | None = None,
        poll_interval: float,
        retries: int = 0,
    ) -> None:
        super().__init__()
        self.execution_task_id = execution_task_id
        self.step_name = step_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.retries = retries

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

    async def look(self, ti: Any) -> step_tasks.StepTaskEvent | None:
        """
        Look at the execution once, without a triggerer; return the event if the step is
        at its end.
        """
        self.task_instance = ti
        waiter = self._waiter()
        (seen,) = self._find_poller().poll((waiter,), lambda: True)
        has_ended = self._handle(waiter.decide(seen, clock.time())) is not None
        return self._end if has_ended else None

    def _waiter(self) -> step_tasks.StepTaskWaiter:
        arguments = check_trigger_arguments(self.arguments_model, self.serialize()[1])
        return arguments.waiter_of(self.task_instance, clock.time())

    def _find_poller(self) -> StepTaskPoller:
        return poller.poller_for(
            StepTaskPoller, self.polysync_conn_id, self.region_name
        )

    def _handle(self, step: Step) -> dict[str, Any] | None:
        if isinstance(step, Finish):
            self._end = step.event
        return super()._handle(step)
