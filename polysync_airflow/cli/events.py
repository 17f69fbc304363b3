"""
The command ``polysync events``: what fills the queue of watchers, and a look at what is
in it.

``setup`` prints the documents of ``execution/events.py``, and needs no Airflow.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.cli import output

if TYPE_CHECKING:
    from polysync_airflow.events.queue import EventQueue, Received

# So that a message is not shown twice, while the command runs: longer than --seconds
# may be.
_HIDDEN_SECONDS: Final = 360


def main(options: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    if options.command == "tail":
        is_agreed = options.yes or output.confirms(
            options, output.COMMANDS["warnings"]["tail"], "Receive messages?"
        )
        return _tail(options) if is_agreed else output.FAILED
    output.check_values(options)
    output.write_json(_setup(options))
    return output.OK


def _setup(options: argparse.Namespace) -> dict[str, Any]:
    from polysync_airflow.auth.iam_policies import queue_reader_policy
    from polysync_airflow.execution import events as resources

    # The names of its fields.
    given = output.values_of(options)
    lists = {
        name: tuple(value) for name, value in given.items() if isinstance(value, list)
    }
    setup = resources.QueueSetup(**given | lists)
    setup.check()
    return resources.cloudformation(setup, queue_reader_policy)


def _tail(options: argparse.Namespace) -> int:
    with output.airflow_in_use(options.conn_id):
        from polysync_airflow.events.queue import EventQueue
        from polysync_airflow.execution.events import check_watcher

        arguments = {"polysync_conn_id": options.conn_id, "region_name": options.region}
        watch = check_watcher(arguments | {"queue_url": options.queue_url})
        queue = EventQueue(watch.polysync_conn_id, watch.region, watch.queue_url)
    count = _show(queue, options.max_messages, options.seconds)
    output.write_message(
        f"{count} message{'' if count == 1 else 's'}; none was deleted"
    )
    return output.OK


def _show(queue: EventQueue, most: int, seconds: int) -> int:
    from polysync_airflow.execution import clock

    handles: list[str] = []
    end = clock.monotonic() + seconds
    try:
        while len(handles) < most and (left := end - clock.monotonic()) > 0:
            received = queue.receive(
                limit=most - len(handles),
                wait_seconds=min(20, max(1, round(left))),
                visibility_seconds=_HIDDEN_SECONDS,
            )
            handles += [message.handle for message in received]
            for message in received:
                output.write_result(json.dumps(_as_json(message)) + "\n")
            end = clock.monotonic() + seconds if received else end
    finally:
        queue.release(handles)
    return len(handles)


def _as_json(message: Received) -> dict[str, Any]:
    content = (
        {"unreadable": message.problem}
        if message.change is None
        else message.change.payload
    )
    return {"message_id": message.message_id, "receives": message.receives, **content}
