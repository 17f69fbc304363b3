"""
Stops the execution of a trigger whose task has ended, and stores in the XCom ``run`` how that ends.

A thread asks Airflow whose execution it is, and AWS to stop it. Airflow does not wait for this: it cancels
``on_kill`` after about a second, and at the latest after 30. How the stop ends is then seen by the poller, so
that it takes no thread, however many tasks have been ended.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.airflow_compat.task_instances import read_state, read_xcom, write_xcom
from polysync_airflow.aws.stop import StopResult, stop_execution
from polysync_airflow.exceptions import PolysyncError
from polysync_airflow.execution import clock
from polysync_airflow.execution.lifecycle import decisions
from polysync_airflow.execution.lifecycle.instructions import StoredExecution
from polysync_airflow.execution.models import ExecutionEvent
from polysync_airflow.execution.outcome import ExecutionRecord, RequestedStop, parse_run
from polysync_airflow.execution.steps import descriptions
from polysync_airflow.execution.waiter import ExecutionWaiter, Finish
from polysync_airflow.triggers.poller import ExecutionPoller, poller_for
from polysync_airflow.triggers.shared_client import SharedClient

# The worker pushes the steps again at the end, so the end does not wait for long.
FINISH_SECONDS: Final = 10.0


@dataclass
class StepPusher:
    """
    Pushes the steps of an execution, one push at a time, in a thread. Use it in one event loop.

    :param warn: called with a message if Airflow does not store the XCom.
    :param order: the declared steps, as ``order_text`` returns them; None to read them from the XCom.
    """

    ti: Any
    arn: str
    warn: Callable[[str], object]
    order: str | None = None
    _next: Sequence[descriptions.StepDescription] | None = None
    _pushing: asyncio.Task[None] | None = None

    def push(self, steps: Sequence[descriptions.StepDescription]) -> None:
        """Push steps as soon as the push before has ended; of several that wait, only the last one."""
        self._next = steps
        if self._pushing is None or self._pushing.done():
            self._pushing = asyncio.create_task(self._push_all())

    async def finish(self) -> None:
        """Wait for the push that is running: a later one of the worker must not be overwritten by it."""
        if self._pushing:
            await asyncio.wait((self._pushing,), timeout=FINISH_SECONDS)

    def cancel(self) -> None:
        """Push nothing more."""
        self._next = None
        if self._pushing:
            self._pushing.cancel()

    async def _push_all(self) -> None:
        while self._next is not None:
            steps, self._next = self._next, None
            try:
                await asyncio.to_thread(call_airflow, partial(self.store, steps))
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
                self.warn(f"Airflow does not store the steps of the execution: {problem}")

    def store(self, steps: Sequence[descriptions.StepDescription]) -> None:
        """Store steps. Sends requests to Airflow."""
        if self.order is None:
            # The worker has pushed them. Read once: a request costs more than all the rest of a push.
            pushed = descriptions.parse_rows(read_xcom(self.ti, descriptions.STEPS_KEY))
            self.order = descriptions.order_text(pushed)
        rows = descriptions.rows_of(steps, descriptions.order_of(self.order), self.arn)
        write_xcom(self.ti, descriptions.STEPS_KEY, descriptions.fit_rows(rows)[0])


# How long ``on_kill`` waits for the answer to the request, at most.
ON_KILL_SECONDS: Final = 20.0
# Seconds between the requests for the task's state, when Airflow does not return it.
STATE_RETRY_SECONDS: Final = (1.0, 4.0, 15.0)
# How long the end of a stop is waited for. AWS gives the container of a job two minutes.
FOLLOW_SECONDS: Final = 900.0
FOLLOW_POLL_SECONDS: Final = 15.0
# For each connection. Not the event loop's own thread pool, which all triggers share, and not one pool for
# all connections: a stop that AWS throttles, or whose endpoint does not respond, may take minutes.
MAX_THREADS: Final = 8


class StopThreads:
    """Thread pools, one for each connection, that exist only while they have work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pools: dict[str, ThreadPoolExecutor] = {}
        self._running: dict[str, int] = {}

    def submit(self, connection_id: str, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """
        Call a function in a thread.

        :param connection_id: the connection that the function uses. It waits for functions with the same
            connection only.
        """
        with self._lock:
            if connection_id not in self._pools:
                pool = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="polysync-stop")
                self._pools[connection_id] = pool
            self._running[connection_id] = self._running.get(connection_id, 0) + 1
            future = self._pools[connection_id].submit(function, *arguments)
        future.add_done_callback(partial(self._done, connection_id))
        return future

    def _done(self, connection_id: str, _: Future[Any]) -> None:
        with self._lock:
            self._running[connection_id] -= 1
            if not self._running[connection_id]:
                del self._running[connection_id]
                self._pools.pop(connection_id).shutdown(wait=False)


_STOP_THREADS: Final = StopThreads()
submit_stop: Final = _STOP_THREADS.submit


# The event loop itself holds its tasks weakly.
FOLLOWING: Final[set[asyncio.Task[None]]] = set()


@dataclass(kw_only=True)
class TriggerStop:
    """
    The stop of the execution of a trigger.

    :param ti: its task instance.
    :param waiter: the wait of the trigger, for the same attempt of the execution.
    :param client: what its poller calls AWS with.
    :param log: the log of the trigger.
    """

    ti: Any
    waiter: ExecutionWaiter
    client: SharedClient
    log: Any

    async def on_kill(self) -> None:
        """Stop the execution, if nobody else goes on with it."""
        asked = self._submit(self._ask)
        following = asyncio.create_task(self._follow(asked))
        FOLLOWING.add(following)
        following.add_done_callback(FOLLOWING.discard)
        try:
            # The thread must not be cancelled with this coroutine.
            await asyncio.wait((asyncio.wrap_future(asked),), timeout=ON_KILL_SECONDS)
        finally:
            if not asked.done():
                self.log.warning(
                    "The stop of the execution is still on its way. The XCom 'run' will say how it ends. "
                    "Execution: %s",
                    self._arn,
                )
        if asked.done():
            asked.result()

    @property
    def _arn(self) -> str:
        return self.waiter.execution_arn

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        # In the trigger's own context: by that, Airflow writes the lines to the log of the task.
        run = contextvars.copy_context().run
        return submit_stop(self.client.key[0], run, function, *arguments)

    async def _follow(self, asked: Future[bool]) -> None:
        try:
            if await asyncio.shield(asyncio.wrap_future(asked)):
                end = await self._wait_for_end()
                await asyncio.shield(asyncio.wrap_future(self._submit(self._store_end, end)))
        except Exception as error:
            self.log.warning(
                "What became of the stop could not be stored: %s: %s. Execution: %s",
                type(error).__name__,
                error,
                self._arn,
            )

    async def _wait_for_end(self) -> ExecutionEvent:
        poller = poller_for(ExecutionPoller, *self.client.key)
        deadline = clock.time() + FOLLOW_SECONDS
        waiter = replace(self.waiter, poll_interval=FOLLOW_POLL_SECONDS, deadline=deadline)
        subscription = poller.subscribe(waiter)
        try:
            while not isinstance(step := await subscription.next_step(), Finish):
                pass
            end: ExecutionEvent = step.event
            return end
        finally:
            poller.unsubscribe(subscription)

    # ---- in a thread

    def _ask(self) -> bool:
        """Stop the execution; return whether AWS has accepted it."""
        try:
            state = self._task_state()
        except Exception as error:
            self.log.error(
                "The execution may still be running: Airflow does not return the task's state, so it is "
                "unknown whether the task was ended: %s. Execution: %s",
                error,
                self._arn,
            )
            return False
        # A trigger that has only moved needs no copy, which spares a request.
        copy = None if state == decisions.DEFERRED else self._copy_of_record()
        owner = decisions.owner_of_deferred(state, copy, self.ti.try_number)
        leaving = decisions.leave(copy, self.ti.try_number, stop_on_kill=True).owned_by(owner)
        if leaving.exit is not decisions.Exit.STOP:
            self.log.info("%s Execution: %s", leaving.text, self._arn)
            return False
        stop = RequestedStop(requested_at=clock.now(), reason="ended_task", process="triggerer")
        self._change_run(lambda run: run.stop_requested(stop), state, owner)
        result = self._stop()
        self.log.warning("Task was ended (state %s). %s Execution: %s", state, result.text, self._arn)
        self._change_run(lambda run: run.stop_answered(result.status, result.error, clock.now()))
        return not result.failed

    def _stop(self) -> StopResult:
        try:
            hook = self.client.hook
        except PolysyncError as error:
            # No wait of this process has ever read the connection.
            text = f"The execution may still be running: it cannot be stopped: {error}"
            return StopResult(text, error=str(error))
        return stop_execution(hook, self._arn, attempt=self.waiter.attempt, warn=self.log.warning)

    def _store_end(self, end: ExecutionEvent) -> None:
        run = self._change_run(lambda run: run.stop_followed(end, clock.now()))
        if run is None:
            return
        self.log.info("%s Execution: %s", run.stop_text, self._arn)
        steps = self.client.list_steps(self._arn, is_wanted=lambda: True)
        if not isinstance(steps, Exception):
            call_airflow(partial(StepPusher(self.ti, self._arn, self.log.warning).store, steps))

    def _change_run(
        self, change: Callable[[ExecutionRecord], ExecutionRecord], *known: Any
    ) -> ExecutionRecord | None:
        """
        Change the XCom ``run``, if it is still that of this try. Raises no error: the stop comes first.

        :param known: the state of the task and the owner of the execution, if they are known already.
        """

        def change_run() -> ExecutionRecord | None:
            state, owner = known or self._state_and_owner()
            if owner is not decisions.Owner.NOBODY or not decisions.keeps_xcoms(state):
                return None
            run = parse_run(read_xcom(self.ti, "run"), self.log.warning)
            attempt = self._arn, self.waiter.attempt
            if run is None or (run.execution_arn, run.resumes) != attempt:
                return None
            run = change(run)
            write_xcom(self.ti, "state", run.state)
            write_xcom(self.ti, "run", run.model_dump(mode="json"))
            return run

        try:
            return call_airflow(change_run)
        except Exception as error:
            self.log.warning("Airflow does not store the XCom 'run': %s: %s", type(error).__name__, error)
            return None

    def _state_and_owner(self) -> tuple[str | None, decisions.Owner]:
        state = read_state(self.ti)
        return state, decisions.owner_of_deferred(state, self._copy_of_record(), self.ti.try_number)

    def _copy_of_record(self) -> StoredExecution | None:
        # Imported here, because only few triggers are killed.
        from polysync_airflow.records import RECORD_KEY, proven_copy

        try:
            value = call_airflow(lambda: read_xcom(self.ti, RECORD_KEY))
        except Exception as error:
            self.log.warning("The record of the task cannot be read: %s", error)
            return None
        return proven_copy(value, self.ti)

    def _task_state(self) -> str | None:
        for seconds in STATE_RETRY_SECONDS:
            try:
                return call_airflow(lambda: read_state(self.ti))
            except Exception as error:
                text = "Airflow does not return the task's state, retrying in %s s: %s"
                self.log.warning(text, seconds, error)
                clock.sleep(seconds)
        return call_airflow(lambda: read_state(self.ti))
