"""
The command ``polysync jobs``: it imports pipelines as jobs, and compares a catalogue
with them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from polysync_airflow.cli import output
from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.pipelines import Job
from polysync_airflow.jobs import catalogue, drift, importer

TITLE: Final = "Pipelines described:"
# How many names a line of the summary lists.
MAX_NAMES: Final = 20
# Of an update of a catalogue.
PARTS: Final = ("added", "changed", "removed", "unchanged")


def main(options: argparse.Namespace) -> int:
    """Run the command, and return its exit code: 1 for a drift."""
    return _import(options) if options.command == "import" else _diff(options)


def _import(options: argparse.Namespace) -> int:
    path = options.catalogue
    with output.airflow_in_use(options.conn_id, TITLE) as on_described:
        scope, before = catalogue.Scope(options.prefix), None
        # Not after minutes of calls to AWS.
        if path and not path.resolve().parent.is_dir():
            raise CatalogueError(
                f"{path} cannot be written: its folder does not exist. Create it."
            )
        if path and path.exists():
            before = catalogue.read_catalogue(path)
        jobs, region = _imported(options, before, on_described)
        update = catalogue.update_catalogue(before, jobs, scope)
        loss = (
            None
            if options.force
            else catalogue.loss_by_import(before, jobs, scope, region)
        )
        if loss:
            raise CatalogueError(
                f"{path} was not written: {loss}. Check --region, --conn-id, --prefix"
                " and --managed-by. With --force, it is written all the same."
            )
        for line in importer.describe_import(jobs)[1:]:
            output.write_message(line)
    if path:
        catalogue.write_catalogue(path, update.jobs)
    entries = {"jobs": [catalogue.as_entry(job) for job in update.jobs]}
    lines = [] if path else [catalogue.catalogue_text(update.jobs).removesuffix("\n")]
    output.write(
        options, entries | {name: getattr(update, name) for name in PARTS}, lines
    )
    _write_summary(update, str(path or "stdout"))
    return output.OK


def _write_summary(update: catalogue.Update, target: str) -> None:
    for broken in update.replaced:
        output.write_message(
            f"Replaced the entry {broken.name}, whose descriptions are lost:"
            f" {broken.problem}"
        )
    parts: dict[str, list[str]] = {part: getattr(update, part) for part in PARTS}
    for part, names in parts.items():
        if names and part != "unchanged":
            more = (
                f" and {len(names) - MAX_NAMES:,} more"
                if len(names) > MAX_NAMES
                else ""
            )
            output.write_message(
                f"{part.capitalize()}: {', '.join(names[:MAX_NAMES])}{more}"
            )
    counts = ", ".join(f"{len(names):,} {part}" for part, names in parts.items())
    output.write_message(f"{target}: {len(update.jobs):,} jobs ({counts})")


def _diff(options: argparse.Namespace) -> int:
    with output.airflow_in_use(options.conn_id, TITLE) as on_described:
        before = catalogue.read_catalogue(options.catalogue)
        jobs, _ = _imported(options, before, on_described)
        found = drift.compare(before, jobs, catalogue.Scope(options.prefix))
    if found and options.output == "text":
        _write_table(found)
    output.write(
        options,
        drift.drift_as_json(found, compared=len(jobs), strict=options.strict),
        (),
    )
    counted = drift.count_drift(found, strict=options.strict)
    verdict = (
        f"{counted:,} difference{'' if counted == 1 else 's'}"
        if counted
        else "no drift"
    )
    if not jobs and not counted:
        verdict = "nothing to compare"
    output.write_message(
        f"{options.catalogue}: {verdict}; {len(jobs):,} pipelines compared"
    )
    return output.FAILED if counted else output.OK if jobs else output.ERROR


def _write_table(found: Sequence[drift.Drift]) -> None:
    from rich.console import Console
    from rich.table import Column, Table
    from rich.text import Text

    titles = ("Job", "Parameter or step", "Kind", "Change", "Breaking")
    table = Table(*(Column(title, overflow="fold") for title in titles))
    for each in found:
        breaking = "yes" if each.breaking else "no"
        row = (each.job, each.part, each.kind, drift.change_text(each), breaking)
        # As plain texts: any user who may create a pipeline chooses the names.
        table.add_row(*map(Text, row), style="red" if each.breaking else None)
    width = None if sys.stdout.isatty() else output.WIDTH_OF_A_FILE
    Console(width=width, highlight=False).print(table)


def _imported(
    options: argparse.Namespace,
    before: catalogue.Catalogue | None,
    on_described: Callable[[str], object],
) -> tuple[list[Job], str]:
    """
    Return the jobs that exist, and their region.

    :raises ParametersError: neither AWS nor the catalogue has one with the prefix.
    """
    hook = output.hook(options)
    which = {"name_prefix": options.prefix, "managed_by": options.managed_by}
    jobs = importer.import_jobs(hook, **which, on_described=on_described)
    if not jobs:
        names = (
            [*(job.name for job in before.jobs), *(each.name for each in before.broken)]
            if before
            else []
        )
        if options.prefix and not any(
            name.startswith(options.prefix) for name in names
        ):
            raise importer.no_pipeline_error(
                hook, "--prefix", options.prefix, options.managed_by
            )
        output.write_message(
            f"warning: there are no pipelines in region {hook.client_region} (--prefix"
            f" {options.prefix!r})"
        )
    return jobs, hook.client_region
