"""
The stop of an execution that its task no longer needs, told in the XCom ``run``.

A worker and a triggerer tell the same story, so it is written here once. How they ask
AWS and reach Airflow is theirs: ``operators/worker_stop.py`` and
``triggers/stopping.py``.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Literal

from polysync_airflow.execution import clock
from polysync_airflow.execution.outcome import (
    ExecutionRecord,
    RequestedStop,
    StopReason,
)
from polysync_airflow.execution.waiter import ExecutionEvent
from polysync_airflow.hooks.executions import StopResult

ChangeOfRun = Callable[[ExecutionRecord], ExecutionRecord]


@dataclass(kw_only=True)
class ReportedStop(ABC):
    """
    The stop, in this order:

    1. ``request`` announces it in ``run``, asks AWS, and stores the answer.
    2. The subclass follows the execution to its end.
    3. ``store_end`` stores how the execution has ended.

    A ``run`` that cannot be stored raises no error: the stop comes first.

    :param ti: the task instance. Its try must own the execution.
    :param log: the log of the task.
    :param reason: why the execution is stopped.
    """

    process: ClassVar[Literal["worker", "triggerer"]]

    ti: Any
    log: Any
    reason: StopReason = "ended_task"
    # A change that Airflow stores late does not replace a later one.
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def request(self) -> StopResult:
        """Announce the stop, ask AWS for it, and store the answer."""
        announced = RequestedStop(
            requested_at=clock.now(), reason=self.reason, process=self.process
        )
        self._change(lambda run: run.stop_requested(announced))
        result = self._ask_aws()
        self._change(
            lambda run: run.stop_answered(result.status, result.error, clock.now())
        )
        return result

    def store_end(self, end: ExecutionEvent) -> ExecutionRecord | None:
        """
        Store how the execution has ended; return ``run``, or None if it is not stored.
        """
        return self._change(lambda run: run.stop_followed(end, clock.now()))

    def _change(self, change: ChangeOfRun) -> ExecutionRecord | None:
        try:
            return self._call_airflow(partial(self._change_run, change))
        except Exception as error:
            text = "Airflow does not store the XCom 'run': %s: %s"
            self.log.warning(text, type(error).__name__, error)
            return None

    def _change_run(self, change: ChangeOfRun) -> ExecutionRecord | None:
        with self._lock:
            run = self._read_run()
            if run is None:
                return None
            changed = change(run)
            self._write_run(changed)
            return changed

    # ---- what differs

    @abstractmethod
    def _ask_aws(self) -> StopResult:
        """Ask AWS to stop the execution. Raises no ``PolysyncError``."""

    @abstractmethod
    def _call_airflow(
        self, function: Callable[[], ExecutionRecord | None]
    ) -> ExecutionRecord | None:
        """Call a function that sends requests to Airflow."""

    @abstractmethod
    def _read_run(self) -> ExecutionRecord | None:
        """Return ``run``; None if it is not that of the execution that is stopped."""

    @abstractmethod
    def _write_run(self, run: ExecutionRecord) -> None:
        """Push ``run``, and ``state``."""
