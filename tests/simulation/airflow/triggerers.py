"""Triggerers: event loops that run triggers and the rows of the watch."""

from __future__ import annotations

import asyncio
import pkgutil
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTaskEndEvent, TriggerEvent

from tests.fakes.airflow_encoding import delivered
from tests.simulation import kernel as kernels
from tests.simulation.airflow.database import RuntimeTI, TaskInstance, TriggerRow
from tests.simulation.airflow.scheduler import FAIL_METHOD, TRIGGER_FAILURE
from tests.simulation.kernel import Process
from tests.simulation.threads import Loop

if TYPE_CHECKING:
    from tests.simulation.airflow.deployment import Deployment

# ``_USER_ACTION_CANCEL_MSG`` and ``_ON_CANCEL_TIMEOUT`` in
# airflow/jobs/triggerer_job_runner.py, whose import takes a second.
USER_ACTION: Final = "__airflow_user_action__"
ON_KILL_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 15.0
# ``[triggerer] triggerer_health_check_threshold``.
DEAD_SECONDS: Final = 30.0


class Triggerers:
    """The triggerers of a deployment, by their names."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self.running: dict[str, Triggerer] = {}
        self._beats: dict[str, float] = {}
        self._number = 0

    def add(self, queue: str | None) -> None:
        """Start one."""
        name = f"{self._deployment.name}.triggerer{self._number}"
        self._number += 1
        self.beat(name)
        self.running[name] = Triggerer(self._deployment, self, name, queue)

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

    def replace(self, name: str) -> bool:
        """Kill one, and start another one; return whether it was not killed before."""
        triggerer = self.running.pop(name, None)
        if triggerer is None:
            return False
        triggerer.process.kill()
        self._deployment.journal.note("triggerer", name)
        self.add(triggerer.queue)
        return True

    def move(self) -> None:
        """
        Let each trigger run in any triggerer of its queue, as if the others had been
        dead.
        """
        for row in self._deployment.db.triggers.values():
            serving = [
                name for name, each in self.running.items() if each.queue == row.queue
            ]
            if serving:
                row.triggerer = kernels.KERNEL.random.choice(sorted(serving))
        self.touch()


class Triggerer:
    """
    One triggerer. As ``TriggerRunnerSupervisor`` and ``TriggerRunner`` in
    airflow/jobs/triggerer_job_runner.py.

    :param queue: what ``--queues`` says.
    """

    def __init__(
        self,
        deployment: Deployment,
        all_of_them: Triggerers,
        name: str,
        queue: str | None,
    ) -> None:
        self._deployment = deployment
        self._all = all_of_them
        self._name = name
        self.queue = queue
        self.process = Process(name, "triggerer", deployment)
        self._triggers: dict[int, asyncio.Task[Any]] = {}
        # What has fired, and the errors of triggers.
        self._events: deque[tuple[int, TriggerEvent | None]] = deque()
        self._news: Callable[[], None] = lambda: None
        self.process.main = kernels.KERNEL.spawn(self.process, self._run, "loop")

    def wake(self) -> None:
        """Let it look soon."""
        if self.process.is_alive:
            self._news()

    def _run(self) -> None:
        Loop().run_until_complete(self._supervise())

    async def _supervise(self) -> None:
        loop = asyncio.get_running_loop()
        news = asyncio.Event()

        def wake() -> None:
            if not news.is_set():
                loop.call_soon_threadsafe(news.set)

        self._news = wake
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await news.wait()
            news.clear()
            await asyncio.sleep(0.5 + kernels.KERNEL.random.random() * 1.5)
            if self._deployment.api.is_down("triggerer"):
                continue
            self._all.beat(self._name)
            self._assign()
            self._update()
            while self._events:
                self._submit(*self._events.popleft())
            if self._deployment.db.clean_triggers():
                self._deployment.touch()

    def _is_mine(self, row: TriggerRow) -> bool:
        """As ``Trigger.ids_for_triggerer`` in airflow/models/trigger.py."""
        return (row.triggerer, row.queue) == (self._name, self.queue)

    def _assign(self) -> None:
        """
        As ``Trigger.assign_unassigned`` and ``get_sorted_triggers``: rows of callbacks
        come first, also those that another triggerer runs.
        """
        db = self._deployment.db
        rows = db.triggers.values()
        own = sum(row.triggerer == self._name for row in rows)
        free = max(0, self._deployment.settings.capacity - own)
        callbacks = [row for row in rows if row.is_callback]
        others = [
            row
            for row in rows
            if self._all.is_dead(row.triggerer) and db.waiting_for(row)
        ]
        served = [row for row in (*callbacks, *others) if row.queue == self.queue]
        for row in served[:free]:
            row.triggerer = self._name

    def _update(self) -> None:
        """
        As ``update_triggers`` and ``cancel_triggers``. A trigger that has moved gets
        the same message as one whose task a user has ended.
        """
        db = self._deployment.db
        wanted = {row.id: row for row in db.triggers.values() if self._is_mine(row)}
        fired = {row_id for row_id, _ in self._events}
        for row in wanted.values():
            ti = db.waiting_for(row)
            is_new = row.id not in self._triggers and row.id not in fired
            if is_new and (ti or row.is_callback):
                self._triggers[row.id] = asyncio.create_task(self._run_trigger(row, ti))
        for row_id, task in list(self._triggers.items()):
            if task.done():
                del self._triggers[row_id]
            elif row_id not in wanted:
                task.cancel(USER_ACTION)
                del self._triggers[row_id]

    async def _run_trigger(self, row: TriggerRow, ti: TaskInstance | None) -> None:
        """As ``TriggerRunner.run_trigger`` and ``cleanup_finished_triggers``."""
        trigger = pkgutil.resolve_name(row.path)(**delivered(row.kwargs))
        timeout = None
        if ti:
            timeout = ti.trigger_timeout
            trigger.task_instance = self._runtime(ti)
            owner = self._deployment.owner(ti.key)
            self._deployment.journal.note("trigger", "begins", owner, self._name)
        has_fired = False
        try:
            async for event in trigger.run():
                self._events.append((row.id, event))
                has_fired = True
                self.wake()
        except asyncio.CancelledError as cancelled:
            is_late = timeout is not None and timeout < kernels.KERNEL.now
            if USER_ACTION in cancelled.args and not is_late:
                await self._on_kill(trigger, row, ti)
            raise
        except Exception as error:
            self._deployment.told(ti, f"trigger: {error!r}")
        finally:
            with suppress(Exception):
                await trigger.cleanup()
        if not has_fired:
            self._events.append((row.id, None))
            self.wake()

    def _runtime(self, ti: TaskInstance) -> RuntimeTI:
        """As ``create_runtime_ti``: only what starts in the triggerer has its task."""
        task = self._deployment.tasks[ti.key.task_id]
        if not getattr(task, "start_from_trigger", False):
            return RuntimeTI(ti, None)
        runtime = RuntimeTI(ti, task)
        context = self._deployment.context(ti, task)
        runtime.get_template_context = lambda: dict(context)
        return runtime

    async def _on_kill(
        self, trigger: Any, row: TriggerRow, ti: TaskInstance | None
    ) -> None:
        try:
            # ``wait_for`` begins a task more in Python 3.11: what else is due at the
            # same time would come first there, and only there.
            async with asyncio.timeout(ON_KILL_SECONDS):
                await trigger.on_kill()
        except (TimeoutError, asyncio.CancelledError, Exception) as error:
            self._deployment.told(ti, f"on_kill: {error!r}")

    # ---- events

    def _submit(self, row_id: int, event: TriggerEvent | None) -> None:
        """As ``Trigger.submit_event`` and ``submit_failure``."""
        deployment = self._deployment
        row = deployment.db.triggers.get(row_id)
        if row and row.is_callback:
            self._end_callback(row, event)
        for ti in deployment.db.tis.values():
            if ti.trigger_id != row_id or ti.state != "deferred":
                continue
            ti.trigger_id = None
            if isinstance(event, BaseTaskEndEvent):
                self._end_task(ti, event)
                continue
            if event is None:
                ti.next_method = FAIL_METHOD
                ti.next_kwargs = {"error": TRIGGER_FAILURE}
            else:
                ti.next_kwargs = {**ti.next_kwargs, "event": event.payload}
            deployment.set_state(ti, "scheduled")

    def _end_callback(self, row: TriggerRow, event: TriggerEvent | None) -> None:
        """As ``TriggererCallback.handle_event`` in airflow/models/callback.py."""
        if event is None:
            return
        state = event.payload["state"]
        if state in ("success", "failed"):
            del self._deployment.db.triggers[row.id]
        if state == "failed":
            # The lines of the traceback depend on the version of Python.
            error = event.payload["body"].rpartition("\\n', ")[2]
            self._deployment.told(None, f"watch: {error}")

    def _end_task(self, ti: TaskInstance, event: BaseTaskEndEvent) -> None:
        """As ``handle_event_submit`` in airflow/models/trigger.py."""
        deployment = self._deployment
        scheduler = deployment.scheduler
        state = str(event.task_instance_state.value)
        is_retried = state == "failed" and scheduler.is_eligible_to_retry(ti)
        if state == "failed":
            deployment.workers.call_back_elsewhere(ti, is_retried=is_retried)
        if is_retried:
            scheduler.end_try(ti, is_retried=True)
        else:
            deployment.set_state(ti, state)
            for key, value in (event.xcoms or {}).items():
                deployment.db.xcoms[ti.key, key] = value
