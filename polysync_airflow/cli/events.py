"""
The command ``polysync events``: what fills the queue of watchers, and a look at what is in it.

``setup`` prints the documents of ``execution/events.py``, and needs no Airflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.cli.output import (
    FAILED,
    OK,
    Parser,
    airflow_in_use,
    check_values,
    complete,
    write_message,
    write_result,
)

if TYPE_CHECKING:
    from polysync_airflow.events.queue import EventQueue, Received

CONFIRMATION: Final = """\
Watchers do not get the messages that are shown before the command ends. Each is received by this once more:
if it was received as often as the queue allows, 5 times by default, SQS moves it to the dead-letter queue."""
MAX_MESSAGES: Final = 100
MAX_SECONDS: Final = 300
# So that a message is not shown twice, while the command runs.
_HIDDEN_SECONDS: Final = MAX_SECONDS + 60


def make_parser(prog: str) -> argparse.ArgumentParser:
    """Return the parser of the command."""
    parser = Parser(prog=prog, description="Set up, and look at, the queue with events of SageMaker.")
    complete(parser, "events", messages=_number_to(MAX_MESSAGES), seconds=_number_to(MAX_SECONDS))
    return parser


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return its exit code."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    if options.action == "tail":
        if not options.yes and not sys.stdin.isatty():
            parser.error(f"{' '.join(CONFIRMATION.split())} If that does no harm, add --yes")
        return _tail(options) if options.yes or _confirms() else FAILED
    check_values(parser, options)
    write_result(_setup(options))
    return OK


def _setup(options: argparse.Namespace) -> str:
    from polysync_airflow.auth.iam_policies import queue_reader_policy
    from polysync_airflow.execution import events as resources

    # The names of its fields.
    given: dict[str, Any] = {name: value for name, value in vars(options).items() if name != "action"}
    lists = {name: tuple(value) for name, value in given.items() if isinstance(value, list)}
    setup = resources.Setup(**given | lists)
    setup.check()
    return json.dumps(resources.cloudformation(setup, queue_reader_policy), indent=2) + "\n"


def _confirms() -> bool:
    write_message(f"{CONFIRMATION}\nReceive messages? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _tail(options: argparse.Namespace) -> int:
    with airflow_in_use():
        from polysync_airflow.events.queue import EventQueue
        from polysync_airflow.execution.events import check_watch

        watch = check_watch(
            {
                "queue_url": options.queue_url,
                "polysync_conn_id": options.conn_id,
                "region_name": options.region,
            }
        )
        queue = EventQueue(watch.polysync_conn_id, watch.region, watch.queue_url)
    count = _show(queue, options.max_messages, options.seconds)
    write_message(f"{count} message{'' if count == 1 else 's'}; none was deleted")
    return OK


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
                write_result(json.dumps(_as_json(message)) + "\n")
            end = clock.monotonic() + seconds if received else end
    finally:
        queue.release(handles)
    return len(handles)


def _as_json(message: Received) -> dict[str, Any]:
    content = {"unreadable": message.problem} if message.change is None else message.change.payload
    return {"message_id": message.message_id, "receives": message.receives, **content}


def _number_to(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"give a whole number from 1 to {most}")
        return int(text)

    return parse
