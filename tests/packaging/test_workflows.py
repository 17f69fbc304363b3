"""
The workflows of the code host: what they may do, which commands they run, and which
actions they use.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

ROOT: Final = Path(__file__).parents[2]
FILES: Final = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
EACH: Final = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
# The jobs that get a token of their own, and for what.
TOKENS: Final = {
    ("release", "attest"): {"id-token", "attestations"},
    ("release", "publish-emulator"): {"id-token"},
    ("release", "publish-provider"): {"id-token"},
    ("release", "github-release"): {"contents"},
    ("release", "docs"): {"id-token", "pages"},
    ("docs", "deploy"): {"id-token", "pages"},
}
PUBLISHING: Final = {
    "publish-emulator": "sagemaker-pipelines-emulator",
    "publish-provider": "polysync-airflow",
}


def jobs_of(path: Path) -> dict[str, Any]:
    """Return the jobs of a workflow."""
    return dict(yaml.safe_load(path.read_text())["jobs"])


def steps_of(name: str, job: str) -> list[dict[str, Any]]:
    """Return the steps of a job."""
    return list(jobs_of(ROOT / ".github" / "workflows" / f"{name}.yml")[job]["steps"])


def commands_of(name: str, job: str) -> list[str]:
    """Return the commands of a job."""
    return [step["run"] for step in steps_of(name, job) if "run" in step]


def used() -> Iterator[str]:
    """Return what follows each ``uses:``, with its comment."""
    for path in FILES:
        yield from re.findall(r"\buses: *(.+)", path.read_text())


def test_actions_are_pinned_by_their_commit() -> None:
    """
    A tag could be moved to other code. Each action has one version, which a comment
    names.
    """
    others = [each for each in used() if not each.startswith("$/.github/workflows/")]
    pins = [
        re.fullmatch(r"([\w.-]+/[\w.-]+)@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)
        for each in others
    ]

    assert [each for each, pin in zip(others, pins, strict=True) if not pin] == []
    assert len({pin[1] for pin in pins if pin}) == len(set(others))


def test_called_workflows_exist() -> None:
    """A release calls workflows of this repository, which can be called."""
    called = [
        ROOT / each.removeprefix("$/") for each in used() if each.startswith("$/")
    ]

    assert {path.name for path in called} == {"ci.yml", "docs.yml"}
    assert all("\n  workflow_call:\n" in path.read_text() for path in called)


@EACH
def test_only_named_jobs_may_write(path: Path) -> None:
    """All others may read the repository, and nothing else."""
    assert yaml.safe_load(path.read_text())["permissions"] in ({}, {"contents": "read"})
    for name, job in jobs_of(path).items():
        granted = {
            scope
            for scope, access in job.get("permissions", {}).items()
            if access != "read"
        }
        assert granted == TOKENS.get((path.stem, name), set()), name


@EACH
def test_jobs_have_a_time_limit_and_the_tested_system(path: Path) -> None:
    """A job that hangs ends. Jobs of called workflows have limits of their own."""
    for name, job in jobs_of(path).items():
        if "uses" not in job:
            assert (job["runs-on"], 0 < job["timeout-minutes"] <= 360) == (
                "ubuntu-24.04",
                True,
            ), name


@EACH
def test_expressions_are_in_no_command(path: Path) -> None:
    """
    The code host would insert their values, such as the name of a branch, into the text
    of the command.
    """
    commands = [
        step.get("run", "")
        for job in jobs_of(path).values()
        for step in job.get("steps", [])
    ]

    assert [command for command in commands if "${{" in command] == []


@EACH
def test_token_of_the_checkout_is_not_kept(path: Path) -> None:
    """Otherwise each later command of the job could read it."""
    for job in jobs_of(path).values():
        for step in job.get("steps", []):
            if step.get("uses", "").startswith("actions/checkout@"):
                assert step["with"]["persist-credentials"] is False


def test_workflows_run_the_commands_of_the_repository() -> None:
    """What CI does can be repeated on any machine."""
    as_root = 'sudo --preserve-env env "PATH=$PATH"'
    assert commands_of("ci", "run") == [f"{as_root} .ci/run"]
    assert commands_of("nightly", "nightly") == [f"{as_root} make nightly"]
    assert commands_of("docs", "build") == ["make docs"]
    tag, release = commands_of("release", "build")
    assert tag.startswith('python3 -m tests.packaging.tag "$GITHUB_REF_NAME" ')
    assert release == "make release"


def test_nightly_has_all_pythons() -> None:
    """``.ci/nightly`` runs the oldest, that of the matrix, and the newest one."""
    (setup,) = (
        step
        for step in steps_of("nightly", "nightly")
        if "setup-python" in step.get("uses", "")
    )
    classifiers = re.findall(
        r'"Programming Language :: Python :: (3\.\d+)"',
        (ROOT / "pyproject.toml").read_text(),
    )

    assert setup["with"]["python-version"].split() == classifiers[::-1]


def test_a_release_waits_for_its_tests() -> None:
    """
    Nothing is signed or published before the tests of the tag have passed, nor the
    provider before the emulator.
    """
    needs = {
        name: job.get("needs")
        for name, job in jobs_of(ROOT / ".github/workflows/release.yml").items()
    }

    assert needs == {
        "test": None,
        "build": None,
        "attest": ["test", "build"],
        "publish-emulator": "attest",
        "publish-provider": "publish-emulator",
        "github-release": "publish-provider",
        "docs": "github-release",
    }


@pytest.mark.parametrize("name", PUBLISHING)
def test_publishing_jobs_only_publish(name: str) -> None:
    """
    They run no code of the repository, have no password, and take the files of one
    distribution, as they were built.
    """
    download, publish = steps_of("release", name)

    assert download["uses"].startswith("actions/download-artifact@")
    assert download["with"] == {"name": PUBLISHING[name], "path": "dist"}
    assert publish["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert "with" not in publish


def test_files_to_publish_are_those_of_make_release() -> None:
    """
    Each distribution is uploaded as its wheel and its sdist, and the release as all
    files.
    """
    uploads = [
        step["with"]
        for step in steps_of("release", "build")
        if "upload-artifact" in step.get("uses", "")
    ]
    paths = {upload["name"]: upload["path"].split() for upload in uploads}

    for name in PUBLISHING.values():
        prefix = f"dist/{name.replace('-', '_')}-*"
        assert paths[name] == [f"{prefix}.whl", f"{prefix}.tar.gz"]
    assert paths["release"] == ["dist/"]
    assert all(upload["if-no-files-found"] == "error" for upload in uploads)


def test_environments_of_the_index_differ() -> None:
    """The index lets one environment of a workflow create only one project."""
    release = jobs_of(ROOT / ".github/workflows/release.yml")

    assert [release[name]["environment"] for name in PUBLISHING] == [
        "pypi-emulator",
        "pypi",
    ]
