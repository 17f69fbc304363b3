"""What a person gets who installs the wheel."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

from polysync_airflow import __version__

ROOT = Path(__file__).parents[2]

# By the build backend itself, in a process of its own since it looks at the working folder.
_BUILD = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-c", _BUILD, str(folder)], cwd=ROOT, check=True)
    [built] = folder.glob("*.whl")
    return zipfile.ZipFile(built)


def metadata_file(wheel: zipfile.ZipFile, name: str) -> str:
    """Return a file of the wheel's metadata."""
    [path] = [found for found in wheel.namelist() if found.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Each file of the package is in the wheel, the emulator and the typing marker too; tests are not."""
    package = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "polysync_airflow").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }

    held = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert held == package
    assert {"polysync_airflow/py.typed", "polysync_airflow/emulator/__main__.py"} <= held


def test_the_version_is_in_one_place(wheel: zipfile.ZipFile) -> None:
    """The wheel's version is the one that the package tells; pyproject.toml has none of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert HeaderParser().parsestr(metadata_file(wheel, "METADATA"))["Version"] == __version__
    assert "version" not in project
    assert "version" in project["dynamic"]


def test_requirements_have_no_caps(wheel: zipfile.ZipFile) -> None:
    """No requirement has an upper bound, so that a deployment's own choice of botocore can be installed."""
    required = HeaderParser().parsestr(metadata_file(wheel, "METADATA")).get_all("Requires-Dist") or []

    versions = [requirement.split(";")[0] for requirement in required]

    assert any(version.startswith("boto3>=") for version in versions)
    assert [version for version in versions if "<" in version or "==" in version or "~=" in version] == []


def test_the_wheel_registers_the_provider(wheel: zipfile.ZipFile) -> None:
    """Airflow finds the provider by the wheel's entry point."""
    assert "[apache_airflow_provider]" in metadata_file(wheel, "entry_points.txt")
