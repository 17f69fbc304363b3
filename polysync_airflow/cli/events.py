"""
The command ``polysync events``: what fills the queue of watchers, and a look at what is in it.

``setup`` prints the documents of ``execution/events.py``, and needs no Airflow.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from polysync_airflow.cli.output import FAILED, OK, logs_to_stderr, write_message, write_result
from polysync_airflow.cli.parser import FLAG, MANY, REQUIRED, Parser, add_connection, add_options

if TYPE_CHECKING:
    from polysync_airflow.events.queue import EventQueue, Received

SETUP: Final = """\
Print a template of CloudFormation of what fills a queue with events of SageMaker: rules of EventBridge, the
queue, its dead-letter queue, its policy, and the IAM policy for the connection of Airflow that reads it."""
TAIL: Final = """\
Show the messages of a queue, as watchers understand them. Nothing is deleted, but watchers do not get the
messages before the command ends, and SQS counts each look as a receive, so it asks before it looks."""
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
    commands = parser.add_subparsers(dest="action", metavar="COMMAND", title="Commands", required=True)
    _add_setup(commands.add_parser("setup", help="print what fills a queue", description=SETUP))
    tail = commands.add_parser("tail", help="show the messages of a queue", description=TAIL)
    add_options(tail, ("--queue-url URL", "URL of the queue", REQUIRED))
    add_connection(tail)
    seconds = {"type": _number("--seconds", MAX_SECONDS), "default": 20}
    messages = {"type": _number("--max-messages", MAX_MESSAGES), "default": 10}
    add_options(
        tail,
        ("--max-messages N", "end after N messages (default: 10)", messages),
        ("--seconds N", "end after N seconds without a message (default: 20)", seconds),
        ("--yes", "do not ask before messages are received", FLAG),
    )
    return parser


def _add_setup(setup: argparse.ArgumentParser) -> None:
    most = "receives after which a message goes to the dead-letter queue (default: 5)"
    groups = "also events of the model packages of this group; may be repeated"
    add_options(
        setup,
        ("--queue NAME", "name of the queue", REQUIRED),
        ("--pipeline NAME", "only events of this pipeline; may be repeated (default: all)", MANY),
        ("--steps", "also events of steps", FLAG),
        ("--running", "also events of what begins or is stopping", FLAG),
        ("--model-packages", "also events of model packages", FLAG),
        ("--model-package-group NAME", groups, MANY),
        ("--max-receives N", most, {"type": int, "default": 5}),
    )


def main(arguments: Sequence[str], prog: str) -> int:
    """Run the command, and return its exit code."""
    parser = make_parser(prog)
    options = parser.parse_args(arguments)
    if options.action == "tail":
        if not options.yes and not sys.stdin.isatty():
            parser.error(f"{' '.join(CONFIRMATION.split())} If that does no harm, add --yes")
        return _tail(options) if options.yes or _confirms() else FAILED
    write_result(_setup(options))
    return OK


def _setup(options: argparse.Namespace) -> str:
    from polysync_airflow.auth.iam_policies import queue_reader_policy
    from polysync_airflow.execution import events as resources

    setup = resources.Setup(
        queue=options.queue,
        pipelines=tuple(options.pipeline),
        running=options.running,
        steps=options.steps,
        model_packages=options.model_packages,
        groups=tuple(options.model_package_group),
        max_receives=options.max_receives,
    )
    setup.check()
    return json.dumps(resources.cloudformation(setup, queue_reader_policy), indent=2) + "\n"


def _confirms() -> bool:
    write_message(f"{CONFIRMATION}\nReceive messages? [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _tail(options: argparse.Namespace) -> int:
    with logs_to_stderr():
        from polysync_airflow.airflow_compat.database import use_connections_of_the_database
        from polysync_airflow.events.queue import EventQueue
        from polysync_airflow.execution.events import check_watch

        use_connections_of_the_database()
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


def _number(option: str, most: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"give a whole number from 1 to {most}")
        return int(text)

    parse.__name__ = option
    return parse
