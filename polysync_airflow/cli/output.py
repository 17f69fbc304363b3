"""
What all commands have in common: their options, and what they write to stdout and
stderr.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import re
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from rich_argparse import RawTextRichHelpFormatter

from polysync_airflow import __version__

if TYPE_CHECKING:
    from polysync_airflow.hooks import PolysyncSageMakerHook

OK: Final = 0
# The command has done its work, and the answer is "no": a drift, or a check that
# failed.
FAILED: Final = 1
# The command line is wrong, or the command could not do its work.
ERROR: Final = 2
INTERRUPTED: Final = 130
# For logs of CI systems, which are not limited to the 80 characters that rich assumes
# for a file.
WIDTH_OF_A_FILE: Final = 160
# Nobody looks at what is shown for a shorter time.
PROGRESS_AFTER_SECONDS: Final = 2.0
# botocore's attempts of a call, and how long a call is retried without an answer of
# AWS. So a command ends within a minute if an endpoint cannot be reached.
MAX_ATTEMPTS: Final = "2"
OUTAGE_SECONDS: Final = 20.0


def write_result(text: str) -> None:
    """Write the result of a command, which ends with a line break, to stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_json(content: Any) -> None:
    """Write the result of a command as JSON to stdout."""
    write_result(json.dumps(content, indent=2) + "\n")


def write(
    options: argparse.Namespace, document: dict[str, Any], lines: Iterable[str]
) -> int:
    """
    Write the result of a command in the form of ``--output``, and return the exit code
    ``OK``.
    """
    if options.output == "json":
        write_json({"version": 1, **document})
    else:
        write_result("".join(f"{line}\n" for line in lines))
    return OK


def write_message(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")


def write_error(error: object) -> None:
    """Write an error, or its text, to stderr as one line."""
    write_message("error: " + " ".join(str(error).split()))


def confirms(options: argparse.Namespace, text: str, question: str) -> bool:
    """
    Return whether a person agrees to what a command does. Without a terminal, end with
    an error.
    """
    if not sys.stdin.isatty():
        options.parser.error(
            f"{' '.join(text.split())} If that does no harm, add --yes"
        )
    write_message(f"{text}\n{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def airflow_in_use(
    connection_id: str | None,
    title: str = "Waiting for AWS",
) -> Iterator[Callable[[object], None]]:
    """
    Let a command use Airflow. What its loggers write to stdout, which is for the
    result, goes to stderr.

    :param connection_id: the connection of the command; None if it has several.
    :param title: what is counted while the command takes longer than two seconds.
    :return: a function to call with the name of each item that is done.
    """
    # It logs each failed sign-in with a traceback. The command itself reports the
    # error.
    botocore_log = logging.getLogger("botocore.credentials")
    level = botocore_log.level
    botocore_log.setLevel(logging.CRITICAL)
    os.environ.setdefault("AWS_MAX_ATTEMPTS", MAX_ATTEMPTS)
    try:
        with redirect_stdout(sys.stderr):
            from polysync_airflow.airflow_compat.database import (
                use_connection_of_the_database,
            )

            if connection_id is not None:
                use_connection_of_the_database(connection_id)
            with _progress(title) as on_item:
                yield on_item
    finally:
        botocore_log.setLevel(level)


@contextmanager
def _progress(title: str) -> Iterator[Callable[[object], None]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.markup import escape

    status, numbers = Console(stderr=True).status(title), itertools.count(1)
    timer = threading.Timer(PROGRESS_AFTER_SECONDS, status.start)
    timer.start()
    try:
        yield lambda name: status.update(
            f"{title} {next(numbers):,} {escape(str(name))}"
        )
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def hook(options: argparse.Namespace) -> PolysyncSageMakerHook:
    """Return the hook with the connection of a command, for many calls."""
    from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
    from polysync_airflow.hooks import PolysyncSageMakerHook

    made = PolysyncSageMakerHook(
        options.conn_id, options.region, config=RATE_LIMITED_CONFIG
    )
    made.outage_seconds = OUTAGE_SECONDS
    return made


class Parser(argparse.ArgumentParser):
    """
    A parser whose errors are one line, and name what a misspelled command, option or
    choice may mean.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Without abbreviations: an option that is added later must not change what a
        # script means.
        super().__init__(
            formatter_class=RawTextRichHelpFormatter, allow_abbrev=False, **kwargs
        )

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """
        Parse arguments; those that are not known are an error of this command, not of
        the whole line.
        """
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        from polysync_airflow.execution.texts import nearest_name

        names = [name for action in self._actions for name in action.option_strings]
        found = re.match(r"unrecognized arguments: (-[^\s=]+)", message)
        if choice := re.search(
            r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message
        ):
            found, names = choice, re.findall(r"[\w-]+", choice[2])
        similar = nearest_name(found[1], names) if found else None
        hint = f"Did you mean {similar}? " if similar else ""
        self.exit(
            ERROR, f"error: {self.prog}: {message}. {hint}Try: {self.prog} --help\n"
        )


COMMANDS: Final = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())
_AGE: Final = re.compile(r"([1-9][0-9]{0,3})([dh])")


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age: give days or hours, such as 30d or 12h"
        )
    return timedelta(**{{"d": "days", "h": "hours"}[found[2]]: int(found[1])})


def _number_to(most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"give a whole number from 1 to {most:,}")
        return int(text)

    return parse


# What parses the values of options, by the type in ``commands.toml``. A number there is
# the highest value.
_TYPES: Final[dict[Any, Callable[[str], Any]]] = {"path": Path, "int": int, "age": _age}


def make_parser() -> Parser:
    """Return the parser of the whole command line, as ``commands.toml`` has it."""
    parser = Parser(prog="polysync", description=COMMANDS["polysync"]["description"])
    parser.add_argument(
        "--version", action="version", version=f"polysync-airflow {__version__}"
    )
    _complete(parser, COMMANDS["polysync"], is_required=False)
    return parser


def _complete(
    parser: argparse.ArgumentParser,
    command: dict[str, Any],
    *,
    is_required: bool = True,
) -> None:
    parser.set_defaults(parser=parser, module=command.get("in"))
    for group in (*(COMMANDS[name] for name in command.get("include", ())), command):
        for names, settings in group.get("options", {}).items():
            name, _, metavar = names.partition(" ")
            more: dict[str, Any] = {"metavar": metavar} if metavar else {}
            if kind := settings.get("type"):
                more["type"] = _TYPES.get(kind) or _number_to(kind)
            parser.add_argument(name, **settings | more)
    if "commands" not in command:
        return
    titles = {"dest": "command", "metavar": "COMMAND", "title": "Commands"}
    commands = parser.add_subparsers(**titles, required=is_required)
    for name, each in command["commands"].items():
        settings = {key: each[key] for key in ("help", "description") if key in each}
        _complete(commands.add_parser(name, **settings), each)


def values_of(options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the options that not all commands have."""
    common = ("command", "module", "parser", "output", "allow_wildcards")
    return {name: value for name, value in vars(options).items() if name not in common}


def check_values(options: argparse.Namespace) -> None:
    """
    End with an error if a value has not the form of its option, or allows more than it
    seems to.
    """
    for name, value in vars(options).items():
        form = COMMANDS["forms"].get(
            name, {"option": f"--{name.replace('_', '-')}", "pattern": "(?s).*"}
        )
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            if not text.strip():
                options.parser.error(f"{form['option']} is empty: give a value")
            if not vars(options).get("allow_wildcards") and (
                "*" in text or "?" in text
            ):
                hint = (
                    "add --allow-wildcards"
                    if "allow_wildcards" in options
                    else "give one for each"
                )
                options.parser.error(
                    f"{form['option']} {text!r} has a wildcard, which allows more than"
                    f" one: {hint}"
                )
            if not re.fullmatch(form["pattern"], text):
                options.parser.error(f"{form['option']} {text!r} {form['problem']}")
