"""What runs a sensor: how it waits in each mode."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar, Generic, NoReturn, TypeVar

from airflow.triggers.base import BaseTrigger
from pydantic import BaseModel

from polysync_airflow.airflow_compat import reschedules, sdk, task_instances
from polysync_airflow.aws.rate_limiter import rate_limiter_for
from polysync_airflow.aws.responses import time_limit
from polysync_airflow.execution import clock
from polysync_airflow.execution.waiter import LAST_POLL_SECONDS
from polysync_airflow.operators.task_run import TaskRun

if TYPE_CHECKING:
    from polysync_airflow.sensors import base

End = TypeVar("End", bound=BaseModel)


class SensorRun(TaskRun, Generic[End]):
    """
    One session of a sensor. A subclass polls, defers, and says what an end of the wait
    means.
    """

    task: base.PolysyncSensor
    options: base.SensorOptions
    # Those to which it defers. A triggerer to which Airflow moves the task finds the
    # one that waits among them.
    trigger_classes: ClassVar[tuple[type[BaseTrigger], ...]]

    @abstractmethod
    def begin(self, began_at: datetime) -> None:
        """
        Check the rendered arguments before AWS is called, and begin the wait.

        :param began_at: when this try began.
        """

    @abstractmethod
    def poll(self) -> End | None:
        """Poll once; return how the wait has ended, None if it goes on."""

    @abstractmethod
    def defer_wait(self) -> NoReturn:
        """Let a trigger go on with the polls."""

    @abstractmethod
    def end(self, end: End) -> str:
        """
        Push how the wait has ended, and return the value of the task, or raise its
        error.
        """

    @abstractmethod
    def complete(self, event: Mapping[str, object] | None) -> str:
        """
        End the task with the event of the trigger that has waited.

        :raises TriggerEventError: ``event`` is not an event of this provider's
            triggers.
        """

    def execute(self) -> str:
        """Wait on the worker, or poll once and then defer."""
        first_session = None
        if self.is_rescheduled or reschedules.is_rescheduled(self.context):
            first_session = task_instances.first_session(self.context)
        began_at = (first_session or clock.now()).astimezone(UTC)
        self.begin(began_at)
        # A poll goes on after an error that may pass, and so without a connection.
        _ = self.hook.region_name
        if self.options.deferrable:
            return self.end_or_defer()
        return self.end(self._poke_until_end(self.deadline_from(began_at)))

    @property
    def is_rescheduled(self) -> bool:
        """
        Whether each poll is made by another process, which does not know what was seen
        before.
        """
        return self.task.mode == "reschedule" and not self.options.deferrable

    @property
    def timeout_seconds(self) -> float:
        """How many seconds the task may take."""
        if self.is_rescheduled:
            # Airflow counts execution_timeout for each session of it.
            return self.options.timeout
        return super().timeout_seconds

    def deadline_from(self, began_at: datetime) -> float:
        """Return when the wait of a try ends at the latest, as Unix time."""
        return began_at.timestamp() + self.timeout_seconds

    def end_or_defer(self) -> str:
        """Poll once, and then end or defer the task."""
        # The first poll may be made in a triggerer, where many tasks start at the same
        # time. It shares the limiter with them, and with the pollers.
        limiter = rate_limiter_for(
            (self.task.polysync_conn_id, self.hook.region_name), clock.monotonic()
        )
        limiter.acquire()
        end = self.poll()
        if end is None:
            self.defer_wait()
        return self.end(end)

    def _poke_until_end(self, deadline: float) -> End:
        limits: tuple[type[BaseException], ...] = (sdk.AirflowSensorTimeout,)
        if not self.is_rescheduled:
            limits = (sdk.AirflowSensorTimeout, sdk.AirflowTaskTimeout)
        end: End | None
        try:
            end = task_instances.poke_until_done(self.task, self.context)
        except limits:
            # The outcome must be that of a deferred task, whose last poll is at its
            # deadline. That comes in a moment, unless Airflow counts the timeout of a
            # rescheduled task from an earlier try.
            seconds_left = max(0.0, deadline - clock.time())
            clock.sleep(min(seconds_left, LAST_POLL_SECONDS))
            with time_limit(LAST_POLL_SECONDS):
                end = self.poll()
            if end is None:
                raise
        return end
