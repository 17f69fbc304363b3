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
    from polysync_airflow.events.queue import EventQueue

# So that a message is not shown twice, while the command runs: longer than --seconds
# may be.
_HIDDEN_SECONDS: Final = 360


def main(args: argparse.Namespace) -> int:
    """Run the command, and return its exit code."""
    if args.command == "tail":
        warning = output.COMMANDS["warnings"]["tail"]
        if not args.yes and not output.confirms(args, warning, "Receive messages?"):
            return output.FAILED
        return _tail(args)
    output.check_values(args)
    output.write_json(_setup(args))
    return output.OK


def _setup(args: argparse.Namespace) -> dict[str, Any]:
    from polysync_airflow.auth.iam_policies import queue_reader_policy
    from polysync_airflow.execution import events as resources

    # The names of its fields.
    fields = output.values_of(args)
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)
    setup = resources.QueueSetup(**fields)
    setup.check()
    return resources.cloudformation(setup, queue_reader_policy)


def _tail(args: argparse.Namespace) -> int:
    with output.airflow_in_use(args.conn_id):
        from polysync_airflow.events.queue import EventQueue
        from polysync_airflow.execution.events import check_watcher

        arguments = {"polysync_conn_id": args.conn_id, "region_name": args.region}
        watch = check_watcher(arguments | {"queue_url": args.queue_url})
        queue = EventQueue(watch.polysync_conn_id, watch.region, watch.queue_url)
    count = _show(queue, args.max_messages, args.seconds)
    output.write_message(f"{output.counted(count, 'message')}; none was deleted")
    return output.OK


def _show(queue: EventQueue, max_messages: int, seconds: int) -> int:
    """
    Write messages until none has come for a while, give them back to the queue, and
    return their number.
    """
    from polysync_airflow.execution import clock

    handles: list[str] = []
    end = clock.monotonic() + seconds
    try:
        while len(handles) < max_messages:
            seconds_left = end - clock.monotonic()
            if seconds_left <= 0:
                break
            received = queue.receive(
                limit=max_messages - len(handles),
                wait_seconds=min(20, max(1, round(seconds_left))),
                visibility_seconds=_HIDDEN_SECONDS,
            )
            handles += [message.handle for message in received]
            for message in received:
                content = {"unreadable": message.problem}
                if message.change is not None:
                    content = message.change.payload
                facts = {"message_id": message.message_id, "receives": message.receives}
                output.write_result(json.dumps(facts | content) + "\n")
            if received:
                end = clock.monotonic() + seconds
    finally:
        queue.release(handles)
    return len(handles)
