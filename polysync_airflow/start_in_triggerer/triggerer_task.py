"""
The trigger that runs a task without a worker, from its start to its end. From Airflow
3.3 on.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from traceback import format_exception
from typing import Any, Final

from airflow.models.crypto import get_fernet
from airflow.providers.common.compat.sdk import Context, TaskDeferred
from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow import sensors
from polysync_airflow.airflow_compat.supervisor import call_slow_airflow, use_event_loop
from polysync_airflow.airflow_compat.task_instances import delete_xcom, read_xcom
from polysync_airflow.execution.json_input import read_json
from polysync_airflow.triggers.task_end import TaskEnd

# What this try waits for, encrypted, for the triggerer to which Airflow moves it.
WAIT_KEY: Final = "polysync_wait"
# What an earlier try may have left. On a worker, Airflow deletes all XComs when a try
# starts.
XCOM_KEYS: Final = (
    "execution_arn",
    "console_url",
    "studio_url",
    "unified_studio_url",
    "failed_step_log_url",
    "state",
    "run",
    "steps",
    "outputs",
    "return_value",
    "model_package_arn",
    "approval_status",
    "approval_description",
    "last_modified_by",
)


class PolysyncTaskTrigger(BaseTrigger):
    """
    Run a task to its end: its own code, as a worker does, and the waits between.

    The task is made again for each session, with rendered templates, as on a worker.
    Airflow renders nothing here itself, since it would do so in the event loop.

    :param task_class: the name of its class, which is in ``polysync_airflow.sensors``.
    :param arguments: those of its constructor, as JSON; templates are not rendered yet.
    """

    __module__ = "polysync_airflow.start_in_triggerer"

    def __init__(self, *, task_class: str, arguments: dict[str, Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.task_class = task_class
        self.arguments = arguments

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        arguments = {"task_class": self.task_class, "arguments": self.arguments}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Run the task to its end; yield the event that ends it."""
        use_event_loop()
        connection_id = str(self.arguments.get("polysync_conn_id"))
        end = TaskEnd(ti=self.task_instance, connection_id=connection_id, log=self.log)
        event = await end.run(self._start)
        while isinstance(event, TaskDeferred):
            method_name, arguments = await self._wait(event)
            event = await end.run(partial(self._session, method_name, arguments))
        yield event

    async def _wait(self, deferral: TaskDeferred) -> tuple[str, dict[str, Any]]:
        """
        Run the trigger of a deferral; return the method in which the task goes on, and
        its arguments.
        """
        deferral.trigger.task_instance = self.task_instance
        try:
            async with aclosing(deferral.trigger.run()) as events:
                event = await anext(events)
                return deferral.method_name, {"event": event.payload}
        except Exception as error:
            # As ``Trigger.submit_failure`` in airflow/models/trigger.py.
            return "__fail__", {
                "error": "Trigger failure",
                "traceback": format_exception(error),
            }

    # ---- in a thread

    def _task(self) -> Any:
        """Make the task again, with its templates."""
        ti: Any = self.task_instance
        return getattr(sensors, self.task_class)(task_id=ti.task_id, **self.arguments)

    def _start(self, context: Context) -> Any:
        ti: Any = self.task_instance
        deferral = self._last_deferral(context)
        if deferral:
            raise deferral
        if ti.try_number > 1:
            for key in XCOM_KEYS:
                call_slow_airflow(partial(delete_xcom, ti, key), self.log.warning)
        return self._session(None, {}, context)

    def _session(
        self, method_name: str | None, arguments: dict[str, Any], context: Context
    ) -> Any:
        """
        Run the task until it ends or defers again: from its start, or in the method
        where it goes on.
        """
        ti: Any = self.task_instance
        task = self._task()
        renders_objects = ti.task.render_template_as_native_obj
        if renders_objects is None:
            renders_objects = ti.task.dag.render_template_as_native_obj
        task.render_template_as_native_obj = renders_objects
        render = partial(task.render_template_fields, context)
        call_slow_airflow(render, self.log.warning)
        try:
            if method_name:
                return task.resume_execution(method_name, arguments, context)
            # Without Airflow's decorator, which warns of a call outside of a worker.
            return type(task).execute.__wrapped__(task, context)
        except TaskDeferred as deferral:
            path, arguments = deferral.trigger.serialize()
            wait = json.dumps(
                [str(ti.id), deferral.method_name, path.rpartition(".")[2], arguments]
            )
            context["ti"].xcom_push(
                WAIT_KEY, get_fernet().encrypt(wait.encode()).decode()
            )
            raise

    def _last_deferral(self, context: Context) -> TaskDeferred | None:
        """Return the last deferral of this try; None if it has not deferred yet."""
        ti: Any = self.task_instance
        stored = call_slow_airflow(partial(read_xcom, ti, WAIT_KEY), self.log.warning)
        try:
            owner, method_name, name, arguments = read_json(
                get_fernet().decrypt(stored.encode()), "it"
            )
            if owner == str(ti.id):
                known = self._task()._run_in(context).trigger_classes
                trigger_class = next(each for each in known if each.__name__ == name)
                return TaskDeferred(
                    trigger=trigger_class(**arguments), method_name=method_name
                )
        except Exception as error:
            if stored is not None:
                self.log.warning(
                    "XCom %r is ignored: %s: %s", WAIT_KEY, type(error).__name__, error
                )
        return None
