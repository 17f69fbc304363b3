"""
The stops that triggers request: of a task that has ended, and at the end of a wait.

A thread asks Airflow whose execution it is, and AWS to stop it.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import read_state, read_states
from polysync_airflow.execution import clock, step_tasks, waiter
from polysync_airflow.execution.lifecycle import ending
from polysync_airflow.execution.lifecycle.ending import Owner
from polysync_airflow.execution.lifecycle.instructions import ExecutionRecord
from polysync_airflow.execution.models import StopBeforeEvent
from polysync_airflow.execution.waiter import ExecutionEvent, ExecutionWaiter
from polysync_airflow.hooks.stops import StopByKey, TaskSituation
from polysync_airflow.triggers import poller
from polysync_airflow.triggers.poller import PollingHook, SharedClient
from polysync_airflow.triggers.step_pusher import StepPusher
from polysync_airflow.triggers.threads import ThreadPools

Result = TypeVar("Result")

# How long ``on_kill`` waits for the answer to the request, at most.
ON_KILL_SECONDS: Final = 20.0
# How long an event waits for it. The worker requests a stop that takes longer again.
BEFORE_EVENT_SECONDS: Final = 600.0
# Seconds between the requests to Airflow, when it does not say whose execution it is.
STATE_RETRY_SECONDS: Final = (1.0, 4.0, 15.0)
# How long the end of a stop is waited for. AWS gives the container of a job two
# minutes.
FOLLOW_SECONDS: Final = 900.0
FOLLOW_POLL_SECONDS: Final = 15.0
submit_stop: Final = ThreadPools("polysync-stop").submit

# The event loop itself holds its tasks weakly.
FOLLOWING: Final[set[asyncio.Task[None]]] = set()


@dataclass(kw_only=True)
class TriggerStop(StopByKey):
    """
    The stop of the execution of a trigger.

    :param waiter: the wait of the trigger, for the same attempt of the execution.
    :param client: what its poller calls AWS with.
    """

    waiter: ExecutionWaiter
    client: SharedClient
    execution_arn: str = field(init=False)
    attempt: int = field(init=False)
    hook_for_region: Callable[[str | None], PollingHook] = field(init=False)

    def __post_init__(self) -> None:
        self.execution_arn = self.waiter.execution_arn
        self.attempt = self.waiter.attempt
        # The client is one for the region of the execution.
        self.hook_for_region = lambda _: self.client.hook

    @property
    def _arn(self) -> str:
        return self.execution_arn

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        # In the trigger's own context: by that, Airflow writes the lines to the log of
        # the task.
        run = contextvars.copy_context().run
        return submit_stop(self.client.key[0], run, function, *arguments)

    def _retry_airflow(self, function: Callable[[], Result]) -> Result:
        for seconds in STATE_RETRY_SECONDS:
            try:
                return call_airflow(function)
            except Exception as error:
                text = "Airflow does not return the task's state, retrying in %s s: %s"
                self.log.warning(text, seconds, error)
                clock.sleep(seconds)
        return call_airflow(function)


@dataclass(kw_only=True)
class StopAtEndOfWait(TriggerStop):
    """
    The stop of an execution that has not ended when the wait for it ends, before the
    event of the trigger.

    Airflow may not go on with the task for days, for example because its DAG is paused.
    """

    # Whether the event is fired without it. The worker decides from then on.
    _is_late: bool = field(default=False, init=False)

    async def before_event(self) -> StopBeforeEvent | None:
        """
        Stop the execution; return what the event says of it, or None if the worker has
        to decide.
        """
        asked = self._submit(self._stop)
        future: asyncio.Future[StopBeforeEvent | None] = asyncio.wrap_future(asked)
        # The thread must not be cancelled with this coroutine.
        await asyncio.wait((future,), timeout=BEFORE_EVENT_SECONDS)
        if not future.done():
            self._is_late = True
            self.log.warning(
                "The stop of the execution is still on its way. Execution: %s",
                self._arn,
            )
            return None
        try:
            return future.result()
        except Exception as error:
            # The event must not be lost.
            text = "The trigger has not stopped the execution %s: %s: %s"
            self.log.warning(text, self._arn, type(error).__name__, error)
            return None

    def _owner(self, state: str | None, stored: ExecutionRecord | None) -> Owner:
        return ending.owner_at_end_of_wait(state, stored, self._arn, self.ti.try_number)

    # ---- in a thread

    def _stop(self) -> StopBeforeEvent | None:
        try_end = self.carry_out(ending.end_in_triggerer(self.ti.try_number))
        text = "The wait has ended before the execution. %s Execution: %s"
        self.log.warning(text, try_end.text, self._arn)
        result = self.result
        if result is None or self.requested_at is None or result.status is None:
            return None
        return StopBeforeEvent(requested_at=self.requested_at, status=result.status)

    def _look(self) -> TaskSituation:
        return self._retry_airflow(self._ask_airflow)

    def _withdraw(self) -> None:
        if not self._is_late:
            super()._withdraw()


@dataclass(kw_only=True)
class StopOfEndedTask(TriggerStop):
    """
    The stop of the execution of a deferred task that a user, or the DAG run, has ended.

    Airflow does not wait for this: it cancels ``on_kill`` after about a second, and at
    the latest after 30. How the stop ends is then seen by the poller, so that it takes
    no thread, however many tasks have been ended.

    :param step_task_ids: the tasks of the steps, if the task is that of a group of
        them.
    """

    step_task_ids: Sequence[str] = ()
    # Whether the next try of a task that was cleared with some of its steps goes on
    # with the execution.
    _is_left: bool = field(default=False, init=False)
    # The state in which the task was ended.
    _state: str | None = field(default=None, init=False)

    async def on_kill(self) -> None:
        """Stop the execution, if nobody else goes on with it."""
        asked = self._submit(self._stop_if_nobodys)
        following = asyncio.create_task(self._follow(asked))
        FOLLOWING.add(following)
        following.add_done_callback(FOLLOWING.discard)
        try:
            # The thread must not be cancelled with this coroutine.
            await asyncio.wait((asyncio.wrap_future(asked),), timeout=ON_KILL_SECONDS)
        finally:
            if not asked.done():
                self.log.warning(
                    "The stop of the execution is still on its way. The XCom 'run' will"
                    " say how it ends. Execution: %s",
                    self._arn,
                )
        if asked.done():
            asked.result()

    async def _follow(self, asked: Future[bool]) -> None:
        until = clock.time() + FOLLOW_SECONDS
        try:
            is_accepted = await _result_of(asked)
            # Until the next try begins, somebody may end the task.
            while self._is_left and clock.time() < until:
                seconds = clock.timeout(FOLLOW_POLL_SECONDS, idle=True) or 0
                await asyncio.sleep(seconds)
                is_accepted = await _result_of(self._submit(self._stop_if_nobodys))
            if is_accepted:
                end = await end_of_stop(self.waiter, self.client.key)
                await _result_of(self._submit(self._tell_end, end))
        except Exception as error:
            self.log.warning(
                "What became of the stop could not be stored: %s: %s. Execution: %s",
                type(error).__name__,
                error,
                self._arn,
            )

    # ---- in a thread

    def _stop_if_nobodys(self) -> bool:
        """
        Stop the execution, if nobody goes on with it; return whether AWS has accepted
        it.
        """
        try:
            self._state = self._retry_airflow(lambda: read_state(self.ti))
        except Exception as error:
            self.log.error(
                "The execution may still be running: Airflow does not return the task's"
                " state, so it is unknown whether the task was ended: %s."
                " Execution: %s",
                error,
                self._arn,
            )
            return False
        if self._is_left_to_next_try(self._state):
            return False
        try_end = self.carry_out(ending.end_in_triggerer(self.ti.try_number))
        if self.result is None:
            self.log.info("%s Execution: %s", try_end.text, self._arn)
            return False
        self.log.warning(
            "Task was ended (state %s). %s Execution: %s",
            self._state,
            try_end.text,
            self._arn,
        )
        return self.result.error is None

    def _is_left_to_next_try(self, state: str | None) -> bool:
        was_left = self._is_left
        self._is_left = False
        if self.step_task_ids and step_tasks.may_be_left(state):
            states = call_airflow(partial(read_states, self.ti, self.step_task_ids))
            self._is_left = step_tasks.is_left_to_next_try(state, states)
        if self._is_left and not was_left:
            self.log.info(
                "The task was cleared with some of its steps. Its next try goes on with"
                " the execution: %s",
                self._arn,
            )
        return self._is_left

    def _look(self) -> TaskSituation:
        state = self._state
        stored = None
        # A trigger that has only moved needs no record, which spares a request.
        if state != ending.DEFERRED:
            stored = self._read_record()
        return TaskSituation(state, stored, self._owner(state, stored))

    def _owner(self, state: str | None, stored: ExecutionRecord | None) -> Owner:
        return ending.owner_of_deferred(state, stored, self._arn, self.ti.try_number)

    def _read_record(self) -> ExecutionRecord | None:
        # Without it, the state decides: nobody else stops the execution.
        try:
            return call_airflow(super()._read_record)
        except Exception as error:
            self.log.warning("The record of the task cannot be read: %s", error)
            return None

    def _tell_end(self, end: ExecutionEvent) -> None:
        run = self.store_end(end)
        if run is None:
            return
        self.log.info("%s Execution: %s", run.stop_text, self._arn)
        steps = self.client.list_steps(self._arn, is_wanted=lambda: True)
        if not isinstance(steps, Exception):
            pusher = StepPusher(self.ti, self._arn, self.log.warning)
            call_airflow(partial(pusher.store, steps))


async def end_of_stop(
    wait: ExecutionWaiter, client_key: tuple[str, str | None]
) -> ExecutionEvent:
    """
    Wait until an execution that is being stopped has ended, or for ``FOLLOW_SECONDS``.

    The poller sees it, so that it takes no thread.

    :param wait: has the execution and its attempt.
    :param client_key: the connection and the region.
    """
    executions = poller.poller_for(poller.ExecutionPoller, *client_key)
    deadline = clock.time() + FOLLOW_SECONDS
    followed = replace(wait, poll_interval=FOLLOW_POLL_SECONDS, deadline=deadline)
    subscription = executions.subscribe(followed)
    try:
        step = await subscription.next_step()
        while not isinstance(step, waiter.Finish):
            step = await subscription.next_step()
        end: ExecutionEvent = step.event
        return end
    finally:
        executions.unsubscribe(subscription)


async def _result_of(future: Future[Any]) -> Any:
    """Return the result of a thread, which is not cancelled with the coroutine."""
    return await asyncio.shield(asyncio.wrap_future(future))
