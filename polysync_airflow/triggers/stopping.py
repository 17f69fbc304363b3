"""
The stop of the execution of a trigger whose task has ended.

A thread asks Airflow whose execution it is, and AWS to stop it. Airflow does not wait
for this: it cancels ``on_kill`` after about a second, and at the latest after 30. How
the stop ends is then seen by the poller, so that it takes no thread, however many tasks
have been ended.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import (
    read_state,
    read_states,
    read_xcom,
    write_xcom,
)
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock, step_tasks, waiter
from polysync_airflow.execution.lifecycle import decisions
from polysync_airflow.execution.lifecycle.instructions import StoredExecution
from polysync_airflow.execution.outcome import ExecutionRecord, parse_run
from polysync_airflow.execution.waiter import ExecutionEvent, ExecutionWaiter
from polysync_airflow.hooks.executions import StopResult, stop_execution
from polysync_airflow.hooks.stops import ReportedStop
from polysync_airflow.triggers import poller
from polysync_airflow.triggers.poller import SharedClient
from polysync_airflow.triggers.step_pusher import StepPusher
from polysync_airflow.triggers.threads import ThreadPools

# How long ``on_kill`` waits for the answer to the request, at most.
ON_KILL_SECONDS: Final = 20.0
# Seconds between the requests for the task's state, when Airflow does not return it.
STATE_RETRY_SECONDS: Final = (1.0, 4.0, 15.0)
# How long the end of a stop is waited for. AWS gives the container of a job two
# minutes.
FOLLOW_SECONDS: Final = 900.0
FOLLOW_POLL_SECONDS: Final = 15.0
submit_stop: Final = ThreadPools("polysync-stop").submit

# The event loop itself holds its tasks weakly.
FOLLOWING: Final[set[asyncio.Task[None]]] = set()


class Situation(NamedTuple):
    """The state of the task, and who decides about its execution."""

    state: str | None
    owner: decisions.Owner


@dataclass(kw_only=True)
class TriggerStop(ReportedStop):
    """
    The stop of the execution of a trigger.

    :param waiter: the wait of the trigger, for the same attempt of the execution.
    :param client: what its poller calls AWS with.
    :param step_task_ids: the tasks of the steps, if the task is that of a group of
        them.
    """

    process: ClassVar[Literal["worker", "triggerer"]] = "triggerer"

    waiter: ExecutionWaiter
    client: SharedClient
    step_task_ids: Sequence[str] = ()
    # Whether the next try of a task that was cleared with some of its steps goes on
    # with the execution.
    _is_left: bool = False
    # What Airflow has just said, so that the announcement needs not ask again.
    _situation: Situation | None = None

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

    @property
    def _arn(self) -> str:
        return self.waiter.execution_arn

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        # In the trigger's own context: by that, Airflow writes the lines to the log of
        # the task.
        run = contextvars.copy_context().run
        return submit_stop(self.client.key[0], run, function, *arguments)

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
                end = await self._wait_for_end()
                await _result_of(self._submit(self._tell_end, end))
        except Exception as error:
            self.log.warning(
                "What became of the stop could not be stored: %s: %s. Execution: %s",
                type(error).__name__,
                error,
                self._arn,
            )

    async def _wait_for_end(self) -> ExecutionEvent:
        executions = poller.poller_for(poller.ExecutionPoller, *self.client.key)
        deadline = clock.time() + FOLLOW_SECONDS
        followed = replace(
            self.waiter, poll_interval=FOLLOW_POLL_SECONDS, deadline=deadline
        )
        subscription = executions.subscribe(followed)
        try:
            step = await subscription.next_step()
            while not isinstance(step, waiter.Finish):
                step = await subscription.next_step()
            end: ExecutionEvent = step.event
            return end
        finally:
            executions.unsubscribe(subscription)

    # ---- in a thread

    def _stop_if_nobodys(self) -> bool:
        """
        Stop the execution, if nobody goes on with it; return whether AWS has accepted
        it.
        """
        try:
            state = self._task_state()
        except Exception as error:
            self.log.error(
                "The execution may still be running: Airflow does not return the task's"
                " state, so it is unknown whether the task was ended: %s."
                " Execution: %s",
                error,
                self._arn,
            )
            return False
        if self._is_left_to_next_try(state):
            return False
        # A trigger that has only moved needs no record, which spares a request.
        record = None
        if state != decisions.DEFERRED:
            record = self._record()
        situation = self._situation_of(state, record)
        leaving = decisions.leave(record, self.ti.try_number, stop_on_kill=True)
        leaving = leaving.owned_by(situation.owner)
        if leaving.exit is not decisions.Exit.STOP:
            self.log.info("%s Execution: %s", leaving.text, self._arn)
            return False
        self._situation = situation
        result = self.request()
        return result.error is None

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

    def _ask_aws(self) -> StopResult:
        result = self._stop()
        state = self._situation and self._situation.state
        self.log.warning(
            "Task was ended (state %s). %s Execution: %s", state, result.text, self._arn
        )
        # It is old by now: Airflow is asked again before the next change.
        self._situation = None
        return result

    def _stop(self) -> StopResult:
        try:
            hook = self.client.hook
        except PolysyncError as error:
            # No wait of this process has ever read the connection.
            text = f"The execution may still be running: it cannot be stopped: {error}"
            return StopResult(text, error=str(error))
        return stop_execution(
            hook, self._arn, attempt=self.waiter.attempt, warn=self.log.warning
        )

    def _tell_end(self, end: ExecutionEvent) -> None:
        run = self.store_end(end)
        if run is None:
            return
        self.log.info("%s Execution: %s", run.stop_text, self._arn)
        steps = self.client.list_steps(self._arn, is_wanted=lambda: True)
        if not isinstance(steps, Exception):
            pusher = StepPusher(self.ti, self._arn, self.log.warning)
            call_airflow(partial(pusher.store, steps))

    # ---- the XCom ``run``

    def _call_airflow(
        self, function: Callable[[], ExecutionRecord | None]
    ) -> ExecutionRecord | None:
        return call_airflow(function)

    def _read_run(self) -> ExecutionRecord | None:
        situation = self._situation or self._ask_airflow()
        if situation.owner is not decisions.Owner.NOBODY:
            return None
        if not decisions.keeps_xcoms(situation.state):
            return None
        run = parse_run(read_xcom(self.ti, "run"), self.log.warning)
        if run is None:
            return None
        if run.execution_arn != self._arn or run.resumes != self.waiter.attempt:
            return None
        return run

    def _write_run(self, run: ExecutionRecord) -> None:
        write_xcom(self.ti, "state", run.state)
        write_xcom(self.ti, "run", run.model_dump(mode="json"))

    # ---- what Airflow says

    def _ask_airflow(self) -> Situation:
        state = read_state(self.ti)
        return self._situation_of(state, self._record())

    def _situation_of(
        self, state: str | None, record: StoredExecution | None
    ) -> Situation:
        owner = decisions.owner_of_deferred(
            state, record, self._arn, self.ti.try_number
        )
        return Situation(state, owner)

    def _record(self) -> StoredExecution | None:
        # Imported here, because only few triggers are killed.
        from polysync_airflow.records import read_record

        try:
            return call_airflow(lambda: read_record(self.ti))
        except Exception as error:
            self.log.warning("The record of the task cannot be read: %s", error)
            return None

    def _task_state(self) -> str | None:
        for seconds in STATE_RETRY_SECONDS:
            try:
                return call_airflow(lambda: read_state(self.ti))
            except Exception as error:
                text = "Airflow does not return the task's state, retrying in %s s: %s"
                self.log.warning(text, seconds, error)
                clock.sleep(seconds)
        return call_airflow(lambda: read_state(self.ti))


async def _result_of(future: Future[Any]) -> Any:
    """Return the result of a thread, which is not cancelled with the coroutine."""
    return await asyncio.shield(asyncio.wrap_future(future))
