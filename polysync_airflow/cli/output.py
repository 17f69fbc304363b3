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
import shutil
import sys
import threading
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from rich.console import Console
from rich.markup import escape
from rich_argparse.contrib import ParagraphRichHelpFormatter

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
# The characters of a column that is cut.
MIN_WIDTH: Final = 8
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
    args: argparse.Namespace, document: dict[str, Any], lines: Iterable[str]
) -> int:
    """
    Write the result of a command in the form of ``--output``, and return the exit code
    ``OK``.
    """
    if args.output == "json":
        write_json({"version": 1, **document})
    else:
        write_result("".join(f"{line}\n" for line in lines))
    return OK


def line_width() -> int:
    """Return how long the lines of a table may be: as wide as the terminal is."""
    if sys.stdout.isatty():
        return min(shutil.get_terminal_size().columns, WIDTH_OF_A_FILE)
    return WIDTH_OF_A_FILE


def table(rows: Sequence[Sequence[str]], cut: Collection[str]) -> Iterator[str]:
    """
    Yield the lines of a table. Texts that others have written are cleaned.

    :param rows: the cells of each row; the first row is the head.
    :param cut: the heads of the columns that are cut if a line would have more than
        ``line_width`` characters, the widest ones first.
    """
    from polysync_airflow.execution.texts import MAX_ARN_LENGTH, clean_line

    rows = [[clean_line(cell, MAX_ARN_LENGTH) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    gaps = 2 * (len(widths) - 1)
    cuttable = [place for place, head in enumerate(rows[0]) if head in cut]
    limit = line_width()
    while cuttable and sum(widths) + gaps > limit:
        widest = max(cuttable, key=widths.__getitem__)
        if widths[widest] <= MIN_WIDTH:
            break
        widths[widest] -= 1
    for row in rows:
        cells = [
            _fitted(cell, cell_width)
            for cell, cell_width in zip(row, widths, strict=True)
        ]
        yield "  ".join(cells).rstrip()


def _fitted(cell: str, width: int) -> str:
    if len(cell) <= width:
        return cell.ljust(width)
    # The map index of a task, and what makes the name of a job unique, are at the end.
    end = len(cell) - width // 4
    start = width - 1 - width // 4
    return f"{cell[:start]}\N{HORIZONTAL ELLIPSIS}{cell[end:]}"


def write_message(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")


def counted(count: int, noun: str) -> str:
    """Return a number and a noun, such as ``1 difference`` or ``2 differences``."""
    if count == 1:
        return f"1 {noun}"
    return f"{count:,} {noun}s"


def in_seconds(time: datetime | None) -> str | None:
    """Return a time as results have it, such as ``2026-01-31T09:30:00+00:00``."""
    if time is None:
        return None
    return time.isoformat(timespec="seconds")


def write_error(error: object) -> None:
    """Write an error, or its text, to stderr as one line."""
    write_message("error: " + " ".join(str(error).split()))


def database_error(error: Any) -> int:
    """Write that Airflow's database cannot be used, and return the exit code."""
    write_error(database_problem(error))
    return ERROR


def database_problem(error: Any) -> str:
    """Return why Airflow's database cannot be used, and what to do."""
    # The text of SQLAlchemy has the statement and its parameters, too.
    return (
        f"Airflow's database cannot be used: {getattr(error, 'orig', None) or error}."
        " Check [database] sql_alchemy_conn, and make or upgrade the tables with:"
        " airflow db migrate"
    )


def confirms(args: argparse.Namespace, text: str, question: str) -> bool:
    """
    Return whether a person agrees to what a command does, now or by ``--yes``. Without
    a terminal, end with an error.
    """
    if args.yes:
        write_message(text)
        return True
    if not sys.stdin.isatty():
        args.parser.error(f"{' '.join(text.split())} If that does no harm, add --yes")
    write_message(f"{text}\n{question} [y/N]")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


@contextmanager
def airflow_in_use(
    connection_id: str | None, title: str = "Waiting for AWS"
) -> Iterator[Callable[[object], None]]:
    """
    Let a command use Airflow. What its loggers write to stdout, which is for the
    result, goes to stderr.

    :param connection_id: the connection of the command; None if it has several.
    :param title: what is counted while the command takes longer than two seconds.
    :return: a function to call with the name of each item that is done.
    """
    # This logger writes a traceback of each failed sign-in. The command itself reports
    # the error.
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
    status = Console(stderr=True).status(title)
    numbers = itertools.count(1)

    def on_item(name: object) -> None:
        status.update(f"{title} {next(numbers):,} {escape(str(name))}")

    timer = threading.Timer(PROGRESS_AFTER_SECONDS, status.start)
    timer.start()
    try:
        yield on_item
    finally:
        timer.cancel()
        timer.join()
        status.stop()


def hook(args: argparse.Namespace) -> PolysyncSageMakerHook:
    """Return the hook with the connection of a command, for many calls."""
    from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
    from polysync_airflow.hooks import PolysyncSageMakerHook

    hook = PolysyncSageMakerHook(args.conn_id, args.region, config=RATE_LIMITED_CONFIG)
    hook.outage_seconds = OUTAGE_SECONDS
    return hook


class HelpFormatter(ParagraphRichHelpFormatter):
    """
    Wraps texts to the terminal's width, and keeps what they say:
    ``[polysync_sagemaker]`` is no markup.
    """

    help_markup = False
    text_markup = False


class Parser(argparse.ArgumentParser):
    """
    A parser whose errors are one line, and name what a misspelled command, option or
    choice may mean.
    """

    def __init__(self, **kwargs: Any) -> None:
        # Without abbreviations: an option that is added later must not change what a
        # script means.
        super().__init__(formatter_class=HelpFormatter, allow_abbrev=False, **kwargs)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """
        Parse arguments; those that are not known are an error of this command, not of
        the whole line.
        """
        namespace, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return namespace, unknown

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        hint = f"Try: {self.prog} --help"
        similar = self._similar_name(message)
        if similar:
            hint = f"Did you mean {similar}? {hint}"
        self.exit(ERROR, f"error: {self.prog}: {message}. {hint}\n")

    def _similar_name(self, message: str) -> str | None:
        """Return the option or choice that was probably meant, by argparse's error."""
        from polysync_airflow.execution.texts import nearest_name

        choice = re.search(r"invalid choice: '?(.*?)'? \(choose from (.*)\)", message)
        if choice:
            return nearest_name(choice[1], re.findall(r"[\w-]+", choice[2]))
        option = re.match(r"unrecognized arguments: (-[^\s=]+)", message)
        if option:
            names = [name for action in self._actions for name in action.option_strings]
            return nearest_name(option[1], names)
        return None


COMMANDS: Final = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())
_AGE: Final = re.compile(r"([1-9][0-9]{0,3})([dh])")


def _age(text: str) -> timedelta:
    age = _AGE.fullmatch(text)
    if not age:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no age: give days or hours, such as 30d or 12h"
        )
    if age[2] == "d":
        return timedelta(days=int(age[1]))
    return timedelta(hours=int(age[1]))


def _number_to(greatest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or not 1 <= int(text) <= greatest:
            raise argparse.ArgumentTypeError(
                f"give a whole number from 1 to {greatest:,}"
            )
        return int(text)

    return parse


# What parses the values of options, by the type in ``commands.toml``. A number there is
# the highest value.
_TYPES: Final[dict[Any, Callable[[str], Any]]] = {"path": Path, "age": _age}


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
    """
    Add the options of a command to its parser, and a parser for each of its commands.

    :param command: a table of ``commands.toml``.
    """
    parser.set_defaults(parser=parser, module=command.get("in"))
    groups = [COMMANDS[name] for name in command.get("include", ())]
    for group in [*groups, command]:
        for name_and_metavar, settings in group.get("options", {}).items():
            name, _, metavar = name_and_metavar.partition(" ")
            parameters = {**settings}
            if metavar:
                parameters["metavar"] = metavar
            value_type = settings.get("type")
            if value_type:
                parameters["type"] = _TYPES.get(value_type) or _number_to(value_type)
            parser.add_argument(name, **parameters)
    if "commands" not in command:
        return
    subparsers = parser.add_subparsers(
        dest="command", metavar="COMMAND", title="Commands", required=is_required
    )
    for name, subcommand in command["commands"].items():
        subparser = subparsers.add_parser(
            name, help=subcommand["help"], description=subcommand.get("description")
        )
        _complete(subparser, subcommand)


def values_of(args: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the options that not all commands have."""
    common = ("command", "module", "parser", "output", "allow_wildcards")
    return {name: value for name, value in vars(args).items() if name not in common}


def check_values(args: argparse.Namespace) -> None:
    """
    End with an error if a value has not the form of its option, or allows more than it
    seems to.
    """
    for name, value in vars(args).items():
        any_text = {"option": f"--{name.replace('_', '-')}", "pattern": "(?s).*"}
        form = COMMANDS["forms"].get(name, any_text)
        values = value
        if not isinstance(value, list):
            values = [value]
        for text in values:
            if isinstance(text, str):
                _check_text(args, form, text)


def _check_text(args: argparse.Namespace, form: dict[str, str], text: str) -> None:
    """
    End with an error if a text has not the form of its option.

    :param form: a table of ``forms`` in ``commands.toml``.
    """
    option = form["option"]
    if not text.strip():
        args.parser.error(f"{option} is empty: give a value")
    if not args.allow_wildcards and ("*" in text or "?" in text):
        args.parser.error(
            f"{option} {text!r} has a wildcard, which allows more than one:"
            " add --allow-wildcards"
        )
    if not re.fullmatch(form["pattern"], text):
        args.parser.error(f"{option} {text!r} {form['problem']}")
