"""
A catalogue: a file of imported jobs that people review, and from which DAGs are made.

Its jobs have the same keys as those of ``PolysyncListImportOperator``.

Nothing here needs AWS or boto3, because Airflow parses DAG files often.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import yaml
from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from yaml.composer import Composer
from yaml.constructor import ConstructorError

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution import job_types, models, pipelines, texts

VERSION: Final = 1
MAX_DECLARED_PARAMETERS: Final = 1000


class CatalogueParameter(pipelines.DeclaredParameter):
    """
    A parameter of a job.

    :param description: the description in the definition, or what people have written
        in its place.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    description: texts.DescriptionText | None = None


class CatalogueJob(models.StrictModel):
    """
    A job of a catalogue file.

    :param role_arn: the pipeline's role; None if AWS does not tell it.
    :param execution_display_name: the display name that people have written for the
        executions that a DAG of the job starts; None for unique names.
    :param description: the pipeline's description, or what people have written in its
        place.
    :param definition_digest: ``sha256:<hex>`` of the definition; None if it cannot be
        read.
    :param parameters: the declared parameters, in the definition's order.
    :param parameters_error: why the parameters could not be read; None if they were.
    :param steps: the declared steps, in the definition's order, without what loops run;
        none if they could not be read.
    """

    name: models.PipelineName
    arn: Annotated[
        str,
        StringConstraints(max_length=2048, pattern=f"^{models.PIPELINE_ARN_PATTERN}$"),
    ]
    region: Annotated[
        str, StringConstraints(max_length=64, pattern=models.REGION_PATTERN)
    ]
    role_arn: models.RoleArn | None = None
    execution_display_name: models.ExecutionDisplayName | None = None
    description: texts.DescriptionText | None = None
    definition_digest: (
        Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None
    ) = None
    parameters: list[CatalogueParameter] = Field(
        default_factory=list, max_length=MAX_DECLARED_PARAMETERS
    )
    parameters_error: texts.ReasonText | None = None
    steps: pipelines.JobSteps = Field(default_factory=list)


class BrokenJob(NamedTuple):
    """
    An entry of a catalogue file that is no job.

    :param name: its name; ``jobs[<index>]`` if it has none.
    """

    name: str
    problem: str


class Catalogue(NamedTuple):
    """
    What a catalogue file holds.

    :param jobs: the jobs, in the order of the file.
    :param broken: the entries that are no jobs. The jobs can be used nevertheless.
    """

    jobs: list[CatalogueJob]
    broken: list[BrokenJob]


def is_job(name: str, prefix: str) -> bool:
    """
    Return whether an import takes a pipeline: one that a task makes only if the prefix
    asks for those. Their names tell, since AWS lists no tags.

    :param name: its name or ARN.
    """
    is_asked_for = prefix.startswith(f"{job_types.NAME_PREFIX}-")
    return is_asked_for or not job_types.is_name_of_task(name)


class Scope(NamedTuple):
    """
    Which pipelines an import has asked AWS for. Only these can be compared with a
    catalogue.

    ::

        "churn-daily" in Scope(prefix="churn-")

    :param prefix: pipelines whose names begin with it; empty for all.
    :param names: these pipelines only; None for all.
    :param without: these pipelines not, since the import could not describe them.
    """

    prefix: str = ""
    names: frozenset[str] | None = None
    without: frozenset[str] = frozenset()

    def __contains__(self, name: object) -> bool:
        """Return whether the import has an answer about a pipeline of this name."""
        if self.names is not None and name not in self.names:
            return False
        if name in self.without or not isinstance(name, str):
            return False
        return name.startswith(self.prefix) and (
            self.names is not None or is_job(name, self.prefix)
        )


def as_entry(job: CatalogueJob) -> dict[str, Any]:
    """Return a job as plain data for the file, without members that are empty."""
    entry = job.model_dump(
        mode="json", exclude={"parameters", "steps"}, exclude_none=True
    )
    entry["parameters"] = [
        parameter.model_dump(mode="json", exclude_none=True)
        for parameter in job.parameters
    ]
    if job.steps:
        entry["steps"] = [
            step.model_dump(mode="json", exclude_defaults=True) for step in job.steps
        ]
    return entry


def steps_of(job: CatalogueJob) -> list[pipelines.JobStep]:
    """
    Return the steps of a job, in the definition's order.

    Users of AWS have written their names and types, as the defaults of parameters:
    Airflow must not render them.

    :raises CatalogueError: the catalogue has no steps of the job.
    """
    if not job.steps:
        raise CatalogueError(
            f"The catalogue has no steps of the job {job.name}: the definition could"
            " not be read, or somebody has removed them. Write the file again, and read"
            " the warnings: polysync jobs import <file>"
        )
    return job.steps


# libyaml reads a file of 500 jobs in a tenth of the time. PyYAML's wheels have it.
_SAFE_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Constructed(yaml.Node):
    """The value of a mapping, in place of the mapping's node."""

    id = "mapping"


class CatalogueLoader(_SAFE_LOADER, Composer):  # type: ignore[misc] # the class depends on the host
    """
    A safe loader that refuses duplicate keys, which a merge of two versions of the file
    can leave.

    It makes the value of each mapping at once. The nodes of a whole file would keep
    Python's garbage collector busy for more than half of the time.
    """

    def get_single_node(self) -> Any:
        """
        Return the node of the only document.

        libyaml's method would make the nodes of the whole file.
        """
        self.anchors: dict[str, Any] = {}
        return Composer.get_single_node(self)

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Return a node with the value of the next mapping."""
        node = super().compose_mapping_node(anchor)
        value = self.construct_object(node, deep=True)
        self.constructed_objects.clear()
        return _Constructed(node.tag, value, None, None)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node."""
        if isinstance(node, _Constructed):
            return node.value
        return super().construct_object(node, deep)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """
        Return the value of a mapping.

        :raises ConstructorError: a key is there twice.
        """
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            raise ConstructorError(
                None, None, "a key is there twice: remove one", node.start_mark
            )
        return mapping


WIDTH: Final = 110
HEADER: Final = """\
# SageMaker pipelines as jobs, written by: polysync jobs import
# You may change descriptions and execution_display_name: the next import keeps them. \
It replaces the rest.
"""
# libyaml writes a file of 500 jobs in a tenth of the time. PyYAML's wheels have it.
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """
    Read a catalogue file. A broken entry does not hide the others.

    :raises CatalogueError: the file cannot be read, or is not a catalogue.
    """
    try:
        text = Path(path).read_text("utf-8")
        content = yaml.load(text, Loader=CatalogueLoader)  # noqa: S506 # a safe loader
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogueError(
            f"{path} is not YAML: {texts.clean_text(str(error))}"
        ) from None
    if not isinstance(content, dict) or not isinstance(content.get("jobs"), list):
        raise CatalogueError(
            f"{path} is not a catalogue: it must have the keys 'version' and 'jobs'."
        )
    if content.get("version") != VERSION:
        raise CatalogueError(
            f"{path} does not have the version {VERSION}, which this release reads."
            f" Move the file away, and write it again: polysync jobs import {path}"
        )
    return _jobs_of(content["jobs"])


def _jobs_of(entries: list[Any]) -> Catalogue:
    jobs: list[CatalogueJob] = []
    broken: list[BrokenJob] = []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        title = f"jobs[{index}]"
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            title = texts.clean_line(entry["name"], 256)
        try:
            job = CatalogueJob.model_validate(entry)
        except ValidationError as error:
            broken.append(BrokenJob(title, texts.describe_validation_error(error)))
            continue
        if job.name in names:
            broken.append(
                BrokenJob(title, "the file has another job of this name before")
            )
            continue
        names.add(job.name)
        jobs.append(job)
    return Catalogue(jobs, broken)


def catalogue_text(jobs: Iterable[CatalogueJob]) -> str:
    """
    Return the text of a catalogue file. The same jobs give the same text, in any order.
    """
    entries = [as_entry(job) for job in sorted(jobs, key=lambda job: job.name)]
    content = {"version": VERSION, "jobs": entries}
    text: str = yaml.dump(
        content, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=WIDTH
    )
    return HEADER + text


def write_catalogue(path: str | os.PathLike[str], jobs: Iterable[CatalogueJob]) -> None:
    """
    Write a catalogue file, whole or not at all.

    :param path: the file; an existing one is replaced.
    :raises CatalogueError: the file cannot be written.
    """
    # A symbolic link stays a link.
    target = Path(path).resolve()
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        # A new file gets the mode that the umask leaves, as all files of this process.
        temporary.write_text(catalogue_text(jobs), encoding="utf-8")
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        raise CatalogueError(f"{path} cannot be written: {error.strerror}.") from None
    finally:
        temporary.unlink(missing_ok=True)


class Update(NamedTuple):
    """
    A catalogue after an import, and what the import has changed. The names are sorted.

    :param removed: the names of the jobs whose pipelines do not exist any more.
    :param replaced: the broken entries that the import has replaced.
    """

    jobs: list[CatalogueJob]
    added: list[str]
    changed: list[str]
    removed: list[str]
    unchanged: list[str]
    replaced: list[BrokenJob]


def catalogue_jobs(
    jobs: Sequence[pipelines.Job], before: Catalogue | None
) -> list[CatalogueJob]:
    """
    Return imported jobs as entries of a catalogue, with the texts of people that the
    file had before.

    Descriptions, and display names of executions, are kept by the names of jobs and
    parameters. AWS's description of a pipeline or a parameter is used only where the
    file has none.

    :param before: what the file had before; None for a new file.
    :raises CatalogueError: a job has a property that a catalogue cannot have.
    """
    jobs_before = {job.name: job for job in before.jobs} if before else {}
    return [_catalogue_job(job, jobs_before.get(job.name)) for job in jobs]


def _catalogue_job(job: pipelines.Job, before: CatalogueJob | None) -> CatalogueJob:
    entry: dict[str, Any] = job.model_dump(include=set(CatalogueJob.model_fields))
    entry["steps"] = job.steps
    if before:
        entry["execution_display_name"] = before.execution_display_name
        if before.description is not None:
            entry["description"] = before.description
        descriptions = {
            parameter.name: parameter.description for parameter in before.parameters
        }
        for parameter in entry["parameters"]:
            description = descriptions.get(parameter["name"])
            if description is not None:
                parameter["description"] = description
    if len(job.parameters) > MAX_DECLARED_PARAMETERS:
        entry["parameters"] = []
        entry["parameters_error"] = (
            f"the definition has {len(job.parameters):,} parameters; the limit is"
            f" {MAX_DECLARED_PARAMETERS:,}"
        )
    try:
        return CatalogueJob.model_validate(entry)
    except ValidationError as error:
        raise CatalogueError(
            f"The pipeline {job.name} cannot be in a catalogue:"
            f" {texts.describe_validation_error(error)}."
        ) from None


def update_catalogue(
    before: Catalogue | None, jobs: Sequence[pipelines.Job], scope: Scope
) -> Update:
    """
    Return a catalogue in which imported jobs replace those of the import's scope. All
    others stay.

    :param before: what the file had before; None for a new file.
    :raises CatalogueError: the file has a broken entry that the import does not
        replace.
    """
    if before is None:
        before = Catalogue([], [])
    not_replaced = [broken for broken in before.broken if broken.name not in scope]
    if not_replaced:
        lines = "; ".join(f"{broken.name}: {broken.problem}" for broken in not_replaced)
        raise CatalogueError(
            "The file has entries that are no jobs, and this import does not replace"
            f" them: {lines}. Correct or remove them, or import all pipelines."
        )
    imported = catalogue_jobs(jobs, before)
    other_jobs = [job for job in before.jobs if job.name not in scope]
    old = {job.name: as_entry(job) for job in before.jobs if job.name in scope}
    new = {job.name: as_entry(job) for job in imported}
    both = new.keys() & old.keys()
    return Update(
        jobs=[*imported, *other_jobs],
        added=sorted(new.keys() - old.keys()),
        changed=sorted(name for name in both if new[name] != old[name]),
        removed=sorted(old.keys() - new.keys()),
        unchanged=sorted(name for name in both if new[name] == old[name]),
        replaced=before.broken,
    )


def loss_by_import(
    before: Catalogue | None, jobs: Sequence[pipelines.Job], scope: Scope, region: str
) -> str | None:
    """
    Return why an import is probably one of the wrong region or account; None if it is
    not.

    :param before: what the file has; None for a new file.
    :param region: the region of the import.
    """
    if before is None:
        return None
    in_scope = [job for job in before.jobs if job.name in scope]
    names = {job.name for job in in_scope}
    removes_all = bool(names) and names.isdisjoint(job.name for job in jobs)
    # The import also removes the descriptions of broken entries.
    if removes_all or (before.broken and not jobs):
        return (
            f"the import of region {region} would remove all jobs of the file (--prefix"
            f" {scope.prefix!r}), and their descriptions"
        )
    # A file can have jobs of several regions and accounts, each of an import with its
    # own prefix.
    old = {_place(job) for job in in_scope or before.jobs}
    new = {_place(job) for job in jobs}
    if old and new and old != new:
        return (
            f"the import is of {' and '.join(sorted(new))}, and the jobs of the file"
            f" are of {' and '.join(sorted(old))}"
        )
    return None


def _place(job: pipelines.Job | CatalogueJob) -> str:
    return f"account {job.arn.split(':')[4]}, region {job.region}"
