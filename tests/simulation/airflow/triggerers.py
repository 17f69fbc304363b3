"""Triggerers: event loops that run triggers and the rows of the watch."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from tests.fakes.airflow_encoding import delivered
from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import CallbackRow, RuntimeTI, TriggerRow
from tests.simulation.airflow.workers import FAIL_METHOD
from tests.simulation.kernel import Process
from tests.simulation.threads import Loop

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

# ``_USER_ACTION_CANCEL_MSG`` in airflow/jobs/triggerer_job_runner.py, whose import takes
# a second.
USER_ACTION: Final = "__airflow_user_action__"
HEARTBEAT_SECONDS: Final = 15.0
# As of ``[triggerer] job_heartbeat_sec``: a triggerer is taken for dead after this.
DEAD_SECONDS: Final = 30.0
ON_KILL_SECONDS: Final = 30.0


class Triggerers:
    """The triggerers of a deployment, by their names."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.running: dict[str, Triggerer] = {}
        self._beats: dict[str, float] = {}

    def add(self, name: str, capacity: int) -> None:
        """Start one."""
        self.running[name] = Triggerer(self._deployment, self, name, capacity)

    def touch(self) -> None:
        """Let them look soon."""
        for triggerer in self.running.values():
            triggerer.wake()

    def beat(self, name: str) -> None:
        """Note that a triggerer lives."""
        self._beats[name] = kernels.KERNEL.now

    def is_dead(self, name: str | None) -> bool:
        """Return whether a triggerer has missed its heartbeats."""
        if name is None:
            return True
        return kernels.KERNEL.now - self._beats.get(name, 0) > DEAD_SECONDS

    def kill(self, name: str) -> None:
        """Kill one."""
        self.running.pop(name).process.kill()

    def move(self) -> None:
        """Let each trigger run in any triggerer, as a rebalancing does."""
        names = sorted(self.running)
        for row in self._deployment.db.triggers.values():
            row.triggerer = kernels.KERNEL.random.choice(names)


class Triggerer:
    """
    One triggerer. As ``TriggererJobRunner`` and ``TriggerRunner`` in
    airflow/jobs/triggerer_job_runner.py.

    :param capacity: how many triggers it runs.
    """

    def __init__(
        self, deployment: Deployment, all_of_them: Triggerers, name: str, capacity: int
    ) -> None:
        self._deployment = deployment
        self._all = all_of_them
        self._name = name
        self._capacity = capacity
        self.process = Process(f"{deployment.name}.{name}", "triggerer", deployment)
        self._triggers: dict[int, asyncio.Task[Any]] = {}
        self._callbacks: set[asyncio.Task[Any]] = set()
        self._news: Callable[[], None] = lambda: None
        self.process.main = kernels.KERNEL.spawn(self.process, self._run, "loop")

    def wake(self) -> None:
        """Let it look soon."""
        if self.process.is_alive:
            self._news()

    def _run(self) -> None:
        Loop().run_until_complete(self._supervise())

    async def _supervise(self) -> None:
        kernel = kernels.KERNEL
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def wake() -> None:
            if not news.is_set():
                loop.call_soon_threadsafe(news.set)

        self._news = wake
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_SECONDS):
                    await news.wait()
            news.clear()
            await asyncio.sleep(0.5 + kernel.random.random() * 1.5)
            self._all.beat(self._name)
            self._assign()
            self._start_and_cancel()
            self._call_back()

    def _assign(self) -> None:
        """As ``Trigger.assign_unassigned`` in airflow/models/trigger.py."""
        rows = self._deployment.db.triggers.values()
        for row in rows:
            own = sum(each.triggerer == self._name for each in rows)
            if self._all.is_dead(row.triggerer) and own < self._capacity:
                row.triggerer = self._name

    def _start_and_cancel(self) -> None:
        """As ``TriggerRunnerSupervisor.update_triggers`` and ``cancel_triggers``."""
        rows = self._deployment.db.triggers
        for row in rows.values():
            if row.triggerer == self._name and row.id not in self._triggers:
                self._triggers[row.id] = asyncio.create_task(self._run_trigger(row))
        for row_id, task in list(self._triggers.items()):
            is_left = row_id in rows
            if task.done():
                if not is_left:
                    del self._triggers[row_id]
            elif not is_left or rows[row_id].triggerer != self._name:
                # A trigger that has moved is not told that a user has done something.
                task.cancel(None if is_left else USER_ACTION)
                del self._triggers[row_id]

    async def _run_trigger(self, row: TriggerRow) -> None:
        """As ``TriggerRunner.run_trigger``."""
        ti = self._deployment.db.tis.get(row.key)
        if ti is None:
            return
        trigger = _imported(row.path)(**delivered(row.kwargs))
        runtime = RuntimeTI(ti, None)
        runtime.id = row.ti_id
        runtime.try_number = row.try_number
        trigger.task_instance = runtime
        try:
            async for event in trigger.run():
                self._fired(row, {"event": event.payload}, None)
        except asyncio.CancelledError as cancelled:
            if USER_ACTION in cancelled.args:
                try:
                    await asyncio.wait_for(trigger.on_kill(), ON_KILL_SECONDS)
                except (TimeoutError, Exception) as error:
                    self._deployment.told(row.key, f"on_kill: {error!r}")
            raise
        except Exception as error:
            self._deployment.told(row.key, f"trigger: {error!r}")
            self._fired(row, {}, FAIL_METHOD)

    def _fired(self, row: TriggerRow, kwargs: dict[str, Any], method: Any) -> None:
        """As ``Trigger.submit_event`` and ``submit_failure``."""
        db = self._deployment.db
        ti = db.tis.get(row.key)
        was_known = db.triggers.pop(row.id, None)
        if not was_known or not ti or (ti.trigger_id, ti.state) != (row.id, "deferred"):
            return
        ti.trigger_id = None
        ti.due = 0.0
        ti.next_method = method or ti.next_method
        ti.next_kwargs = {} if method else {**ti.next_kwargs, **kwargs}
        self._deployment.set_state(ti, "scheduled")

    def _call_back(self) -> None:
        """Each triggerer calls each row, as those of Airflow 3.2 and 3.3 do."""
        for row in self._deployment.db.callbacks:
            if self._name not in row.called_by:
                row.called_by.add(self._name)
                self._callbacks.add(asyncio.create_task(self._run_callback(row)))

    async def _run_callback(self, row: CallbackRow) -> None:
        try:
            await _imported(row.path)(**row.kwargs)
        except Exception as error:
            self._deployment.told(None, f"watch: {error!r}")


def _imported(path: str) -> Any:
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)
