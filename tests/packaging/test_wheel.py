"""The contents and the metadata of the wheels."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import tomllib
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from importlib.metadata import requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import polysync_airflow
import sagemaker_emulator
from polysync_airflow.airflow_compat.capabilities import capabilities_of

ROOT = Path(__file__).parents[2]

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"

# Calls the build backend directly, in a separate process because the backend uses the
# working directory.
_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@dataclass(frozen=True)
class Project:
    """
    One of the distributions of this repository.

    :param folder: the folder with its ``pyproject.toml``.
    :param package: the name of its package.
    :param version: the version in its code.
    """

    folder: Path
    package: str
    version: str

    def __str__(self) -> str:
        return self.package


PROVIDER = Project(ROOT, "polysync_airflow", polysync_airflow.__version__)
EMULATOR = Project(
    ROOT / "emulator", "sagemaker_emulator", sagemaker_emulator.__version__
)
BOTH = pytest.mark.parametrize("project", [PROVIDER, EMULATOR], ids=str)


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[Project, zipfile.ZipFile]:
    """Build the wheels of this checkout."""

    def build(project: Project) -> zipfile.ZipFile:
        folder = tmp_path_factory.mktemp("wheel")
        subprocess.run(
            [sys.executable, "-c", _BUILD, str(folder)], cwd=project.folder, check=True
        )
        [path] = folder.glob("*.whl")
        return zipfile.ZipFile(path)

    return {project: build(project) for project in (PROVIDER, EMULATOR)}


def metadata_file(wheel: zipfile.ZipFile, name: str) -> str:
    """Return the text of a metadata file in the wheel."""
    [path] = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


@BOTH
def test_wheel_contains_the_package_only(
    project: Project, wheels: dict[Project, zipfile.ZipFile]
) -> None:
    """
    A wheel contains every file of its package, with ``py.typed`` and data files, and no
    tests.
    """
    package = {
        str(file.relative_to(project.folder))
        for file in (project.folder / project.package).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    files = {name for name in wheels[project].namelist() if ".dist-info/" not in name}

    assert files == package
    data = {PROVIDER: "ui/static/sagemaker.js", EMULATOR: "verify/beliefs.toml"}
    assert {f"{project}/py.typed", f"{project}/{data[project]}"} <= files


@BOTH
def test_version_is_defined_once(
    project: Project, wheels: dict[Project, zipfile.ZipFile]
) -> None:
    """The version of a wheel is that of its package; pyproject.toml has no version."""
    config = tomllib.loads((project.folder / "pyproject.toml").read_text())["project"]

    assert (
        HeaderParser().parsestr(metadata_file(wheels[project], "METADATA"))["Version"]
        == project.version
    )
    assert "version" not in config
    assert "version" in config["dynamic"]


@BOTH
def test_links_of_the_readme_lead_to_the_tag(
    project: Project, wheels: dict[Project, zipfile.ZipFile]
) -> None:
    """
    The page of the index has no other files of the repository. Pictures are shown.
    """
    pattern = r"\]\((?!https?://|#)([^)]+)\)"
    folder = "" if project is PROVIDER else "emulator/"
    source = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["urls"][
        "Source"
    ]
    own = re.findall(pattern, (project.folder / "README.md").read_text())

    readme = str(
        HeaderParser()
        .parsestr(metadata_file(wheels[project], "METADATA"))
        .get_payload()
    )

    assert own
    assert re.findall(pattern, readme) == []
    for link in own:
        kind = "raw" if link.endswith(".png") else "blob"
        base = f"{source}/{kind}/v{project.version}/{folder}"
        assert f"]({base}{link})" in readme
        assert (project.folder / link.partition("#")[0]).exists()


@BOTH
def test_licence_is_in_the_wheel(
    project: Project, wheels: dict[Project, zipfile.ZipFile]
) -> None:
    """
    The metadata name the licence by its SPDX expression, and the text of the licence is
    in the wheel.
    """
    metadata = HeaderParser().parsestr(metadata_file(wheels[project], "METADATA"))

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert not [
        each
        for each in metadata.get_all("Classifier") or []
        if each.startswith("License ::")
    ]
    text = metadata_file(wheels[project], "licenses/LICENSE")
    assert text == (ROOT / "LICENSE").read_text()
    # The whole text, as the Apache Software Foundation publishes it.
    assert hashlib.sha256(text.encode()).hexdigest() == APACHE_2_0


@BOTH
def test_requirements_have_no_upper_bounds(
    project: Project, wheels: dict[Project, zipfile.ZipFile]
) -> None:
    """
    No requirement has an upper bound, so that a deployment can choose its version of
    botocore.

    Only the provider's test kit names the versions of the emulator whose Python API it
    knows.
    """
    required = (
        HeaderParser()
        .parsestr(metadata_file(wheels[project], "METADATA"))
        .get_all("Requires-Dist")
        or []
    )

    versions = [requirement.split(";")[0] for requirement in required]

    assert any(version.startswith("boto3>=") for version in versions)
    bounded = {
        version
        for version in versions
        if "<" in version or "==" in version or "~=" in version
    }
    assert bounded == (
        {"sagemaker-pipelines-emulator<0.2,>=0.1"} if project is PROVIDER else set()
    )


def test_emulator_has_a_version_that_the_provider_accepts() -> None:
    """The two distributions of one commit fit together."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]

    (requirement,) = extras["emulator"]
    assert EMULATOR.version in Requirement(requirement).specifier


def test_wheels_register_what_others_look_for(
    wheels: dict[Project, zipfile.ZipFile],
) -> None:
    """
    They have the entry points by which Airflow finds providers and plugins, pytest the
    fixtures, ``polysync`` commands.
    """
    provider, emulator = (
        metadata_file(wheels[each], "entry_points.txt") for each in (PROVIDER, EMULATOR)
    )

    assert "[apache_airflow_provider]" in provider
    assert "[airflow.plugins]" in provider
    assert "[pytest11]\npolysync = polysync_airflow.testing.plugin\n" in provider
    assert (
        "[console_scripts]\nsagemaker-emulator = sagemaker_emulator.__main__:main\n"
        in emulator
    )
    assert (
        "[polysync.commands]\nemulator = sagemaker_emulator.__main__:main\n" in emulator
    )
    assert "\nverify = sagemaker_emulator.verify.command:main\n" in emulator
    assert (
        "[sagemaker_emulator.sessions]\nairflow = polysync_airflow.cli.verify:sign_in\n"
        in provider
    )


def test_pip_refuses_the_same_versions() -> None:
    """What the package requires and what it supports are the same."""
    required = [Requirement(text) for text in requires("polysync-airflow") or ()]
    (airflow,) = [
        requirement for requirement in required if requirement.name == "apache-airflow"
    ]
    versions = (
        "2.10.5",
        "2.11.0",
        "2.11.2",
        "3.0.6",
        "3.1.8",
        "3.2.0",
        "3.3.2",
        "3.4.0",
    )

    def is_supported(version: str) -> bool:
        try:
            return bool(capabilities_of(version))
        except ImportError:
            return False

    assert [version in airflow.specifier for version in versions] == [
        is_supported(v) for v in versions
    ]
