"""
A catalogue: a file of imported jobs that people review, and that DAGs are made from.

Its jobs have the same keys as those of ``PolysyncListImportOperator``.

Nothing here needs AWS or boto3, since Airflow parses DAG files often.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import yaml
from pydantic import ConfigDict, Field, StringConstraints, ValidationError
from yaml.constructor import ConstructorError

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution import models, texts
from polysync_airflow.execution.pipelines import DeclaredParameter, Job

VERSION: Final = 1
MAX_DECLARED_PARAMETERS: Final = 1000


class CatalogueParameter(DeclaredParameter):
    """
    A parameter of a job.

    :param description: what people have written about it in the file; AWS has no such text.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    description: texts.DescriptionText | None = None


class CatalogueJob(models.FrozenModel):
    """
    A job of a catalogue file.

    :param role_arn: the pipeline's role; None in a file of an earlier version.
    :param execution_display_name: what people have written: the display name of executions that a DAG of the
        job starts; None for unique names.
    :param description: the pipeline's description, or what people have written in its place.
    :param definition_digest: ``sha256:<hex>`` of the definition; None if it cannot be read.
    :param parameters: the declared parameters, in the definition's order.
    :param parameters_error: why the parameters could not be read; None if they were.
    """

    model_config = ConfigDict(extra="forbid")

    name: models.PipelineName
    arn: Annotated[str, StringConstraints(max_length=2048, pattern=f"^{models.PIPELINE_ARN_PATTERN}")]
    region: Annotated[str, StringConstraints(max_length=64, pattern=models.REGION_PATTERN)]
    role_arn: models.RoleArn | None = None
    execution_display_name: models.ExecutionDisplayName | None = None
    description: texts.DescriptionText | None = None
    definition_digest: Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")] | None = None
    parameters: list[CatalogueParameter] = Field(default_factory=list, max_length=MAX_DECLARED_PARAMETERS)
    parameters_error: texts.ReasonText | None = None


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
    :param broken: the entries that are no jobs. They do not keep the others from being used.
    """

    jobs: list[CatalogueJob]
    broken: list[BrokenJob]


class Scope(NamedTuple):
    """
    Which pipelines an import has asked AWS for. Only these can be compared with a catalogue.

    ::

        "churn-daily" in Scope(prefix="churn-")

    :param prefix: pipelines whose names begin with it; empty for all.
    :param names: these pipelines only; None for all.
    """

    prefix: str = ""
    names: frozenset[str] | None = None

    def __contains__(self, name: object) -> bool:
        """Return whether a pipeline of this name is asked for."""
        named = self.names is None or name in self.names
        return named and isinstance(name, str) and name.startswith(self.prefix)

    def has_entry(self, broken: BrokenJob) -> bool:
        """Return whether a broken entry is in the scope. One without a name is only in that of all."""
        return self == Scope() or broken.name in self


def as_entry(job: CatalogueJob) -> dict[str, Any]:
    """Return a job as plain data for the file, without members that are empty."""
    entry = job.model_dump(mode="json", exclude={"parameters"}, exclude_none=True)
    entry["parameters"] = [each.model_dump(mode="json", exclude_none=True) for each in job.parameters]
    return entry


# AWS's values have at most 1,024 characters. PyYAML needs time that grows with the square of the length for
# numbers to the base 60 (1:30:00), and Python writes no integer of more than 4,300 digits.
MAX_NUMBER_LENGTH: Final = 1024
_NUMBERS: Final = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
# libyaml reads a file of 500 jobs in a tenth of the time. PyYAML's wheels have it.
_SAFE_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class CatalogueLoader(_SAFE_LOADER):  # type: ignore[misc] # the class depends on the host
    """A safe loader that refuses duplicate keys, huge numbers, and values that do not fit their tags."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """
        Return the value of a node.

        :raises ConstructorError: the node has no such value.
        """
        if node.tag in _NUMBERS and len(node.value) > MAX_NUMBER_LENGTH:
            raise _refused(
                node, f"the number has more than {MAX_NUMBER_LENGTH:,} characters: write it as a text"
            )
        try:
            return super().construct_object(node, deep)
        except (ArithmeticError, AttributeError, LookupError, ValueError):
            # PyYAML does not check the text of a value with a tag, such as `!!timestamp x`.
            raise _refused(
                node, f"{texts.shorten(node.value)} is no value of the tag {texts.shorten(node.tag)}"
            ) from None

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """
        Return the value of a mapping.

        :raises ConstructorError: a key is there twice.
        """
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            (key, _), *_ = Counter(str(key.value) for key, _ in node.value).most_common(1)
            raise _refused(node, f"the key {texts.shorten(key)} is there twice: remove one")
        return mapping


def _refused(node: Any, problem: str) -> ConstructorError:
    return ConstructorError(None, None, problem, node.start_mark)


MAX_BYTES: Final = 64 * 2**20
MAX_JOBS: Final = 10_000
# What every alias of YAML begins with. Most files have none in their texts either.
_ALIAS: Final = re.compile(r"(^|[\s\[{,:-])\*\S", re.MULTILINE)
WIDTH: Final = 110
HEADER: Final = """\
# SageMaker pipelines as jobs, written by: polysync jobs import
# You may change descriptions and execution_display_name: the next import keeps them. It replaces the rest.
"""
# libyaml writes a file of 500 jobs in a tenth of the time. PyYAML's wheels have it.
_DUMPER: Final[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def read_catalogue(path: str | os.PathLike[str]) -> Catalogue:
    """
    Read a catalogue file. A broken entry does not keep the others from being read.

    :raises CatalogueError: the file cannot be read, or is not a catalogue.
    """
    content = _parse(Path(path))
    if not isinstance(content, dict) or not isinstance(content.get("jobs"), list):
        raise CatalogueError(f"{path} is not a catalogue: it must have the keys 'version' and 'jobs'.")
    version = content.get("version")
    if type(version) is not int or version != VERSION:
        other = f"version {version:,}" if type(version) is int else "no version number"
        raise CatalogueError(
            f"{path} has {other}, and this release reads version {VERSION}. Move the file away, and write it "
            f"again: polysync jobs import --output {path}"
        )
    if len(content["jobs"]) > MAX_JOBS:
        raise CatalogueError(f"{path} has {len(content['jobs']):,} jobs; the limit is {MAX_JOBS:,}.")
    return _jobs_of(content["jobs"])


def _parse(path: Path) -> Any:
    try:
        text = _read(path).decode("utf-8")
        if _has_alias(text):
            raise CatalogueError(f"{path} has a YAML alias (*): write the value in its place.")
        return yaml.load(text, Loader=CatalogueLoader)  # noqa: S506 # a safe loader
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogueError(f"{path} is not YAML: {texts.clean_text(str(error))}") from None


def _read(path: Path) -> bytes:
    # O_NONBLOCK: a named pipe must not block the parsing of DAG files.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 # Path has no flags
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise CatalogueError(f"{path} cannot be read: it is not a regular file. Give the path of a file.")
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise CatalogueError(f"{path} has more than {MAX_BYTES:,} bytes; this is the limit.")
    return content


def _has_alias(text: str) -> bool:
    # A short file with aliases can stand for more values than fit into memory.
    if not _ALIAS.search(text):
        return False
    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=CatalogueLoader))


def _jobs_of(entries: list[Any]) -> Catalogue:
    jobs: list[CatalogueJob] = []
    broken: list[BrokenJob] = []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        title = texts.clean_line(name, 256) if isinstance(name, str) else f"jobs[{index}]"
        try:
            job = CatalogueJob.model_validate(entry)
        except ValidationError as error:
            broken.append(BrokenJob(title, texts.describe_validation_error(error)))
            continue
        if job.name in names:
            broken.append(BrokenJob(title, "the file has another job of this name before"))
            continue
        names.add(job.name)
        jobs.append(job)
    return Catalogue(jobs, broken)


def catalogue_text(jobs: Iterable[CatalogueJob]) -> str:
    """Return the text of a catalogue file. The same jobs give the same text, in any order."""
    entries = [as_entry(job) for job in sorted(jobs, key=lambda job: job.name)]
    content = {"version": VERSION, "jobs": entries}
    text: str = yaml.dump(content, Dumper=_DUMPER, sort_keys=False, allow_unicode=True, width=WIDTH)
    return HEADER + text


def check_writable(path: str | os.PathLike[str]) -> None:
    """
    Check that a catalogue can be written, as far as this is known before.

    :raises CatalogueError: it cannot be written.
    """
    folder = _target(path).parent
    if not folder.is_dir():
        raise CatalogueError(f"{path} cannot be written: the folder {folder} does not exist. Create it.")
    try:
        # As the write does. Permissions alone say nothing of a read-only file system, nor of root.
        with tempfile.NamedTemporaryFile(dir=folder, prefix=f".{Path(path).name}."):
            pass
    except OSError as error:
        raise CatalogueError(
            f"{path} cannot be written into the folder {folder}: {error.strerror}."
        ) from None


def write_catalogue(path: str | os.PathLike[str], jobs: Iterable[CatalogueJob]) -> None:
    """
    Write a catalogue file, whole or not at all.

    :param path: the file; an existing one is replaced.
    :raises CatalogueError: the file cannot be written.
    """
    target, text = _target(path), catalogue_text(jobs)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        # A new file gets the mode that the umask leaves, as every file that this process makes.
        with temporary.open("x", encoding="utf-8") as file:
            try:
                if target.exists():
                    temporary.chmod(stat.S_IMODE(target.stat().st_mode))
                file.write(text)
                file.close()
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CatalogueError(f"{path} cannot be written: {error.strerror}.") from None


def _target(path: str | os.PathLike[str]) -> Path:
    # A symbolic link stays one.
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise CatalogueError(f"{path} cannot be written: it is {kind}. Give the path of a file.")
    return target


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
        entry["description"] = job.description if before.description is None else before.description
    if len(job.parameters) > MAX_DECLARED_PARAMETERS:
        entry["parameters"] = []
        entry["parameters_error"] = (
            f"the definition has {len(job.parameters):,} parameters; the limit is {MAX_DECLARED_PARAMETERS:,}"
        )
    try:
        return CatalogueJob.model_validate(entry)
    except ValidationError as error:
        raise CatalogueError(
            f"The pipeline {job.name} cannot be in a catalogue: {texts.describe_validation_error(error)}."
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
