"""
The stops that triggers request: of a task that has ended, and at the end of a wait.

A thread asks Airflow whose execution it is, and AWS to stop it.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, Literal, NamedTuple, TypeVar

from polysync_airflow import exceptions, states
from polysync_airflow.airflow_compat import task_instances
from polysync_airflow.airflow_compat.supervisor import call_airflow
from polysync_airflow.auth.base_hook import LiveConnection
from polysync_airflow.aws.retry import STOP_TIMEOUT_SECONDS, call_with_retry
from polysync_airflow.execution import clock, cost, prices, step_clears
from polysync_airflow.execution.lifecycle import ending, lookup
from polysync_airflow.execution.lifecycle.ending import Owner, TryEnd
from polysync_airflow.execution.lifecycle.instructions import (
    ExecutionRecord,
    NamedTask,
    StartName,
    TryOfTask,
)
from polysync_airflow.execution.lifecycle.provenance import Provenance
from polysync_airflow.execution.models import StopBeforeEvent
from polysync_airflow.execution.outcome import RunSummary, StopProcess
from polysync_airflow.execution.waiter import ExecutionEvent, ExecutionWaiter, Finish
from polysync_airflow.hooks import PolysyncSageMakerHook, stops
from polysync_airflow.hooks.executions import StopResult
from polysync_airflow.hooks.spending import add_up_steps, basis_of
from polysync_airflow.records.store import RecordStore, read_record
from polysync_airflow.triggers import poller, step_pusher
from polysync_airflow.triggers.shared_client import SharedClient
from polysync_airflow.triggers.threads import ThreadPools, result_of

Result = TypeVar("Result")

# How long ``on_kill`` waits for the answer to the request, at most.
ON_KILL_SECONDS: Final = 20.0
# How long an event waits for the stop. If it takes longer, the worker requests it
# again.
BEFORE_EVENT_SECONDS: Final = 600.0
# Seconds between the requests to Airflow, when it does not say whose execution it is.
STATE_RETRY_SECONDS: Final = (1.0, 4.0, 15.0)
# How long the end of a stop is waited for. AWS gives the container of a job two
# minutes.
FOLLOW_SECONDS: Final = 900.0
FOLLOW_POLL_SECONDS: Final = 5.0
# After the stop, seconds between the requests to Airflow whether the task has ended.
TASK_END_SECONDS: Final = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
# Why an ended task has not stopped its execution.
NotStopped = Literal["left", "queued", "unknown"]
submit_stop: Final = ThreadPools("polysync-stop").submit

# The event loop itself holds its tasks weakly.
FOLLOWING: Final[set[asyncio.Task[None]]] = set()


def keep_following(
    coroutine: Coroutine[Any, Any, None], execution_arn: str, log: Any
) -> None:
    """
    Follow the stop of an execution, whether or not the caller is cancelled.

    :param coroutine: waits for the end of the stop, and stores it.
    """

    async def follow() -> None:
        try:
            await coroutine
        except Exception as error:
            log.warning(
                "What became of the stop could not be stored: %s: %s. Execution: %s",
                type(error).__name__,
                error,
                execution_arn,
            )

    task = asyncio.create_task(follow())
    FOLLOWING.add(task)
    task.add_done_callback(FOLLOWING.discard)


def _retry_airflow(function: Callable[[], Result], log: Any) -> Result:
    for seconds in STATE_RETRY_SECONDS:
        try:
            return call_airflow(function)
        except Exception as error:
            text = "Airflow does not return the task's state, retrying in %s s: %s"
            log.warning(text, seconds, error)
            clock.sleep(seconds)
    return call_airflow(function)


class TaskSituation(NamedTuple):
    """
    What Airflow says of a task instance now.

    :param state: its state; ``DELETED`` if it was deleted.
    :param stored: the proven record; None if there is none.
    :param owner: who decides about the execution.
    :param provenance: what tells whether another deployment has started it; None if
        nobody needs to know.
    """

    state: str | None
    stored: ExecutionRecord | None
    owner: Owner
    provenance: Provenance | None = None

    @property
    def may_store(self) -> bool:
        """Whether this process may write the record and the XComs."""
        return ending.may_store(self.owner, self.state)


@dataclass(kw_only=True)
class TriggerStop(stops.ReportedStop):
    """
    The stop of the execution of a trigger. A trigger has no context of the task, so it
    reads and writes by the key of the task instance. Its methods block, in any thread
    of the triggerer.

    A subclass says who decides about the execution. If nobody else does, the execution
    is stopped also if the announcement cannot be stored.

    :param waiter: the wait of the trigger, for the same attempt of the execution.
    :param client: what its poller calls AWS with, in the region of the execution.
    """

    process: StopProcess = "triggerer"
    ti: TryOfTask
    waiter: ExecutionWaiter
    client: SharedClient

    @property
    def _arn(self) -> str:
        return self.waiter.execution_arn

    @abstractmethod
    def _owner(self, state: str | None, stored: ExecutionRecord | None) -> Owner:
        """
        Return who decides about the execution.

        :param state: the state of the task instance now.
        :param stored: the proven record now; None if there is none.
        """

    def _situation(self) -> TaskSituation:
        """
        Ask Airflow who decides about the execution.

        :raises Exception: Airflow does not respond.
        """
        return self._situation_in(self._read_state())

    def _situation_in(self, state: str | None) -> TaskSituation:
        """Ask Airflow the same about a task instance whose state is known."""
        store = RecordStore.outside(self.ti)
        stored = store.read()
        owner = self._owner(state, stored)
        provenance = None
        if ending.needs_provenance(owner, stored):
            provenance = store.provenance
        return TaskSituation(state, stored, owner, provenance)

    def _read_state(self) -> str | None:
        return task_instances.read_state(self.ti)

    def _situation_before_stop(self) -> TaskSituation:
        """
        Ask Airflow the same, several times if it does not respond: without an answer,
        nothing is stopped.

        :raises Exception: Airflow does not respond.
        """
        return self._with_provenance(_retry_airflow(self._situation, self.log))

    def _with_provenance(self, situation: TaskSituation) -> TaskSituation:
        """Ask AWS which deployment has started the execution, if that is not known."""
        provenance = situation.provenance
        if provenance is None:
            return situation
        owner = ending.owner_by_provenance(
            situation.owner, provenance, self._ask_name()
        )
        return situation._replace(owner=owner)

    def _ask_name(self) -> StartName | None:
        """Return what the execution says of its start; None if AWS does not tell it."""
        try:
            hook = self.client.hook
            execution = call_with_retry(
                partial(hook.describe_pipeline_execution, self._arn),
                until=clock.time() + STOP_TIMEOUT_SECONDS,
                warn=self.log.warning,
            )
            return lookup.name_of(execution)
        except exceptions.PolysyncError as error:
            self.log.warning("The name of the execution is not known: %s", error)
            return None

    def _announce(self, try_end: TryEnd) -> stops.Announcement:
        try:
            situation = self._situation_before_stop()
        except Exception as error:
            text = "Airflow does not say whose execution this is: %s. Execution: %s"
            self.log.warning(text, error, self._arn)
            return stops.Announcement(Owner.UNKNOWN)
        owner = situation.owner
        record = situation.stored
        if record is None or not situation.may_store:
            return stops.Announcement(owner, may_store=situation.may_store)
        store = RecordStore.outside(self.ti)
        announced = try_end.announced(record)
        try:
            call_airflow(partial(store.store_announcement, announced, record))
        except Exception as error:
            text = "The stop cannot be announced in the record: %s. Execution: %s"
            self.log.warning(text, error, self._arn)
            if owner is Owner.NOBODY:
                return stops.Announcement(owner)
            return stops.Announcement(Owner.UNKNOWN)
        return stops.Announcement(
            owner, withdraw=partial(self._withdraw, store, record)
        )

    def _withdraw(self, store: RecordStore, record: ExecutionRecord) -> None:
        try:
            call_airflow(partial(store.withdraw_stop, record))
        except Exception as error:
            self.log.warning("The record cannot be updated: %s", error)

    def _ask_aws(self) -> StopResult:
        return stops.stop_execution_by_arn(
            self._arn,
            self.waiter.attempt,
            lambda _region: self.client.hook,
            self.log.warning,
        )

    def _call_airflow(
        self, function: Callable[[], RunSummary | None]
    ) -> RunSummary | None:
        return call_airflow(function)

    def _read_summary(self) -> RunSummary | None:
        value = task_instances.read_xcom(self.ti, "run")
        return stops.summary_of(value, self._arn, self.waiter.attempt, self.log.warning)

    def _read_summary_again(self) -> RunSummary | None:
        if not self._situation().may_store:
            return None
        return self._read_summary()

    def _write_summary(self, summary: RunSummary) -> None:
        store_summary(self.ti, summary)

    def _tell_end(self, end: EndOfStop) -> None:
        """Store how the execution has ended, its steps, and what it has cost."""
        summary = self.store_end(end.event)
        if summary is None:
            return
        self.log.info("%s Execution: %s", summary.stop_text, self._arn)
        end.store_steps_and_cost(self, self.ti, self._basis)

    def _basis(self) -> cost.Basis:
        if self.waiter.cost_limit is None:
            return cost.Basis()
        limit = prices.CostLimit.parse(self.waiter.cost_limit)
        record = call_airflow(partial(read_record, self.ti))
        attempt = self._arn, self.waiter.attempt
        if record and (record.execution_arn, record.resumes) != attempt:
            record = None
        return basis_of(record, read_spending(self.ti), limit)

    async def follow(self) -> None:
        """Wait for the end of the execution, and store it."""
        end = await end_of_stop(self.waiter, self.client.key)
        await result_of(submit_stop(self.client.key[0], self._tell_end, end))


def store_summary(ti: NamedTask, summary: RunSummary) -> None:
    """
    Store the XComs ``run``, ``state`` and, if it has one, ``spending`` of a task
    instance, from a triggerer.
    """
    if summary.spending:
        # Before ``run``, which says that somebody has added up.
        spending = summary.spending.model_dump(mode="json")
        task_instances.write_xcom(ti, prices.SPENDING_KEY, spending)
    task_instances.write_xcom(ti, "state", summary.state)
    task_instances.write_xcom(ti, "run", summary.model_dump(mode="json"))


def read_spending(ti: NamedTask) -> Any:
    """Return the XCom ``spending`` of a task instance, from a triggerer."""
    return call_airflow(partial(task_instances.read_xcom, ti, prices.SPENDING_KEY))


def store_stopping(
    ti: NamedTask, execution_arn: str, attempt: int, warn: Callable[[str], object]
) -> None:
    """
    Store that AWS is stopping an attempt of an execution. Sends requests to Airflow.

    :param warn: called with a message if the XCom ``run`` was edited.
    """
    value = task_instances.read_xcom(ti, "run")
    summary = stops.summary_of(value, execution_arn, attempt, warn)
    if summary and not states.has_ended(summary.status):
        stopping = summary.model_copy(update={"status": states.STATUS_STOPPING})
        task_instances.write_xcom(ti, "run", stopping.model_dump(mode="json"))


@dataclass(frozen=True)
class EndOfStop:
    """
    How an execution has ended that was stopped, as the poller has seen it.

    :param client: what calls AWS with the connection of the task.
    :param jobs: what describes jobs with it.
    """

    event: ExecutionEvent
    client: SharedClient
    jobs: LiveConnection[PolysyncSageMakerHook]

    def store_steps_and_cost(
        self, stop: stops.ReportedStop, ti: NamedTask, basis: Callable[[], cost.Basis]
    ) -> None:
        """
        Store the steps of the execution, and what it has used and cost, from a thread
        of a triggerer.

        :param basis: returns what is known of its money.
        """
        arn = self.event.execution_arn
        steps = self.client.list_steps(arn, is_wanted=lambda: True)
        if not isinstance(steps, exceptions.PolysyncError):
            pusher = step_pusher.StepPusher(ti, arn, stop.log.warning)
            call_airflow(partial(pusher.store, steps))
        if self.event.outcome != "ended":
            return
        if self.jobs.seconds_until_read <= 0:
            self.jobs.read()
        stop.store_cost(*add_up_steps(self.jobs.hook, steps, basis(), stop.log.warning))


@dataclass(kw_only=True)
class StopAtEndOfWait(TriggerStop):
    """
    The stop of an execution that has not ended when the wait for it ends, before the
    event of the trigger.

    Airflow may not go on with the task for days, for example because its DAG is paused.
    """

    # Whether the event is fired before the stop has ended. The worker decides from
    # then on.
    _is_late: bool = field(default=False, init=False)

    async def before_event(self) -> StopBeforeEvent | None:
        """
        Stop the execution; return what the event says of it, or None if the worker has
        to decide.
        """
        future: asyncio.Future[StopBeforeEvent | None] = asyncio.wrap_future(
            submit_stop(self.client.key[0], self._stop)
        )
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

    async def follow(self) -> None:
        """
        Wait for the end of the execution and of its task, and store that of the
        execution. Until its own end, the task may store what the event says.

        Nobody else looks for it before the end of the DAG run.
        """
        end = await end_of_stop(self.waiter, self.client.key)
        submit = partial(submit_stop, self.client.key[0])
        for seconds in (0.0, *TASK_END_SECONDS):
            await asyncio.sleep(clock.timeout(seconds, idle=True) or 0)
            if await result_of(submit(self._is_task_over)):
                await result_of(submit(self._tell_end, end))
                return

    def _is_task_over(self) -> bool:
        return ending.is_over(_retry_airflow(self._read_state, self.log))

    def _stop(self) -> StopBeforeEvent | None:
        outcome = self.carry_out(ending.end_in_triggerer(self.ti.try_number))
        text = "The wait has ended before the execution. %s Execution: %s"
        self.log.warning(text, outcome.try_end.text, self._arn)
        result = outcome.result
        if result is None or outcome.requested_at is None or result.status is None:
            return None
        return StopBeforeEvent(requested_at=outcome.requested_at, status=result.status)

    def _owner(self, state: str | None, stored: ExecutionRecord | None) -> Owner:
        return ending.owner_at_end_of_wait(state, stored, self._arn, self.ti.try_number)

    def _withdraw(self, store: RecordStore, record: ExecutionRecord) -> None:
        if not self._is_late:
            super()._withdraw(store, record)


@dataclass(kw_only=True)
class StopOfEndedTask(TriggerStop):
    """
    The stop of the execution of a deferred task that has ended.

    :param state: the state in which it was ended.
    """

    state: str | None

    def _owner(self, state: str | None, stored: ExecutionRecord | None) -> Owner:
        return ending.owner_of_deferred(state, stored, self._arn, self.ti.try_number)

    def _situation_before_stop(self) -> TaskSituation:
        if self.state == ending.DEFERRED:
            # A trigger that has only moved needs no record, which spares a request.
            return TaskSituation(self.state, None, self._owner(self.state, None))
        ask = partial(self._situation_in, self.state)
        return self._with_provenance(_retry_airflow(ask, self.log))


@dataclass(kw_only=True)
class EndedTask:
    """
    A deferred task that a user, or the DAG run, has ended.

    Airflow does not wait for the stop of its execution: it cancels ``on_kill`` after
    about a second, and at the latest after 30. How the stop ends is then seen by the
    poller, so that it takes no thread, however many tasks have been ended.

    :param step_task_ids: the tasks of the steps, if the task is that of a group of
        them.
    """

    ti: TryOfTask
    waiter: ExecutionWaiter
    client: SharedClient
    log: Any
    step_task_ids: Sequence[str] = ()
    # Since when the task is to be scheduled; None if it is not.
    _scheduled_since: float | None = field(default=None, init=False)

    @property
    def _arn(self) -> str:
        return self.waiter.execution_arn

    async def on_kill(self) -> None:
        """Stop the execution, if nobody else goes on with it."""
        stopping = submit_stop(self.client.key[0], self._stop_at_once)
        keep_following(self._follow(stopping), self._arn, self.log)
        try:
            # The thread must not be cancelled with this coroutine.
            future = asyncio.wrap_future(stopping)
            await asyncio.wait((future,), timeout=ON_KILL_SECONDS)
        finally:
            if not stopping.done():
                self.log.warning(
                    "The stop of the execution is still on its way. The XCom 'run' will"
                    " say how it ends. Execution: %s",
                    self._arn,
                )
        if stopping.done():
            stopping.result()

    async def _follow(
        self, stopping: Future[StopOfEndedTask | NotStopped | None]
    ) -> None:
        until = clock.time() + FOLLOW_SECONDS
        submit = partial(submit_stop, self.client.key[0])
        result = await result_of(stopping)
        # Until the next try begins, somebody may end the task.
        is_left = result in ("left", "queued")
        pause = FOLLOW_POLL_SECONDS
        while is_left and clock.time() < until:
            await asyncio.sleep(clock.timeout(pause, idle=True) or 0)
            result = await result_of(submit(self._stop_unless_continued))
            is_left = result in ("left", "queued", "unknown")
            if result == "queued":
                # Somebody may have cleared a thousand tasks at once.
                pause *= 2
        if isinstance(result, StopOfEndedTask):
            await result.follow()

    # ---- in a thread

    def _stop_at_once(self) -> StopOfEndedTask | NotStopped | None:
        result = self._stop_unless_continued()
        if result == "left":
            self.log.info(
                "The task was cleared. Its next try decides by the steps that were"
                " cleared with it what becomes of the execution: %s",
                self._arn,
            )
        elif result == "queued":
            self.log.info(
                "The task waits for a worker, because it was cleared, or goes on. The"
                " process that begins decides about the execution: %s",
                self._arn,
            )
        return result

    def _stop_unless_continued(self) -> StopOfEndedTask | NotStopped | None:
        """
        Stop the execution, if nobody goes on with it.

        :return: the stop, if AWS has accepted it; ``left`` if the task of a group was
            cleared, so that its next try decides about the execution; ``queued`` if a
            process will begin, which decides; ``unknown`` if Airflow does not return
            its state.
        """
        try:
            state = _retry_airflow(
                partial(task_instances.read_state, self.ti), self.log
            )
        except Exception as error:
            self.log.error(
                "The execution may still be running: Airflow does not return the task's"
                " state, so it is unknown whether the task was ended: %s."
                " Execution: %s",
                error,
                self._arn,
            )
            return "unknown"
        if self.step_task_ids and step_clears.is_left_to_next_try(state):
            return "left"
        if ending.awaits_process(state, self._scheduled_seconds(state)):
            return "queued"
        stop = StopOfEndedTask(
            ti=self.ti,
            waiter=self.waiter,
            client=self.client,
            log=self.log,
            state=state,
        )
        outcome = stop.carry_out(ending.end_in_triggerer(self.ti.try_number))
        if outcome.result is None:
            log = self.log.info if outcome.try_end.handled else self.log.error
            log("%s Execution: %s", outcome.try_end.text, self._arn)
            return None
        self.log.warning(
            "Task was ended (state %s). %s Execution: %s",
            state,
            outcome.try_end.text,
            self._arn,
        )
        if outcome.is_accepted:
            return stop
        return None

    def _scheduled_seconds(self, state: str | None) -> float:
        if state != ending.SCHEDULED:
            self._scheduled_since = None
            return 0.0
        now = clock.time()
        if self._scheduled_since is None:
            self._scheduled_since = now
        return now - self._scheduled_since


async def end_of_stop(
    waiter: ExecutionWaiter, client_key: tuple[str, str | None]
) -> EndOfStop:
    """
    Wait until an execution that is being stopped has ended, or for ``FOLLOW_SECONDS``.

    The poller sees it, so that it takes no thread.

    :param waiter: has the execution and its attempt.
    :param client_key: the connection and the region.
    """
    executions = poller.poller_for(poller.ExecutionPoller, *client_key)
    deadline = clock.time() + FOLLOW_SECONDS
    waiter = replace(
        waiter, poll_interval=FOLLOW_POLL_SECONDS, deadline=deadline, cost_limit=None
    )
    subscription = executions.subscribe(waiter)
    try:
        result = await subscription.next_result()
        while not isinstance(result, Finish):
            result = await subscription.next_result()
        return EndOfStop(result.event, executions.client, executions.jobs)
    finally:
        executions.unsubscribe(subscription)
