"""
The command ``polysync jobs``: it imports pipelines as jobs, and compares a catalogue
with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from polysync_airflow.cli import output
from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.pipelines import Job
from polysync_airflow.jobs import catalogue, drift, importer

TITLE: Final = "Pipelines described:"
# How many names a line of the summary lists.
MAX_NAMES: Final = 20
# What an update of a catalogue may do to its jobs.
PARTS: Final = ("added", "changed", "removed", "unchanged")


def main(args: argparse.Namespace) -> int:
    """
    Run the command, and return its exit code: 1 for a drift, or if pipelines were not
    imported.
    """
    if args.command == "import":
        return _import(args)
    return _diff(args)


def _import(args: argparse.Namespace) -> int:
    path = args.catalogue
    with output.airflow_in_use(args.conn_id, TITLE) as on_described:
        # Not after minutes of calls to AWS.
        if path and not path.resolve().parent.is_dir():
            raise CatalogueError(
                f"{path} cannot be written: its folder does not exist. Create it."
            )
        before = None
        if path and path.exists():
            before = catalogue.read_catalogue(path)
        jobs, region, left_out = _import_jobs(args, before, on_described)
        scope = catalogue.Scope(args.prefix, without=importer.names_of(left_out))
        update = catalogue.update_catalogue(before, jobs, scope)
        if not args.force:
            loss = catalogue.loss_by_import(before, jobs, scope, region)
            if loss:
                raise CatalogueError(
                    f"{path} was not written: {loss}. Check --region, --conn-id,"
                    " --prefix and --managed-by. With --force, it is written all the"
                    " same."
                )
        for line in importer.describe_import(jobs)[1:]:
            output.write_message(line)
    if path:
        catalogue.write_catalogue(path, update.jobs)
        lines = []
    else:
        lines = [catalogue.catalogue_text(update.jobs).removesuffix("\n")]
    document: dict[str, Any] = {
        "jobs": [catalogue.as_entry(job) for job in update.jobs]
    }
    document["not_imported"] = [pipeline.as_json() for pipeline in left_out]
    output.write(args, document | _parts_of(update), lines)
    _write_summary(update, str(path or "stdout"))
    if not left_out:
        return output.OK
    output.write_message(
        f"Not imported: {importer.count_not_imported(left_out)}. Entries that the file"
        " had of them stay."
    )
    return output.FAILED


def _parts_of(update: catalogue.Update) -> dict[str, list[str]]:
    """Return the names of the jobs by what the update does to them."""
    return {part: getattr(update, part) for part in PARTS}


def _write_summary(update: catalogue.Update, target: str) -> None:
    for broken in update.replaced:
        output.write_message(
            f"Replaced the entry {broken.name}, whose descriptions are lost:"
            f" {broken.problem}"
        )
    parts = _parts_of(update)
    for part, names in parts.items():
        if names and part != "unchanged":
            line = f"{part.capitalize()}: {', '.join(names[:MAX_NAMES])}"
            if len(names) > MAX_NAMES:
                line += f" and {len(names) - MAX_NAMES:,} more"
            output.write_message(line)
    counts = ", ".join(f"{len(names):,} {part}" for part, names in parts.items())
    output.write_message(f"{target}: {len(update.jobs):,} jobs ({counts})")


def _diff(args: argparse.Namespace) -> int:
    with output.airflow_in_use(args.conn_id, TITLE) as on_described:
        before = catalogue.read_catalogue(args.catalogue)
        jobs, _, left_out = _import_jobs(args, before, on_described)
        scope = catalogue.Scope(args.prefix, without=importer.names_of(left_out))
        changes = drift.compare(before, jobs, scope)
    if changes and args.output == "text":
        _write_table(changes)
    document = drift.drift_as_json(changes, compared=len(jobs), strict=args.strict)
    document["not_compared"] = [pipeline.as_json() for pipeline in left_out]
    output.write(args, document, ())
    count = drift.count_drift(changes, strict=args.strict)
    if count:
        verdict = output.counted(count, "difference")
        exit_code = output.FAILED
    elif left_out:
        verdict = "no drift in what was compared"
        exit_code = output.ERROR
    elif jobs:
        verdict = "no drift"
        exit_code = output.OK
    else:
        verdict = "nothing to compare"
        exit_code = output.ERROR
    summary = f"{args.catalogue}: {verdict}; {len(jobs):,} pipelines compared"
    if left_out:
        summary += f"; not compared: {importer.count_not_imported(left_out)}"
    output.write_message(summary)
    return exit_code


def _write_table(changes: Sequence[drift.Drift]) -> None:
    titles = ("Job", "Parameter or step", "Kind", "Change", "Breaking")
    table = Table(*(Column(title, overflow="fold") for title in titles))
    for change in changes:
        breaking = "no"
        style = None
        if change.breaking:
            breaking = "yes"
            style = "red"
        text = drift.change_text(change)
        row = (change.job, change.part, change.kind, text, breaking)
        # As plain texts: any user who may create a pipeline chooses the names.
        table.add_row(*map(Text, row), style=style)
    width = None
    if not sys.stdout.isatty():
        width = output.WIDTH_OF_A_FILE
    Console(width=width, highlight=False).print(table)


def _import_jobs(
    args: argparse.Namespace,
    before: catalogue.Catalogue | None,
    on_described: Callable[[str], object],
) -> tuple[list[Job], str, list[importer.NotImported]]:
    """
    Return the jobs that exist, their region, and the pipelines that are left out.

    :raises ParametersError: neither AWS nor the catalogue has one with the prefix.
    """
    hook = output.hook(args)
    left_out: list[importer.NotImported] = []
    jobs = importer.import_jobs(
        hook,
        name_prefix=args.prefix,
        managed_by=args.managed_by,
        on_described=on_described,
        on_not_imported=left_out.append,
    )
    if jobs:
        return jobs, hook.client_region, left_out
    names: list[str] = []
    if before:
        names += [job.name for job in before.jobs]
        names += [entry.name for entry in before.broken]
    if args.prefix and not any(name.startswith(args.prefix) for name in names):
        raise importer.no_pipeline_error(hook, "--prefix", args.prefix, args.managed_by)
    output.write_message(
        f"warning: there are no pipelines in region {hook.client_region} (--prefix"
        f" {args.prefix!r})"
    )
    return jobs, hook.client_region, left_out
