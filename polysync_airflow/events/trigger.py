"""The trigger of an ``AssetWatcher``. DAG files import it, so it imports neither boto3 nor the hook."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import TriggerEvent

from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import ParametersError
from polysync_airflow.execution import events
from polysync_airflow.get_provider_info import DEFAULT_CONNECTION

if TYPE_CHECKING or CAPABILITIES.shared_event_streams:
    from airflow.triggers.base import BaseEventTrigger

    if TYPE_CHECKING:
        from airflow.triggers.shared_stream import SharedStreamProducer
else:
    from airflow.triggers.base import BaseTrigger as BaseEventTrigger

# The changes of some days: a duplicate comes within minutes, or when a triggerer has died.
MAX_SEEN: Final = 10_000
NOT_SUPPORTED: Final = (
    "PolysyncSageMakerEventTrigger needs Airflow 3.3 or newer, which says when an event is stored: until "
    "then, its message must stay in the queue. On this version of Airflow, wait with a sensor instead."
)


class _InvalidWatchError(ParametersError, TypeError):
    """Also a TypeError: any other error of a trigger's ``__init__`` ends the triggerer, for all triggers."""


class PolysyncSageMakerEventTrigger(BaseEventTrigger):
    """
    Make an asset event of each change of an execution, a step or a model package, whoever has made it.

    For an ``AssetWatcher``:
    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/event-scheduling.html

    A rule of EventBridge fills a queue, which ``polysync events setup`` describes. All watchers of a queue
    share one reader in a triggerer; several triggerers cannot share a queue. A message is deleted after
    Airflow has stored the events that it makes, so an event can come twice when a triggerer dies, and none is
    lost. Needs Airflow 3.3.

    By default, it watches for the ends of executions. Airflow stores the class path and the arguments: they
    are public, and hold no credentials.

    :param queue_url: URL of the SQS queue, ``https://sqs.<region>.amazonaws.com/<account>/<name>``.
    :param polysync_conn_id: Airflow connection, which may receive and delete the messages of the queue.
    :param region_name: AWS region of the queue; None for that of the URL, else of the connection.
    :param pipelines: names of pipelines, in which ``*`` and ``?`` stand for any characters; None for all.
    :param steps: names of steps, as above: watch for their changes, not for those of executions.
    :param model_package_groups: names of groups, as above: watch for model packages that are registered,
        approved or rejected.
    :param states: the wanted states: of executions and steps ``Success``, ``Failed``, ``Cancelled`` and
        ``Running`` (default: all but the last), of model packages ``Approved``, ``Rejected`` and
        ``PendingManualApproval`` (default: all).
    :raises ParametersError: an argument is not valid, or this version of Airflow cannot do it. Raised when
        the DAG file is parsed.
    """

    # The class path that Airflow stores is the public one, wherever this module is.
    __module__ = "polysync_airflow.events"

    def __init__(
        self,
        *,
        queue_url: str,
        polysync_conn_id: str = DEFAULT_CONNECTION,
        region_name: str | None = None,
        pipelines: Sequence[str] | None = None,
        steps: Sequence[str] | None = None,
        model_package_groups: Sequence[str] | None = None,
        states: Sequence[str] | None = None,
    ) -> None:
        if not CAPABILITIES.shared_event_streams:
            raise _InvalidWatchError(NOT_SUPPORTED)
        super().__init__()  # type: ignore[no-untyped-call]  # Airflow's has no annotations
        arguments = {
            "queue_url": queue_url,
            "polysync_conn_id": polysync_conn_id,
            "region_name": region_name,
            "pipelines": pipelines,
            "steps": steps,
            "model_package_groups": model_package_groups,
            "states": states,
        }
        try:
            self._watch: events.WatcherArguments = events.check_watch(arguments)
        except ParametersError as error:
            raise _InvalidWatchError(str(error)) from None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        # As JSON: Airflow compares the arguments in the DAG file with those in its database.
        return f"{type(self).__module__}.{type(self).__qualname__}", self._watch.model_dump(mode="json")

    def shared_stream_key(self) -> Hashable:
        """Return what all watchers of one queue have in common."""
        return (
            type(self).__qualname__,
            self._watch.polysync_conn_id,
            self._watch.region,
            self._watch.queue_url,
        )

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return the reader of a queue, for all its watchers."""
        from polysync_airflow.events.producer import EventProducer

        return EventProducer(events.check_watch(kwargs))

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[events.AnyChange]
    ) -> AsyncIterator[TriggerEvent]:
        """Yield one event for each change that this watcher wants."""
        seen = events.Memory(MAX_SEEN)
        async for change in shared_stream:
            # A message that another watcher could not store comes again, for all.
            if self._watch.wants(change) and seen.add(change.key):
                yield TriggerEvent(change.payload)  # type: ignore[no-untyped-call]  # Airflow's has no annotations

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Do nothing: Airflow calls ``filter_shared_stream`` instead.

        :raises ParametersError: the trigger is used without a triggerer.
        """
        raise ParametersError(
            "PolysyncSageMakerEventTrigger runs in the triggerer only: use it in an AssetWatcher, and "
            "schedule a DAG by the asset."
        )
        yield  # pragma: no cover # it makes this method a generator
