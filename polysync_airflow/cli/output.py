"""What all commands have in common: their options, and what they write to stdout and stderr."""

from __future__ import annotations

import argparse
import logging
import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Final, NoReturn

from rich_argparse import RawTextRichHelpFormatter

OK: Final = 0
# The command has done its work, and the answer is "no": a drift, or a check that failed.
FAILED: Final = 1
# The command line is wrong, or the command could not do its work.
ERROR: Final = 2
INTERRUPTED: Final = 130
# For logs of CI systems, which are not limited to the 80 characters that rich assumes for a file.
WIDTH_OF_A_FILE: Final = 160


def write_result(text: str) -> None:
    """Write the result of a command, which ends with a line break, to stdout."""
    sys.stdout.write(text)
    sys.stdout.flush()


def write_message(text: str) -> None:
    """Write a line to stderr."""
    sys.stderr.write(f"{text}\n")


def write_error(error: object) -> None:
    """Write an error, or its text, to stderr as one line."""
    write_message("error: " + " ".join(str(error).split()))


@contextmanager
def airflow_in_use() -> Iterator[None]:
    """
    Let a command use Airflow. What its loggers write to stdout, which is for the result, goes to stderr.

    Import Airflow within this context, since its loggers keep the stream that they find.
    """
    # It logs each failed sign-in with a traceback. The command itself reports the error.
    botocore_log = logging.getLogger("botocore.credentials")
    level = botocore_log.level
    botocore_log.setLevel(logging.CRITICAL)
    try:
        with redirect_stdout(sys.stderr):
            from polysync_airflow.airflow_compat.database import use_connections_of_the_database

            use_connections_of_the_database()
            yield
    finally:
        botocore_log.setLevel(level)


@contextmanager
def progress(title: str) -> Iterator[Callable[[str], None]]:
    """Show on a terminal how many items are done; yield a function to call with the name of each."""
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (
        SpinnerColumn(),
        TextColumn(escape(title)),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[item]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None, item="")
        yield lambda name: bar.update(task, advance=1, item=name)


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        # Without abbreviations: an option that is added later must not change what a script means.
        super().__init__(formatter_class=RawTextRichHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        self.exit(2, f"error: {self.prog}: {message}. Try: {self.prog} --help\n")


COMMANDS: Final = tomllib.loads(Path(__file__).with_name("commands.toml").read_text())


def complete(parser: argparse.ArgumentParser, command: str, **types: Callable[[str], Any]) -> None:
    """
    Add the options and the commands of a command to its parser, as ``commands.toml`` has them.

    :param types: functions that parse values, by their names in ``commands.toml``.
    """
    _complete(parser, COMMANDS[command], {"path": Path, "int": int, **types})


def _complete(parser: argparse.ArgumentParser, command: dict[str, Any], types: Mapping[str, Any]) -> None:
    for group in (*(COMMANDS[name] for name in command.get("include", ())), command):
        for names, settings in group.get("options", {}).items():
            name, _, metavar = names.partition(" ")
            more = {"metavar": metavar} if metavar else {}
            more |= {"type": types[settings["type"]]} if "type" in settings else {}
            parser.add_argument(name, **settings | more)
    if "commands" not in command:
        return
    commands = parser.add_subparsers(**command["subparsers"])
    for name, each in command["commands"].items():
        settings = {key: each[key] for key in ("help", "description", "add_help") if key in each}
        _complete(commands.add_parser(name, **settings), each, types)


def check_values(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """End with an error if a value has not the form of its option, or allows more than it seems to."""
    for name, value in vars(options).items():
        form = COMMANDS["forms"].get(name, {"option": f"--{name.replace('_', '-')}", "pattern": "(?s).*"})
        for text in value if isinstance(value, list) else [value]:
            if not isinstance(text, str):
                continue
            if not text.strip():
                parser.error(f"{form['option']} is empty: give a value")
            if not vars(options).get("allow_wildcards") and ("*" in text or "?" in text):
                hint = "add --allow-wildcards" if "allow_wildcards" in options else "give one for each"
                parser.error(f"{form['option']} {text!r} has a wildcard, which allows more than one: {hint}")
            if not re.fullmatch(form["pattern"], text):
                parser.error(f"{form['option']} {text!r} {form['problem']}")
