"""The catalogue file: what is read and written, and what is refused."""

from __future__ import annotations

import os
import runpy
import stat
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from polysync_airflow.exceptions import CatalogueError
from polysync_airflow.jobs import catalogue
from polysync_airflow.jobs.catalogue import read_catalogue, write_catalogue
from tests.unit.jobs.catalogue.builders import (
    ARN_TEXT,
    DEFAULTS,
    ODD_TEXTS,
    TRAPS,
    entry,
    parameter,
)

HEAD = "version: 1\njobs:\n"


def write(folder: Path, text: str) -> Path:
    """Write a file, and return its path."""
    path = folder / "jobs.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_catalogue_is_read_as_it_was_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    With the types of its values, and in the order of the names; a text that looks like
    a boolean, number, date or alias stays one. PyYAML without libyaml writes the same.
    """
    entries = [
        entry(
            f"job{number}",
            parameter("P", type=kind, default=value, enum_values=list(TRAPS)),
            description=trap,
            parameters_error=trap,
        )
        for number, (kind, value, trap) in enumerate(
            (kind, value, trap)
            for kind in DEFAULTS
            for value in DEFAULTS[kind]
            for trap in (*TRAPS[:2], *ODD_TEXTS)
        )
    ]
    entries.append(entry("no", parameter("1e3")))

    write_catalogue(path, entries[::-1])
    found = read_catalogue(path)

    assert found.broken == []
    assert found.jobs == sorted(entries, key=lambda job: job.name)
    # For Python 6 equals 6.0, and True equals 1.
    assert list(map(repr, found.jobs)) == sorted(map(repr, entries))
    fast = path.read_text()
    monkeypatch.setattr(catalogue, "_DUMPER", yaml.SafeDumper)
    write_catalogue(path, entries)
    assert yaml.safe_load(path.read_text()) == yaml.safe_load(fast)


def test_both_implementations_of_yaml_read_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyYAML without libyaml reads the same jobs, and refuses the same keys."""
    churn = entry("churn", parameter("P"), steps=[{"name": "A"}])
    write_catalogue(path, [churn])
    text = path.read_text()
    fast = yaml.load(text, Loader=catalogue.CatalogueLoader)

    monkeypatch.delattr(yaml, "CSafeLoader")
    source = runpy.run_path(str(catalogue.__file__))

    assert issubclass(source["CatalogueLoader"], yaml.SafeLoader)
    assert yaml.load(text, Loader=source["CatalogueLoader"]) == fast
    with pytest.raises(yaml.YAMLError, match="a key is there twice"):
        yaml.load("{a: 1, a: 2}", Loader=source["CatalogueLoader"])


def test_broken_entries_keep_no_others_from_being_read(tmp_path: Path) -> None:
    """Each broken entry is named with its problem, and the good ones are jobs."""
    good = {"name": "good", "arn": ARN_TEXT, "region": "us-east-1"}
    jobs = [
        {**good, "name": "typo", "desciption": "x"},
        "just a text",
        {**good, "name": "date", "description": date(2024, 1, 1)},
        {**good, "name": "bad name"},
        {**good, "name": 123},
        good,
        good,
        {**good, "name": "kind", "parameters": [{"name": "P", "type": "Blob"}]},
        {**good, "name": "away", "arn": "arn:aws:s3:::x"},
    ]
    text = yaml.safe_dump({"version": 1, "jobs": jobs}, sort_keys=False)
    path = write(tmp_path, text)

    catalogue = read_catalogue(path)

    assert [job.name for job in catalogue.jobs] == ["good"]
    problems = [(each.name, each.problem.split(":")[0]) for each in catalogue.broken]
    assert problems == [
        ("typo", "desciption"),
        ("jobs[1]", "the whole value"),
        ("date", "description"),
        ("bad name", "name"),
        ("jobs[4]", "name"),
        ("good", "the file has another job of this name before"),
        ("kind", "parameters.0.type"),
        ("away", "arn"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a catalogue"),
        ("- a\n", "is not a catalogue"),
        ("version: 1\n", "is not a catalogue"),
        ("version: 1\njobs: {}\n", "is not a catalogue"),
        ("version: 2\njobs: []\n", "does not have the version 1"),
        ("version: '1'\njobs: []\n", "does not have the version 1"),
        ("jobs: []\n", "does not have the version 1"),
        ("jobs: [\n", "is not YAML"),
        ("version: 1\njobs: !!python/object/apply:os.system [ls]\n", "is not YAML"),
        ("a: \x07\n", "is not YAML"),
        ("version: 1\njobs: " + "[" * 5000, "is not YAML"),
        (f"version: {'9' * 5000}\njobs: []\n", "is not YAML"),
        ("version: 1\njobs: []\nversion: 1\n", "a key is there twice: remove one"),
        (f"{HEAD}- {{name: a, name: b}}\n", "a key is there twice: remove one"),
        (
            f"{HEAD}- &a {{name: *a}}\n",
            "is not YAML: found unconstructable recursive node",
        ),
        (f"{HEAD}- !!int {{=: {{a: 1}}}}\n", "is not YAML"),
        (f"{HEAD}- {{? {{a: 1}} : 2}}\n", "is not YAML"),
        (
            "version: 1\njobs: []\n---\nversion: 1\n",
            "is not YAML: expected a single document",
        ),
    ],
)
def test_other_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    """
    A file that is not a catalogue of this version is refused, with its path and one
    line.
    """
    path = write(tmp_path, text)

    with pytest.raises(CatalogueError, match=message) as caught:
        read_catalogue(path)

    assert str(path) in str(caught.value)


def test_aliases_and_merged_mappings_are_read(tmp_path: Path) -> None:
    """What people write with YAML's aliases is read as by every loader."""
    anchored = f"{{name: a, arn: &arn '{ARN_TEXT}', region: &region us-east-1}}"
    entries = [
        f"&a {anchored}",
        "{name: c, arn: *arn, region: *region}",
        "*a",
        "{<<: *a, description: x}",
        "{<<: *a, x: 1}",
    ]
    text = HEAD + "".join(f"- {each}\n" for each in entries)

    found = read_catalogue(write(tmp_path, text))

    assert found.jobs[1] == found.jobs[0].model_copy(update={"name": "c"})
    assert len(found.jobs) == 2
    again = "the file has another job of this name before"
    assert {broken.name for broken in found.broken} == {"a"}
    assert [broken.problem.partition(":")[0] for broken in found.broken] == [
        again,
        again,
        "x",
    ]


def test_failed_write_leaves_the_file_as_it_was(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full, the file stays as it was, and no temporary file is left."""
    write_catalogue(path, [entry("old")])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(CatalogueError, match="No space left on device"):
        write_catalogue(path, [entry("new")])

    assert [each.name for each in tmp_path.iterdir()] == ["jobs.yaml"]
    assert [job.name for job in read_catalogue(path).jobs] == ["old"]


@pytest.mark.parametrize(
    ("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)]
)
def test_new_file_has_the_mode_of_the_umask(umask: int, mode: int, path: Path) -> None:
    """Whoever starts the command decides by the umask who may read its files."""
    before = os.umask(umask)
    try:
        write_catalogue(path, [])
    finally:
        os.umask(before)

    assert stat.S_IMODE(path.stat().st_mode) == mode


def test_mode_and_link_are_kept(tmp_path: Path) -> None:
    """An existing file keeps its mode; a symbolic link stays one."""
    real = tmp_path / "real.yaml"
    link = tmp_path / "jobs.yaml"
    write_catalogue(real, [])
    real.chmod(0o660)
    link.symlink_to(real)

    write_catalogue(link, [entry("new")])

    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o660
    assert [job.name for job in read_catalogue(real).jobs] == ["new"]
