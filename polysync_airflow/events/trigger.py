"""
The trigger of an ``AssetWatcher``, and the reader of a queue, which all its watchers in
a triggerer share.

DAG files import this module, so it imports neither boto3 nor the hook.

Airflow drives the reader:
https://github.com/apache/airflow/blob/main/airflow-core/src/airflow/triggers/shared_stream.py.
It gets each change once from ``open_stream``, and says in ``advance`` that all watchers
have passed it and that the events which they made are stored. Only then the message is
deleted. All that goes wrong before is cured by SQS, which delivers a message again
until it is deleted.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import AsyncIterator, Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from airflow.triggers.base import BaseTrigger, TriggerEvent

from polysync_airflow.airflow_compat import supervisor
from polysync_airflow.airflow_compat.capabilities import CAPABILITIES
from polysync_airflow.exceptions import ParametersError, PolysyncError
from polysync_airflow.execution import clock, events, texts
from polysync_airflow.execution.events import VISIBILITY_SECONDS, WAIT_SECONDS
from polysync_airflow.get_provider_info import DEFAULT_CONNECTION
from polysync_airflow.metrics import EVENTS_RECEIVED, EVENTS_UNREADABLE, Tally

if TYPE_CHECKING or CAPABILITIES.shared_event_streams:
    from airflow.triggers.base import BaseEventTrigger
    from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

    if TYPE_CHECKING:
        from polysync_airflow.events.queue import EventQueue, Received
else:
    BaseEventTrigger = BaseTrigger
    SharedStreamProducer = object

log = logging.getLogger(__name__)

# How many changes may wait until Airflow stores them, for which it gives a watcher five
# minutes, and until they are deleted.
MAX_IN_FLIGHT: Final = 200
# Airflow starts all watchers of a triggerer within moments. One that joins later misses
# what was read before.
JOIN_SECONDS: Final = 2.0
# The changes of some days: a duplicate comes within minutes, or when a triggerer has
# died.
MAX_REMEMBERED: Final = 10_000
# How long others may take a message that was given back. A consumer that waits for one
# gets it at once.
OTHERS_SECONDS: Final = 1.0
# When messages in flight are held for longer. A receive ends before, so that none
# becomes visible meanwhile.
HOLD_AFTER_SECONDS: Final = VISIBILITY_SECONDS / 4
# How often metrics are sent at most.
REPORT_SECONDS: Final = 60.0
MIN_BACKOFF_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0
OTHER_CONSUMER: Final = (
    "Another consumer receives messages of the queue %s: it has taken %s that this"
    " reader had given back. SQS hands a message to one consumer, which deletes it, so"
    " watchers of this queue miss events. Give each watcher a queue of its own, which"
    ' one deployment of Airflow reads. The page "React to events" of the documentation'
    ' has more: "What if there are several triggerers?"'
)


@dataclass
class Delivery:
    """
    A change that watchers are working on.

    :param handles: the receipt handles of the messages that report it, by the ids of
        these.
    :param held_at: when others were last kept from seeing them, in seconds of
        ``clock.monotonic``.
    """

    change: events.AnyChange
    held_at: float
    handles: dict[str, str] = field(default_factory=dict, repr=False)


class FailureLog:
    """
    Logs one line when calls begin to fail, and one when they work again.

    :param problem: what fails, such as "Messages of queue ... cannot be received".
    """

    def __init__(self, problem: str) -> None:
        self._problem = problem
        self.failures = 0

    def failed(self, error: Exception) -> None:
        """Count a failure."""
        self.failures += 1
        if self.failures == 1:
            text = str(error)
            if not isinstance(error, PolysyncError):
                text = f"{type(error).__name__}: {error}"
            log.warning("%s, retrying: %s", self._problem, texts.clean_text(text))

    def worked(self) -> None:
        """Note that a call has worked."""
        if self.failures:
            log.info(
                "It works again after %s failed calls: %s", self.failures, self._problem
            )
        self.failures = 0

    @property
    def pause(self) -> float:
        """
        How long to wait before the next call, in seconds: longer after each failure, in
        part at random.
        """
        doublings = min(self.failures - 1, 10)
        longest: float = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2**doublings)
        return longest * (0.5 + random.random() / 2)  # noqa: S311 # it spreads load


class EventProducer(SharedStreamProducer):
    """
    Reads one queue.

    :param watch: the arguments of one of its watchers, which have the queue in common.
    """

    def __init__(self, watch: events.WatcherArguments) -> None:
        self._watch = watch
        self._queue: EventQueue | None = None
        self._in_flight: dict[events.Key, Delivery] = {}
        self._has_room = asyncio.Event()
        self._obsolete: list[str] = []
        self._deletion: asyncio.Task[None] | None = None
        # Changes whose events are stored. Their messages may come again: AWS may send
        # several, and a message that could not be deleted does.
        self._stored = events.RecentEntries(MAX_REMEMBERED)
        self._unreadable = events.RecentEntries(MAX_REMEMBERED)
        self._consumers = events.ConsumerCheck()
        self._tally = Tally(
            connection=watch.polysync_conn_id, region=watch.region or "default"
        )
        self._reported_at = clock.monotonic()
        messages = f"Messages of the queue {watch.queue_url}"
        self._receiving = FailureLog(f"{messages} cannot be received")
        self._deleting = FailureLog(f"{messages} cannot be deleted")
        self._holding = FailureLog(f"{messages} cannot be held")

    async def open_stream(self) -> AsyncIterator[tuple[events.AnyChange, Delivery]]:
        """
        Yield each change that the queue reports, without an end and without errors.
        """
        supervisor.use_event_loop()
        # Its import takes a second, for which the event loop must not stand still. One
        # full run of Python's garbage collector, which so many new objects cause, still
        # stops it for a moment.
        queue = self._queue = await _in_thread(partial(_open_queue, self._watch))
        await asyncio.sleep(JOIN_SECONDS)
        while True:
            await self._hold(queue)
            self._report()
            if len(self._in_flight) + len(self._obsolete) >= MAX_IN_FLIGHT:
                self._has_room.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(HOLD_AFTER_SECONDS):
                        await self._has_room.wait()
                continue
            for message in await self._receive(queue):
                delivery = self._new_delivery(message)
                if delivery is not None:
                    yield delivery.change, delivery

    def get_advance_lane(self, broker_payload: Delivery) -> events.Key:
        """
        Let no change wait until another one is stored: SQS has no order to protect.
        """
        return broker_payload.change.key

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """
        Delete the messages of the changes whose events are stored. The others come
        again by themselves.
        """
        for payload, outcome in batch:
            delivery: Delivery = payload
            self._in_flight.pop(delivery.change.key, None)
            if outcome.is_clean:
                self._stored.add(delivery.change.key)
                self._delete(delivery.handles.values())
        self._has_room.set()

    async def aclose(self) -> None:
        """Stop reading. What a thread is still receiving goes back to the queue."""
        self._tally.report(is_last=True)
        if self._queue is not None:
            self._queue.close()
        if self._deletion is not None:
            await self._deletion

    def _new_delivery(self, message: Received) -> Delivery | None:
        """
        Return what watchers get of a message; None if there is nothing new for them.
        """
        if message.change is None:
            if self._unreadable.add(message.message_id):
                log.warning(
                    "Message %s stays in the queue %s, from where SQS moves it to the"
                    " dead-letter queue: %s.",
                    texts.clean_line(message.message_id),
                    self._watch.queue_url,
                    message.problem,
                )
            return None
        key = message.change.key
        if key in self._stored:
            self._delete([message.handle])
            return None
        if key in self._in_flight:
            # This message, too, must stay until the events of the change are stored.
            self._in_flight[key].handles[message.message_id] = message.handle
            return None
        delivery = Delivery(
            message.change,
            held_at=clock.monotonic(),
            handles={message.message_id: message.handle},
        )
        self._in_flight[key] = delivery
        return delivery

    async def _receive(self, queue: EventQueue) -> list[Received]:
        try:
            receive = partial(
                queue.receive,
                wait_seconds=WAIT_SECONDS,
                visibility_seconds=VISIBILITY_SECONDS,
            )
            received = await _in_thread(receive)
        except Exception as error:
            # Whatever it is, the next call may succeed. Airflow would start all
            # watchers again each second.
            self._receiving.failed(error)
            await asyncio.sleep(self._receiving.pause)
            return []
        self._receiving.worked()
        unreadable = [message for message in received if message.change is None]
        self._tally.add(EVENTS_RECEIVED, len(received))
        self._tally.add(EVENTS_UNREADABLE, len(unreadable))
        return await self._check_consumers(queue, received)

    async def _check_consumers(
        self, queue: EventQueue, received: list[Received]
    ) -> list[Received]:
        """
        Return the messages without those that are given back, to find out whether
        others take them.
        """
        now = clock.monotonic()
        missing = self._consumers.missing(
            [message.message_id for message in received],
            has_room=len(received) < events.BATCH,
            now=now,
        )
        if missing:
            log.error(OTHER_CONSUMER, self._watch.queue_url, len(missing))
        released = {
            message.message_id: message.handle
            for message in received
            if message.receives == 1 and message.change
        }
        if not released or not self._consumers.is_due(now):
            return received
        if not await self._call(queue.release, [*released.values()], self._holding):
            released = {}
        self._consumers.begin(released, now)
        await asyncio.sleep(OTHERS_SECONDS)
        return [message for message in received if message.message_id not in released]

    def _report(self) -> None:
        now = clock.monotonic()
        if now - self._reported_at >= REPORT_SECONDS:
            self._tally.report()
            self._reported_at = now

    async def _hold(self, queue: EventQueue) -> None:
        now = clock.monotonic()
        handles: list[str] = []
        for delivery in self._in_flight.values():
            if now - delivery.held_at >= HOLD_AFTER_SECONDS:
                delivery.held_at = now
                handles += delivery.handles.values()
        if handles:
            await self._call(queue.hold, handles, self._holding)

    def _delete(self, handles: Iterable[str]) -> None:
        # Airflow advances change by change. What it advances meanwhile is deleted in
        # one call.
        self._obsolete += handles
        if self._deletion is None or self._deletion.done():
            self._deletion = asyncio.create_task(self._delete_obsolete())

    async def _delete_obsolete(self) -> None:
        while self._obsolete and self._queue is not None:
            handles = self._obsolete[:]
            # Those that fail are received again, and then deleted.
            await self._call(self._queue.delete, handles, self._deleting)
            del self._obsolete[: len(handles)]
            self._has_room.set()

    async def _call(
        self,
        call: Callable[[Sequence[str]], None],
        handles: list[str],
        failures: FailureLog,
    ) -> bool:
        """Make a call for messages, and return whether it has worked."""
        try:
            await _in_thread(partial(call, handles))
        except Exception as error:
            failures.failed(error)
            return False
        failures.worked()
        return True


def _open_queue(watch: events.WatcherArguments) -> EventQueue:
    from polysync_airflow.events.queue import EventQueue

    return EventQueue(watch.polysync_conn_id, watch.region, watch.queue_url)


async def _in_thread(function: Callable[[], supervisor.Result]) -> supervisor.Result:
    # Not one of the event loop's own threads: a process does not end before those, and
    # a receive takes 20 s.
    call: Callable[[], Any] = partial(contextvars.copy_context().run, function)
    return await asyncio.wrap_future(supervisor.call_in_daemon_thread(call))


NOT_SUPPORTED: Final = (
    "PolysyncSageMakerEventTrigger needs Airflow 3.3 or newer, which says when an event"
    " is stored: until then, its message must stay in the queue. On this version of"
    " Airflow, wait with a sensor instead."
)


class _InvalidWatchError(ParametersError, TypeError):
    """
    Also a TypeError: any other error of a trigger's ``__init__`` ends the triggerer,
    for all triggers.
    """


class PolysyncSageMakerEventTrigger(BaseEventTrigger):
    """
    Make an asset event of each change of an execution, a step or a model package,
    whoever has made it.

    For an ``AssetWatcher``:
    https://airflow.apache.org/docs/apache-airflow/stable/authoring-and-scheduling/event-scheduling.html

    Rules of EventBridge fill a queue. All watchers of a queue share one reader in a
    triggerer; several triggerers cannot share a queue. A message is deleted after
    Airflow has stored the events that it makes, so an event can come twice when a
    triggerer dies, and none is lost. Needs Airflow 3.3.

    By default, it watches for the ends of executions. Airflow stores the class path and
    the arguments: they are public, and hold no credentials.

    :param queue_url: URL of the SQS queue,
        ``https://sqs.<region>.amazonaws.com/<account>/<name>``.
    :param polysync_conn_id: Airflow connection, which may receive and delete the
        messages of the queue.
    :param region_name: AWS region of the queue; None for that of the URL, else of the
        connection.
    :param pipelines: names of pipelines, in which ``*`` and ``?`` stand for any
        characters; None for all.
    :param steps: names of steps, as above: watch for their changes, not for those of
        executions.
    :param model_package_groups: names of groups, as above: watch for model packages
        that are registered, approved or rejected.
    :param states: the wanted states: of executions and steps ``Success``, ``Failed``,
        ``Cancelled`` and ``Running`` (default: all but the last), of model packages
        ``Approved``, ``Rejected`` and ``PendingManualApproval`` (default: all).
    :raises ParametersError: an argument is not valid, or this version of Airflow cannot
        do it. Raised when the DAG file is parsed.
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
        super().__init__()  # type: ignore[no-untyped-call]
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
            self._watch: events.WatcherArguments = events.check_watcher(arguments)
        except ParametersError as error:
            raise _InvalidWatchError(str(error)) from None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what Airflow stores: the class path and the arguments."""
        class_path = f"{type(self).__module__}.{type(self).__qualname__}"
        # As JSON: Airflow compares the arguments in the DAG file with those in its
        # database.
        return class_path, self._watch.model_dump(mode="json")

    def shared_stream_key(self) -> Hashable:
        """Return what all watchers of one queue have in common."""
        watch = self._watch
        name = type(self).__qualname__
        return name, watch.polysync_conn_id, watch.region, watch.queue_url

    @classmethod
    def create_shared_stream_producer(
        cls, kwargs: dict[str, Any]
    ) -> SharedStreamProducer:
        """Return the reader of a queue, for all its watchers."""
        return EventProducer(events.check_watcher(kwargs))

    async def filter_shared_stream(
        self, shared_stream: AsyncIterator[events.AnyChange]
    ) -> AsyncIterator[TriggerEvent]:
        """Yield one event for each change that this watcher wants."""
        yielded = events.RecentEntries(MAX_REMEMBERED)
        async for change in shared_stream:
            # A message that another watcher could not store comes again, for all.
            if self._watch.wants(change) and yielded.add(change.key):
                yield TriggerEvent(change.payload)  # type: ignore[no-untyped-call]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """
        Do nothing: Airflow calls ``filter_shared_stream`` instead.

        :raises ParametersError: the trigger is used without a triggerer.
        """
        raise ParametersError(
            "PolysyncSageMakerEventTrigger runs in the triggerer only: use it in an"
            " AssetWatcher, and schedule a DAG by the asset."
        )
        yield  # pragma: no cover # it makes this method a generator
