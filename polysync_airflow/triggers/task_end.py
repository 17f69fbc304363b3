"""
Ends a task in the triggerer, without a worker. From Airflow 3.3 on.

The code of the task runs in a thread, with a context whose task instance stores the
XComs. What it returns or raises becomes the event that ends the task, so a task ends
here as it does on a worker. What Airflow does not do for such a task is in
``docs/reference/sensors.md``.

See ``handle_event_submit`` in airflow/models/trigger.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from airflow.providers.common.compat.sdk import AirflowException, Context, TaskDeferred
from airflow.triggers.base import (
    TaskFailedEvent,
    TaskSkippedEvent,
    TaskSuccessEvent,
    TriggerEvent,
)

from polysync_airflow import exceptions, retrying
from polysync_airflow.airflow_compat import sdk, supervisor, task_instances
from polysync_airflow.triggers.threads import ThreadPools

Code: TypeAlias = Callable[[Context], Any]

_THREADS: Final = ThreadPools("polysync-task")
# After these errors, Airflow does not retry a task on a worker: ``run`` in
# airflow/sdk/execution_time/task_runner.py.
_FINAL_ERRORS: Final = (sdk.AirflowFailException, sdk.AirflowSensorTimeout)


class TaskInstanceInThread:
    """
    The task instance of a trigger, for the code of its task in a thread: ``ti`` of the
    context.

    :param ti: that of the trigger, with its task: Airflow sets it for a task that
        started in the triggerer.
    :param warn: called with a message if Airflow does not respond.
    """

    def __init__(self, ti: Any, warn: Callable[[str], object]) -> None:
        self._ti = ti
        self._warn = warn
        self.is_left = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ti, name)

    @property
    def max_tries(self) -> int:
        """
        How many retries the task has. Airflow does not tell a triggerer of those after
        a clear.
        """
        return int(self._ti.task.retries)

    def xcom_push(self, key: str, value: Any) -> None:
        """
        Store an XCom.

        :raises CancelledError: the trigger was cancelled. The XComs may be those of
            another try by now.
        """
        if self.is_left:
            raise asyncio.CancelledError
        supervisor.call_slow_airflow(
            partial(task_instances.write_xcom, self._ti, key, value), self._warn
        )

    def xcom_pull(self, *args: Any, **kwargs: Any) -> Any:
        """Return an XCom."""
        pull = partial(self._ti.xcom_pull, *args, **kwargs)
        return supervisor.call_slow_airflow(pull, self._warn)


@dataclass(kw_only=True)
class TaskEnd:
    """
    Runs the code of a task.

    :param connection_id: the task's connection. The code waits for that of tasks with
        the same one only.
    """

    ti: Any
    connection_id: str
    log: Any

    async def run(self, code: Code) -> TriggerEvent | TaskDeferred:
        """
        Run code of the task in a thread, and return the event to yield; a deferral, if
        the code has deferred.

        :param code: is called with the context. What it returns is the XCom
            ``return_value``.
        """
        ti = TaskInstanceInThread(self.ti, self.log.warning)
        try:
            future = _THREADS.submit(self.connection_id, self._end_of, code, ti)
            end: TriggerEvent | TaskDeferred = await asyncio.wrap_future(future)
            return end
        finally:
            ti.is_left = True

    def _end_of(
        self, code: Code, ti: TaskInstanceInThread
    ) -> TriggerEvent | TaskDeferred:
        context: Any = {**self.ti.get_template_context(), "ti": ti, "task_instance": ti}
        try:
            result = code(context)
            if result is not None and self.ti.task.do_xcom_push:
                ti.xcom_push("return_value", result)
            return TaskSuccessEvent()
        except TaskDeferred as deferral:
            return deferral
        except sdk.AirflowSkipException as error:
            self.log.info("Task is skipped: %s", error)
            return TaskSkippedEvent()
        except Exception as error:
            return self._failed(error, context)

    def _failed(self, error: Exception, context: Context) -> TriggerEvent:
        traceback: Exception | None = error
        if isinstance(error, (exceptions.PolysyncError, AirflowException)):
            # The error says what the user needs to know.
            traceback = None
        text = f"{type(error).__name__}: {error}"
        self.log.error("Task failed with %s", text, exc_info=traceback)
        is_final = isinstance(error, _FINAL_ERRORS) or retrying.forbids_retry(
            retrying.PolysyncRetryPolicy(), error, context
        )
        if is_final and self.ti.task.retries:
            # Airflow retries after a TaskFailedEvent. Only a worker can forbid that:
            # the task goes on in its ``execute_failed`` there.
            return TriggerEvent({"error": text})  # type: ignore[no-untyped-call]
        return TaskFailedEvent()
