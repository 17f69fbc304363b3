"""The triggers that wait without a worker for an execution, or for one step of it to begin or to end."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import MAX_POLL_INTERVAL
from polysync_airflow.execution.parameters import MIN_PROGRESS_INTERVAL
from polysync_airflow.execution.steps.callbacks import StepChangedEvent, is_news
from polysync_airflow.execution.steps.progress import Progress, StepTriggerArguments, ended_step
from polysync_airflow.execution.waiter import TriggerArguments, Wait
from polysync_airflow.triggers.poller import ExecutionPoller, WaitTrigger, poller_for
from polysync_airflow.triggers.schedule import Step, StepChanges
from polysync_airflow.triggers.shared_client import SharedClient
from polysync_airflow.triggers.stopping import StepPusher, TriggerStop

if TYPE_CHECKING:
    from datetime import timedelta


class PolysyncPipelineExecutionTrigger(WaitTrigger):
    """
    Wait for a SageMaker pipeline execution to end, then fire one event.

    :param execution_arn: the execution.
    :param pipeline_name: its pipeline, for log lines; None where only the ARN is known.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param poll_interval: seconds, or a timedelta, between two polls.
    :param since: when the wait began, in seconds since the epoch.
    :param deadline: when it ends at the latest, in seconds since the epoch. It is absolute, so that it stays
        the same when the trigger moves to another triggerer.
    :param attempt: the attempt of the execution: 0 for its start, n for its n-th resume.
    :param stop_on_kill: stop the execution when a user, or the DAG run, ends the deferred task.
    :param progress_interval: seconds, or a timedelta, between two lists of the steps; None for none.
    :param declared_steps: the steps that the definition declares, as ``order_text`` returns them; None to
        read them from the XCom ``steps``.
    """

    # Whether the task has the XCom ``steps``.
    pushes_steps = True
    # Whether it waits for one of the steps, so that their lists come first.
    awaits_step = False
    arguments_model: ClassVar[type[TriggerArguments]] = TriggerArguments
    __module__ = "polysync_airflow.triggers"
    _pusher: StepPusher | None = None

    def __init__(
        self,
        *,
        execution_arn: str,
        pipeline_name: str | None,
        polysync_conn_id: str,
        region_name: str | None,
        poll_interval: float | timedelta,
        since: float,
        deadline: float,
        attempt: int = 0,
        stop_on_kill: bool = False,
        progress_interval: float | timedelta | None = None,
        declared_steps: str | None = None,
    ) -> None:
        super().__init__()
        self.execution_arn = execution_arn
        self.pipeline_name = pipeline_name
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = clock.as_seconds(poll_interval)
        self.since = since
        self.deadline = deadline
        self.attempt = attempt
        self.stop_on_kill = stop_on_kill
        self.progress_interval = clock.as_seconds(progress_interval)
        self.declared_steps = declared_steps

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        path, arguments = super().serialize()
        if self.declared_steps is None:
            # The release before does not know it.
            arguments.pop("declared_steps", None)
        return path, arguments

    def _find_poller(self) -> ExecutionPoller:
        return poller_for(ExecutionPoller, self.polysync_conn_id, self.region_name)

    def _progress(self) -> Progress | None:
        interval = self.progress_interval
        if interval is None:
            return None
        interval = min(max(interval, MIN_PROGRESS_INTERVAL), MAX_POLL_INTERVAL)
        resumed_at = self.since if self.attempt else None
        return Progress(interval, resumed_at=resumed_at, is_awaited=self.awaits_step)

    def _handle(self, step: Step) -> dict[str, Any] | None:
        payload = super()._handle(step)
        steps = step.steps if isinstance(step, StepChanges) else None
        if self.pushes_steps and self.task_instance and steps and not isinstance(steps, BaseException):
            # Made when it is needed: a triggerer holds thousands of waits, and most have nothing to push.
            self._pusher = self._pusher or StepPusher(
                self.task_instance, self.execution_arn, self.log.warning, self.declared_steps
            )
            self._pusher.push(steps)
        return payload

    async def _finish(self) -> None:
        if self._pusher:
            await self._pusher.finish()

    def _close(self) -> None:
        if self._pusher:
            self._pusher.cancel()

    async def on_kill(self) -> None:
        """Stop the execution if a user, or the DAG run, has ended the task."""
        if not self.stop_on_kill or self.task_instance is None:
            return
        client = (
            self._poller.client if self._poller else SharedClient(self.polysync_conn_id, self.region_name)
        )
        waiter: Any = self._waiter()
        stop = TriggerStop(ti=self.task_instance, waiter=waiter, client=client, log=self.log)
        await stop.on_kill()

    async def _handle_cancellation(self) -> None:
        if CAPABILITIES.trigger_on_kill:
            return
        # In place of the cancellation, an error would fail the task, which may only change its triggerer.
        try:
            await self.on_kill()
        except Exception as error:
            self.log.warning("Nothing was stopped: %s. Execution: %s", error, self.execution_arn)


class StepTrigger(PolysyncPipelineExecutionTrigger):
    """What the triggers have in common. They also fire when the execution ends, or the wait does."""

    arguments_model = StepTriggerArguments
    awaits_step = True

    def __init__(self, *, step_name: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.step_name = step_name

    def _handle(self, step: Step) -> dict[str, Any] | None:
        payload = super()._handle(step)
        event = None if payload else self._event_of(step)
        return event.model_dump(mode="json") if event else payload

    @abstractmethod
    def _event_of(self, step: Step) -> BaseModel | None:
        """Return the event if the step has reached what is waited for."""


class PolysyncPipelineStepTrigger(StepTrigger):
    """
    Wait for one step of a SageMaker pipeline execution to end, or for the end of the execution.

    :param step_name: the step.
    :param arguments: those of ``PolysyncPipelineExecutionTrigger``. The steps are listed every
        ``progress_interval`` seconds.
    """

    __module__ = "polysync_airflow.triggers"

    def _event_of(self, step: Step) -> BaseModel | None:
        if isinstance(step, StepChanges) and not isinstance(step.steps, BaseException):
            return ended_step(step.steps, self.step_name, self.execution_arn)
        return None


class PolysyncCallbackStepTrigger(StepTrigger):
    """
    Wait for a callback step to begin, then fire one event. The event does not say what has happened: the task
    looks itself, and the token of the step is in no event and no trigger.

    :param step_name: the name of the step.
    :param arguments: the other arguments are those of ``PolysyncPipelineExecutionTrigger``.
    """

    pushes_steps = False
    __module__ = "polysync_airflow.triggers"

    def _event_of(self, step: Step) -> BaseModel | None:
        # While an execution is stopping, its steps are not listed.
        status = step.waiter.last_status if isinstance(step, Wait) else None
        steps = step.steps if isinstance(step, StepChanges) else None
        has_changed = is_news(self.step_name, status, steps)
        return StepChangedEvent(since=self.since, deadline=self.deadline) if has_changed else None
