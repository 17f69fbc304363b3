"""
The trigger that waits for an execution without a worker.

It polls nothing itself: the poller of its connection and region does. What it decides is decided in
``execution/waiter.py``, as for a wait on a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.supervisor import use_event_loop
from polysync_airflow.execution import clock
from polysync_airflow.execution.models import (
    MAX_POLL_INTERVAL,
    MAX_TIMESTAMP,
    MIN_POLL_INTERVAL,
    TriggerArguments,
)
from polysync_airflow.execution.parameters import MIN_PROGRESS_INTERVAL, check_trigger_arguments
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.waiter import Finish, Waiter
from polysync_airflow.triggers.poller import Poller, poller_for
from polysync_airflow.triggers.shared_client import SharedClient
from polysync_airflow.triggers.step_pusher import StepPusher
from polysync_airflow.triggers.stopping import TriggerStop
from polysync_airflow.triggers.subscription import Step, StepChanges

if TYPE_CHECKING:
    from datetime import timedelta


class PolysyncPipelineExecutionTrigger(BaseTrigger):
    """
    Wait for a SageMaker pipeline execution to end, then fire one event.

    ``run`` only polls, since Airflow may run a trigger twice at the same time while triggers move between
    triggerers. The class path and the arguments are stored in Airflow's database: they are public, and hold
    no credentials.

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
    """

    # Whether the task has the XCom ``steps``.
    pushes_steps = True
    arguments_model: ClassVar[type[TriggerArguments]] = TriggerArguments
    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

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
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
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
        self._poller: Poller | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self._arguments()

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.arguments_model.model_fields}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Wait until the decision core ends the wait; yield its event as a JSON-able dict.

        :raises ParametersError: an argument of the stored trigger is not valid. Not raised by ``__init__``,
            where Airflow expects a TypeError only: any other error there ends the triggerer.
        """
        use_event_loop()
        waiter, progress = self._waiter(), self._progress()
        poller = self._poller = poller_for(self.polysync_conn_id, self.region_name)
        subscription = poller.subscribe(waiter, progress)
        # Made when it is needed: a triggerer holds thousands of waits, and most of them have nothing to push.
        pusher: StepPusher | None = None
        try:
            payload = None
            while payload is None:
                step = await subscription.next_step()
                payload = self._handle(step)
                if self.pushes_steps and isinstance(step, StepChanges) and step.steps and self.task_instance:
                    pusher = pusher or StepPusher(self.task_instance, self.execution_arn, self.log.warning)
                    pusher.push(step.steps)
            if pusher:
                await pusher.finish()
            yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        except asyncio.CancelledError:
            if not CAPABILITIES.trigger_on_kill:
                await self._kill_without_error()
            raise
        finally:
            if pusher:
                pusher.cancel()
            poller.unsubscribe(subscription)

    def _waiter(self) -> Waiter:
        arguments = check_trigger_arguments(self.arguments_model, self._arguments())
        return Waiter(
            arguments.execution_arn,
            arguments.pipeline_name,
            min(max(arguments.poll_interval, MIN_POLL_INTERVAL), MAX_POLL_INTERVAL),
            arguments.since,
            min(arguments.deadline, MAX_TIMESTAMP),
            arguments.attempt,
            rate_limited=True,
        )

    def _progress(self) -> Progress | None:
        interval = self.progress_interval
        if interval is None:
            return None
        interval = min(max(interval, MIN_PROGRESS_INTERVAL), MAX_POLL_INTERVAL)
        return Progress(interval, resumed_at=self.since if self.attempt else None)

    def _handle(self, step: Step) -> dict[str, Any] | None:
        # Logged here, in the trigger's own context: by that, Airflow writes the line to the log of this task
        # only. With the logger of the class, since a logger for each trigger has twenty objects.
        log = self.logger()
        for line in step.log_lines:
            log.log(line.level, "%s", line.text)
        return step.event.model_dump(mode="json") if isinstance(step, Finish) else None

    async def on_kill(self) -> None:
        """Stop the execution if a user, or the DAG run, has ended the task."""
        if not self.stop_on_kill or self.task_instance is None:
            return
        client = (
            self._poller.client if self._poller else SharedClient(self.polysync_conn_id, self.region_name)
        )
        stop = TriggerStop(ti=self.task_instance, waiter=self._waiter(), client=client, log=self.log)
        await stop.on_kill()

    async def _kill_without_error(self) -> None:
        # In place of the cancellation, an error would fail the task, which may only change its triggerer.
        try:
            await self.on_kill()
        except Exception as error:
            self.log.warning("Nothing was stopped: %s. Execution: %s", error, self.execution_arn)
