"""The contents and the metadata of the wheel."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from polysync_airflow import __version__

ROOT = Path(__file__).parents[2]

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"

# Calls the build backend directly, in a separate process because the backend uses the working directory.
_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build the wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", _BUILD, str(folder)], cwd=ROOT, check=True)
    [path] = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata_file(wheel: zipfile.ZipFile, name: str) -> str:
    """Return the text of a metadata file in the wheel."""
    [path] = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_wheel_contains_the_package_only(wheel: zipfile.ZipFile) -> None:
    """The wheel contains every file of the package, with the emulator and ``py.typed``, and no tests."""
    package = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "polysync_airflow").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    files = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert files == package
    assert {"polysync_airflow/py.typed", "polysync_airflow/emulator/__main__.py"} <= files
    assert "polysync_airflow/ui/static/sagemaker_tab.js" in files


def test_version_is_defined_once(wheel: zipfile.ZipFile) -> None:
    """The version of the wheel is ``polysync_airflow.__version__``; pyproject.toml has no version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert HeaderParser().parsestr(metadata_file(wheel, "METADATA"))["Version"] == __version__
    assert "version" not in project
    assert "version" in project["dynamic"]


def test_licence_is_in_the_wheel(wheel: zipfile.ZipFile) -> None:
    """The metadata name the licence by its SPDX expression, and the text of the licence is in the wheel."""
    metadata = HeaderParser().parsestr(metadata_file(wheel, "METADATA"))

    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    assert not [each for each in metadata.get_all("Classifier") or [] if each.startswith("License ::")]
    text = metadata_file(wheel, "licenses/LICENSE")
    assert text == (ROOT / "LICENSE").read_text()
    # The whole text, as the Apache Software Foundation publishes it.
    assert hashlib.sha256(text.encode()).hexdigest() == APACHE_2_0


def test_requirements_have_no_upper_bounds(wheel: zipfile.ZipFile) -> None:
    """No requirement has an upper bound, so that a deployment can choose its version of botocore."""
    required = HeaderParser().parsestr(metadata_file(wheel, "METADATA")).get_all("Requires-Dist") or []

    versions = [requirement.split(";")[0] for requirement in required]

    assert any(version.startswith("boto3>=") for version in versions)
    assert [version for version in versions if "<" in version or "==" in version or "~=" in version] == []


def test_wheel_registers_the_provider(wheel: zipfile.ZipFile) -> None:
    """The wheel has the entry points by which Airflow finds providers and plugins, and pytest the fixtures."""
    entry_points = metadata_file(wheel, "entry_points.txt")
    assert "[apache_airflow_provider]" in entry_points
    assert "[airflow.plugins]" in entry_points
    assert "[pytest11]\npolysync = polysync_airflow.testing.plugin\n" in entry_points
