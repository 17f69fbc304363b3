"""Runs a command line, and turns errors into exit codes. The commands that need a connection are here."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from polysync_airflow import __version__
from polysync_airflow.cli import output

if TYPE_CHECKING:
    from polysync_airflow.execution.pipelines import Job
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.jobs import catalogue, drift

DESCRIPTION: Final = """\
Import Amazon SageMaker pipelines as jobs, and check what Airflow needs for them.

Exit codes: 0 if all is well, 1 for a drift or a failed check, 2 for an error."""
# How many names a line of the summary lists.
MAX_NAMES = 20


def make_parser() -> output.Parser:
    """Return the parser of the whole command line."""
    parser = output.Parser(prog="polysync", description=DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"polysync-airflow {__version__}")
    output.complete(parser, "polysync")
    return parser


def import_command(options: argparse.Namespace) -> int:
    """Write a catalogue of the pipelines that exist, and return the exit code."""
    with output.airflow_in_use():
        from polysync_airflow.exceptions import CatalogueError
        from polysync_airflow.jobs import catalogue, importer

        scope, before = catalogue.Scope(options.prefix), None
        # Not after minutes of calls to AWS.
        if options.output and not options.output.resolve().parent.is_dir():
            raise CatalogueError(f"{options.output} cannot be written: its folder does not exist. Create it.")
        if options.output and options.output.exists():
            before = catalogue.read_catalogue(options.output)
        jobs, region = _imported(options)
        update = catalogue.update_catalogue(before, jobs, scope)
        loss = None if options.force else catalogue.loss_by_import(before, jobs, scope, region)
        if loss:
            raise CatalogueError(
                f"{options.output} was not written: {loss}. Check --region, --conn-id, --prefix and "
                "--managed-by. With --force, it is written all the same."
            )
        for line in importer.describe_import(jobs)[1:]:
            output.write_message(line)
    if options.output:
        catalogue.write_catalogue(options.output, update.jobs)
    else:
        output.write_result(catalogue.catalogue_text(update.jobs))
    _write_summary(update, str(options.output or "stdout"))
    return output.OK


def _write_summary(update: catalogue.Update, target: str) -> None:
    for broken in update.replaced:
        output.write_message(
            f"Replaced the entry {broken.name}, whose descriptions are lost: {broken.problem}"
        )
    for title, names in (("Added", update.added), ("Changed", update.changed), ("Removed", update.removed)):
        if names:
            more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
            output.write_message(f"{title}: {', '.join(names[:MAX_NAMES])}{more}")
    output.write_message(
        f"{target}: {len(update.jobs):,} jobs ({len(update.added):,} added, {len(update.changed):,} changed, "
        f"{len(update.removed):,} removed, {len(update.unchanged):,} unchanged)"
    )


def diff_command(options: argparse.Namespace) -> int:
    """Compare a catalogue with the pipelines that exist, and return the exit code: 1 for a drift."""
    with output.airflow_in_use():
        from polysync_airflow.jobs import catalogue, drift

        before = catalogue.read_catalogue(options.catalogue)
        jobs, _ = _imported(options)
        found = drift.compare(before, jobs, catalogue.Scope(options.prefix))
    if options.format == "json":
        content = drift.drift_as_json(found, compared=len(jobs), strict=options.strict)
        output.write_result(json.dumps(content, indent=2) + "\n")
    elif found:
        _write_table(found)
    counted = drift.count_drift(found, strict=options.strict)
    verdict = f"{counted:,} difference{'' if counted == 1 else 's'}" if counted else "no drift"
    if not jobs and not counted:
        verdict = "nothing to compare"
    output.write_message(f"{options.catalogue}: {verdict}; {len(jobs):,} pipelines compared")
    return output.FAILED if counted else output.OK if jobs else output.ERROR


def _write_table(found: Sequence[drift.Drift]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from polysync_airflow.jobs.drift import change_text

    table = Table(show_lines=False)
    for title in ("Job", "Parameter or step", "Kind", "Change", "Breaking"):
        table.add_column(title, overflow="fold")
    for each in found:
        breaking = "yes" if each.breaking else "no"
        row = (each.job, each.part, each.kind, change_text(each), breaking)
        # As plain texts: any user who may create a pipeline chooses the names.
        table.add_row(*map(Text, row), style="red" if each.breaking else None)
    width = None if sys.stdout.isatty() else output.WIDTH_OF_A_FILE
    Console(width=width, highlight=False).print(table)


def check_command(options: argparse.Namespace) -> int:
    """Test a connection, and return the exit code: 1 if the connection cannot be used."""
    with output.airflow_in_use():
        usable, report = _hook(options).test_connection()
    output.write_result(report.replace(" -- ", "\n") + "\n")
    return output.OK if usable else output.FAILED


def _imported(options: argparse.Namespace) -> tuple[list[Job], str]:
    """Return the jobs that exist, and their region."""
    from polysync_airflow.jobs.importer import import_jobs

    hook = _hook(options)
    with output.progress("Pipelines described:") as on_described:
        jobs = import_jobs(
            hook, name_prefix=options.prefix, managed_by=options.managed_by, on_described=on_described
        )
    region = hook.client_region
    if not jobs:
        output.write_message(
            f"warning: there are no pipelines in region {region} (--prefix {options.prefix!r})"
        )
    return jobs, region


def _hook(options: argparse.Namespace) -> PolysyncSageMakerHook:
    from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
    from polysync_airflow.hooks import PolysyncSageMakerHook

    return PolysyncSageMakerHook(options.conn_id, options.region, config=RATE_LIMITED_CONFIG)


COMMANDS: Final = {"import": import_command, "diff": diff_command, "check": check_command}
# The commands whose options are elsewhere: each has a ``main`` that takes the arguments and the name of the
# command. It is that of their module here, or what sagemaker-pipelines-emulator registers as an entry point.
DELEGATED: Final = {
    name: each["in"] for name, each in output.COMMANDS["polysync"]["commands"].items() if "in" in each
}
ENTRY_POINTS: Final = "polysync.commands"


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command line.

    :param arguments: the arguments; None for those of the process.
    :return: the exit code: 0, 1 for a drift or a failed check, 2 for an error.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        output.write_error("interrupted")
        return output.INTERRUPTED
    except BrokenPipeError:
        # Python writes the rest at exit: https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return output.ERROR
    except Exception as error:
        # The commands whose errors these are have imported Airflow by then, so this costs nothing.
        from airflow.providers.common.compat.sdk import AirflowException

        if not isinstance(error, AirflowException):
            raise
        output.write_error(error)
        return output.ERROR


def _run(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in DELEGATED:
        command = _find(arguments[0])
        return command(arguments[1:], prog=f"polysync {arguments[0]}") if command else output.ERROR
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return output.OK
    return COMMANDS[options.command](options)


def _find(name: str) -> Callable[..., int] | None:
    """Return the ``main`` of a command, or None, after an error, if its distribution is not installed."""
    main: Callable[..., int] | None = None
    if DELEGATED[name] == "cli":
        main = importlib.import_module(f"polysync_airflow.cli.{name}").main
    elif found := importlib.metadata.entry_points(group=ENTRY_POINTS, name=name):
        main = found[name].load()
    else:
        output.write_error(
            f"polysync {name} is a command of sagemaker-pipelines-emulator, which is not installed. "
            "Install it with: pip install 'polysync-airflow[emulator]'"
        )
    return main
