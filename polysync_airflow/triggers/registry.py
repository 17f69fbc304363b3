"""The pollers of a process: one for each connection and region, from its first subscription to its last."""

from __future__ import annotations

import asyncio
import threading
from typing import Final

from polysync_airflow.execution.steps.progress import Progress
from polysync_airflow.execution.waiter import Waiter
from polysync_airflow.triggers.poller import Key, Poller
from polysync_airflow.triggers.subscription import Subscription

# Reentrant: the garbage collector may end a subscription while another one begins in the same thread.
_LOCK: Final = threading.RLock()
_POLLERS: Final[dict[Key, Poller]] = {}


def subscribe(
    connection_id: str, region_name: str | None, waiter: Waiter, progress: Progress | None = None
) -> Subscription:
    """
    Subscribe the running event loop to the poll of an execution. The caller must unsubscribe.

    :param connection_id: Airflow connection.
    :param region_name: AWS region; None for the connection's own.
    :param waiter: the state of the wait.
    :param progress: when the steps are listed; None for never.
    """
    key = (connection_id, region_name)
    with _LOCK:
        if key not in _POLLERS:
            _POLLERS[key] = Poller(key, _release)
        poller = _POLLERS[key]
        subscription = Subscription(waiter, poller, asyncio.get_running_loop(), progress)
        poller.users.add(subscription)
    poller.subscribe(subscription)
    return subscription


def _release(poller: Poller, subscription: Subscription) -> None:
    with _LOCK:
        poller.users.discard(subscription)
        if not poller.users and _POLLERS.get(poller.client.key) is poller:
            del _POLLERS[poller.client.key]
            poller.close()
