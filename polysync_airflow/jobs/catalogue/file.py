"""Reads and writes catalogue files. They need neither AWS nor boto3, since Airflow parses DAG files often."""

from __future__ import annotations

import os
import re
import secrets
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.execution.texts import clean_line, clean_text, describe_validation_error
from polysync_airflow.jobs.catalogue.models import VERSION, BrokenJob, Catalogue, CatalogueJob, as_entry
from polysync_airflow.jobs.catalogue.yaml_loader import CatalogueLoader

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
        raise CatalogueError(f"{path} is not YAML: {clean_text(str(error))}") from None


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
        title = clean_line(name, 256) if isinstance(name, str) else f"jobs[{index}]"
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
