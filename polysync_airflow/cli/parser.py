"""The options of the command line. Its help has the form of Airflow's."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final, NoReturn

from rich_argparse import RawTextRichHelpFormatter

from polysync_airflow import __version__
from polysync_airflow.get_provider_info import DEFAULT_CONNECTION

DESCRIPTION: Final = """\
Import Amazon SageMaker pipelines as jobs, and check what Airflow needs for them.

Exit codes: 0 if all is well, 1 for a drift or a failed check, 2 for an error."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def __init__(self, **kwargs: Any) -> None:
        # Without abbreviations: an option that is added later must not change what a script means.
        super().__init__(formatter_class=RawTextRichHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        """End with exit code 2 and one line on stderr."""
        self.exit(2, f"error: {self.prog}: {message}. Try: {self.prog} --help\n")


# The settings of an option that must be given, of one that has no value, and of one that may be repeated.
REQUIRED: Final[dict[str, Any]] = {"required": True}
FLAG: Final[dict[str, Any]] = {"action": "store_true"}
MANY: Final[dict[str, Any]] = {"action": "append", "default": []}


def add_options(parser: argparse.ArgumentParser, *options: tuple[str, str | None, dict[str, Any]]) -> None:
    """Add options, each with its name and metavar, its help, and its other settings for argparse."""
    for names, text, settings in options:
        name, _, metavar = names.partition(" ")
        parser.add_argument(name, help=text, **(settings | {"metavar": metavar} if metavar else settings))


def make_parser(delegated: dict[str, str]) -> Parser:
    """
    Return the parser of the whole command line.

    :param delegated: the commands whose options are elsewhere, and what each is for.
    """
    parser = Parser(prog="polysync", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"polysync-airflow {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="Commands")
    _add_jobs(
        commands.add_parser("jobs", help="import pipelines as jobs, and compare them", description=JOBS)
    )
    check = commands.add_parser("check", help="test a connection", description=CHECK)
    add_connection(check)
    for name, purpose in delegated.items():
        commands.add_parser(name, help=purpose, add_help=False)
    return parser


JOBS: Final = "Import pipelines as jobs into a catalogue file, and compare such a file with the pipelines."
IMPORT: Final = """\
Write the pipelines of an account and region, with their parameters, as a catalogue in YAML.

In a file that exists, the descriptions are kept. An import with --prefix replaces only the jobs with this
prefix. An import that would remove all jobs, or is of another region or account than the jobs of the file,
writes nothing."""
DIFF: Final = """\
Compare a catalogue file with the pipelines that exist. Exit code 1 if they differ."""
CHECK: Final = """\
Test a connection: which identity signs in, when its credentials expire, and which actions are granted.
Exit code 1 if the connection cannot be used."""


def _add_jobs(jobs: argparse.ArgumentParser) -> None:
    commands = jobs.add_subparsers(dest="command", metavar="COMMAND", title="Commands", required=True)
    importing = commands.add_parser("import", help="write a catalogue", description=IMPORT)
    diff = commands.add_parser("diff", help="compare a catalogue with the pipelines", description=DIFF)
    diff.add_argument("catalogue", type=Path, metavar="FILE", help="the catalogue file")
    for command in (importing, diff):
        add_connection(command)
        add_options(command, ("--prefix TEXT", "only pipelines whose names begin with this", {"default": ""}))
    forced = "write the file also if all its jobs are removed, or are of another region or account"
    add_options(
        importing,
        ("--output FILE", "the catalogue file to write (default: stdout)", {"type": Path}),
        ("--force", forced, FLAG),
    )
    forms = {"choices": ("table", "json"), "default": "table"}
    add_options(
        diff,
        ("--format", "form of the result (default: table)", forms),
        ("--strict", "also fail if only the definition of a pipeline has changed, not its parameters", FLAG),
    )


def add_connection(command: argparse.ArgumentParser) -> None:
    """Add the options that name an Airflow connection."""
    named = f"Airflow connection (default: {DEFAULT_CONNECTION})"
    add_options(
        command,
        ("--conn-id ID", named, {"default": DEFAULT_CONNECTION}),
        ("--region REGION", "AWS region (default: that of the connection)", {}),
    )
