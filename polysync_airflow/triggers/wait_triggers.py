"""
The base of all triggers, and those that wait for an execution, or for one of its steps
to begin or to end.

A trigger subscribes to the poller of its connection (``poller``). The poller asks AWS,
and lets the waiter of the trigger (``execution/waiter.py``) decide. The trigger
receives what comes of that: log lines, steps, and the event that ends the wait.

A trigger stops its execution (``stopping``) if its task has ended, and if its wait ends
before the execution.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncGenerator, Sequence
from contextvars import copy_context
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, Generic, cast

from airflow.triggers.base import BaseTrigger, TriggerEvent
from pydantic import BaseModel

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.airflow_compat.supervisor import call_airflow, use_event_loop
from polysync_airflow.aws.job_logs import RunningJobLogs
from polysync_airflow.execution import clock, outcome, prices, trigger_arguments
from polysync_airflow.execution.lifecycle import ending, instructions
from polysync_airflow.execution.steps import callbacks, descriptions
from polysync_airflow.execution.steps.progress import (
    Progress,
    StepTriggerArguments,
    ended_step,
    shortened,
)
from polysync_airflow.execution.waiter import (
    AnyWaiter,
    ExecutionEvent,
    ExecutionWaiter,
    Finish,
    Wait,
)
from polysync_airflow.states import STATUS_STOPPING
from polysync_airflow.triggers import poller, shared_client, stopping, threads
from polysync_airflow.triggers.poller import WaitResult
from polysync_airflow.triggers.spending import RecordedStepJobs, StepChanges
from polysync_airflow.triggers.step_pusher import FINISH_SECONDS, StepPusher

# Reads the last lines of jobs at the end of waits.
submit_read: Final = threads.ThreadPools("polysync-logs").submit


class WaitTrigger(trigger_arguments.StoredArguments, BaseTrigger, Generic[AnyWaiter]):
    """
    Wait, then fire one event.

    Airflow may run a trigger twice at the same time while triggers move between
    triggerers: whatever ``run`` does can be done twice. The class path and the
    arguments are stored in Airflow's database: they are public, and hold no
    credentials. A trigger has its class of arguments as its first base. They are
    checked before AWS is called.
    """

    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

    def __post_init__(self) -> None:
        """Begin as a trigger. The arguments are attributes by now."""
        BaseTrigger.__init__(self)  # type: ignore[no-untyped-call]
        # All attributes are set here: an instance that gets a new one later than its
        # class has others needs a dict of its own, in each of thousands of triggers.
        self._poller: poller.Poller[AnyWaiter, Any] | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.kwargs()

    async def run(self) -> AsyncGenerator[TriggerEvent, None]:
        """
        Wait until the waiter ends the wait; yield its event as a JSON-able dict.

        :raises ParametersError: an argument of the stored trigger is not valid. Not
            raised by ``__init__``, where Airflow expects a TypeError only: any other
            error there ends the triggerer.
        """
        use_event_loop()
        waiter = self._waiter()
        progress = self._progress()
        self._poller = self._find_poller()
        subscription = self._subscribe(waiter, progress)
        try:
            event = None
            while event is None:
                # No variable keeps the result: it would stay until the next one.
                event = self._handle(await subscription.next_result())
            event = await self._complete(event, progress)
            yield await self._fire(event)
        except asyncio.CancelledError:
            await self._handle_cancellation()
            raise
        finally:
            self._close()
            # A wait that was cancelled may have lines that have not gone out yet.
            for result in self._poller.bursts.withdraw(subscription):
                if not isinstance(result, BaseException):
                    self._write_lines(result)
            self._poller.unsubscribe(subscription)

    @abstractmethod
    def _waiter(self) -> AnyWaiter:
        """Return the wait that the arguments say, if they are valid."""

    @abstractmethod
    def _find_poller(self) -> poller.Poller[AnyWaiter, Any]:
        """Return the poller that the triggers of this kind share."""

    def _progress(self) -> Progress | None:
        return None

    def _subscribe(
        self, waiter: AnyWaiter, progress: Progress | None
    ) -> poller.Subscription[AnyWaiter]:
        return self._find_poller().subscribe(waiter, progress)

    def _handle(self, result: WaitResult) -> BaseModel | None:
        """Log what a result says; return the event if it ends the wait."""
        self._write_lines(result)
        return self._event_of(result)

    def _write_lines(self, result: WaitResult) -> None:
        # Logged here, in the trigger's own context: by that, Airflow writes the line to
        # the log of this task only. With the logger of the class, since a logger for
        # each trigger has twenty objects.
        log = self.logger()
        for line in result.log_lines:
            log.log(line.level, "%s", line.text)

    def _event_of(self, result: WaitResult) -> BaseModel | None:
        """Return the event if a result ends the wait; None if the wait goes on."""
        if isinstance(result, Finish):
            event: BaseModel = result.event
            return event
        return None

    async def _complete(self, event: BaseModel, progress: Progress | None) -> BaseModel:
        """End what must be over before the event is fired, and add it to the event."""
        return event

    async def _fire(self, event: BaseModel) -> TriggerEvent:
        """Return what Airflow resumes, or ends, the task with."""
        payload = event.model_dump(mode="json")
        if isinstance(event, ExecutionEvent):
            # Airflow writes the event into its log, too.
            payload = {
                key: value for key, value in payload.items() if value is not None
            }
        return TriggerEvent(payload)  # type: ignore[no-untyped-call]

    async def _handle_cancellation(self) -> None:
        """Handle that Airflow has cancelled the trigger."""

    def _close(self) -> None:
        """End what must not go on."""


class PolysyncPipelineExecutionTrigger(
    trigger_arguments.TriggerArguments, WaitTrigger[ExecutionWaiter]
):
    """Wait for a SageMaker pipeline execution to end, then fire one event."""

    # Whether the task has the XCom ``steps``.
    pushes_steps = True
    # Whether it waits for one of the steps, so that their lists come first.
    awaits_step = False
    __module__ = "polysync_airflow.triggers"

    def __post_init__(self) -> None:
        """Begin as a trigger. A timedelta becomes seconds."""
        super().__post_init__()
        self.poll_interval = clock.as_seconds(self.poll_interval)
        self.progress_interval = clock.as_seconds(self.progress_interval)
        # The garbage collector does not look at a tuple of texts.
        self.stop_at = tuple(self.stop_at)
        self._pusher: StepPusher | None = None
        self._telling: asyncio.Task[None] | None = None
        self._job_logs: RunningJobLogs | None = None

    def _waiter(self) -> ExecutionWaiter:
        return self.checked().wait_of(ExecutionWaiter)

    def _find_poller(self) -> poller.ExecutionPoller:
        return poller.poller_for(
            poller.ExecutionPoller, self.polysync_conn_id, self.region_name
        )

    def _progress(self) -> Progress | None:
        interval = self.progress_interval
        if interval is None:
            return None
        progress = Progress(
            interval,
            is_awaited=self.awaits_step or self.cost_limit is not None,
        )
        if self.attempt:
            progress.resumed_at = datetime.fromtimestamp(self.since, UTC)
        return progress

    def _subscribe(
        self, waiter: ExecutionWaiter, progress: Progress | None
    ) -> poller.Subscription[ExecutionWaiter]:
        step_jobs = None
        if self.cost_limit is not None and self.task_instance:
            step_jobs = RecordedStepJobs(self.task_instance, self.execution_arn)
        execution_poller = self._find_poller()
        subscription = execution_poller.subscribe(waiter, progress, step_jobs)
        if self.job_logs:
            # By the context, Airflow writes the lines to the log of this task.
            context = copy_context()
            self._job_logs = RunningJobLogs(
                execution_poller.call_logs,
                lambda *line: context.run(self.logger().log, *line),
            )
            subscription.job_logs = self._job_logs
        return subscription

    def _handle(self, result: WaitResult) -> BaseModel | None:
        """
        Log what a result says, and push its steps; return the event if it ends the
        wait.
        """
        steps = _steps_in(result)
        is_stopping = isinstance(result, Wait) and (
            result.waiter.last_status == STATUS_STOPPING
        )
        ti = self.task_instance
        if is_stopping and ti and self._telling is None:
            self._telling = asyncio.create_task(self._tell_stopping(ti))
        is_stored = isinstance(result, StepChanges) and result.is_stored
        if is_stored and steps and self.pushes_steps and ti:
            self._push(ti, steps, cast("StepChanges", result).spending)
        return super()._handle(result)

    def _push(
        self,
        ti: instructions.NamedTask,
        steps: Sequence[descriptions.StepDescription],
        spending: prices.Spending | None,
    ) -> None:
        if self.progress_interval is None:
            # The steps were listed for the limit only.
            steps = ()
        if self._pusher is None:
            # Made when it is needed: a triggerer holds thousands of waits, and most
            # have nothing to push.
            self._pusher = StepPusher(
                ti,
                self.execution_arn,
                self.log.warning,
                self.declared_steps,
            )
        self._pusher.push(steps, spending)

    async def _tell_stopping(self, ti: instructions.NamedTask) -> None:
        """Store that AWS is stopping the execution, which nobody has told the task."""
        store = partial(
            stopping.store_stopping,
            ti,
            self.execution_arn,
            self.attempt,
            self.log.warning,
        )
        try:
            await asyncio.to_thread(call_airflow, store)
        except Exception as error:
            self.log.warning("Airflow does not store the XCom 'run': %s", error)

    async def _complete(self, event: BaseModel, progress: Progress | None) -> BaseModel:
        if self._pusher:
            await self._pusher.finish()
        if self._telling:
            # A later push of the worker must not be overwritten by this one.
            await asyncio.wait((self._telling,), timeout=FINISH_SECONDS)
        if not isinstance(event, ExecutionEvent):
            return event
        if self._job_logs and event.outcome == "ended":
            list_steps = partial(
                self._client().call,
                lambda hook: hook.list_pipeline_execution_steps(self.execution_arn),
            )
            # By the threads of the event loop, Airflow speaks with its supervisor.
            read = submit_read(
                self.polysync_conn_id, self._job_logs.read_last, list_steps
            )
            await asyncio.wait((asyncio.wrap_future(read),), timeout=FINISH_SECONDS)
            if read.cancel():
                self.log.warning(
                    "The log lacks the last lines of jobs: those of others are read."
                )
        # In ``dag.test()``, the task goes on at once, and Airflow cannot be asked.
        if self.task_instance and ending.stops_before_event(event, self.stop_at):
            stop = stopping.StopAtEndOfWait(
                ti=self.task_instance,
                waiter=self._waiter(),
                client=self._client(),
                log=self.log,
                reason=outcome.stop_reason(event),
            )
            answer = await stop.before_event()
            event = event.model_copy(update={"stop": answer})
            if answer:
                stopping.keep_following(stop.follow(), self.execution_arn, self.log)
        # Without the declared steps, the task reads the XCom ``steps``.
        if event.outcome != "ended" or not progress or self.declared_steps is None:
            return event
        known_steps = shortened(progress.logged_statuses, self.declared_steps)
        return event.model_copy(update={"known_steps": known_steps})

    def _client(self) -> shared_client.SharedClient:
        if self._poller:
            return self._poller.client
        return shared_client.SharedClient(self.polysync_conn_id, self.region_name)

    def _close(self) -> None:
        if self._pusher:
            self._pusher.cancel()

    async def on_kill(self) -> None:
        """Stop the execution if a user, or the DAG run, has ended the task."""
        if not self.stop_on_kill or self.task_instance is None:
            return
        task = stopping.EndedTask(
            ti=self.task_instance,
            waiter=self._waiter(),
            client=self._client(),
            log=self.log,
            step_task_ids=self.step_task_ids or (),
        )
        await task.on_kill()

    async def _handle_cancellation(self) -> None:
        if CAPABILITIES.trigger_on_kill:
            return
        # In place of the cancellation, an error would fail the task, which may only
        # change its triggerer.
        try:
            await self.on_kill()
        except Exception as error:
            self.log.warning(
                "Nothing was stopped: %s. Execution: %s", error, self.execution_arn
            )


class StepTrigger(StepTriggerArguments, PolysyncPipelineExecutionTrigger):
    """
    Base of the triggers that wait for a step. They also fire when the execution ends,
    or the wait does.
    """

    awaits_step = True


class PolysyncPipelineStepTrigger(StepTrigger):
    """
    Wait for one step of a SageMaker pipeline execution to end, or for the end of the
    execution. The steps are listed every ``progress_interval`` seconds.
    """

    __module__ = "polysync_airflow.triggers"

    def _event_of(self, result: WaitResult) -> BaseModel | None:
        steps = _steps_in(result)
        if steps:
            return ended_step(steps, self.step_name, self.execution_arn)
        return super()._event_of(result)


class PolysyncCallbackStepTrigger(StepTrigger):
    """
    Wait for a callback step to begin, then fire one event. The event does not say what
    has happened: the task asks AWS itself, so that no event and no trigger has the
    token of the step.
    """

    pushes_steps = False
    __module__ = "polysync_airflow.triggers"

    def _event_of(self, result: WaitResult) -> BaseModel | None:
        status = None
        steps = None
        match result:
            case Finish():
                return super()._event_of(result)
            case Wait():
                # While an execution is stopping, its steps are not listed.
                status = result.waiter.last_status
            case StepChanges():
                steps = result.steps
        if callbacks.is_news(self.step_name, status, steps):
            return callbacks.StepChangedEvent(since=self.since, deadline=self.deadline)
        return None


def _steps_in(result: WaitResult) -> Sequence[descriptions.StepDescription] | None:
    """Return the steps that a result has; None if it has none."""
    if not isinstance(result, StepChanges) or isinstance(result.steps, BaseException):
        return None
    return result.steps
