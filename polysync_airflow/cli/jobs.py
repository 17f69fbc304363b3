"""The commands that need a connection: ``jobs import``, ``jobs diff`` and ``check``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from polysync_airflow.cli import output
from polysync_airflow.cli.output import logs_to_stderr, write_message, write_result

if TYPE_CHECKING:
    from polysync_airflow.execution.pipelines import Job
    from polysync_airflow.hooks import PolysyncSageMakerHook
    from polysync_airflow.jobs.catalogue import Update
    from polysync_airflow.jobs.drift import Drift

# How many names a line of the summary lists.
MAX_NAMES = 20


def import_command(options: argparse.Namespace) -> int:
    """Write a catalogue of the pipelines that exist, and return the exit code."""
    with logs_to_stderr():
        from polysync_airflow.exceptions import CatalogueError
        from polysync_airflow.jobs import catalogue
        from polysync_airflow.jobs.importer import describe_import

        scope, before = catalogue.Scope(options.prefix), None
        if options.output:
            # Before AWS is called, since an import of a large account takes minutes.
            catalogue.check_writable(options.output)
            before = catalogue.read_catalogue(options.output) if options.output.exists() else None
            catalogue.check_broken_entries(before, scope)
        jobs, region = _imported(options)
        update = catalogue.update_catalogue(before, jobs, scope)
        loss = None if options.force else catalogue.loss_by_import(before, jobs, scope, region)
        if loss:
            raise CatalogueError(
                f"{options.output} was not written: {loss}. Check --region, --conn-id and --prefix. With "
                "--force, it is written all the same."
            )
        for line in describe_import(jobs)[1:]:
            write_message(line)
    if options.output:
        catalogue.write_catalogue(options.output, update.jobs)
    else:
        write_result(catalogue.catalogue_text(update.jobs))
    _write_summary(update, str(options.output or "stdout"))
    return output.OK


def _write_summary(update: Update, target: str) -> None:
    for broken in update.replaced:
        write_message(f"Replaced the entry {broken.name}, whose descriptions are lost: {broken.problem}")
    for title, names in (("Added", update.added), ("Changed", update.changed), ("Removed", update.removed)):
        if names:
            more = f" and {len(names) - MAX_NAMES:,} more" if len(names) > MAX_NAMES else ""
            write_message(f"{title}: {', '.join(names[:MAX_NAMES])}{more}")
    write_message(
        f"{target}: {len(update.jobs):,} jobs ({len(update.added):,} added, {len(update.changed):,} changed, "
        f"{len(update.removed):,} removed, {len(update.unchanged):,} unchanged)"
    )


def diff_command(options: argparse.Namespace) -> int:
    """Compare a catalogue with the pipelines that exist, and return the exit code: 1 for a drift."""
    with logs_to_stderr():
        from polysync_airflow.jobs.catalogue import Scope, read_catalogue
        from polysync_airflow.jobs.drift import compare, count_drift, drift_as_json

        catalogue = read_catalogue(options.catalogue)
        jobs, _ = _imported(options)
        found = compare(catalogue, jobs, Scope(options.prefix))
    if options.format == "json":
        content = drift_as_json(found, compared=len(jobs), strict=options.strict)
        write_result(json.dumps(content, indent=2) + "\n")
    elif found:
        _write_table(found)
    counted = count_drift(found, strict=options.strict)
    verdict = f"{counted:,} difference{'' if counted == 1 else 's'}" if counted else "no drift"
    if not jobs and not counted:
        verdict = "nothing to compare"
    write_message(f"{options.catalogue}: {verdict}; {len(jobs):,} pipelines compared")
    return output.FAILED if counted else output.OK if jobs else output.ERROR


def _write_table(found: Sequence[Drift]) -> None:
    from rich.table import Table
    from rich.text import Text

    from polysync_airflow.jobs.drift import change_text

    table = Table(show_lines=False)
    for title in ("Job", "Parameter", "Kind", "Change", "Breaking"):
        table.add_column(title, overflow="fold")
    for drift in found:
        breaking = "yes" if drift.breaking else "no"
        row = (drift.job, drift.parameter or "", drift.kind, change_text(drift), breaking)
        # As plain texts: any user who may create a pipeline chooses the names.
        table.add_row(*map(Text, row), style="red" if drift.breaking else None)
    output.result_console().print(table)


def check_command(options: argparse.Namespace) -> int:
    """Test a connection, and return the exit code: 1 if the connection cannot be used."""
    with logs_to_stderr():
        usable, report = _hook(options).test_connection()
    write_result(report.replace(" -- ", "\n") + "\n")
    return output.OK if usable else output.FAILED


def _imported(options: argparse.Namespace) -> tuple[list[Job], str]:
    """Return the jobs that exist, and their region."""
    from polysync_airflow.jobs.importer import import_jobs

    hook = _hook(options)
    with output.progress("Pipelines described:") as on_described:
        jobs = import_jobs(hook, name_prefix=options.prefix, on_described=on_described)
    region = hook.client_region
    if not jobs and options.prefix:
        write_message(
            f"warning: no pipeline in region {region} has a name that begins with {options.prefix!r}"
        )
    elif not jobs:
        write_message(f"warning: there are no pipelines in region {region}")
    return jobs, region


def _hook(options: argparse.Namespace) -> PolysyncSageMakerHook:
    from polysync_airflow.airflow_compat.database import use_connections_of_the_database
    from polysync_airflow.aws.sessions import RATE_LIMITED_CONFIG
    from polysync_airflow.hooks import PolysyncSageMakerHook

    use_connections_of_the_database()
    return PolysyncSageMakerHook(options.conn_id, options.region, config=RATE_LIMITED_CONFIG)
