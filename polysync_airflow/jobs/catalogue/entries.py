"""Makes the entries of a catalogue from imported jobs, and puts them into a catalogue that exists. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.pipelines.models import Job
from polysync_airflow.execution.texts import describe_validation_error
from polysync_airflow.jobs.catalogue.models import (
    MAX_DECLARED_PARAMETERS,
    BrokenJob,
    Catalogue,
    CatalogueJob,
    Scope,
    as_entry,
)


class Update(NamedTuple):
    """
    A catalogue after an import, and what the import has changed. The names are sorted.

    :param removed: the jobs of the file whose pipelines do not exist any more.
    :param replaced: the broken entries that the import has replaced.
    """

    jobs: list[CatalogueJob]
    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]
    replaced: list[BrokenJob]


def catalogue_jobs(jobs: Sequence[Job], before: Catalogue | None) -> list[CatalogueJob]:
    """
    Return imported jobs as entries of a catalogue, with the texts of people that the file had before.

    Descriptions, and display names of executions, are kept by the names of jobs and parameters. AWS's
    description of a pipeline is used only where the file has none.

    :param before: what the file had before; None for a new file.
    :raises CatalogueError: a job has a property that a catalogue cannot have.
    """
    known = {job.name: job for job in before.jobs} if before else {}
    return [_catalogue_job(job, known.get(job.name)) for job in jobs]


def _catalogue_job(job: Job, before: CatalogueJob | None) -> CatalogueJob:
    descriptions = {each.name: each.description for each in before.parameters} if before else {}
    entry: dict[str, Any] = job.model_dump(include=set(CatalogueJob.model_fields))
    for parameter in entry["parameters"]:
        parameter["description"] = descriptions.get(parameter["name"])
    if before:
        entry["execution_display_name"] = before.execution_display_name
    if before and before.description is not None:
        entry["description"] = before.description
    if len(job.parameters) > MAX_DECLARED_PARAMETERS:
        entry["parameters"] = []
        entry["parameters_error"] = (
            f"the definition has {len(job.parameters):,} parameters; the limit is {MAX_DECLARED_PARAMETERS:,}"
        )
    try:
        return CatalogueJob.model_validate(entry)
    except ValidationError as error:
        raise CatalogueError(
            f"The pipeline {job.name} cannot be in a catalogue: {describe_validation_error(error)}."
        ) from None


def update_catalogue(before: Catalogue | None, jobs: Sequence[Job], scope: Scope) -> Update:
    """
    Return a catalogue in which imported jobs replace those of the import's scope. All others stay.

    :param before: what the file had before; None for a new file.
    :raises CatalogueError: the file has a broken entry that the import does not replace.
    """
    check_broken_entries(before, scope)
    imported = catalogue_jobs(jobs, before)
    old = {job.name: as_entry(job) for job in before.jobs if job.name in scope} if before else {}
    new = {job.name: as_entry(job) for job in imported}
    return Update(
        jobs=[*imported, *(job for job in before.jobs if job.name not in scope)] if before else imported,
        added=sorted(new.keys() - old.keys()),
        changed=sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
        removed=sorted(old.keys() - new.keys()),
        unchanged=sorted(name for name in new.keys() & old.keys() if new[name] == old[name]),
        replaced=before.broken if before else [],
    )


def loss_by_import(before: Catalogue | None, jobs: Sequence[Job], scope: Scope, region: str) -> str | None:
    """
    Return why an import is probably one of the wrong region or account; None if it is not.

    :param before: what the file has; None for a new file.
    :param region: the region of the import.
    """
    if before is None:
        return None
    names, imported = [job.name for job in before.jobs if job.name in scope], {job.name for job in jobs}
    broken = [entry for entry in before.broken if scope.has_entry(entry)]
    if (names and imported.isdisjoint(names)) or (broken and not jobs):
        count = len(names) + len(broken)
        subject = f"all {count:,} jobs of the file" if count > 1 else "the only job of the file"
        prefix = f" with the prefix {scope.prefix!r}" if scope.prefix else ""
        return (
            f"the import of region {region} would remove {subject}{prefix}, and the descriptions in the file"
        )
    # A file can have jobs of several regions and accounts, each of an import with its own prefix.
    replaced = [job for job in before.jobs if job.name in scope] or before.jobs
    old, new = ({_place(job) for job in each} for each in (replaced, jobs))
    if old and new and old != new:
        return (
            f"the import is of {' and '.join(sorted(new))}, and the jobs of the file are of "
            + " and ".join(sorted(old))
        )
    return None


def _place(job: Job | CatalogueJob) -> str:
    return f"account {job.arn.split(':')[4]}, region {job.region}"


def check_broken_entries(before: Catalogue | None, scope: Scope) -> None:
    """
    Check that an import replaces all broken entries of a catalogue, since it cannot keep them.

    :param before: what the file has; None for a new file.
    :raises CatalogueError: an entry is out of scope. The message names all of them.
    """
    kept = [broken for broken in before.broken if not scope.has_entry(broken)] if before else []
    if kept:
        lines = "; ".join(f"{broken.name}: {broken.problem}" for broken in kept)
        raise CatalogueError(
            f"The file has entries that are no jobs, and this import does not replace them: {lines}. "
            "Correct or remove them, or import all pipelines."
        )
