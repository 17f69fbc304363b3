"""Triggers that only sleep. Their costs are the costs of Airflow itself."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from airflow.sdk import BaseHook, BaseOperator
from airflow.triggers.base import (
    BaseTrigger,
    StartTriggerArgs,
    TaskSuccessEvent,
    TriggerEvent,
)


class SleepTrigger(BaseTrigger):
    """
    Sends an event at a given time.

    :param until: the time (Unix time).
    :param modules: modules to import, so that their cost is not attributed to a later
        trigger.
    :param connection_id: a connection to read, because Airflow builds its API in the
        triggerer process when the first connection is read.
    """

    def __init__(
        self,
        until: float,
        modules: Sequence[str] = (),
        connection_id: str | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's method has no annotations
        self.until, self.modules, self.connection_id = (
            until,
            list(modules),
            connection_id,
        )

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that Airflow stores."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "until": self.until,
            "modules": self.modules,
            "connection_id": self.connection_id,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Import the modules, read the connection, sleep, and send the event."""
        for module in self.modules:
            importlib.import_module(module)
        if self.connection_id:
            await asyncio.to_thread(BaseHook.get_connection, self.connection_id)
        await asyncio.sleep(max(0.0, self.until - time.time()))
        yield TriggerEvent({"status": "success"})  # type: ignore[no-untyped-call]  # Airflow's has no annotations


class SleepTaskTrigger(BaseTrigger):
    """
    Ends its task.

    :param seconds: seconds until the end.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's method has no annotations
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments that Airflow stores."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "seconds": self.seconds
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep, and end the task."""
        await asyncio.sleep(self.seconds)
        yield TaskSuccessEvent()


class SleepOperator(BaseOperator):
    """
    Starts, sleeps and ends in the triggerer.

    :param sleep: seconds from the start to the end.
    :param kwargs: the arguments of ``BaseOperator``.
    """

    start_from_trigger = True

    def __init__(self, *, sleep: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        path, arguments = SleepTaskTrigger(sleep).serialize()
        self.start_trigger_args = StartTriggerArgs(path, "execute_failed", arguments)
