"""
Runs the tasks of a DAG as Airflow does: trigger rules, deferrals, tries, clears and the
end of a DAG run.
"""

from __future__ import annotations

import asyncio
import importlib
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, Final

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSkipException,
    TaskDeferred,
)

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.retrying import forbids_retry
from polysync_airflow.triggers import stopping
from tests.fakes.airflow_encoding import delivered, pulled
from tests.fakes.json_store import JsonStore
from tests.tasks import (
    DagRun,
    Run,
    TaskInstance,
    allow_execute_in_this_thread,
    cause_of,
)

_STARTS: Final = count()
_OVER: Final = ("success", "failed", "skipped", "upstream_failed")


class SimulatedDagRun:
    """
    A DAG run. Its triggers run in one event loop, its workers in a thread, one after the
    other.

    ``states`` has the states of the tasks by id, and ``runs`` their last tries.

    :param dag: the DAG. No task is mapped.
    :param in_triggerer: whether a task starts in the triggerer if it may, as from
        Airflow 3.3 on.
    """

    def __init__(
        self, dag: Any, *, in_triggerer: bool = False, run_id: str = "manual"
    ) -> None:
        self.tasks: dict[str, Any] = dict(dag.task_dict)
        self.states: dict[str, str | None] = dict.fromkeys(self.tasks)
        self.try_numbers: Counter[str] = Counter()
        self._in_triggerer, self._run_id = in_triggerer, run_id
        self._max_tries = {
            task_id: task.retries for task_id, task in self.tasks.items()
        }
        self._stores = {task_id: JsonStore() for task_id in self.tasks}
        self._dag_run = DagRun(
            datetime(2026, 2, 1, tzinfo=UTC) + timedelta(seconds=next(_STARTS))
        )
        self.runs = {task_id: Run(self._instance(task_id)) for task_id in self.tasks}
        self._loop: asyncio.AbstractEventLoop | None = None
        # The tries that are not over, and the triggers of those that are deferred.
        self._tries: dict[str, asyncio.Task[None]] = {}
        self._triggers: dict[str, Any] = {}
        self._kills: set[asyncio.Task[None]] = set()
        self._worker = ThreadPoolExecutor(1)

    def run(
        self, *, until: Callable[[], bool] = lambda: False
    ) -> dict[str, str | None]:
        """
        Run the tasks to their ends; return their states.

        :param until: whether no other task begins.
        """
        asyncio.run(self._run(until))
        return self.states

    def is_alive(self, task_id: str) -> bool:
        """Return whether a try of a task has begun and has not ended."""
        return self.states[task_id] in ("running", "deferred")

    def record(self, task_id: str) -> JsonStore:
        """Return what the tries of a task have stored in a Variable."""
        return self._stores[task_id]

    async def _run(self, until: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            while True:
                if not until():
                    self._schedule()
                alive = [*self._tries.values(), *self._kills, *stopping.FOLLOWING]
                if not alive:
                    return
                await asyncio.wait(alive, return_when=asyncio.FIRST_COMPLETED)
                self._kills = {kill for kill in self._kills if not kill.done()}
        finally:
            self._loop = None

    # ---- the scheduler

    def _schedule(self) -> None:
        """
        Begin what can begin. A task that does not run may decide about those after it.
        """
        before = None
        while before != self.states:
            before = dict(self.states)
            for task_id, task in self.tasks.items():
                if (
                    self.states[task_id] in (None, "up_for_retry")
                    and task_id not in self._tries
                ):
                    self._next(task_id, task)

    def _next(self, task_id: str, task: Any) -> None:
        state = _state_by_rule(
            task.trigger_rule, [self.states[each] for each in task.upstream_task_ids]
        )
        if state != "queued":
            self.states[task_id] = state
        elif type(task).__name__ == "EmptyOperator":
            # No try begins: the XComs of a task that was cleared stay.
            self.states[task_id] = "success"
        else:
            self.try_numbers[task_id] += 1
            run = self.runs[task_id] = Run(self._instance(task_id), operator=task)
            self.states[task_id] = "running"
            attempt = asyncio.create_task(self._try(task_id, task, run))
            self._tries[task_id] = attempt
            attempt.add_done_callback(partial(self._forget, task_id))

    def _forget(self, task_id: str, attempt: asyncio.Task[None]) -> None:
        if self._tries.get(task_id) is attempt:
            del self._tries[task_id]

    def _instance(self, task_id: str) -> TaskInstance:
        return TaskInstance(
            task_id,
            run_id=self._run_id,
            try_number=max(1, self.try_numbers[task_id]),
            max_tries=self._max_tries[task_id],
            store=self._stores[task_id],
            state=lambda: self.states[task_id],
            latest=lambda: self.runs[task_id].ti,
            dag_run=self._dag_run,
            task=self.tasks[task_id],
        )

    # ---- a try

    async def _try(self, task_id: str, task: Any, run: Run) -> None:
        starts_here = self._in_triggerer and task.start_from_trigger
        try:
            state = await (self._in_the_triggerer if starts_here else self._on_workers)(
                task_id, task, run
            )
        except Exception as error:
            run.error, state = cause_of(error), self._state_after(task_id, task, error)
        self.states[task_id] = state

    async def _on_workers(self, task_id: str, task: Any, run: Run) -> str:
        context, method, arguments = run.ti.context(task), "execute", list[Any]()
        while True:
            try:
                # Each session gets the task as another worker does.
                code = partial(getattr(copy(task), method), context, *arguments)
                run.result = pulled(await self.session(code))
                if run.result is not None:
                    run.ti.xcoms["return_value"] = run.result
            except TaskDeferred as deferral:
                run.trigger = deferral.trigger.serialize()
                event = await self._event(task_id, run, *run.trigger)
                run.event = delivered(event.payload)
                method, arguments = deferral.method_name, [run.event]
                self.states[task_id] = "running"
            else:
                return "success"

    async def session(self, code: Callable[[], Any]) -> Any:
        """Run the code of a task in the thread of the workers."""

        def run() -> Any:
            allow_execute_in_this_thread()
            return code()

        return await asyncio.get_running_loop().run_in_executor(self._worker, run)

    async def _in_the_triggerer(self, task_id: str, task: Any, run: Run) -> str:
        start = task.start_trigger_args
        event = await self._event(task_id, run, start.trigger_cls, start.trigger_kwargs)
        run.event, name = event, type(event).__name__
        if name == "TaskSuccessEvent":
            run.result = run.ti.xcoms.get("return_value")
        if name in ("TaskSuccessEvent", "TaskSkippedEvent"):
            return name.removeprefix("Task").removesuffix("Event").lower()
        return self._state_after(
            task_id, task, None if name == "TaskFailedEvent" else AirflowFailException()
        )

    async def _event(
        self, task_id: str, run: Run, class_path: str, kwargs: dict[str, Any]
    ) -> Any:
        module, _, name = class_path.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(**delivered(kwargs))
        trigger.task_instance = run.ti
        self.states[task_id], self._triggers[task_id] = "deferred", trigger
        (event,) = [event async for event in trigger.run()]
        del self._triggers[task_id]
        return event

    def _state_after(self, task_id: str, task: Any, error: Exception | None) -> str:
        if isinstance(error, AirflowSkipException):
            return "skipped"
        is_final = isinstance(error, AirflowFailException)
        if error and not is_final:
            is_final = forbids_retry(
                task.retry_policy, error, self.runs[task_id].ti.context(task)
            )
        is_retried = (
            self.try_numbers[task_id] <= self._max_tries[task_id] and not is_final
        )
        return "up_for_retry" if is_retried else "failed"

    # ---- what people do

    def clear(self, *task_ids: str, downstream: bool = True) -> None:
        """
        Clear tasks, as ``clear_task_instances`` in airflow/models/taskinstance.py does.
        For any thread.
        """
        self._call(self._clear, task_ids, downstream)

    def end(self, state: str = "failed") -> None:
        """
        Mark the DAG run: Airflow then ends all of its tasks that are not over. For any
        thread.
        """
        self._call(
            self._set_states,
            [each for each, old in self.states.items() if old not in _OVER],
            state,
        )

    def mark(self, task_id: str, state: str) -> None:
        """Mark a task. For any thread."""
        self._call(self._set_states, [task_id], state)

    def schedule(self) -> None:
        """
        Begin what can begin, also while the run waits for what others follow. For any
        thread.
        """
        self._call(self._schedule)

    def _call(self, function: Callable[..., None], *arguments: Any) -> None:
        if self._loop is None:
            function(*arguments)
        else:
            self._loop.call_soon_threadsafe(function, *arguments)

    def _clear(self, task_ids: Iterable[str], downstream: bool) -> None:
        cleared = set(task_ids)
        if downstream:
            cleared |= {below for each in task_ids for below in self._below(each)}
        is_over = all(state in _OVER for state in self.states.values())
        # Of a DAG run that was over, Airflow also changes the begin.
        started_at = (self._dag_run.start_date or datetime.now(UTC)) + timedelta(
            seconds=is_over
        )
        self._dag_run = DagRun(started_at, self._dag_run.clear_number + 1)
        for each in cleared:
            self._max_tries[each] = self.try_numbers[each] + self.tasks[each].retries
        self._set_states(cleared, None)

    def _below(self, task_id: str) -> set[str]:
        found: set[str] = set()
        new = {task_id}
        while new:
            new = {
                below for each in new for below in self.tasks[each].downstream_task_ids
            } - found
            found |= new
        return found

    def _set_states(self, task_ids: Iterable[str], state: str | None) -> None:
        self.states.update(dict.fromkeys(task_ids, state))
        for each in task_ids:
            attempt, trigger = (
                self._tries.pop(each, None),
                self._triggers.pop(each, None),
            )
            if attempt:
                attempt.cancel()
            if trigger and CAPABILITIES.trigger_on_kill:
                self._kills.add(asyncio.ensure_future(trigger.on_kill()))


def _state_by_rule(rule: str, above: list[str | None]) -> str | None:
    """
    Return the next state of a task; see ``_evaluate_trigger_rule`` in
    airflow/ti_deps/deps/trigger_rule_dep.py.
    """
    states = Counter(above)
    failed = states["failed"] + states["upstream_failed"]
    is_done = sum(states[each] for each in _OVER) == len(above)
    if rule == "all_success":
        if failed or states["skipped"]:
            return "upstream_failed" if failed else "skipped"
        return "queued" if states["success"] == len(above) else None
    assert rule == "one_success", rule
    if states["success"]:
        return "queued"
    if not is_done:
        return None
    return "upstream_failed" if failed else "skipped"
