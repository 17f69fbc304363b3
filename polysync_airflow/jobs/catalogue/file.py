"""Reads and writes catalogue files. They need neither AWS nor boto3, since Airflow parses DAG files often."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.texts import clean_text, describe_validation_error
from polysync_airflow.jobs.catalogue.models import VERSION, BrokenJob, Catalogue, CatalogueJob, as_entry

MAX_BYTES: Final = 64 * 2**20
MAX_JOBS: Final = 10_000
# What every alias of YAML begins with. Most files have none in their texts either.
_ALIAS: Final = re.compile(r"(^|[\s\[{,:-])\*\S", re.MULTILINE)
WIDTH: Final = 110
HEADER: Final = """\
# SageMaker pipelines as jobs, written by: polysync jobs import
# You may change the descriptions: the next import keeps them. It replaces everything else.
"""
# libyaml reads a file of 500 jobs in a tenth of the time. PyYAML's wheels have it.
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise CatalogueError(f"{path} has {size:,} bytes; the limit is {MAX_BYTES:,}.")
        text = path.read_text(encoding="utf-8")
        if _has_alias(text):
            raise CatalogueError(f"{path} has a YAML alias (*): write the value in its place.")
        return yaml.load(text, Loader=_LOADER)  # noqa: S506 # a safe loader
    except OSError as error:
        raise CatalogueError(f"{path} cannot be read: {error.strerror}.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CatalogueError(f"{path} is not YAML: {clean_text(str(error))}") from None


def _has_alias(text: str) -> bool:
    # A short file with aliases can stand for more values than fit into memory.
    if not _ALIAS.search(text):
        return False
    return any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=_LOADER))


def _jobs_of(entries: list[Any]) -> Catalogue:
    jobs: list[CatalogueJob] = []
    broken: list[BrokenJob] = []
    names: set[str] = set()
    for index, entry in enumerate(entries):
        name = entry.get("name") if isinstance(entry, dict) else None
        title = clean_text(name, 256) if isinstance(name, str) else f"jobs[{index}]"
        try:
            job = CatalogueJob.model_validate(entry)
        except ValidationError as error:
            broken.append(BrokenJob(title, describe_validation_error(error)))
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
    folder = Path(path).resolve().parent
    if Path(path).is_dir():
        raise CatalogueError(f"{path} cannot be written: it is a folder. Give the path of a file.")
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
    text = catalogue_text(jobs)
    try:
        # A symbolic link stays one.
        target = Path(path).resolve()
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=target.parent, prefix=f".{target.name}.", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                file.write(text)
                file.close()
                # The file mode of a new file, not that of a temporary one, which only its owner may read.
                temporary.chmod(target.stat().st_mode if target.exists() else 0o644)
                temporary.replace(target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise CatalogueError(f"{path} cannot be written: {error.strerror}.") from None
