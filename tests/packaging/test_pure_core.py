"""The pure core in a process in which neither Airflow nor boto3 can be imported."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from airflow.providers.common.compat.sdk import AirflowException

from polysync_airflow.exceptions import PolysyncError
from tests.packaging.test_structure import MODULES, PACKAGE, ROOT, name_of

CORE = ("execution", "exceptions", "get_provider_info", "states")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python, where neither Airflow nor boto3 can be imported."""
    program = [sys.executable, *arguments]
    return subprocess.run(
        program, cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_core_is_imported_and_tested_without_airflow() -> None:
    """All of its modules can be imported, and all of its tests pass; none is skipped."""
    packages = [f"{PACKAGE.name}.{name}" for name in CORE]
    tests = ["--", "tests/unit/execution"]

    ended = run("-m", "tests.packaging.without_airflow", *packages, *tests)

    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = ended.stdout.splitlines()
    modules = {name_of(path) for path in MODULES if name_of(path).split(".")[0] in CORE}
    assert {
        f"{PACKAGE.name}.{name.removesuffix('.__init__')}" for name in modules
    } <= set(lines)
    assert re.match(r"\d{4,} passed( in|, \d+ warning)", lines[-1]), lines[-1]


def test_errors_are_those_of_python_without_airflow() -> None:
    """With Airflow, they are Airflow's, as the page of the errors says."""
    ended = run(
        "-c",
        "import tests.packaging.without_airflow as process; process.block();"
        "from polysync_airflow.exceptions import ModelRejectedError, PolysyncError;"
        "print(PolysyncError.__bases__, issubclass(ModelRejectedError, PolysyncError))",
    )

    assert ended.stdout == "(<class 'Exception'>,) True\n", ended.stderr
    assert issubclass(PolysyncError, AirflowException)


@pytest.mark.parametrize(
    ("name", "needed"), [("records.store", "airflow"), ("aws.sessions", "boto3")]
)
def test_module_that_needs_them_is_found(name: str, needed: str) -> None:
    """The process does not hide a need for Airflow or boto3."""
    package = f"{PACKAGE.name}.{name}"

    ended = run("-m", "tests.packaging.without_airflow", package, "--", "--version")

    assert ended.returncode == 1
    assert f"ModuleNotFoundError: No module named '{needed}" in ended.stderr
