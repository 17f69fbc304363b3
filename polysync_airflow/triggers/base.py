"""
The base of the triggers: a wait without a worker.

A trigger polls nothing itself: the poller of its kind, connection and region does. What it decides is decided
in ``execution/``, as for a wait on a worker.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator
from typing import Any, ClassVar

from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.airflow_compat.supervisor import use_event_loop
from polysync_airflow.execution.parameters import check_trigger_arguments
from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.waiter import Finish, ResourceArguments, WaitArguments, Waiter
from polysync_airflow.triggers.poller import Poller, ResourcePoller, poller_for
from polysync_airflow.triggers.schedule import Step


class WaitTrigger(BaseTrigger):
    """
    Wait, then fire one event.

    ``run`` only polls, since Airflow may run a trigger twice at the same time while triggers move between
    triggerers. The class path and the arguments are stored in Airflow's database: they are public, and hold
    no credentials. Each argument is an attribute, which the model checks before AWS is called.
    """

    arguments_model: ClassVar[type[WaitArguments]]
    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.triggers"

    polysync_conn_id: str
    region_name: str | None
    _poller: Poller | None = None

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        fields = self.arguments_model.model_fields.items()
        arguments = {field.alias or name: getattr(self, name) for name, field in fields}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Wait until the decision core ends the wait; yield its event as a JSON-able dict.

        :raises ParametersError: an argument of the stored trigger is not valid. Not raised by ``__init__``,
            where Airflow expects a TypeError only: any other error there ends the triggerer.
        """
        use_event_loop()
        waiter, progress = self._waiter(), self._progress()
        poller = self._poller = self._find_poller()
        subscription = poller.subscribe(waiter, progress)
        try:
            payload = None
            while payload is None:
                payload = self._handle(await subscription.next_step())
            await self._finish()
            yield TriggerEvent(payload)  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        except asyncio.CancelledError:
            await self._handle_cancellation()
            raise
        finally:
            self._close()
            poller.unsubscribe(subscription)

    def _waiter(self) -> Waiter[Any, Any]:
        return check_trigger_arguments(self.arguments_model, self.serialize()[1]).waiter()

    @abstractmethod
    def _find_poller(self) -> Poller:
        """Return the poller that the triggers of this kind share."""

    def _progress(self) -> Progress | None:
        return None

    def _handle(self, step: Step) -> dict[str, Any] | None:
        # Logged here, in the trigger's own context: by that, Airflow writes the line to the log of this task
        # only. With the logger of the class, since a logger for each trigger has twenty objects.
        log = self.logger()
        for line in step.log_lines:
            log.log(line.level, "%s", line.text)
        return step.event.model_dump(mode="json", by_alias=True) if isinstance(step, Finish) else None

    async def _finish(self) -> None:
        """End what must be over before the event is fired."""

    async def _handle_cancellation(self) -> None:
        """Handle that Airflow has cancelled the trigger."""

    def _close(self) -> None:
        """End what must not go on."""


class ResourceTrigger(WaitTrigger):
    """
    Wait for a resource that one operation of AWS describes.

    :param resource: its name or ARN.
    :param polysync_conn_id: Airflow connection.
    :param region_name: AWS region of the resource.
    :param poll_interval: seconds between two polls.
    :param since: when the wait began, in seconds since the epoch.
    :param deadline: when it ends at the latest, in seconds since the epoch. It is absolute, so that it stays
        the same when the trigger moves to another triggerer.
    """

    arguments_model: ClassVar[type[ResourceArguments]]

    def __init__(
        self,
        *,
        resource: str,
        polysync_conn_id: str,
        region_name: str,
        poll_interval: float,
        since: float,
        deadline: float,
    ) -> None:
        super().__init__()
        self.resource = resource
        self.polysync_conn_id = polysync_conn_id
        self.region_name = region_name
        self.poll_interval = poll_interval
        self.since = since
        self.deadline = deadline

    def _find_poller(self) -> Poller:
        waiter = self.arguments_model.waiter_class
        return poller_for(ResourcePoller, self.polysync_conn_id, self.region_name, waiter)
